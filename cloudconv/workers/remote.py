"""Files that tasks read, on machines that may not see them."""

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
from cloudconv.media.input.fingerprint import both_ends

_CHUNK = 1 << 26


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the machines of a cluster know it: by its path, size and ends. ``token`` names the
    copies of it.
    """

    token: str
    path: Path
    size: int
    ends: str

    @classmethod
    def of(cls, path: Path) -> RemoteFile:
        """Raises InputError: it is gone, or it is no single file."""
        path = path.absolute()
        check_single(path)
        try:
            return cls(secrets.token_hex(8), path, path.stat().st_size, _ends(path))
        except OSError as error:
            raise InputError("unreadable", path=path, why=error.strerror) from error

    def find(self, chunks: Iterator[bytes]) -> Path | None:
        """The file on this machine: in its own place, or put together from chunks if any came."""
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
        # Another process here may have done the same; either copy is whole.
        return part.replace(copy)

    def chunks(self) -> Iterator[bytes]:
        """What :meth:`find` puts together. Raises InputError: the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise InputError("unreadable", path=self.path, why=error.strerror) from error


def check_single(path: Path) -> None:
    """Raises InputError: the input is no single file."""
    if not path.is_file():
        raise InputError("not-a-single-file", path=path)


def forget(token: str) -> None:
    """Delete the copy of a file that was sent to this machine."""
    shutil.rmtree(_home(token), ignore_errors=True)


def _home(token: str) -> Path:
    return Path(tempfile.gettempdir()) / f"cloudconv-{token}"


def _ends(path: Path) -> str:
    return hashlib.sha256(both_ends(path)).hexdigest()
