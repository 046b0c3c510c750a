"""Files of small published networks with computed weights, in all layouts of users."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from cloudconv.models.blocks import Block
from tests.helpers.published import weights


def small_state(gain: float = 0.5) -> dict[str, Tensor]:
    """Return computed weights by tensor name: RIFE 4.6 with narrow, fast blocks."""
    blocks = {f"block{k}": Block(12 if k else 7, 16, 5, made=6) for k in range(4)}
    state = nn.ModuleDict(blocks).state_dict()
    return weights({name: tensor.shape for name, tensor in state.items()}, gain)


def small_file(path: Path) -> Path:
    """Write the weights with the prefix that the authors' files have."""
    # As safetensors, whatever the name, because the conversion of others takes seconds.
    state = {f"module.{name}": tensor for name, tensor in small_state().items()}
    safetensors.torch.save_file(state, path)
    return path


def save(path: Path, content: Mapping[str, Any], *, legacy: bool = False) -> None:
    """Write a file in the format that its ending names; ``legacy``: before PyTorch 1.6."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(dict(content), path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def _blocks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("block", "blocks.", 1): tensor for name, tensor in state.items()}


def _prefixed(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "plain": dict,
    "module": _prefixed("module."),
    "flownet": _prefixed("flownet."),
    "both": _prefixed("module.flownet."),
    "blocks": _blocks,
    "state_dict": lambda state: {"state_dict": _prefixed("flownet.")(state), "epoch": 3},
    "model": lambda state: {
        "model": _prefixed("module.")(state),
        "optimizer": {"state": {}},
    },
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params_ema": state},
    "training": lambda state: {**state, "teacher.conv.weight": torch.ones(2)},
}
"""The ways in which programs wrap the tensors of a network."""
