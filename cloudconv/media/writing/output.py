"""Check the output's path, and keep other runs from writing it."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av

from cloudconv import files
from cloudconv.errors import EncoderError, InterruptedAtEnd, OutputError
from cloudconv.media.containers.containers import Container, container_of, is_sequence
from cloudconv.media.containers.input import address_of, is_picture, is_stdout, pictures_of
from cloudconv.media.reading.pictures import folder_of
from cloudconv.messages import rate_name

_DISK_FULL = (
    "disk-full: The disk is full, so {name} could not be finished: free some space, or "
    "name an output on another disk."
)
_NOT_WRITABLE = (
    "not-writable: {name} is not writable ({why}): choose another folder, or change its "
    "permissions."
)
_REASONS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _DISK_FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _NOT_WRITABLE),
    errno.EFBIG: (
        "file-too-large: {name} grew beyond the largest file allowed here: write it to "
        "another disk."
    ),
    errno.EEXIST: (
        "appeared: Another program made {name} during the run, and that file is left as it "
        "is: name another output."
    ),
    errno.EPIPE: (
        "reader-ended: The program that reads standard output ended before the output was "
        "complete."
    ),
    errno.EINVAL: (
        "not-written: FFmpeg could not write {name} ({why}): choose another container."
    ),
}
"""The text for a person by the system's number of an error."""


def check_output(path: Path, *, overwrite: bool, inputs: Sequence[Path]) -> None:
    """Raise OutputError for an output that could not be written, before any work is done.

    A missing folder is no error, because :func:`claim` creates the folder.
    """
    container = container_of(path)
    folder = path.parent
    if is_stdout(path):
        return
    for source in inputs if container.is_folder and folder.exists() else ():
        taken = folder_of(source) or (source.parent if is_picture(source) else None)
        if taken is not None and taken.exists() and folder.samefile(taken):
            raise OutputError(
                f"output-among-input: The output folder {folder} holds the input pictures: "
                "use another folder."
            )
    check_free(path, overwrite=overwrite)
    check_home(path)


def check_home(path: Path) -> None:
    """Raise OutputError if the folder of a file is not writable, or cannot be made."""
    if (address := address_of(path)) is not None and not path.parent.exists():
        raise OutputError(
            f"is-an-address: {address} is an address, and outputs are files on this "
            "machine: give the path of a file."
        )
    folder = path.absolute().parent
    folder = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    if not folder.is_dir():
        raise OutputError(
            f"not-a-folder: {folder} is not a folder, so nothing can be written there: "
            "name another folder."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"not-writable: {folder} is not writable: choose another folder, or change its "
            "permissions."
        )


def check_rate(path: Path, rate: Fraction | None, fastest: Fraction | None = None) -> None:
    """Raise OutputError if the output cannot store a rate, in frames per second.

    A variable rate (None) is refused only if the rate of its shortest frame, ``fastest``,
    is too high for the container.
    """
    container = container_of(path)
    clock = container.clock
    if rate is None:
        if fastest is not None and not container.plays(None, fastest):
            raise too_close(container)
        return
    # FFmpeg stores both in 32 bits.
    if max(rate.numerator, rate.denominator) >= 2**31 - 1:
        raise OutputError(
            f"rate-beyond-files: Files cannot store a rate of {float(rate)} frames "
            "a second: choose another; interp does so with --fps."
        )
    longest = container.longest_frame(clock or Fraction(1, rate.numerator))
    if longest is not None and 1 / rate > longest:
        raise OutputError(
            f"rate-too-low: At {rate_name(rate)} frames a second each frame lasts "
            f"{float(1 / rate):.0f} s, and a frame in {container.name} lasts at most "
            f"{float(longest):.0f} s: write an .mkv instead, or choose a higher rate; "
            "interp does so with --fps."
        )
    if not container.plays(rate):
        most = container.fastest or (clock and 1 / clock)
        raise OutputError(
            f"rate-beyond-container: {container.name} plays at most {most} frames a "
            f"second, not {float(rate):g}: write an .mp4 instead, or choose a lower rate; "
            "interp does so with --fps."
        )


def too_close(container: Container) -> OutputError:
    """Return the error for frames that are too close for a container to show."""
    return OutputError(
        f"frames-too-close: {container.name} plays at most {container.fastest} frames a "
        "second, and some of these frames are closer: write an .mp4 instead."
    )


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if the output exists and must not be replaced."""
    if is_sequence(path):
        files.clear(claimed(path))
    folders = [target for target in written_by(path) if target.is_dir()]
    if folders:
        raise OutputError(
            f"folder-of-that-name: {folders[0]} is a folder, and the output would replace "
            "it: move it away, or name another output."
        )
    for written in written_by(path):
        with suppress(OSError):
            mode = written.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
                raise OutputError(
                    f"output-is-no-file: {written} is {kind}, which no file replaces: name "
                    "a file, or write to standard output (named -)."
                )
    if not overwrite and any(map(os.path.lexists, written_by(path))):
        raise OutputError(
            f"output-exists: The output {path} exists already: replace it with --overwrite."
        )


@contextmanager
def claim(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Keep other runs from writing the same output until the end of the block.

    Raise OutputError if another run is writing it, or if it exists without ``overwrite``.
    Ctrl-C becomes InterruptedAtEnd if the output is complete by then.
    """
    if is_stdout(path):
        yield
        return
    with ExitStack() as stack:
        with writing(path):
            stack.enter_context(files.claim(claimed(path)))
        check_free(path, overwrite=overwrite)
        before = files.versions_of(written_by(path))
        try:
            yield
        except KeyboardInterrupt as error:
            # The output gets its name when it is complete.
            if files.versions_of(written_by(path)) == before:
                raise
            raise InterruptedAtEnd(path) from error


def written_by(path: Path) -> list[Path]:
    """Return the files that an output replaces: a file, even a missing one, or pictures."""
    return list(pictures_of(path)) if is_sequence(path) else [path]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system or of FFmpeg into an OutputError that says what to do."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        # A refusal by the file's format is permanent, so it is an EncoderError.
        kind = EncoderError if error.errno == errno.EINVAL else OutputError
        raise kind(_reason(path, error)) from error


def _reason(path: Path, error: OSError | av.error.FFmpegError) -> str:
    name = "standard output" if is_stdout(path) else files.final(path)
    number = error.errno
    if number in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
        return f"folder-missing: The folder of {name} does not exist: make it first."
    why = error.strerror or error
    if number in _REASONS:
        return _REASONS[number].format(name=name, why=why)
    return f"not-written: {name} could not be written ({why}): choose another folder."


def claimed(path: Path) -> Path:
    """Return the path that :func:`claim` locks: the file, or the folder of the pictures."""
    return Path(os.path.realpath(path.parent)) if is_sequence(path) else path
