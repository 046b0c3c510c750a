"""Convert a file of weights of another program to safetensors, in a process of its own.

Run as ``python -P foreign.py SOURCE TARGET BYTES``. PyTorch's restricted unpickler runs no
code, but a malicious file can fill the memory, never end, or crash the process. Therefore
the process has limits, and :mod:`cloudconv.checkpoints` waits for it and reads only what it
has written.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_WRAPPERS = ("state_dict", "params_ema", "params", "model", "net", "flownet")
_DEEPEST = 4
_MOST_TIMES = 2  # some networks have a few tensors twice


def main(source: str, target: str, memory: str) -> None:
    """Write the tensors of ``source`` to ``target``; an error ends the process.

    ``memory``: the bytes that the conversion may take beyond the import of PyTorch.
    """
    _limit_memory(int(memory))
    torch.set_num_threads(1)  # each thread would reserve memory
    warnings.simplefilter("ignore")
    # PyTorch would take a path's ending for its format.
    with Path(source).open("rb") as file:
        content = torch.load(file, map_location="cpu", weights_only=True)
    tensors = unwrapped(content)
    if (
        sum(tensor.nbytes for tensor in tensors.values())
        > _MOST_TIMES * Path(source).stat().st_size
    ):
        # A small file can describe one number that is repeated many times.
        raise MemoryError("the tensors hold more than the file")
    form = torch.contiguous_format
    save_file({k: v.detach().clone(memory_format=form) for k, v in tensors.items()}, target)


def unwrapped(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name, also of mappings under names such as ``state_dict``."""
    for _ in range(_DEEPEST):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        content = inner[0] if inner else content
    return {
        str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)
    }


def _limit_memory(memory: int) -> None:
    """Limit the memory on Linux; on other systems the waiting process watches it."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
