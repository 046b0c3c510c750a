"""Record a sample of the pictures that authors' networks made from computed weights.

Usage: ``python -m tests.golden.make_published FOLDER``. The folder has a JSON file for each
network (names and shapes of its tensors, how to compute them, and the source of the
authors' code), and a safetensors file with one picture. ``tests/helpers/published.py``
computes weights and inputs.
"""

import json
import sys
from itertools import count
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

TARGET = Path(__file__).with_name("published.npz")
SAMPLES = 1500


def main(folder: Path) -> None:
    arrays = {}
    for path in sorted(folder.glob("*.json")):
        network = json.loads(path.read_text())
        ((case, picture),) = load_file(path.with_suffix(".safetensors")).items()
        step = _prime(picture.size // SAMPLES)
        kept = {
            key: network[key] for key in ("source", "gain", "prelu", "stride", "tensors")
        }
        about = json.dumps({**kept, "case": case, "step": step})
        arrays[f"{path.stem}_about"] = np.frombuffer(about.encode(), np.uint8)
        arrays[f"{path.stem}_picture"] = picture.flatten()[::step].astype(np.float32)
    np.savez_compressed(TARGET, **arrays)


def _prime(least: int) -> int:
    """Return the first prime from ``least`` on: all columns of a picture are sampled."""
    return next(n for n in count(max(2, least)) if all(n % k for k in range(2, n)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
