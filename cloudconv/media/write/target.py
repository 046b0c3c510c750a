"""Where the output goes: containers, names, and a file that appears only when it is whole."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av.error

from cloudconv import files
from cloudconv.errors import EncoderError, OutputError, OutputUsageError, SettingsError
from cloudconv.media.input import images
from cloudconv.media.input.info import MediaInfo
from cloudconv.messages import option

GIF_RATE = Fraction(50)
"""The fastest rate that players show a GIF at: two of its hundredths of a second a frame."""

PATH_LIMIT: int | None = 260 if os.name == "nt" else None
"""The longest path in characters, where Windows has not been set to take longer ones."""


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of output.

    ``muxer`` is FFmpeg's name; ``encoders`` are tried in this order; ``clock`` is the tick that all
    times are rounded to (None: any tick); ``subtitles`` is the codec that text subtitles become
    where theirs is refused. ``seldom_heard``: how names of audio codecs begin that the container
    holds and few players read there.
    """

    name: str
    kind: Literal["video", "animation", "pictures"]
    muxer: str
    encoders: tuple[str, ...]
    clock: Fraction | None = None
    attachments: bool = False
    subtitles: str | None = None
    refuses: tuple[str, ...] = ()
    seldom_heard: tuple[str, ...] = ()


_NUMBER = re.compile(r"%(0\d+)?d")
_MILLISECOND = Fraction(1, 1000)
_LARGEST = 2**31 - 1
_MP4 = Container(
    "MP4",
    "video",
    "mp4",
    ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1"),
    subtitles="mov_text",
    seldom_heard=("pcm_",),
)
_MOV = Container(
    "MOV",
    "video",
    "mov",
    ("libx264", "libx264rgb", "libx265", "prores_ks"),
    subtitles="mov_text",
    # The muxer lists these two and then refuses to write their header.
    refuses=("libvpx-vp9", "libsvtav1"),
)
_MKV = Container(
    "Matroska",
    "video",
    "matroska",
    ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"),
    clock=_MILLISECOND,
    attachments=True,
    subtitles="subrip",
)
_WEBM = Container(
    "WebM",
    "video",
    "webm",
    ("libvpx-vp9", "libsvtav1"),
    clock=_MILLISECOND,
    subtitles="webvtt",
)

CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MOV,
    ".mkv": _MKV,
    ".webm": _WEBM,
    ".gif": Container("GIF", "animation", "gif", ("gif",), clock=Fraction(1, 100)),
    ".apng": Container("APNG", "animation", "apng", ("apng",)),
    ".webp": Container("WebP", "animation", "", ("libwebp_anim",), clock=_MILLISECOND),
}
PICTURES = {
    suffix: Container(f"{name} pictures", "pictures", "", (encoder,))
    for suffix, name, encoder in (
        (".png", "PNG", "png"),
        (".bmp", "BMP", "bmp"),
        (".webp", "WebP", "libwebp"),
        (".tif", "TIFF", "tiff"),
        (".tiff", "TIFF", "tiff"),
        (".exr", "EXR", "exr"),
        (".jpg", "JPEG", "mjpeg"),
        (".jpeg", "JPEG", "mjpeg"),
    )
}


def is_stdout(path: Path) -> bool:
    """Whether the output is ``-``, standard output."""
    return str(path) == "-"


def is_sequence(path: Path) -> bool:
    """Whether the name is a pattern of numbered pictures such as ``out/%05d.png``."""
    return path.suffix.lower() in PICTURES and len(_NUMBER.findall(path.name)) == 1


def numbered(path: Path, number: int) -> str:
    """The file name that the pattern gives picture ``number``."""
    return _NUMBER.sub(lambda found: f"{number:{found[1] or ''}d}", path.name)


def container_of(path: Path) -> Container:
    """Return the container that the name asks for.

    Raises:
        OutputUsageError: the name says none.
    """
    if is_stdout(path):
        return _MKV
    suffix = path.suffix.lower()
    if is_sequence(path):
        return PICTURES[suffix]
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    if suffix in PICTURES:
        folder = path.with_suffix("") if "%" not in path.name and "*" not in path.name else path
        pattern = (folder if folder is not path else path.parent) / f"%05d{suffix}"
        raise OutputUsageError(f"{path} names one picture; for a sequence give {pattern}.")
    pattern = path / "%05d.png" if not suffix else Path("frames/%05d.png")
    raise OutputUsageError(
        f"The output {path} has {f'the ending {suffix!r}' if suffix else 'no ending'}, which names "
        f"no format; use one of {' '.join(CONTAINERS)}, or for pictures {pattern}."
    )


def default_suffix(info: MediaInfo, rate: Fraction | None = None) -> str:
    """The ending of a default output name: the source's own container where we write it.

    Where that cannot play as fast as ``rate``, the output's constant rate, it is an MP4.
    """
    suffix = _own_suffix(info)
    clock = CONTAINERS[suffix].clock
    too_fast = rate is None if suffix == ".gif" else False
    if rate is not None:
        too_fast = rate > GIF_RATE if suffix == ".gif" else clock is not None and rate * clock > 1
    return ".mp4" if too_fast else suffix


def _own_suffix(info: MediaInfo) -> str:
    names = set(info.container.split(","))
    if "mp4" in names and info.suffix in ("", ".mp4", ".m4v", ".mov"):
        return ".mov" if info.suffix == ".mov" else ".mp4"
    if "webm" in names and info.suffix == ".webm":
        return ".webm"
    for name in ("gif", "apng"):
        if name in names:
            return f".{name}"
    if "webp" in info.container and info.suffix == ".webp" and info.timing.frames > 1:
        return ".webp"
    if "image2" in info.container or info.container.endswith("_pipe") or "webp" in info.container:
        return ".mp4"
    return ".mkv"


@contextmanager
def noted(refusals: list[OutputError] | None) -> Iterator[None]:
    """Where there is a list for it, note the OutputError that ends the block; else let it pass.

    A name that can be no output is an error in any case.
    """
    try:
        yield
    except OutputError as error:
        if refusals is None or isinstance(error, SettingsError):
            raise
        refusals.append(error)


def check_output(path: Path, *, overwrite: bool, inputs: Sequence[Path]) -> None:
    """Refuse an output that could not be written in the end, before any work is done.

    A missing folder is made later, by :func:`claim`.

    Raises OutputError where the name says no format, the output is one of the inputs, it exists
    and ``overwrite`` is off, or its folder may not be written to.
    """
    container = container_of(path)
    if is_stdout(path):
        return
    if container.kind == "pictures":
        _check_sequence(path, inputs)
    elif path.is_dir():
        raise OutputError(f"The output {path} is a folder; give the name of a file.")
    files.check_apart(written_by(path), images.files_of(*inputs))
    check_free(path, overwrite=overwrite)
    check_home(path)


def check_home(path: Path) -> None:
    """Refuse a file whose folder is no folder, or may not be written to; a missing one is fine.

    Raises:
        OutputError: nothing can be written there.
    """
    folder = path.absolute().parent
    folder = next(each for each in (folder, *folder.parents) if each.exists())
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder, so {path} cannot be written.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {folder} may not be written to; choose another one.")


def _check_sequence(path: Path, inputs: Sequence[Path]) -> None:
    folder = path.parent
    for given in inputs:
        taken = given if given.is_dir() else given.parent
        from_pictures = given.is_dir() or given.suffix.lower() in PICTURES
        if from_pictures and folder.exists() and taken.exists() and folder.samefile(taken):
            raise OutputError(f"The output folder {folder} holds the input pictures; use another.")


def check_rate(path: Path, rate: Fraction | None) -> None:
    """Raise OutputError where the output cannot hold so many frames a second; None: they vary."""
    container = container_of(path)
    clock = container.clock
    if rate is None:
        return
    if max(rate.numerator, rate.denominator) >= _LARGEST:
        raise OutputError(
            f"A rate of {float(rate):g} frames a second is beyond what files can hold; "
            f"choose another with {option('fps')}."
        )
    if container.muxer == "gif" and rate > GIF_RATE:
        raise OutputError(
            f"A GIF plays at most {GIF_RATE} frames a second, not {float(rate):g}; "
            "write an .mp4 instead."
        )
    if clock is not None and rate * clock > 1:
        raise OutputError(
            f"{container.name} counts in steps of {float(clock * 1000):g} ms, too coarse "
            f"for {float(rate):g} frames a second; write an .mp4 instead."
        )


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError where something has the output's name that is not to be replaced."""
    if overwrite:
        return
    if is_sequence(path):
        if any(True for _ in pictures_of(path)):
            raise OutputError(f"Pictures named {path} exist already; use -y to overwrite them.")
    elif os.path.lexists(path):
        raise OutputError(f"The output {path} exists already; use -y to overwrite it.")


@contextmanager
def claim(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Have an output for oneself, from before the first frame until it has its name.

    Raises:
        OutputError: another run makes it, or has made it since it was checked.
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
    """Return the files that making this output replaces: the file, or the pictures that exist."""
    return list(pictures_of(path)) if is_sequence(path) else [path]


def pictures_of(path: Path) -> Iterator[Path]:
    """The files that the pattern names, in no order."""
    before, _, after = _NUMBER.split(path.name)
    if path.parent.is_dir():
        for found in path.parent.iterdir():
            digits = found.name.removeprefix(before).removesuffix(after)
            if digits.isdecimal() and numbered(path, int(digits)) == found.name:
                yield found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into an OutputError that says what to do."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        # What the file's format refuses it refuses every time.
        kind = EncoderError if error.errno == errno.EINVAL else OutputError
        raise kind(_reason(path, error)) from error


def _reason(path: Path, error: OSError | av.error.FFmpegError) -> str:
    name = "standard output" if is_stdout(path) else str(path)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"The disk is full, so {name} could not be finished; free some space or use -o."
        case errno.EFBIG:
            return f"{name} grew beyond the largest file allowed here; write it to another disk."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{name} may not be written to; choose another folder or change its permissions."
        case errno.EEXIST:
            return f"{name} appeared while it was made and is left as it is; name another output."
        case errno.ENOENT if PATH_LIMIT is not None and len(str(_part_of(path))) >= PATH_LIMIT:
            return (
                f"The path of {name} is too long for this system ({PATH_LIMIT} characters with the "
                "temporary name); write to a folder with a shorter path."
            )
        case errno.ENOENT | errno.ENOTDIR if path.parent.is_dir():
            return f"{name} could not be written: its folder takes no files; choose another one."
        case errno.ENOENT | errno.ENOTDIR:
            return f"The folder of {name} does not exist; make it first."
        case errno.EPIPE:
            return "The program that reads standard output went away before the end."
    return f"{name} could not be written: {error.strerror or error}."


def _part_of(path: Path) -> Path:
    """Return a path as long as the temporary file of an output."""
    home = claimed(path)
    return home.parent.resolve() / f"{files.own_name(home)}-{16 * '0'}.part"


def claimed(path: Path) -> Path:
    """What a run must have for itself to make an output: the file, or its pictures' folder."""
    return path.parent.resolve() if is_sequence(path) else path


class Part:
    """A file, or a folder of pictures, that takes its real name only when it is complete.

    ``path`` is where to write meanwhile: beside the target, so that the last step is a rename.
    """

    def __init__(self, target: Path, *, folder: bool, overwrite: bool) -> None:
        self.target = target
        self.folder = folder
        self._overwrite = overwrite
        home = claimed(target)
        # Where the folder is there already, the one above it may not be ours to write to.
        within = home if folder and home.exists() else None
        # Made now, so that a folder that takes no files is known before any work is done.
        self.path = files.fresh(home, folder=folder, within=within)

    def commit(self) -> None:
        """Make it durable and give it its name.

        Raises:
            TakenError: something has that name by now, and it is not to be replaced.
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
            raise files.keep_aside(self.path, home) from error
        except PermissionError as error:
            # Windows replaces no file that another program has open.
            if not os.path.lexists(home) or self.folder:
                raise
            raise files.keep_aside(self.path, home, locked=True) from error
        files.sync_folder(home.parent)

    def _put(self, written: list[Path]) -> None:
        """Show the pictures in their folder, in place of those that the pattern names there."""
        home = self.target.parent
        old = list(pictures_of(self.target))
        if old and not self._overwrite:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(old[0]))
        files.put_all(self.path, home, overwrite=self._overwrite)
        for file in set(old) - {home / each.name for each in written}:
            file.unlink()

    def discard(self) -> None:
        """Remove it; the target stays as it was."""
        # Some systems refuse while it is open; the caller tries again after closing it.
        files.remove(self.path)
