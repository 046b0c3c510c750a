"""A small live picture of a run: the newest output frame, as a JPEG that is replaced in place."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional

from cloudconv.errors import OutputError
from cloudconv.media.color import color_space, to_rgb
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame

WIDTH = 480
"""The picture is at most this wide, in pixels."""
_PERIOD = 1.0
_SUFFIXES = (".jpg", ".jpeg")


class Preview:
    """Writes every frame that is a second newer than the last one shown; the others cost nothing.

    A viewer never meets half a picture: it is written beside ``path`` and renamed. Raises
    OutputError at once where ``path`` could not be written, is no ``.jpg``, or is one of
    ``others``, the files that the run itself reads and writes. Later nothing is raised: a picture
    that cannot be written is said once, in ``warnings``.
    """

    def __init__(self, path: Path | str, others: Sequence[Path | str] = ()) -> None:
        self.warnings: list[str] = []
        self._path = Path(path)
        self._due = time.monotonic()
        if self._path.suffix.lower() not in _SUFFIXES:
            raise OutputError(f"The preview {path} must have a name that ends in .jpg.")
        if self._path.is_dir():
            raise OutputError(f"The preview {path} is a folder; give the name of a file.")
        if self._path.resolve() in [Path(other).resolve() for other in others]:
            raise OutputError(
                f"The preview {path} is one of the run's own files; use another name."
            )
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            self._part.write_bytes(b"")
            self._part.unlink()
        except OSError as error:
            raise OutputError(
                f"The preview {path} cannot be written: {error.strerror or error}."
            ) from error

    def show(self, frame: Frame) -> None:
        """Write the frame if it is time for one."""
        if time.monotonic() < self._due:
            return
        try:
            _small(frame).save(self._part, "JPEG", quality=85)
            self._part.replace(self._path)
        except OSError as error:
            if not self.warnings:
                self.warnings.append(
                    f"The preview {self._path} could not be written: {error.strerror or error}."
                )
            with suppress(OSError):
                self._part.unlink()
        self._due = time.monotonic() + _PERIOD


def _small(frame: Frame) -> Image.Image:
    """The frame as RGB, area-averaged down to :data:`WIDTH`; alpha is left out."""
    kind = layout(frame.pix_fmt)
    width = min(frame.width, WIDTH)
    height = max(round(frame.height * width / frame.width), 1)
    planes = []
    for index, plane in enumerate(frame.planes()):
        subsampled = kind.family == "yuv" and index in (1, 2)
        shift_x, shift_y = (kind.chroma_shift_x, kind.chroma_shift_y) if subsampled else (0, 0)
        size = -(-height >> shift_y), -(-width >> shift_x)
        averaged = functional.interpolate(plane.float()[None, None], size, mode="area")[0, 0]
        planes.append(averaged.round().to(plane.dtype))
    space = color_space(frame.tags, kind, frame.width, frame.height)
    rgb = to_rgb(planes, kind, space).clamp(0, 1)
    return Image.fromarray((rgb * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
