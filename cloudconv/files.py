"""Create output files safely: one process per output, and no foreign file is changed.

A part is an unfinished file or folder, stored beside its target as ``.cloudconv-<hash of
the target's name>-<random>.part``. The creation of a part fails if the name exists. The
process therefore never changes or deletes a file or link of another process. The next run
that acquires the target's lock deletes the parts of a run that was killed.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from cloudconv.errors import InputError, OutputError, ReadError, TakenError

_READ_ERRORS = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT)
_LONGEST = 255  # longest file name, in bytes
# In a part whose files are being moved: the moves, and the files that they replace.
_MOVES = ".cloudconv-moves"
_REPLACED = ".cloudconv-replaced"
_parts: dict[Path, Path] = {}  # the parts that this process has created, to their targets
FOLDERS_CAN_BE_OPENED = os.name != "nt"  # the system can open a folder to sync its entries


def data_folder() -> Path:
    """Return the folder of the user's data, such as converted weights; it may not exist."""
    usual = platformdirs.user_data_path("cloudconv", appauthor=False)
    return Path(os.environ.get("CLOUDCONV_DATA") or usual)


@contextmanager
def undone_on_error(undo: Callable[..., object], *args: Any) -> Iterator[None]:
    """Call a function if the block raises an error, is interrupted, or is left early."""
    with ExitStack() as stack:
        stack.callback(undo, *args)
        yield
        stack.pop_all()


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn an error of the system in the block into an InputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise_read_error(path, error)
        raise InputError(
            f"unreadable: {path} cannot be read ({error.strerror}): check its name and "
            "permissions."
        ) from error


@contextmanager
def storing_temporarily() -> Iterator[None]:
    """Turn an error of the system in the block into one that names the temporary folder."""
    try:
        yield
    except OSError as error:
        # Without a usable folder, the reason lists those that were tried.
        folder = tempfile.tempdir or "any folder"
        raise OutputError(
            f"temporary-full: Temporary files cannot be stored in {folder} "
            f"({error.strerror}): free some space there, or set TMPDIR to another folder."
        ) from error


def raise_read_error(path: Path | str, error: Exception) -> None:
    """Raise ReadError if ``error`` comes from a disk or a connection, not from bad data."""
    number = getattr(error, "errno", None)
    if number in _READ_ERRORS:
        raise ReadError(
            f"read-error: {path} cannot be read to its end ({os.strerror(number)}): check "
            "the disk or the connection, and run the command again."
        ) from error


@contextmanager
def claim(target: Path) -> Iterator[None]:
    """Give this process alone the right to create ``target``, a file or a folder.

    The right ends with the block or with the process, even if the process is killed. First
    the unfinished files of a run that was killed are deleted. Missing parent folders of the
    target are created. Raises OutputError if another process or thread has the right, or
    something that is no lock has the name of the lock, and OSError if the lock file cannot
    be written. After Ctrl-C no lock file of this process remains.
    """
    folder = _folder_of(target)
    if folder.exists() and not os.access(folder, os.W_OK):
        folder = target  # possibly the only folder that this process may write to
    path = folder / f"{part_prefix(target)}.lock"
    # Another thread may release the lock, so the lock is not bound to a thread. The timeout
    # covers a process that is just releasing the lock.
    lock = FileLock(path, timeout=0.2, thread_local=False)
    in_use = OutputError(
        f"output-in-use: Another cloudconv is writing {target}, or {path} is not its lock: "
        "wait for it, or name another output."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        about = path.lstat()
        # A lock is an empty file. To lock another file would truncate or delete it.
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 or about.st_size:
            raise in_use
    try:
        try:
            lock.acquire()
        except Timeout as error:
            # In a folder without write permission the lock fails as if another process had
            # it. Creating a file there raises the true error.
            remove(create_part(target))
            raise in_use from error
        except KeyboardInterrupt:
            # The lock file may exist already. Only the process with the lock may delete it.
            with suppress(Timeout, OSError):
                lock.acquire(timeout=0)
            raise
        for part in [*_leftovers(target)]:
            remove(part)
        yield
    finally:
        if lock.is_locked:
            # The file is deleted before the lock is released, so that a waiting process
            # notices the deletion.
            with suppress(OSError):
                path.unlink()
            lock.release()


def _leftovers(target: Path) -> Iterator[Path]:
    for folder in {_folder_of(target), Path(os.path.realpath(target))}:
        yield from folder.glob(f"{part_prefix(target)}-*.part")


def create_part(target: Path, *, folder: bool = False, within: Path | None = None) -> Path:
    """Create an empty part, which the caller fills and renames to ``target``.

    The part is a file or a ``folder``, ``within`` a folder (default: beside the target).
    Missing parent folders are created.
    """
    parent = within or _folder_of(target)
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / f"{part_prefix(target)}-{secrets.token_hex(8)}.part"
    _parts[path] = target
    if folder:
        path.mkdir()
    else:
        path.open("xb").close()
    return path


def unfinished() -> list[Path]:
    """Return the unfinished files and folders of this process that still exist."""
    return [path for path in list(_parts) if os.path.lexists(path)]


def final(path: Path) -> Path:
    """Return the name that a part, or a file in it, gets when the part is complete."""
    for part, target in list(_parts.items()):
        if path.is_relative_to(part):
            return target / path.relative_to(part)
    return path


def remove(path: Path) -> None:
    """Delete a file, a link (not its target) or a folder with its contents, if possible.

    Files that an unfinished move has replaced come back first; if one cannot, the folder
    stays.
    """
    if path.is_dir() and not path.is_symlink():
        if _take_back(path):
            shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def put(part: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a finished part to its target in the same file system.

    Raises FileExistsError if the target exists, and ``overwrite`` is off; the part stays.
    """
    if overwrite:
        part.replace(target)
    else:
        try:
            os.link(part, target)  # unlike a rename, a link replaces nothing
        except FileExistsError:
            # An earlier call was interrupted between link and unlink.
            if not _are_one(part, target):
                raise
            part.unlink()
        except OSError as error:
            # The part is a folder, or the file system has no links. A renamed folder can
            # replace only an empty folder, so no file is lost.
            if os.path.lexists(target):
                raise FileExistsError(
                    errno.EEXIST, os.strerror(errno.EEXIST), str(target)
                ) from error
            part.rename(target)
        else:
            part.unlink()
    _parts.pop(part, None)


def put_all(part: Path, folder: Path, *, overwrite: bool, old: Iterable[Path] = ()) -> None:
    """Rename a finished part to ``folder``, or move its contents into an existing folder.

    All files are moved, or none: after an error at once, after a kill when the part is
    removed. The part is a folder in the same file system. The ``old`` files in the folder
    go, if ``overwrite`` allows that files are replaced. Raises FileExistsError if one of
    the names exists and must not be replaced, and OSError if one is a folder, or a file
    cannot be renamed.
    """
    if not os.path.lexists(folder):
        put(part, folder, overwrite=False)
        return
    names = [file.name for file in part.iterdir()]
    taken = {*old, *(folder / name for name in names if os.path.lexists(folder / name))}
    for path in sorted(taken):
        if not overwrite:
            raise _refused(errno.EEXIST, path)
        if path.is_dir():
            raise _refused(errno.EISDIR, path)
    if part.parent != folder:
        part = part.rename(folder / part.name)
    with undone_on_error(_take_back, part):
        (part / _REPLACED).mkdir()
        (part / _MOVES).write_text(
            json.dumps({name: _version(part / name) for name in names})
        )
        for path in taken:
            path.rename(part / _REPLACED / path.name)
        for name in names:
            put(part / name, folder / name, overwrite=False)
        sync_folder(folder)
        (part / _MOVES).unlink()  # from here on the move is complete
    remove(part)


def _take_back(part: Path) -> bool:
    """Undo an unfinished move out of a part; return whether all replaced files are back."""
    with suppress(OSError, ValueError, AttributeError):
        for name, version in json.loads((part / _MOVES).read_bytes()).items():
            moved = part.parent / Path(name).name
            with suppress(OSError):
                if _version(moved) == version:
                    # After an interrupted `put` both names are one file; a rename would
                    # keep both.
                    if _are_one(moved, part / moved.name):
                        moved.unlink()
                    elif not os.path.lexists(part / moved.name):
                        moved.rename(part / moved.name)
        for file in (part / _REPLACED).iterdir():
            with suppress(OSError):
                put(file, part.parent / file.name, overwrite=False)
        (part / _REPLACED).rmdir()
        (part / _MOVES).unlink()
    return not os.path.lexists(part / _MOVES) or not any((part / _REPLACED).glob("*"))


def _are_one(name: Path, other: Path) -> bool:
    """Return whether two names are links to one file, which is no symbolic link."""
    with suppress(OSError):
        return os.path.samestat(name.lstat(), other.lstat())
    return False


def _version(file: Path) -> list[int]:
    about = file.lstat()
    return [about.st_ino, about.st_size, about.st_mtime_ns]


def versions_of(files: Iterable[Path]) -> dict[Path, list[int]]:
    """Return the version of each file that exists; one that is made again differs."""
    versions = {}
    for file in files:
        with suppress(OSError):
            versions[file] = _version(file)
    return versions


def clear(target: Path) -> None:
    """Remove what a killed run has left of a target, unless another run is making it."""
    if any(_leftovers(target)):
        with suppress(OutputError, OSError), claim(target):
            pass


def put_under_free_name(part: Path, target: Path, error: OSError) -> TakenError:
    """Rename a finished part to an unused name similar to that of its target, which exists.

    Return the error that names both files; ``error`` is why the target cannot be replaced.
    """
    for number in count(1):
        other = fitting(target.with_name(f"{target.stem}-{number}{target.suffix}"))
        with suppress(FileExistsError):
            put(part, other, overwrite=False)
            break
    return TakenError(
        f"output-taken: {target} cannot be replaced ({error.strerror}): "
        f"it is left as it is, and the new output is {other}."
    )


def write_whole(
    path: Path, data: bytes, *, of: Path | None = None, overwrite: bool = True
) -> None:
    """Write a file and replace an existing one in a single step.

    After a crash either the old file or the new one is there, complete. ``of`` is the
    claimed target to which the file belongs (default: the file itself). Raises
    FileExistsError if the file exists, and ``overwrite`` is off, and OSError if it cannot
    be written; the old one then stays.
    """
    part = create_part(of or path, within=path.parent)
    with undone_on_error(remove, part):
        with part.open("rb+") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put(part, path, overwrite=overwrite)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk.

    This does nothing if the system cannot open folders (Windows), or must not read this
    one.
    """
    with suppress(PermissionError), ExitStack() as stack:
        if FOLDERS_CAN_BE_OPENED:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            os.fsync(handle)


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError if an output is one of the inputs; links count as their targets.

    ``-`` is the file that the shell has opened as standard output, or as standard input.
    """
    by_identity = {key: path for path in inputs if (key := _identity(path, 0)) is not None}
    for path in outputs:
        match = by_identity.get(_identity(path, 1) or (0, 0))
        if match is not None:
            output = "Standard output" if str(path) == "-" else f"The output {path}"
            name = "standard input" if str(match) == "-" else match
            other = "" if match == path else f" ({name})"
            raise OutputError(
                f"output-is-input: {output} is the input itself{other}: give it another "
                "name or folder."
            )


def _identity(path: Path, descriptor: int) -> tuple[int, int] | None:
    """Return device and inode of a file; ``descriptor`` is that of ``-``."""
    is_stream = str(path) == "-"
    with suppress(OSError):
        status = os.fstat(descriptor) if is_stream else path.stat()
        # Terminals, pipes and /dev/null have no identity.
        if not is_stream or stat.S_ISREG(status.st_mode):
            return status.st_dev, status.st_ino
    return None


def _folder_of(target: Path) -> Path:
    # ``realpath`` accepts a link to itself, unlike ``resolve``.
    return Path(os.path.realpath(target.parent))


def beside(target: Path, suffix: str) -> Path:
    """Return the target's path with a suffix, or a short hidden name for a long one."""
    path = target.with_name(f"{target.name}{suffix}")
    return path if _fits(path) else target.with_name(f"{part_prefix(target)}{suffix}")


def fitting(path: Path) -> Path:
    """Return the path with its stem shortened if it is too long.

    Different stems stay different.
    """
    if _fits(path):
        return path
    mark = f"~{hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:8]}"
    stem = path.stem
    while stem and not _fits(path.with_name(f"{stem}{mark}{path.suffix}")):
        stem = stem[:-1]
    return path.with_name(f"{stem}{mark}{path.suffix}")


def _fits(path: Path) -> bool:
    if len(os.fsencode(path.name)) > _LONGEST:
        return False
    try:
        path.lstat()
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG  # some file systems have a lower limit
    return True


def part_prefix(target: Path) -> str:
    """Return the prefix of a target's temporary names; prefixes have one length."""
    name_hash = hashlib.sha256(os.fsencode(target.name or target.resolve().name))
    return f".cloudconv-{name_hash.hexdigest()[:16]}"


def _refused(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def sealed(data: dict[str, Any]) -> bytes:
    """Return a line of JSON with a checksum."""
    return json.dumps({**data, "sum": _sum(data)}).encode()


def unsealed(line: bytes) -> dict[str, Any] | None:
    """Return the data of a sealed line; None if the line was changed or cut off."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_whole = isinstance(data, dict) and data.pop("sum", None) == _sum(data)
    return data if is_whole else None


def _sum(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
