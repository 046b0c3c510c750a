"""Convert pictures in memory: NumPy arrays, PyTorch tensors and PIL images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloudconv.errors import PictureError
from cloudconv.transfer import QUEUES, download

_CHANNELS = (1, 3, 4)  # gray, RGB, and RGB with opacity
_DEEP = 65535  # white in 16 bits
# The most by which floating point may exceed 0 to 1, as after a resize with ringing.
_OVERSHOOT = 0.25
_TYPES = ("uint8", "uint16", "float16", "bfloat16", "float32", "float64")
_MODES = ("L", "RGB", "RGBA", "I;16")
# Remedies by the mode of an image; none of them loses anything.
_REMEDY = "convert it with convert('RGB')"
_CLEAR = "convert it with convert('RGBA')"
_REMEDIES = {
    **dict.fromkeys(("LA", "PA", "La", "RGBa"), _CLEAR),
    "P": f"{_CLEAR}, or with convert('RGB') if no colour is transparent",
    "I": "give np.asarray(picture).astype(np.uint16), if all values fit",
    "F": "give np.asarray(picture), scaled to values from 0 to 1",
}
_BESIDE = ("icc_profile", "exif")  # colours and the orientation


@dataclass(frozen=True, slots=True)
class PictureKind:
    """The storage of a picture.

    The axis of the channels is 0 or 2, or None for gray without one. ``info`` is what a PIL
    image has beside its samples; new images get it, too.
    """

    library: Literal["numpy", "torch", "pillow"]
    shape: tuple[int, ...]
    dtype: str
    axis: int | None
    device: torch.device | None = None
    info: Mapping[str, bytes] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, picture: Any) -> PictureKind:
        """Return the kind of a picture.

        Raises PictureError for anything but an accepted picture.
        """
        is_image = isinstance(picture, Image.Image)
        is_tensor = isinstance(picture, Tensor)
        is_clear = is_image and "transparency" in picture.info
        if is_clear or (is_image and picture.mode not in _MODES):
            raise PictureError(
                f"image-mode: PIL images may be {', '.join(_MODES)}, without a transparent "
                f"colour, got {picture.mode}{' with one' * is_clear}: "
                f"{_CLEAR if is_clear else _REMEDIES.get(picture.mode, _REMEDY)}."
            )
        if isinstance(picture, np.ma.MaskedArray) and np.ma.is_masked(picture):
            raise PictureError(
                "masked-samples: A picture has masked samples, and a new picture has no "
                "mask: fill them first, for example with picture.filled(0)."
            )
        if is_tensor:
            check_tensor(picture)
        elif not isinstance(picture, np.ndarray | Image.Image):
            raise PictureError(
                "picture-type: Pictures are NumPy arrays, PyTorch tensors or PIL images, "
                f"got {type(picture).__name__}."
            )
        samples: Any = np.asarray(picture) if is_image else picture
        shape = tuple(samples.shape)
        dtype = str(samples.dtype).removeprefix("torch.")
        axis = _channel_axis(shape, first=is_tensor)
        is_shaped = 0 not in shape and (len(shape) == 2 or axis is not None)
        if not is_shaped or dtype not in _TYPES:
            raise PictureError(
                "picture-shape: Pictures are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 "
                f"channels, uint8, uint16 or floating point from 0 to 1, got {shape} "
                f"{dtype}."
            )
        library: Any = "numpy"
        if is_image:
            library = "pillow"
        elif is_tensor:
            library = "torch"
        device = samples.device if is_tensor else None
        beside = picture.info if is_image else {}
        info = {name: beside[name] for name in _BESIDE if name in beside}
        return cls(library, shape, dtype, axis, device, info)

    @property
    def is_float(self) -> bool:
        """Return whether values are floating-point numbers, nominally from 0 to 1."""
        return "float" in self.dtype

    @property
    def most(self) -> int:
        """Return the code of white; 1 for floating point."""
        return {"uint8": 255, "uint16": _DEEP}.get(self.dtype, 1)

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return 1 if self.axis is None else self.shape[self.axis]

    def check(self, picture: Any, number: int) -> None:
        """Raise PictureError if another picture is not of this kind."""
        if PictureKind.of(picture) != self:
            shape = (*getattr(picture, "shape", getattr(picture, "size", ())),)
            dtype = getattr(picture, "dtype", getattr(picture, "mode", ""))
            raise PictureError(
                f"picture-differs: Picture {number} is not like the first: {self.shape} "
                f"{self.dtype} is needed, got {shape} {dtype}."
            )

    def values(self, picture: Any) -> Tensor:
        """Return the samples as they are, (H, W, C), on the picture's device."""
        is_tensor = self.library == "torch"
        data = (
            picture.detach()
            if is_tensor
            else torch.from_numpy(np.array(picture, order="C"))
        )
        return data[..., None] if self.axis is None else data.movedim(self.axis, -1)

    def planes(self, picture: Any) -> tuple[list[Tensor], SampleCheck | None]:
        """Return copies of the channels, (H, W) each, on their device, and their check.

        8 bits become uint8, 16 bits int32 (CUDA lacks most operations on uint16), floating
        point becomes float32 and is clamped to 0 to 1. Raises PictureError if
        floating-point samples are not finite, or far outside 0 to 1; on a GPU the check
        raises this error later.
        """
        check = None
        data = self.values(picture)
        if self.is_float:
            data = data.to(torch.float32)
            check = SampleCheck(data, _OVERSHOOT)
            data = data.clamp(0, 1)
        elif self.most == _DEEP:
            data = data.to(torch.int32)
        return [plane.clone() for plane in data.movedim(-1, 0)], check

    def floats(self, picture: Any) -> Tensor:
        """Return the samples as float32, (C, H, W); integers are scaled to 0 to 1."""
        data = self.values(picture)
        data = data.to(torch.int32) if self.most == _DEEP else data
        return data.to(torch.float32).movedim(-1, 0) / self.most

    def from_floats(self, data: Tensor) -> Any:
        """Return a picture of this kind: inverts :meth:`floats`, clamps and rounds."""
        if not self.is_float:
            data = data.clamp(0, 1).mul(self.most).round().to(torch.int32)
        return self.stored(data.movedim(0, -1))

    def stored(self, data: Tensor) -> Any:
        """Return a picture of this kind from samples (H, W, C): inverts :meth:`values`."""
        data = data[..., 0] if self.axis is None else data.movedim(-1, self.axis)
        if self.library == "torch":
            return data.to(self.device, getattr(torch, self.dtype)).contiguous()
        array = data.cpu().numpy().astype(self.dtype)
        if self.library == "numpy":
            return np.ascontiguousarray(array)
        image = Image.fromarray(array)
        image.info.update(self.info)
        return image


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor that has no samples in memory, or stores them in another way."""
    is_dense = tensor.layout == torch.strided and not (
        tensor.is_nested or tensor.is_quantized
    )
    if not is_dense or tensor.is_meta or not tensor.numel():
        raise PictureError(
            "tensor-without-samples: A tensor must have at least one picture, with all "
            "samples in memory: empty, sparse, nested and quantized tensors, and tensors "
            "on the device meta, are not accepted."
        )


def tensor_needed(shape: str, got: object) -> PictureError:
    """Return the error for something else than a floating-point tensor of a shape."""
    return PictureError(
        f"bad-tensor: A floating-point tensor {shape} is needed, got {got}."
    )


def float_check(tensor: Tensor, shape: str) -> SampleCheck:
    """Start the check of a floating-point tensor; raise PictureError for anything else."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise tensor_needed(shape, getattr(tensor, "dtype", type(tensor).__name__))
    check_tensor(tensor)
    return SampleCheck(tensor)


class SampleCheck:
    """A check that samples are finite, and exceed 0 to 1 by no more than ``overshoot``.

    A GPU checks samples while the CPU continues, so the result of the check is read later.
    """

    def __init__(self, samples: Tensor, overshoot: float | None = None) -> None:
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
        overshoot = self._overshoot
        if overshoot is not None and (least < -overshoot or most > 1 + overshoot):
            raise PictureError(
                "picture-range: Floating-point pictures have samples from 0 to 1, got "
                f"{least:.4g} to {most:.4g}: divide samples from 0 to 255 by 255, make "
                "(x + 1) / 2 of samples from -1 to 1, or clip them."
            )


def place_of(picture: Any) -> int:
    """Return the place of a picture in memory, the same for a buffer that is reused."""
    if isinstance(picture, Tensor):
        return picture.data_ptr()
    if isinstance(picture, np.ndarray):
        return int(picture.__array_interface__["data"][0])
    return id(picture)


def each_of(pictures: Any) -> Any:
    """Return ``pictures``, an iterable of pictures, or one array or tensor of several.

    Raises PictureError for a single picture, and for no iterable.
    """
    if isinstance(pictures, Tensor):
        check_tensor(pictures)
    elif not isinstance(pictures, Iterable):
        PictureKind.of(pictures)  # raises an error for anything but an image
    is_single = isinstance(pictures, Image.Image)
    if isinstance(pictures, np.ndarray | Tensor):
        has_channels = _channel_axis(pictures.shape) is not None
        is_single = pictures.ndim < 3 or (pictures.ndim == 3 and has_channels)
    if is_single:
        raise PictureError(
            "several-pictures: Several pictures are needed, and this is one: give a list, "
            "or one array or tensor (B, H, W, C) or (B, C, H, W)."
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
    several = isinstance(inputs[0], np.ndarray | Tensor) and inputs[0].ndim == 4
    batches = [_listed(pictures, several=several) for pictures in inputs]
    kind = PictureKind.of(batches[0][0])
    for number, picture in enumerate(chain.from_iterable(batches)):
        kind.check(picture, number)
    counts = sorted({len(batch) for batch in batches})
    if len(counts) > 1:
        raise PictureError(
            f"batch-lengths: The batches have {' and '.join(map(str, counts))} pictures: "
            "give batches of one length."
        )
    floats = [torch.stack([*map(kind.floats, batch)]) for batch in batches]
    checks = [SampleCheck(batch) for batch in floats] if kind.is_float else []
    sent = [batch.to(device) for batch in floats]
    if kind.channels == 1:
        sent = [batch.expand(-1, 3, -1, -1).contiguous() for batch in sent]
    new = interpolate(sent)
    for check in checks:
        check.finish()
    if kind.channels == 1:
        new = new.mean(1, keepdim=True)
    stored = [kind.from_floats(picture) for picture in new]
    if not several:
        return stored[0]
    return torch.stack(stored) if kind.library == "torch" else np.stack(stored)


def _listed(pictures: Any, *, several: bool) -> list[Any]:
    if not several:
        return [pictures]
    if isinstance(pictures, Tensor):
        check_tensor(pictures)
    if (
        not isinstance(pictures, np.ndarray | Tensor)
        or pictures.ndim != 4
        or not len(pictures)
    ):
        raise PictureError(
            "pictures-of-one-kind: The pictures are of different kinds: give pictures, or "
            "batches, of one kind."
        )
    return list(pictures)


def _channel_axis(shape: Sequence[int], *, first: bool = True) -> int | None:
    """Return the axis of the channels, 0 or 2.

    If both are possible, the result is 0 if ``first``, else 2.
    """
    if len(shape) != 3:
        return None
    axes = [axis for axis in (0, 2) if shape[axis] in _CHANNELS]
    if not axes:
        return None
    return axes[0] if first else axes[-1]
