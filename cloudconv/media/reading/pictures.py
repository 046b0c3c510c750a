"""Read inputs other than video files: folders or patterns of pictures, animated WebP."""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from functools import lru_cache, partial
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from cloudconv.errors import InputError, ReadError
from cloudconv.files import raise_read_error, reading
from cloudconv.media.colour.convert import turn_of
from cloudconv.media.containers.animations import PILLOW_ERRORS, frame_durations
from cloudconv.media.containers.input import is_pattern, is_picture, numbered, pictures_of
from cloudconv.media.containers.sidedata import side_data_of
from cloudconv.media.frames.clock import PHOTOS, SHORTEST, SHOWN, format_of
from cloudconv.media.reading import demux
from cloudconv.media.reading.tiff import pages_of, with_page
from cloudconv.messages import as_argument, keep_name

SEQUENCE_RATE = Fraction(25)
MILLISECOND = Fraction(1, 1000)  # to which WebP rounds times
_VIDEOS = {
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".m2ts",
        ".mts",
        ".mpg",
        ".mpeg",
    ),
    *(
        ".wmv",
        ".asf",
        ".flv",
        ".ogv",
        ".3gp",
        ".y4m",
        ".nut",
        ".gif",
        ".apng",
        ".vob",
        ".mxf",
    ),
    *(
        ".dv",
        ".f4v",
        ".3g2",
        ".m2v",
        ".mpv",
        ".divx",
        ".rm",
        ".rmvb",
        ".ivf",
        ".264",
        ".265",
    ),
    *(
        ".insv",
        ".360",
        ".lrv",
        ".lrf",
        ".tod",
        ".dav",
        ".trp",
        ".tp",
        ".wtv",
        ".amv",
        ".mk3d",
    ),
    *(".qt", ".hevc", ".vro", ".m1v", ".evo", ".ismv", ".avif"),
}
_ANIMATIONS = (".gif", ".apng", ".avif")  # or still pictures
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

    @property
    def rate(self) -> Fraction | None:
        """Return the constant rate.

        The result is None if the durations of all pictures but the last differ.
        """
        return 1 / self.durations[0] if len(set(self.durations[:-1])) <= 1 else None

    def timed(self, start: Fraction) -> Iterator[tuple[VideoFrame | None, Fraction]]:
        """Yield each picture from the one at ``start`` on, and its time after the first."""
        times = list(accumulate(self.durations, initial=Fraction(0)))
        first = max(bisect_right(times, start) - 1, 0)
        return zip(self.decode(first), times[first:], strict=False)

    @property
    def wraps_after(self) -> Path | None:
        """Return the file with the last number before a counter begins again, or None."""
        numbers = _numbers(self.files)
        return next(
            (self.files[k] for k, (a, b) in enumerate(pairwise(numbers)) if a > b), None
        )

    def missing(self) -> list[tuple[int, int]]:
        """Return the first and last missing number of each gap in the files' numbering.

        Files count as numbered if their names differ in one number only, and at least half
        of the steps from one number to the next equal the smallest step. A step from one
        date or time of day to the next is a step in time.
        """
        numbers, named = _in_time(_numbers(self.files))
        wrap = next((k for k, (a, b) in enumerate(pairwise(numbers)) if a > b), None)
        if wrap is not None:  # the numbers go on behind the largest one
            behind = 10 ** len(str(numbers[wrap]))
            numbers = numbers[: wrap + 1] + [
                behind + number for number in numbers[wrap + 1 :]
            ]
        steps = list(pairwise(numbers))
        if not steps:
            return []
        least = min(after - before for before, after in steps)
        gaps = [(named(a + least), named(b - least)) for a, b in steps if b - a > least]
        return gaps if least > 0 and 2 * len(gaps) <= len(steps) else []


def videos_in(folder: Path) -> list[Path]:
    """Return the folder's videos and animations, sorted by name, without hidden files."""
    return [file for file in visible_in(folder) if is_video(file)]


def pictures_in(folder: Path) -> list[Path]:
    """Return the folder's pictures by name or content, sorted, without hidden files.

    A file with an unknown ending is left out if another picture has the same stem, such as
    the raw data beside a camera's JPEG.
    """
    files = visible_in(folder)
    named = [file for file in files if is_picture(file)]
    stems = {file.stem for file in named}
    others = [file for file in files if not is_picture(file) and file.stem not in stems]
    return sorted([*named, *filter(_holds_picture, others)])


def _holds_picture(file: Path) -> bool:
    """Return whether a file without a known ending contains a picture, by its first bytes.

    The file may be too damaged to be decoded.
    """
    if has_video_suffix(file):
        return False
    with suppress(OSError):
        about = file.stat()
        return _holds_picture_now(file, about.st_size, about.st_mtime_ns)
    return False


@lru_cache(maxsize=10_000)
def _holds_picture_now(file: Path, *_: int) -> bool:
    try:
        with file.open("rb") as data:
            head = data.read(12)
        if head[4:8] == b"ftyp":
            return head[8:].decode(errors="replace") in PHOTOS
        with demux.open_container(file) as container:
            return format_of(container.format.name).is_pictures
    except (InputError, OSError):
        return False


def has_video_suffix(file: Path) -> bool:
    """Return whether the name has the suffix of a video, or of an animation."""
    return file.suffix.lower() in _VIDEOS


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
        return has_video_suffix(file)
    try:
        with Image.open(file) as image:
            return bool(getattr(image, "is_animated", False))
    except PILLOW_ERRORS:
        return True


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
    # There is no video, so a file with the suffix of a video is a GIF or APNG of one
    # picture.
    files = pictures_in(path) or [
        f for f in visible_in(path) if f.suffix.lower() in _VIDEOS
    ]
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
        files = [file for file in pictures_of(path) if file.is_file()]
    return [f for f in files if numbered(path) or is_picture(f) or _holds_picture(f)]


def files_of(*inputs: Path) -> Iterator[Path]:
    """Yield all files that these inputs consist of.

    Raise InputError as :func:`open_pictures`.
    """
    for path in inputs:
        if path.is_file():
            yield path
            continue
        pictures = None if str(path) == "-" else open_pictures(path)
        yield from (path,) if pictures is None else pictures.files


def _numbers(files: Sequence[Path]) -> list[int]:
    """Return the number in each name if the names differ in one number only.

    Otherwise the result is empty.
    """
    names = [re.split(r"([0-9]+)", file.stem) for file in files]
    differing = [parts for parts in zip(*names, strict=False) if len(set(parts)) > 1]
    if len(differing) != 1 or not differing[0][0].isdecimal():
        return []
    return [int(text) for text in differing[0]]


# The forms of dates and times of day in names, by the number of digits.
_CLOCKS = {6: "%H%M%S", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def _in_time(numbers: list[int]) -> tuple[list[int], Callable[[int], int]]:
    """Return the seconds of numbers that all are dates or times, such as 20241231235930.

    The second result is the number of a second. Other numbers stay as they are.
    """
    digits = len(str(max(numbers, default=0)))
    width = digits + digits % 2  # of 9:30:00 in the morning, too
    form = _CLOCKS.get(width, "")
    begin, second = datetime(1, 1, 1), timedelta(seconds=1)
    try:
        times = [datetime.strptime(f"{number:0{width}}", form) for number in numbers]
    except ValueError:
        return numbers, int
    seconds = [(time - begin) // second for time in times]
    return seconds, lambda time: int((begin + time * second).strftime(form))


def _from_the_first(files: list[Path]) -> list[Path]:
    """Return sorted files in the order of a counter that may have wrapped: 9999, then 0000.

    Such a counter has three digits or more, has used its last number (all digits are 9) and
    its first one (0 or 1), and at least a tenth of all numbers is missing in one gap, which
    is before the first picture. A step that all numbers have is no gap.
    """
    numbers = _numbers(files)
    if not numbers or numbers[0] > 1 or not re.fullmatch("9{3,}", str(numbers[-1])):
        return files
    gaps = [after - before for before, after in pairwise(numbers)]
    begins = gaps.index(max(gaps)) + 1
    is_padded = f"{numbers[0]:0{len(str(numbers[-1]))}}" in files[0].stem
    if not is_padded or 10 * (max(gaps) - min(gaps)) <= numbers[-1]:
        return files
    return files[begins:] + files[:begins]


# A number with a decimal point, that is no part of a date or a version such as 1.2.3.
_DECIMAL = re.compile(r"(?<![0-9.])[0-9]+\.([0-9]+)(?![0-9.])")


def _in_order(files: Iterable[Path]) -> list[Path]:
    """Return files sorted by their stems, whose numbers are compared as numbers.

    A point between digits is a decimal point if all names have one, and the digits behind
    the point differ in number, as t1.5 and t1.25. If one of these numbers ends with a zero,
    as v1.9 and v1.10, they are counters.
    """
    files = list(files)
    fractions = [match[1] for file in files if (match := _DECIMAL.search(file.stem))]
    are_decimals = (
        len(fractions) == len(files)
        and len(set(map(len, fractions))) > 1
        and not any(len(digits) > 1 and digits.endswith("0") for digits in fractions)
    )
    number = r"[0-9]+\.[0-9]+|[0-9]+" if are_decimals else r"[0-9]+"
    parts = re.compile(rf"({number})")

    def natural(file: Path) -> tuple[list[tuple[Fraction, str]], str]:
        texts = parts.split(file.stem)  # every second one is a number
        key = [
            (Fraction(text), "") if place % 2 else (Fraction(-1), text)
            for place, text in enumerate(texts)
            if text
        ]
        return key, file.suffix

    return sorted(files, key=natural)


def _sequence(files: list[Path], rate: Fraction | None) -> Pictures:
    files = _in_order(files)
    files = _from_the_first(files)
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
        stated = [length * MILLISECOND for _, length in frame_durations(data)]
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
            is_clear = image.mode == "RGBA"
    except PILLOW_ERRORS:
        return None
    if not is_clear:
        return None
    with demux.open_container(file) as container:
        stream = demux.main_video(container, file)
        packets = demux.read_packets(container, stream)
        durations = [packet.duration * Fraction(stream.time_base) for packet in packets]
    if not all(durations):
        return None
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
