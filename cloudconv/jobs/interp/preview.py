"""Show the newest output frame of a run in a small JPEG file."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.color import description_of, to_rgb
from cloudconv.media.frame import Frame
from cloudconv.media.input import images
from cloudconv.media.turn import UPRIGHT, Turn
from cloudconv.media.write.containers import is_sequence
from cloudconv.media.write.target import check_home, writing

WIDTH = 480
"""The largest width of the picture, in pixels."""
_PERIOD = 1.0  # seconds from one picture to the next
_OURS = b"cloudconv preview"


class Preview:
    """A picture file with the newest frame, replaced about once a second.

    Each replacement is atomic, so a viewer never reads an incomplete picture. A comment in the file
    marks a preview of cloudconv; any other file is replaced only with ``overwrite``. The first
    error while frames are shown becomes a warning in ``warnings``.
    """

    def __init__(
        self,
        path: Path | str,
        inputs: Sequence[Path] = (),
        output: Path | None = None,
        *,
        overwrite: bool = False,
        turn: Turn = UPRIGHT,
    ) -> None:
        """Check that the file can be written.

        Args:
            path: the file.
            inputs: the files that the run reads.
            output: the file that the run writes.
            overwrite: whether any existing file may be replaced.
            turn: the rotation that makes frames upright.

        Raises:
            OutputError: the file cannot be written, is an input, or is in a folder of pictures that
                the run reads or writes.
        """
        self.warnings: list[Warned] = []
        self._path = Path(path)
        self._overwrite = overwrite
        self._turn = turn
        self._due = time.monotonic()
        self._check_apart(inputs, output)
        if not self._is_free():
            raise OutputError("preview-exists", path=path)
        check_home(self._path)
        with writing(self._path):
            files.remove(files.create_part(self._path))

    def show(self, frame: Frame) -> None:
        """Write the frame if a second has passed since the last written frame."""
        if time.monotonic() < self._due:
            return
        shown = io.BytesIO()
        _small(frame, self._turn).save(shown, "JPEG", quality=85, comment=_OURS)
        failed: Warned | None = None
        try:
            if self._is_free():
                files.write_whole(self._path, shown.getvalue())
            else:
                failed = Warned("preview-name-taken", {"path": str(self._path)})
        except OSError as error:
            parameters = {"path": str(self._path), "why": error.strerror or str(error)}
            failed = Warned("preview-failed", parameters)
        if failed is not None and not self.warnings:
            self.warnings.append(failed)
        self._due = time.monotonic() + _PERIOD

    def _check_apart(self, inputs: Sequence[Path], output: Path | None) -> None:
        read = [path for path in inputs if str(path) != "-"]
        files.check_apart([self._path], images.files_of(*read))
        # In a folder of pictures, a later run would read the preview as one of the pictures.
        folders = [path if path.is_dir() else path.parent for path in read if not path.is_file()]
        if output is not None and is_sequence(output):
            folders.append(output.parent)
        home = self._path.parent.resolve()
        if home in [folder.resolve() for folder in folders]:
            raise OutputError("preview-among-files", path=self._path)

    def _is_free(self) -> bool:
        if self._overwrite or not os.path.lexists(self._path):
            return True
        if not self._path.is_file():
            return False
        try:
            with Image.open(self._path) as picture:
                return picture.info.get("comment") == _OURS
        except OSError:
            return False


def _small(frame: Frame, turn: Turn) -> Image.Image:
    """Return the frame as RGB without alpha, at most :data:`WIDTH` wide, then rotated upright."""
    kind, space = description_of(frame)
    width = min(frame.width, WIDTH)
    height = max(round(frame.height * width / frame.width), 1)
    planes = []
    for index, plane in enumerate(frame.planes()):
        subsampled = kind.family == "yuv" and index in (1, 2)
        shift_x, shift_y = (kind.chroma_shift_x, kind.chroma_shift_y) if subsampled else (0, 0)
        size = -(-height >> shift_y), -(-width >> shift_x)
        averaged = functional.interpolate(plane.float()[None, None], size, mode="area")[0, 0]
        planes.append(averaged.round().to(plane.dtype))
    rgb = turn.samples(to_rgb(planes, kind, space).clamp(0, 1))
    return Image.fromarray((rgb * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
