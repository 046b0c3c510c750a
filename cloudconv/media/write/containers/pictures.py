"""Write folders of numbered pictures: PNG, BMP, WebP, TIFF, EXR, JPEG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from cloudconv.events import Warned
from cloudconv.media.write.containers.base import Container, Writer
from cloudconv.media.write.encode import EncodingPlan
from cloudconv.media.write.names import numbered


class _Pictures(Container):
    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        return PictureWriter(path, plan.target, plan.open_encoder())

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None, Fraction]:
        return sum(1 for file in path.iterdir() if file.stat().st_size), None, Fraction(0)


class PictureWriter:
    """A writer of one file per frame, numbered from 1, without times."""

    def __init__(self, folder: Path, pattern: Path, context: Any) -> None:
        """Prepare a writer.

        Args:
            folder: the folder of the files.
            pattern: the output's name with the number field.
            context: the open encoder.
        """
        self.warnings: list[Warned] = []
        self._folder, self._pattern = folder, pattern
        self._context = context
        self._taken = 0
        self._count = 0

    def write(self, picture: av.VideoFrame, tick: int, duration: int) -> None:
        """Encode a picture into the next file; the times are ignored."""
        # Files appear later than their pictures, because the encoder's threads delay them.
        picture.pts, picture.time_base = self._taken, self._context.time_base
        self._taken += 1
        self._save(self._context.encode(picture))

    def finish(self) -> None:
        """Flush the encoder."""
        self._save(self._context.encode(None))

    def abandon(self) -> None:
        """Do nothing: no file is open."""
        return

    def _save(self, packets: list[Any]) -> None:
        for packet in packets:
            self._count += 1
            (self._folder / numbered(self._pattern, self._count)).write_bytes(bytes(packet))


PICTURES = tuple(
    _Pictures(name=f"{name} pictures", suffixes=suffixes, encoders=(encoder,), is_folder=True)
    for name, encoder, suffixes in (
        ("PNG", "png", (".png",)),
        ("BMP", "bmp", (".bmp",)),
        ("WebP", "libwebp", (".webp",)),
        ("TIFF", "tiff", (".tif", ".tiff")),
        ("EXR", "exr", (".exr",)),
        ("JPEG", "mjpeg", (".jpg", ".jpeg")),
    )
)
