"""Read inputs other than video files: folders or patterns of pictures, animated WebP."""

import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from cloudconv.errors import InputError, ReadError
from cloudconv.events import Warned
from cloudconv.files import raise_read_error, reading
from cloudconv.media.colour.convert import turn_of
from cloudconv.media.containers.animations import PILLOW_ERRORS, frame_durations
from cloudconv.media.containers.input import is_pattern, is_picture, numbered, pictures_of
from cloudconv.media.containers.sidedata import side_data_of
from cloudconv.media.frames.clock import SHORTEST, SHOWN
from cloudconv.media.reading import demux
from cloudconv.media.reading.tiff import pages_of, with_page
from cloudconv.messages import as_argument, keep_name, shortened

SEQUENCE_RATE = Fraction(25)
_MILLISECOND = Fraction(1, 1000)  # to which WebP rounds times
_VIDEOS = {
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".amv"),
    *(".ts", ".m2ts", ".mts", ".trp", ".tp", ".mpg", ".mpeg", ".m1v", ".m2v", ".mpv"),
    *(".vob", ".vro", ".evo", ".tod", ".wmv", ".asf", ".wtv", ".flv", ".f4v", ".ogv"),
    *(".3gp", ".3g2", ".ismv", ".rm", ".rmvb", ".ivf", ".264", ".265", ".hevc", ".y4m"),
    *(".nut", ".mxf", ".dv", ".dav", ".insv", ".360", ".gif", ".apng", ".avif"),
}
_ANIMATIONS = (".gif", ".apng", ".avif")  # or still pictures
_SAME = {**dict.fromkeys((".jpeg", ".jpe", ".jfif"), ".jpg"), ".tiff": ".tif"}
"""The endings of formats that have several, and the usual one."""
_NUMBERS = re.compile(r"((?:(?<![^.])-)?[0-9]+)")
_PALETTE = 3  # the colour type of PNG


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures with durations in seconds.

    ``decode`` starts with the picture of the given number, and yields None for one that
    cannot be decoded.
    """

    container: str
    codec: str
    files: tuple[Path, ...]
    durations: Sequence[Fraction]
    decode: Callable[[int], Iterator[VideoFrame | None]]
    hurried: int = 0  # pictures that get a longer duration, see `VideoClock`

    def timed(self, start: Fraction) -> Iterator[tuple[VideoFrame | None, Fraction]]:
        """Yield each picture from the one at ``start`` on, and its time after the first."""
        times = list(accumulate(self.durations, initial=Fraction(0)))
        first = max(bisect_right(times, start) - 1, 0)
        return zip(self.decode(first), times[first:], strict=False)

    def missing(self) -> list[tuple[int, int]]:
        """Return the first and last missing number of each gap in the files' numbering.

        Files count as numbered if their names differ in one number only, and at least half
        of the steps from one number to the next equal the smallest step.
        """
        keys = map(_natural, self.files)
        varying = [each for each in zip(*keys, strict=False) if len(set(each)) > 1]
        if len(varying) != 1 or isinstance(varying[0][0], str):
            return []
        steps = list(pairwise(varying[0]))
        least = min(after - before for before, after in steps)
        gaps = [(a + least, b - least) for a, b in steps if b - a > least]
        return gaps if least > 0 and 2 * len(gaps) <= len(steps) else []


def pictures_in(folder: Path) -> list[Path]:
    """Return the folder's pictures in order; see `_of_one_kind`."""
    return _of_one_kind(visible_in(folder))


def videos_in(folder: Path) -> list[Path]:
    """Return the folder's videos and animations, sorted by name, without hidden files."""
    return [file for file in visible_in(folder) if is_video(file)]


def _of_one_kind(files: Iterable[Path]) -> list[Path]:
    """Return the pictures with the most frequent ending, sorted by their numbers.

    The endings of one format, such as .jpg and .JPEG, are one.
    """
    by_kind = defaultdict[str, list[Path]](list)
    for file in files:
        if is_picture(file) or file.suffix.lower() in _ANIMATIONS:
            ending = file.suffix.lower()
            by_kind[_SAME.get(ending, ending)].append(file)
    most = max(by_kind.values(), key=len) if by_kind else []
    return sorted(most, key=_natural)


def _natural(file: Path) -> list[Any]:
    """Return the texts and numbers in turn of which a name consists, without its ending.

    A minus is the sign of a number at the start of a name and after a dot only.
    """
    parts = _NUMBERS.split(file.stem)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def visible_in(folder: Path) -> list[Path]:
    """Return the files in a folder, sorted by name, without hidden ones."""
    # macOS writes a hidden file such as "._a.png" beside each file on some disks.
    with reading(folder):
        visible = [
            file for file in sorted(folder.iterdir()) if not file.name.startswith(".")
        ]
        for file in visible:
            keep_name(file.name)
        # A link whose target is missing is listed too, so that an error names it.
        return [file for file in visible if file.is_file() or not file.exists()]


def folders_within(folder: Path) -> Iterator[Path]:
    """Yield a folder and all visible folders inside, sorted by name.

    Links are not followed.
    """

    def refuse(error: OSError) -> None:
        with reading(error.filename):
            raise error

    for name, inside, _ in os.walk(folder, onerror=refuse):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        yield Path(name)


def subfolders_of(folder: Path) -> list[Path]:
    """Return the visible folders inside that contain videos or pictures, sorted by name."""
    folders = []
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and not inside.name.startswith("."):
            with suppress(OSError):  # leave out a folder that cannot be read
                if any(is_picture(file) or is_video(file) for file in inside.iterdir()):
                    folders.append(inside)
    return folders


def is_video(file: Path) -> bool:
    """Return whether the file's name has a video suffix; an animation must move, too."""
    if file.suffix.lower() not in _ANIMATIONS:
        return file.suffix.lower() in _VIDEOS
    try:
        with Image.open(file) as image:
            return bool(getattr(image, "is_animated", False))
    except PILLOW_ERRORS:
        return True


def rest_of(folder: Path, kind: str, rest: Iterable[Path]) -> Iterator[Warned]:
    """Yield a warning that names what a folder holds beside the files of a kind."""
    names = [f"{path.relative_to(folder)}{'/' * path.is_dir()}" for path in rest]
    if names:
        yield Warned(
            f"files-left-out: {folder} stands for its {kind}, and what else is in it is "
            f"left out: {shortened(names, 3)}."
        )


def folder_of(path: Path) -> Path | None:
    """Return the folder of a picture folder or pattern; None for a single file."""
    if path.is_dir():
        return path
    return path.parent if is_pattern(path) and not path.is_file() else None


def open_pictures(path: Path, rate: Fraction | None = None) -> Pictures | None:
    """Return the pictures of a folder, a pattern or an animation that Pillow reads.

    ``rate`` is for pictures without times, by default :data:`SEQUENCE_RATE`. Returns None
    for any other path. Raises InputError if there is no picture, or something else to read.
    """
    if path.is_file():
        return _pages(path, rate) or _animated_webp(path) or _clear_avif(path)
    if not path.is_dir():
        if (matches := matching(path)) == []:
            raise InputError(
                f"no-picture-matches: No picture matches {path}: check the pattern and the "
                "folder; several videos need interp with --out-dir."
            )
        return None if matches is None else _sequence(matches, rate)
    if videos_in(path):
        raise InputError(
            f"folder-of-videos: The folder {path} holds videos: give one of them, or give "
            "all of them to interp with --out-dir."
        )
    files = pictures_in(path)
    if not files:
        raise InputError(
            f"folder-without-pictures: The folder {path} itself holds no pictures and no "
            "videos: give a video file, a folder of PNG, JPEG, TIFF … files, or for its "
            "subfolders interp with --out-dir and --recursive."
        )
    return _sequence(files, rate)


def matching(path: Path) -> list[Path] | None:
    """Return the pictures that a pattern matches; None for any other path."""
    if path.exists() or not is_pattern(path):
        return None
    with reading(path.parent):
        files = sorted(file for file in pictures_of(path) if file.is_file())
    return sorted(files, key=_natural) if numbered(path) else _of_one_kind(files)


def files_of(path: Path) -> Sequence[Path]:
    """Return all files that an input consists of.

    Raise InputError as :func:`open_pictures`.
    """
    is_single = path.is_file() or str(path) == "-"
    pictures = None if is_single else open_pictures(path)
    return [path] if pictures is None else pictures.files


def _sequence(files: list[Path], rate: Fraction | None) -> Pictures:
    durations = [1 / (rate or SEQUENCE_RATE)] * len(files)
    codec = files[0].suffix.lower()[1:]

    def decode(first: int) -> Iterator[VideoFrame | None]:
        return map(_decode_still, files[first:])

    return Pictures("image2", codec, tuple(files), durations, decode)


def common_format(files: Sequence[Path]) -> str | None:
    """Return the pixel format that holds PNG or JPEG files of several kinds; else None.

    A palette is a kind that has a format too, because FFmpeg gives each one an opacity.
    """
    formats = {demux.jpeg_format(file) for file in files}
    if len(formats) > 1 and None not in formats:
        return "gbrp" if "gbrap" in formats else "yuv444p"
    kinds = set(map(demux.png_kind, files))
    usable = [kind for kind in kinds if kind is not None]
    depths, colours, clear = zip(*usable, strict=True) if usable else ((), (), ())
    if len(usable) < len(kinds) or (len(kinds) < 2 and _PALETTE not in colours):
        return None
    planar = "gray"
    if any(clear) or any(colour & 4 for colour in colours):
        planar = "gbrap"
    elif any(colour & 2 for colour in colours):
        planar = "gbrp"
    return planar + ("16le" if 16 in depths else "")


def _decode_still(file: Path, page: int = 0) -> VideoFrame | None:
    try:
        with demux.open_container(file) as container:
            stream = demux.main_video(container, file)
            decoder = demux.open_decoder(stream)
            packets: Iterable[Any] = chain(demux.read_packets(container, stream), [None])
            if page:  # FFmpeg's own option for that refuses the files of common programs
                packets = [av.Packet(with_page(file.read_bytes(), file, page)), None]
            picture = next(chain.from_iterable(map(decoder.decode, packets)), None)
            return None if picture is None else _upright(file, picture, decoder.name)
    except ReadError:
        raise
    except (InputError, av.error.FFmpegError) as error:
        is_clear = ("unknown-codec", "photo-in-tiles")
        if isinstance(error, InputError) and error.code in is_clear:
            raise
        return None


def _upright(file: Path, picture: VideoFrame, codec: str) -> VideoFrame:
    """Return the picture, turned as the camera was held by its EXIF data."""
    if codec in ("png", "apng") and b"eXIf" not in file.read_bytes():
        return picture  # this search takes less time than to read the side data
    turn = turn_of(side_data_of(picture, codec).get("DISPLAYMATRIX"))
    # Later code gives a message for a format that cannot be used.
    with suppress(ValueError):
        return picture if turn is None else turn.picture(picture)
    return picture


def _pages(file: Path, rate: Fraction | None) -> Pictures | None:
    """Return the pages of a TIFF file; None for one page and for other files."""
    count = pages_of(file)
    if count < 2:
        return None

    def decode(first: int) -> Iterator[VideoFrame | None]:
        return (_decode_still(file, page) for page in range(first, count))

    durations = [1 / (rate or SEQUENCE_RATE)] * count
    return Pictures("image2", "tiff", (file,) * count, durations, decode)


def motion_photo(file: Path) -> InputError | None:
    """Return the error for a JPEG with a phone's video behind the picture."""
    if file.suffix.lower() not in (".jpg", ".jpeg") or not file.is_file():
        return None
    data = file.read_bytes()
    begin = data.find(b"ftyp") - 4
    if begin <= 0 or b"moov" not in data[begin:]:
        return None
    return InputError(
        f"motion-photo: {file} is a picture with a video behind the picture (a motion "
        f"photo): take the video out first: 'tail -c {len(data) - begin} "
        f"{as_argument(file)} > motion.mp4'"
    )


def _animated_webp(file: Path) -> Pictures | None:
    with file.open("rb") as data:
        head = data.read(30)
        is_extended = len(head) == 30 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
        if not is_extended or not head[20] & 0x02:
            return None
        width, height = (int.from_bytes(head[k : k + 3], "little") + 1 for k in (24, 27))
        demux.check_size(width, height, file)
        stated = [length * _MILLISECOND for _, length in frame_durations(data)]
    durations = [SHOWN if length <= SHORTEST else length for length in stated]
    if not durations:
        raise InputError(demux.too_short(file))
    decode = partial(_decode_animation, file, len(durations), alpha=bool(head[20] & 0x10))
    hurried = sum(length <= SHORTEST for length in stated)
    return Pictures("webp", "webp", (file,), durations, decode, hurried)


def _clear_avif(file: Path) -> Pictures | None:
    """Return an animated AVIF with transparency; None for any other file.

    FFmpeg reads the opacity as another video. Pillow joins both, with 8 bits.
    """
    with file.open("rb") as data:
        if data.read(12)[4:] != b"ftypavis":
            return None
    try:
        with Image.open(file) as image:
            demux.check_size(*image.size, file)
            if image.mode != "RGBA":
                return None
    except PILLOW_ERRORS:
        return None
    with demux.open_container(file) as container:
        stream = demux.main_video(container, file)
        packets = demux.read_packets(container, stream)
        durations = [
            packet.duration * Fraction(stream.time_base) or SHOWN for packet in packets
        ]
    decode = partial(_decode_animation, file, len(durations), alpha=True)
    return Pictures("avif", "av1", (file,), durations, decode)


def _decode_animation(
    file: Path, count: int, first: int, *, alpha: bool
) -> Iterator[VideoFrame | None]:
    mode, layout = ("RGBA", "rgba") if alpha else ("RGB", "rgb24")
    try:
        image = Image.open(file)
    except PILLOW_ERRORS:
        yield from [None] * (count - first)
        return
    with image:
        for index in range(first, count):
            try:
                image.seek(index)
                samples = np.asarray(image.convert(mode))
            except PILLOW_ERRORS as error:
                raise_read_error(file, error)
                yield None
            else:
                yield VideoFrame.from_ndarray(samples, format=layout)


def stored_frames(file: Path) -> int | None:
    """Return the number of pictures of an animated WebP, whose encoder joins equal ones.

    The result is None for other files.
    """
    with file.open("rb") as data:
        if data.read(16)[8:] != b"WEBPVP8X":
            return None
        return sum(1 for _ in frame_durations(data)) or None
