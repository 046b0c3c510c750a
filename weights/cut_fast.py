"""Make the weights of cloud-fast from those of cloud-best, without the finest block.

    python weights/cut_fast.py cloud-best.safetensors cloud-fast.safetensors

The shorter network makes good pictures, because the training of cloud-best also minimises
the loss of the picture after the third block.
"""

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file

from cloudconv.models import registry


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("best", type=Path)
    parser.add_argument("fast", type=Path)
    given = parser.parse_args()
    fast = registry.spec("cloud-fast")
    wanted = fast.build().state_dict()
    state = {
        name: tensor for name, tensor in load_file(given.best).items() if name in wanted
    }
    assert len(state) == len(wanted), "these are not the weights of cloud-best"
    save_file(state, given.fast, {"model": fast.name, "task": fast.task})


if __name__ == "__main__":
    main()
