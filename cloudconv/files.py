"""Files that are being made: one process an output, and nothing of anybody else's is touched.

Everything that is not whole yet lies beside its target as ``.cloudconv-<target>-<chance>.part``,
opened exclusively, so that no file or link of another's is ever written through or deleted; what a
killed run left under such a name goes when the next one takes the target's lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from cloudconv.errors import OutputError, TakenError
from cloudconv.messages import warning

_LONGEST = 255  # bytes of a name
_parts: set[Path] = set()
_NO_LINKS = (
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EINVAL,  # FAT on Windows
)
FOLDERS_CAN_BE_OPENED = os.name != "nt"
"""Whether the system can open a folder, to sync it."""


class Claim:
    """The right to make ``target``, a file or a folder, which one process has at a time.

    It ends with :meth:`release`, or with the process, however that ends. Its constructor touches
    nothing.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        home = _home(target)
        if home.exists() and not os.access(home, os.W_OK):
            home = target  # a folder that is there already may be all that we may write to
        self._path = home / f"{own_name(target)}.lock"
        # One thread plans and another one finishes; somebody may just be letting go of it.
        self._lock = FileLock(self._path, timeout=0.2, thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this process has it, by this object."""
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take it, and clear away what a run that was killed has left.

        Missing folders on the way to the target are made.

        Raises:
            OutputError: another process, or thread, has it; it is named.
            OSError: the lock cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            # A folder that takes no files looks like a lock that somebody has.
            remove(fresh(self._target))
            raise OutputError(
                f"Another cloudconv{_holder(self._path)} is making {self._target} right now; wait "
                "for it, or name another output."
            ) from error
        with ExitStack() as undo:
            undo.callback(self.release)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            # Windows lets no other handle write to a locked file, not even one of this process.
            with suppress(PermissionError):
                self._path.write_text(json.dumps(holder))
            for left in leftovers(self._target):
                remove(left)
            undo.pop_all()

    def release(self) -> None:
        """Let others have it; further calls do nothing."""
        if self.held:
            # While it is held, so that whoever waits for it notices.
            with suppress(OSError):
                self._path.unlink()
            self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def leftovers(target: Path) -> list[Path]:
    """What is there, half made, of a file or folder; of nobody's if its :class:`Claim` is ours."""
    folders = {_home(target), target.resolve()}
    name = f"{own_name(target)}-*.part"
    return [left for folder in folders if folder.is_dir() for left in folder.glob(name)]


def fresh(target: Path, *, folder: bool = False, within: Path | None = None) -> Path:
    """An empty file or folder of a new name, to become ``target`` later.

    Missing folders on the way to the target are made.

    Args:
        target: what it is for.
        folder: whether a folder is wanted.
        within: the folder that it lies in; beside the target unless given.

    Raises:
        OSError: nothing can be written there.
    """
    home = within or _home(target)
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{own_name(target)}-{secrets.token_hex(8)}.part"
    _parts.add(path)
    if folder:
        path.mkdir()
    else:
        path.open("xb").close()
    return path


def left() -> list[Path]:
    """What of all that this process has begun is still there, half made."""
    return [path for path in _parts if os.path.lexists(path)]


def remove(path: Path) -> None:
    """Delete a file, a link (not what it leads to) or a folder with all in it, if possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def put(part: Path, target: Path, *, overwrite: bool) -> None:
    """Give what is whole its name in the same file system.

    Raises:
        FileExistsError: something has that name, and ``overwrite`` is off. The part stays.
        OSError: it cannot be renamed.
    """
    if overwrite:
        part.replace(target)
        _parts.discard(part)
        return
    if part.is_dir():
        # A folder is only ever renamed over an empty one, which holds nothing to be lost.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        part.rename(target)
        return
    try:
        os.link(part, target)  # unlike a renaming it replaces nothing
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        part.rename(target)
    else:
        part.unlink()


def put_all(part: Path, folder: Path, *, overwrite: bool, last: str = "") -> None:
    """Make a folder what a part holds, or put all of that into the folder that is there.

    Args:
        part: a folder in the same file system.
        folder: where to.
        overwrite: whether files that are there may be replaced.
        last: the name of the file that comes last.

    Raises:
        FileExistsError: something has one of the names, and ``overwrite`` is off. All stays.
        OSError: it cannot be renamed.
    """
    if not os.path.lexists(folder):
        put(part, folder, overwrite=False)
        return
    there: list[Path] = []
    try:
        for file in sorted(part.iterdir(), key=lambda file: (file.name == last, file.name)):
            put(file, folder / file.name, overwrite=overwrite)
            there.append(file)
    except FileExistsError:
        for file in there:
            (folder / file.name).rename(file)
        raise
    part.rmdir()
    sync_folder(folder)


def keep_aside(part: Path, target: Path, *, locked: bool = False) -> TakenError:
    """Rename a finished part to a free name like ``target``'s; return the error that names both.

    Args:
        part: the finished file or folder.
        target: the name that it cannot have, because something else has it.
        locked: whether the system refuses to replace the target.

    Raises:
        OSError: no name in that folder can be had.
    """
    for number in count(1):
        other = fitting(target.with_name(f"{target.stem}-{number}{target.suffix}"))
        with suppress(FileExistsError):
            put(part, other, overwrite=False)
            break
    return TakenError(
        warning("locked" if locked else "taken", {"path": str(target), "other": str(other)})
    )


def write_whole(path: Path, data: bytes, *, of: Path | None = None, overwrite: bool = True) -> None:
    """Write a file, replacing what has its name: even after a crash one of them is there, whole.

    Args:
        path: where to.
        data: all of it.
        of: the claimed target that it belongs to; itself unless given.
        overwrite: whether what has its name is replaced.

    Raises:
        FileExistsError: something has its name, and ``overwrite`` is off.
        OSError: it cannot be written; then what was there is as it was.
    """
    part = fresh(of or path, within=path.parent)
    with ExitStack() as undo:
        undo.callback(remove, part)
        with part.open("rb+") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put(part, path, overwrite=overwrite)
        undo.pop_all()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can open folders (not on Windows)."""
    if not FOLDERS_CAN_BE_OPENED:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read, by whatever name: links count as what they lead to.

    Raises:
        OutputError: one of the outputs is one of the inputs.
    """
    read = {same: path for path in inputs if (same := _identity(path)) is not None}
    for path in outputs:
        given = read.get(_identity(path) or (0, 0))
        if given is not None:
            also = "" if given == path else f", {given}"
            raise OutputError(
                f"The output {path} is the input itself{also}; give it another name or folder."
            )


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        about = path.stat()
        return about.st_dev, about.st_ino
    return None


def _home(target: Path) -> Path:
    """Where the target's own name is, whatever links lead there."""
    return target.parent.resolve()


def beside(target: Path, suffix: str) -> Path:
    """Return the target's name with a suffix, or a hidden one where that would be too long."""
    path = target.with_name(f"{target.name}{suffix}")
    return path if _fits(path) else target.with_name(f"{own_name(target)}{suffix}")


def fitting(path: Path) -> Path:
    """Return the path, its stem cut if its name is too long; different stems stay different."""
    if _fits(path):
        return path
    mark = f"~{hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:8]}"
    stem = path.stem
    while stem and not _fits(path.with_name(f"{stem}{mark}{path.suffix}")):
        stem = stem[:-1]
    return path.with_name(f"{stem}{mark}{path.suffix}")


def _fits(path: Path) -> bool:
    """Return whether a file of that name can be, as far as the name's length goes."""
    if len(os.fsencode(path.name)) > _LONGEST:
        return False
    try:
        path.lstat()
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG  # some file systems take less
    return True


def own_name(target: Path) -> str:
    """What names of ours begin with that belong to a target; as long for each."""
    known = hashlib.sha256(os.fsencode(target.name or target.resolve().name))
    return f".cloudconv-{known.hexdigest()[:16]}"


def _holder(lock: Path) -> str:
    """Who has it, in words; nothing where nobody knows."""
    try:
        holder = json.loads(lock.read_bytes())
        since = time.strftime("%H:%M", time.localtime(holder["since"]))
        return f" (process {holder['pid']} on {holder['host']}, since {since})"
    except (OSError, ValueError, TypeError, KeyError):
        return ""
