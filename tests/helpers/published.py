"""Compute weights and pictures for published networks: the same numbers on every machine.

The pictures that the authors' networks made from these numbers are recorded as test data,
see ``tests/golden/make_published.py``.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_RECORD = Path(__file__).parents[1] / "golden" / "published.npz"


def weights(
    shapes: Mapping[str, Sequence[int]], gain: float, prelu: Collection[str] = ()
) -> dict[str, Tensor]:
    """Return a tensor for each name, computed from the name.

    ``gain`` is the factor of the convolutions' weights; ``prelu`` are names of slopes.
    """
    return {
        name: _weight(name, tuple(shapes[name]), gain, name in prelu) for name in shapes
    }


@lru_cache(maxsize=1000)
def _noise(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    numbers = np.random.RandomState(seed).standard_normal(shape or 1)
    return numbers.astype(np.float32).reshape(shape)


def _weight(name: str, shape: tuple[int, ...], gain: float, is_prelu: bool) -> Tensor:
    noise = _noise(name, shape)
    kind = name.rsplit(".", 1)[-1]
    if kind == "beta":
        result: NDArray[Any] = 0.5 + 0.1 * noise
    elif len(shape) > 1:
        result = noise * np.float32(gain / np.sqrt(max(1, int(np.prod(shape[1:])))))
    elif kind == "bias":
        result = 0.05 * noise
    else:
        result = (0.25 if shape == (1,) else 1.0) + 0.05 * noise
    if is_prelu and len(shape) == 1 and result.size > 1:
        result = 0.25 + 0.2 * (result - 1.0)
    return torch.from_numpy(np.ascontiguousarray(result, dtype=np.float32))


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return a texture, and the same three pixels further, (1, 3, H, W) in [0, 1]."""
    return _picture(height, width, 0), _picture(height, width, 3)


def _picture(height: int, width: int, shift: float) -> Tensor:
    random = np.random.RandomState(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = x - shift, y - shift / 2
    planes = np.zeros((3, height, width))
    for plane in planes:
        for _ in range(12):
            across = random.uniform(-0.35, 0.35)
            down = random.uniform(-0.35, 0.35)
            phase = random.uniform(0, 6.28)
            strength = random.uniform(0.3, 1)
            plane += strength * np.sin(across * x + down * y + phase)
    picture = np.round(np.clip(0.5 + planes / 8, 0, 1) * 255).astype(np.uint8)
    return torch.from_numpy(picture)[None].float() / 255


@dataclass(frozen=True)
class Recorded:
    """A network of the authors, and a sample of a picture that it made.

    The inputs are those of :func:`pair`. The sample has every ``step``-th number of every
    ``stride``-th row and column.
    """

    shapes: dict[str, tuple[int, ...]]
    gain: float
    prelu: tuple[str, ...]
    size: tuple[int, int]  # height and width
    timestep: float
    stride: int
    step: int
    sample: Tensor

    def state(self) -> dict[str, Tensor]:
        """Return the computed weights under the authors' names."""
        return weights(self.shapes, self.gain, self.prelu)

    def shown(self, picture: Tensor) -> Tensor:
        """Return the part of a whole picture that corresponds to the sample."""
        return picture[..., :: self.stride, :: self.stride].flatten()[:: self.step]


def networks() -> tuple[str, ...]:
    with np.load(_RECORD) as arrays:
        return tuple(key.removesuffix("_about") for key in arrays if key.endswith("_about"))


@cache
def recorded(name: str) -> Recorded:
    with np.load(_RECORD) as arrays:
        about = json.loads(arrays[f"{name}_about"].tobytes())
        sample = torch.from_numpy(arrays[f"{name}_picture"])
    height, width, timestep = re.findall(r"[\d.]+", about["case"])
    return Recorded(
        {key: tuple(shape) for key, shape in about["tensors"]},
        about["gain"],
        tuple(about["prelu"]),
        (int(height), int(width)),
        float(timestep),
        about["stride"],
        about["step"],
        sample,
    )
