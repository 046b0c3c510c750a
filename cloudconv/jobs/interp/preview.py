"""Show the newest output frame of a run in a small JPEG file."""

from __future__ import annotations

import os
import time
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.jobs.pictures import jpeg
from cloudconv.media.color import description_of, to_rgb
from cloudconv.media.frame import Frame
from cloudconv.media.input import images
from cloudconv.media.turn import UPRIGHT, Turn
from cloudconv.media.write.containers import is_sequence
from cloudconv.media.write.target import check_home

WIDTH = 480
"""The largest width of the picture, in pixels."""
_PERIOD = 1.0  # seconds from one picture to the next
_OURS = b"cloudconv preview"


def check_preview(path: Path | None, source: Path, output: Path, *, overwrite: bool) -> None:
    """Check that a preview can be written to ``path``; None means no preview.

    Raises:
        OutputError: the file exists and must not be replaced, its folder is not writable, or the
            folder contains the pictures of the input or the output.
    """
    if path is None:
        return
    # In a folder of pictures, a later run would read the preview as one of the pictures.
    folders = [images.folder_of(source), output.parent if is_sequence(output) else None]
    if path.parent.resolve() in [folder.resolve() for folder in folders if folder is not None]:
        raise OutputError(
            f"preview-among-files: The preview {path} would be in a folder of pictures of the "
            "input or output: choose another folder."
        )
    if not _is_free(path, overwrite=overwrite):
        raise OutputError(
            f"output-exists: The output {path} exists already: replace it with --overwrite."
        )
    check_home(path)


class Preview:
    """A picture file with the newest frame, replaced about once a second.

    Each replacement is atomic, so a viewer never reads an incomplete picture. A comment in the file
    marks a preview of cloudconv; any other file is replaced only with ``overwrite``. The first
    error while frames are shown becomes a warning in ``warnings``.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, turn: Turn = UPRIGHT) -> None:
        """Write no file yet.

        Args:
            path: the file, after :func:`check_preview`.
            overwrite: whether any existing file may be replaced.
            turn: the rotation that makes frames upright.
        """
        self.warnings: list[Warned] = []
        self._path = path
        self._overwrite = overwrite
        self._turn = turn
        self._due = time.monotonic()

    def show(self, frame: Frame) -> None:
        """Write the frame if a second has passed since the last written frame."""
        if time.monotonic() < self._due:
            return
        shown = jpeg(self._turn.samples(_reduced(frame)), WIDTH, 85, _OURS)
        try:
            is_free = _is_free(self._path, overwrite=self._overwrite)
            replaces = is_free and os.path.lexists(self._path)
            files.write_whole(self._path, shown.data, overwrite=replaces)
        except OSError as error:
            self.warnings = self.warnings or [
                Warned(
                    f"preview-failed: The preview {self._path} could not be written: "
                    f"{error.strerror or str(error)}."
                )
            ]
        self._due = time.monotonic() + _PERIOD


def _is_free(path: Path, *, overwrite: bool) -> bool:
    if overwrite or not os.path.lexists(path):
        return True
    if not path.is_file():
        return False
    try:
        with Image.open(path) as picture:
            return picture.info.get("comment") == _OURS
    except OSError:
        return False


def _reduced(frame: Frame) -> Tensor:
    """Return a frame as RGB, (3, H, W), made smaller by a whole factor to about ``WIDTH``.

    The planes become smaller before their conversion, which would be slow for a large frame.
    """
    form, space = description_of(frame)
    factor = max(frame.width // WIDTH, 1)
    planes = [
        functional.avg_pool2d(plane.float()[None], factor, ceil_mode=True)[0]
        for plane in frame.planes()
    ]
    return to_rgb(planes, form, space)
