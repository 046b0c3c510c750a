"""Find the files of a task on another machine, or copy the files to that machine."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cloudconv.errors import InputError
from cloudconv.files import reading
from cloudconv.media.input.fingerprint import both_ends

_CHUNK = 1 << 26  # bytes


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file, identified by its path, its size, and a hash of its beginning and end.

    ``token`` identifies its copies on other machines.
    """

    token: str
    path: Path
    size: int
    ends: str

    @classmethod
    def of(cls, path: Path) -> RemoteFile:
        """Describe a file of this machine.

        Raises:
            InputError: the file is missing or unreadable, or the path is not a single file.
        """
        path = path.absolute()
        check_single(path)
        with reading(path):
            return cls(secrets.token_hex(8), path, path.stat().st_size, _ends(path))

    def find(self, chunks: Iterator[bytes]) -> Path | None:
        """Return the path of the file, or of a copy, on this machine.

        If this machine has neither, a copy is written from ``chunks``. Return None if ``chunks`` is
        empty.
        """
        with suppress(OSError):
            if self.path.stat().st_size == self.size and _ends(self.path) == self.ends:
                return self.path
        folder = _home(self.token)
        copy = folder / self.path.name
        if copy.exists():
            return copy
        first = next(chunks, None)
        if first is None:
            return None
        folder.mkdir(exist_ok=True)
        part = folder / secrets.token_hex(8)
        with part.open("wb") as file:
            file.writelines(chain([first], chunks))
        # Another process may write the same copy; both copies are complete.
        return part.replace(copy)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content of the file for :meth:`find`.

        Raises:
            InputError: the file cannot be read.
        """
        with reading(self.path), self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def check_single(path: Path) -> None:
    """Raise InputError if the input is not a single file."""
    if not path.is_file():
        raise InputError(
            f"not-a-single-file: {path} is not a single file, and a cluster can share only a "
            "file: make a video of it first."
        )


def forget(token: str) -> None:
    """Delete this machine's copy of the file with this :attr:`RemoteFile.token`."""
    shutil.rmtree(_home(token), ignore_errors=True)


def _home(token: str) -> Path:
    return Path(tempfile.gettempdir()) / f"cloudconv-{token}"


def _ends(path: Path) -> str:
    return hashlib.sha256(both_ends(path)).hexdigest()
