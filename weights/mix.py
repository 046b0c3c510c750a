"""The mean of two files of weights of one model, as float32.

    python weights/mix.py FIRST SECOND OUTPUT

Fine-tuned weights and those that they were tuned from often do better in the middle than at either
end (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, arXiv 2109.01903).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import save_file

from cloudconv import weights


def mix(first: Path, second: Path, output: Path) -> None:
    """Write the mean of two files that hold tensors of the same names and shapes."""
    one, _ = weights.read_file(first)
    other, _ = weights.read_file(second)
    assert one.keys() == other.keys(), "these are weights of different models"
    mean = {name: (one[name].float() + other[name].float()) / 2 for name in one}
    metadata = weights.read_metadata(second)
    save_file(mean, output, {"model": metadata["model"], "task": metadata["task"]})


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("first", "second", "output"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    mix(given.first, given.second, given.output)


if __name__ == "__main__":
    main()
