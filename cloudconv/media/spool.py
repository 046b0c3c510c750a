"""Standard input and named pipes as files: a video is read more than once, a pipe only once."""

from __future__ import annotations

import atexit
import shutil
import stat
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cloudconv.errors import InputError

_copies: dict[str, Path] = {}


def local_file(path: Path | str) -> Path:
    """The path itself, or a temporary copy where it is ``-`` (standard input) or a named pipe.

    The copy is made once and lives until `discard` or the end of the process. Raises InputError
    if nothing comes in, or there is no room for the copy.
    """
    path = Path(path)
    name = str(path)
    if name in _copies:
        return _copies[name]
    try:
        if name != "-" and not stat.S_ISFIFO(path.stat().st_mode):
            return path
    except OSError:
        return path
    folder = Path(tempfile.mkdtemp(prefix="cloudconv-"))
    copy = folder / ("standard-input" if name == "-" else path.name)
    _copies[name] = copy
    with ExitStack() as undo:
        undo.callback(discard, copy)
        try:
            with copy.open("wb") as target:
                if name == "-":
                    shutil.copyfileobj(sys.stdin.buffer, target, 1 << 20)
                else:
                    with path.open("rb") as pipe:
                        shutil.copyfileobj(pipe, target, 1 << 20)
            empty = not copy.stat().st_size
        except OSError as error:
            raise InputError(
                f"What comes through {name} cannot be kept in {folder.parent}: {error.strerror}."
            ) from error
        if empty:
            source = "standard input" if name == "-" else name
            raise InputError(f"Nothing came through {source}; send a video file into it.")
        undo.pop_all()
    return copy


def discard(copy: Path) -> None:
    """Delete a temporary copy; any other path is left alone."""
    for name, kept in list(_copies.items()):
        if kept == copy:
            del _copies[name]
            shutil.rmtree(kept.parent, ignore_errors=True)


@atexit.register
def _discard_all() -> None:
    for copy in list(_copies.values()):
        discard(copy)
