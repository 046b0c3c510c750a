"""Check the output's path, and create a file that appears only when it is complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av.error

from cloudconv import files
from cloudconv.errors import EncoderError, OutputError, SettingsError
from cloudconv.media.input import images
from cloudconv.media.write.containers import container_of, is_sequence
from cloudconv.media.write.names import is_stdout, pictures_of
from cloudconv.timeline import rate_name

_LARGEST = 2**31 - 1  # FFmpeg stores numerator and denominator of a rate in 32 bits


@contextmanager
def collect_refusals(refusals: list[OutputError]) -> Iterator[None]:
    """Append the OutputError that ends the block to the list.

    A SettingsError, such as an output's name without a known format, is re-raised.
    """
    try:
        yield
    except OutputError as error:
        if isinstance(error, SettingsError):
            raise
        refusals.append(error)


def raise_first(refusals: Iterable[OutputError]) -> None:
    """Raise the first reason to refuse the output, if there is any."""
    for error in refusals:
        raise error


def check_output(path: Path, *, overwrite: bool, inputs: Sequence[Path]) -> None:
    """Refuse an output that could not be written, before any work is done.

    A missing folder is no error, because :func:`claim` creates the folder.

    Raises:
        OutputError: the name selects no format, the output is a folder or one of the inputs, the
            pictures would be written beside those of an input, the output exists without
            ``overwrite``, or the folder of the output is not writable.
    """
    container = container_of(path)
    if is_stdout(path):
        return
    if container.is_folder:
        _check_sequence(path, inputs)
    elif path.is_dir():
        raise OutputError("output-is-folder", path=path)
    files.check_apart(written_by(path), images.files_of(*inputs))
    check_free(path, overwrite=overwrite)
    check_home(path)


def check_home(path: Path) -> None:
    """Refuse a file if its folder is not writable; accept a missing folder in a writable one.

    Raises:
        OutputError: the folder is a file, or is not writable.
    """
    folder = path.absolute().parent
    folder = next(each for each in (folder, *folder.parents) if each.exists())
    if not folder.is_dir():
        raise OutputError("not-a-folder", folder=folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError("not-writable", path=folder)


def _check_sequence(path: Path, inputs: Sequence[Path]) -> None:
    folder = path.parent
    for given in inputs:
        taken = images.folder_of(given) or (given.parent if images.is_picture(given) else None)
        if taken is not None and folder.exists() and taken.exists() and folder.samefile(taken):
            raise OutputError("output-among-input", folder=folder)


def check_rate(path: Path, rate: Fraction | None, fastest: Fraction | None = None) -> None:
    """Raise OutputError if the output cannot store a rate, in frames per second.

    A variable rate (None) is refused only if its shortest frame has a rate, ``fastest``, that is
    too high for the container.
    """
    container = container_of(path)
    clock = container.clock
    if rate is None:
        if fastest is not None and not container.plays(None, fastest):
            most = container.fastest
            raise OutputError("frames-too-close", container=container.name, most=most)
        return
    if max(rate.numerator, rate.denominator) >= _LARGEST:
        raise OutputError("rate-beyond-files", rate=float(rate))
    longest = container.longest_frame(clock or Fraction(1, rate.numerator))
    if longest is not None and 1 / rate > longest:
        raise OutputError(
            "rate-too-low",
            container=container.name,
            rate=rate_name(rate),
            lasts=float(1 / rate),
            most=float(longest),
        )
    if not container.plays(rate):
        most = container.fastest or (clock and 1 / clock)
        raise OutputError(
            "rate-beyond-container", container=container.name, most=most, rate=float(rate)
        )


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if the output exists and must not be replaced."""
    if overwrite:
        return
    if is_sequence(path):
        if any(True for _ in pictures_of(path)):
            raise OutputError("pictures-exist", path=path)
    elif os.path.lexists(path):
        raise OutputError("output-exists", path=path)


@contextmanager
def claim(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Keep other runs from writing the same output until the end of the block.

    Raises:
        OutputError: another run is writing the output, the output exists without ``overwrite``, or
            the folder cannot be created or written to.
    """
    if is_stdout(path):
        yield
        return
    with ExitStack() as stack:
        with writing(path):
            stack.enter_context(files.Claim(claimed(path)))
        check_free(path, overwrite=overwrite)
        yield


def written_by(path: Path) -> list[Path]:
    """Return the files that this output replaces: the file, even if missing, or the pictures."""
    return list(pictures_of(path)) if is_sequence(path) else [path]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system or of FFmpeg into an OutputError that says what to do."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        # A refusal by the file's format is permanent, so it is an EncoderError.
        kind = EncoderError if error.errno == errno.EINVAL else OutputError
        name = "standard output" if is_stdout(path) else path
        why = error.strerror or error
        raise kind(_reason(path, error.errno), path=name, why=why) from error


def _reason(path: Path, number: int | None) -> str:
    """Return the code of the message for the system's error ``number``."""
    match number:
        case errno.ENOSPC | errno.EDQUOT:
            return "disk-full"
        case errno.EFBIG:
            return "file-too-large"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "not-writable"
        case errno.EEXIST:
            return "appeared"
        case errno.ENOENT | errno.ENOTDIR if not path.parent.is_dir():
            return "folder-missing"
        case errno.EPIPE:
            return "reader-ended"
    return "not-written"


def claimed(path: Path) -> Path:
    """Return the path that :func:`claim` locks: the file, or the folder of the pictures."""
    return path.parent.resolve() if is_sequence(path) else path


class Part:
    """A file, or a folder of pictures, that gets its final name only when it is complete.

    ``path`` is the temporary path beside the target, so that the last step is a rename.
    """

    def __init__(self, target: Path, *, folder: bool, overwrite: bool) -> None:
        """Create the temporary file or folder.

        Args:
            target: the final path.
            folder: whether the output is a folder of pictures.
            overwrite: whether an existing output may be replaced.

        Raises:
            OSError: the temporary file or folder cannot be created.
        """
        self.target = target
        self.folder = folder
        self._overwrite = overwrite
        home = claimed(target)
        # The part lies inside an existing folder, because the folder's parent may not be writable.
        within = home if folder and home.exists() else None
        # Create the part now, so that an unwritable folder is an error before any work.
        self.path = files.create_part(home, folder=folder, within=within)

    def commit(self) -> None:
        """Write the output to the disk and rename the part to the final name.

        Raises:
            TakenError: something else has the final name and cannot be replaced, so the complete
                output has another name.
            OSError: the output cannot be synced to the disk or renamed.
        """
        written = sorted(self.path.iterdir()) if self.folder else [self.path]
        for file in written:
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        home = claimed(self.target)
        try:
            if self.folder:
                self._put(written)
            else:
                files.put(self.path, home, overwrite=self._overwrite)
        except FileExistsError as error:
            raise files.put_under_free_name(self.path, home) from error
        except PermissionError as error:
            # Windows cannot replace a file that another program has open.
            if not os.path.lexists(home) or self.folder:
                raise
            raise files.put_under_free_name(self.path, home, locked=True) from error
        files.sync_folder(home.parent)

    def _put(self, written: list[Path]) -> None:
        """Move the pictures to their folder, and delete old pictures of the same pattern there."""
        home = self.target.parent
        old = list(pictures_of(self.target))
        if old and not self._overwrite:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(old[0]))
        files.put_all(self.path, home, overwrite=self._overwrite)
        for file in set(old) - {home / each.name for each in written}:
            file.unlink()

    def discard(self) -> None:
        """Delete the part; the target is unchanged."""
        # Some systems refuse to delete an open file, so the caller closes the file and tries again.
        files.remove(self.path)
