"""Convert pictures in memory: NumPy arrays, PyTorch tensors and PIL images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import ge
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloudconv.errors import PictureError
from cloudconv.transfer import QUEUES, download

CHANNELS = (1, 3, 4)  # gray, RGB, and RGB with opacity
_WHITE = {name: np.iinfo(name).max for name in ("uint8", "uint16")}  # else 1
_TYPES = (*_WHITE, "float16", "bfloat16", "float32", "float64")
_MODES = ("L", "RGB", "RGBA", "I;16")
_BESIDE = ("icc_profile", "exif")  # colours and the orientation


@dataclass(frozen=True, slots=True)
class PictureKind:
    """The storage of a picture or of a batch, into which new pictures are put.

    The axis of the channels is -3 or -1, or None for gray without one. ``info`` is what a
    PIL image has beside its samples; new images get it, too.
    """

    library: Literal["numpy", "torch", "pillow"]
    shape: tuple[int, ...]
    dtype: str
    axis: int | None
    device: torch.device | None = None
    info: Mapping[str, bytes] = field(default_factory=dict, compare=False)

    def check(self, other: PictureKind, number: int) -> None:
        """Raise PictureError if the kind of another picture is not this one."""
        if other != self:
            raise PictureError(
                f"picture-differs: Picture {number} is not like the first: {self.library} "
                f"{self.shape} {self.dtype} is needed, got {other.library} {other.shape} "
                f"{other.dtype}."
            )

    def stored(self, data: Tensor) -> Any:
        """Return a picture of this kind from (…, C, H, W): inverts :func:`opened`."""
        data = data[0] if self.axis is None else data.movedim(-3, self.axis)
        if self.library == "torch":
            return data.to(self.device, getattr(torch, self.dtype)).contiguous()
        array = np.ascontiguousarray(data.cpu().numpy().astype(self.dtype))
        if self.library == "numpy":
            return array
        image = Image.fromarray(array)
        image.info.update(self.info)
        return image


def opened(picture: Any, *, batches: bool = False) -> tuple[PictureKind, Tensor]:
    """Return the kind of a picture and its samples, (C, H, W) on the picture's device.

    With ``batches`` an array or tensor of several is (B, C, H, W). 8 bits are uint8, 16
    bits int32 (CUDA lacks most operations on uint16), and floating point is float32, not
    clamped. The samples may share the picture's memory. Raises PictureError for anything
    but an accepted picture.
    """
    if isinstance(picture, Image.Image):
        if "transparency" in picture.info or picture.mode not in _MODES:
            raise PictureError(
                f"image-mode: PIL images may be {', '.join(_MODES)}, without a transparent "
                f"colour, got {picture.mode}: convert it with convert('RGB'), or with "
                "convert('RGBA') to keep opacity; of more than 8 bits give "
                "np.asarray(picture) as uint16 or from 0 to 1."
            )
        info = {name: picture.info[name] for name in _BESIDE if name in picture.info}
        kind, data = opened(np.asarray(picture))
        return replace(kind, library="pillow", info=info), data
    is_tensor = isinstance(picture, Tensor)
    if is_tensor:
        check_tensor(picture)
    elif not isinstance(picture, np.ndarray):
        raise PictureError(
            "picture-type: Pictures are NumPy arrays, PyTorch tensors or PIL images, got "
            f"{type(picture).__name__}."
        )
    elif np.ma.is_masked(picture):
        raise PictureError(
            "masked-samples: A picture has masked samples, and a new picture has no mask: "
            "fill them first, for example with picture.filled(0)."
        )
    shape = tuple(picture.shape)
    dtype = str(picture.dtype).removeprefix("torch.")
    own = shape[1:] if batches and len(shape) == 4 else shape
    axis = _channel_axis(own, first=is_tensor)
    if 0 in shape or (len(own) != 2 and axis is None) or dtype not in _TYPES:
        raise PictureError(
            "picture-shape: Pictures are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 "
            f"channels, uint8, uint16 or floating point from 0 to 1, got {shape} {dtype}."
        )
    if not is_tensor:
        picture = torch.from_numpy(np.array(picture, order="C"))
    kind = PictureKind(
        "torch" if is_tensor else "numpy", shape, dtype, axis, picture.device
    )
    data = picture.detach()
    if dtype != "uint8":
        data = data.to(torch.int32 if dtype in _WHITE else torch.float32)
    return kind, data[None] if axis is None else data.movedim(axis, -3)


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor that has no samples in memory, or stores them in another way."""
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not is_plain or tensor.is_nested or tensor.is_meta or not tensor.numel():
        raise PictureError(
            "tensor-without-samples: A tensor must have at least one picture, with all "
            "samples in memory: empty, sparse, nested and quantized tensors, and tensors "
            "on the device meta, are not accepted."
        )


def float_check(tensor: Tensor, least: Sequence[int], needed: str) -> SampleCheck:
    """Start the check of a floating-point tensor with RGB, (…, 3, H, W).

    ``least``: the least length of each axis, as the words ``needed`` say. Raises
    PictureError for anything else.
    """
    if isinstance(tensor, Tensor) and tensor.is_floating_point():
        check_tensor(tensor)
        is_large = tensor.ndim == len(least) and all(map(ge, tensor.shape, least))
        if is_large and tensor.shape[-3] == 3:
            return SampleCheck(tensor)
    kind = getattr(tensor, "dtype", type(tensor).__name__)
    got = filter(None, (kind, tuple(getattr(tensor, "shape", ()))))
    raise PictureError(
        f"bad-tensor: A floating-point tensor {needed} is needed, got "
        f"{' '.join(map(str, got))}."
    )


class SampleCheck:
    """A check that samples are finite, and exceed 0 to 1 by no more than ``overshoot``.

    A GPU checks samples while the CPU continues, so the result of the check is read later.
    """

    def __init__(self, samples: Tensor, overshoot: float = math.inf) -> None:
        self._overshoot = overshoot
        self._extremes = download([torch.stack(torch.aminmax(samples.float()))])
        if samples.device.type not in QUEUES:
            self.finish()

    def finish(self) -> None:
        """Wait for the check, but not for later work of the GPU.

        Raise PictureError for a fault.
        """
        least, most = self._extremes.planes()[0].tolist()
        if not math.isfinite(least) or not math.isfinite(most):
            raise PictureError(
                "picture-not-finite: A picture has samples that are not finite (NaN or "
                "infinity): replace these first."
            )
        if least < -self._overshoot or most > 1 + self._overshoot:
            raise PictureError(
                "picture-range: Floating-point pictures have samples from 0 to 1, got "
                f"{least:.4g} to {most:.4g}: divide samples from 0 to 255 by 255, make "
                "(x + 1) / 2 of samples from -1 to 1, or clip them."
            )


def place_of(picture: Any) -> int:
    """Return the place of a picture in memory, the same for a buffer that is reused."""
    if isinstance(picture, np.ndarray):
        return picture.ctypes.data
    return picture.data_ptr() if isinstance(picture, Tensor) else id(picture)


def each_of(pictures: Any) -> Any:
    """Return ``pictures``, an iterable of pictures, or one array or tensor of several.

    Raises PictureError for a single picture, and for no iterable.
    """
    shape = getattr(pictures, "shape", (0,) * 4)
    is_single = len(shape) < 3 or _channel_axis(shape) is not None
    if is_single or not isinstance(pictures, Iterable):
        raise PictureError(
            "several-pictures: Several pictures are needed: give a list of NumPy arrays, "
            "PyTorch tensors or PIL images, or one array or tensor (B, H, W, C) or (B, C, "
            "H, W)."
        )
    return pictures


def picture_between(
    inputs: Sequence[Any],
    interpolate: Callable[[list[Tensor]], Tensor],
    device: torch.device,
) -> Any:
    """Return the picture, or the batch, between others of any kind, as the same kind.

    ``inputs`` are two or four pictures or batches. Gray becomes RGB for ``interpolate``,
    and the result gray again. ``interpolate`` takes batches, (B, 3 or 4, H, W) float32 on
    ``device``. Raises PictureError for unknown or different kinds or numbers, or a sample
    that is not finite.
    """
    every = [opened(picture, batches=True) for picture in inputs]
    kind = every[0][0]
    for number, (other, _) in enumerate(every):
        kind.check(other, number)
    data = torch.stack([samples for _, samples in every]).to(torch.float32)
    check = SampleCheck(data)
    channels = data.shape[-3]
    white = _WHITE.get(kind.dtype, 1)
    colours = data.flatten(0, -4).div(white).to(device)
    colours = colours.expand(-1, max(channels, 3), -1, -1)
    new = interpolate([batch.contiguous() for batch in colours.chunk(len(inputs))])
    check.finish()
    if channels == 1:
        new = new.mean(1, keepdim=True)
    if kind.dtype in _WHITE:
        new = new.clamp(0, 1).mul(white).round().to(torch.int32)
    return kind.stored(new.view(*data.shape[1:-3], *new.shape[1:]))


def _channel_axis(shape: Sequence[int], *, first: bool = True) -> int | None:
    """Return the axis of the channels, -3 or -1.

    If both are possible, the result is -3 if ``first``, else -1.
    """
    axes = (-3, -1) if first else (-1, -3)
    return next((k for k in axes if len(shape) == 3 and shape[k] in CHANNELS), None)
