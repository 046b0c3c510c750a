"""Record the finished outputs of a folder, so that a repeated batch skips them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

from cloudconv.errors import CloudconvError
from cloudconv.media.identity import input_fingerprint
from cloudconv.models.registry import weights_fingerprint
from cloudconv.settings import InterpSettings

_NAME = ".cloudconv.jsonl"
# Settings that change frames only by rounding errors.
_IGNORED = ("batch", "tile", "threads")


class FinishedIndex:
    """A hidden file with a line for each finished output of a folder.

    An output counts as finished only if a line has the same input, settings and weights, and if the
    output file has not changed since. So a file of another program never counts as finished.
    """

    def __init__(self, folder: Path) -> None:
        """Read the file if it exists."""
        self._folder = folder
        self._finished: dict[str, tuple[str, str]] = {}
        self._weights_of = cache(weights_fingerprint)
        with suppress(OSError), open(folder / _NAME, "rb", opener=_own) as file:
            for line in file:
                with suppress(ValueError, TypeError, RecursionError):  # a crash cut the line off
                    key, name, made = map(str, json.loads(line))
                    self._finished[key] = name, made

    def find(self, settings: InterpSettings) -> Path | None:
        """Return the finished output of these settings, or None."""
        with suppress(CloudconvError, OSError, ValueError):  # a name that no file can have
            name, made = self._finished.get(self._key(settings), ("", ""))
            output = self._folder / name
            if name and _identity(output) == made:
                return output
        return None

    def has_made(self, file: Path) -> bool:
        """Return whether a run has made this file of the folder, with any settings."""
        with suppress(CloudconvError, OSError):
            made = _identity(file)
            return any((file.name, made) == line for line in self._finished.values())
        return False

    def note(self, settings: InterpSettings, name: str, made: Path) -> None:
        """Add a line for the complete output ``made``, a file that is renamed to ``name`` next."""
        # The output is complete even without the line, so errors are ignored.
        with suppress(OSError, CloudconvError):
            line = [self._key(settings), name, _identity(made)]
            with open(self._folder / _NAME, "a", encoding="utf-8", opener=_own) as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def _key(self, settings: InterpSettings) -> str:
        identity = {
            "name": Path(settings.input).name,
            "input": _identity(Path(settings.input)),
            "weights": self._weights_of(settings.chosen_model),
            **{name: value for name, value in settings.pinned().items() if name not in _IGNORED},
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _own(path: str, flags: int) -> int:
    """Open a file, but neither a link, nor a file with a second name, nor a pipe."""
    # Without O_NONBLOCK, a pipe would block until another program opens its other end.
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    opened = os.open(path, flags | more, 0o666)
    about = os.fstat(opened)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
        os.close(opened)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    return opened


def _identity(path: Path) -> str:
    return input_fingerprint(path, content=False)
