"""Write folders of numbered pictures: PNG, BMP, WebP, TIFF, EXR, JPEG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.events import Warned
from cloudconv.media.names import numbered
from cloudconv.media.write.containers.base import Container, Writer
from cloudconv.media.write.encode import EncodingPlan


class _Pictures(Container):
    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        return PictureWriter(path, plan.target, plan.open_encoder())

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None]:
        return sum(1 for file in path.iterdir() if file.stat().st_size), None


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
        names = numbered(pattern)
        assert names is not None
        self._folder, self._names = folder, names
        self.encoder = context
        self._count = 0

    def write(self, packet: Any) -> None:
        """Write the next file; the times are ignored."""
        self._count += 1
        (self._folder / self._names.name(self._count)).write_bytes(bytes(packet))

    def finish(self) -> None:
        """Do nothing: every file is complete."""

    def abandon(self) -> None:
        """Do nothing: no file is open."""
        return


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
