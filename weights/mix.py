"""Write the mean of two weights files of one model, as float32.

    python weights/mix.py FIRST SECOND OUTPUT [--only block2.]

With ``--only``, tensors whose names have another prefix are copied from the second file. A
first file of another model is converted if training the second model can start from that
model. For example, FIRST is ``weights/rife-4.6.safetensors`` and SECOND has weights of
``cloud-best``.

The mean of initial and fine-tuned weights is often better than either (Wortsman et al.,
Robust fine-tuning of zero-shot models, CVPR 2022, arXiv 2109.01903).
"""

import argparse
from pathlib import Path

from safetensors.torch import save_file

from cloudconv import checkpoints
from cloudconv.models import registry
from cloudconv.models.rife import IFNet


def mix(first: Path, second: Path, output: Path, only: str = "") -> None:
    """Write the mean of two files that hold tensors of the same names and shapes."""
    one, origin = checkpoints.read(first)
    other, metadata = checkpoints.read(second)
    if origin["model"] != metadata["model"]:
        model = registry.spec(metadata["model"]).build()
        assert isinstance(model, IFNet), "these are weights of different models"
        one = model.start_from({name: tensor.float() for name, tensor in one.items()})
    assert one.keys() == other.keys(), "these are weights of different models"
    mean = {
        name: (one[name].float() + tensor.float()) / 2
        if name.startswith(only)
        else tensor.float()
        for name, tensor in other.items()
    }
    save_file(mean, output, {"model": metadata["model"], "task": metadata["task"]})


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("first", "second", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument(
        "--only", default="", help="the beginning of the names that are mixed"
    )
    given = parser.parse_args()
    mix(given.first, given.second, given.output, given.only)


if __name__ == "__main__":
    main()
