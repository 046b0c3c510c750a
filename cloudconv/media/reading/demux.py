"""Read a media file's packets: open it, choose the video stream, continue after damage."""

import errno
import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Discard, Disposition

from cloudconv.errors import InputError, SettingsError
from cloudconv.files import raise_read_error
from cloudconv.media.containers.input import check_kind, reader_of
from cloudconv.media.frames.clock import VideoClock
from cloudconv.messages import as_argument, counted, listed

# Formats whose files name other files or addresses, which FFmpeg opens; PNG is checked
# first.
_LEFT_OUT = {
    *("hls", "concat", "dash", "webm_dash_manifest", "imf", "mlv", "vobsub"),
    *("sdp", "rtp", "rtsp", "sap", "png_pipe", "apng"),
    # Text, and what is no file.
    *("tty", "lavfi", "alsa", "oss", "pulse", "sndio", "jack", "openal", "android_camera"),
    *(
        "x11grab",
        "xcbgrab",
        "kmsgrab",
        "gdigrab",
        "fbdev",
        "dshow",
        "vfwcap",
        "avfoundation",
    ),
    *(
        "video4linux2",
        "v4l2",
        "video4linux2,v4l2",
        "decklink",
        "iec61883",
        "libdc1394",
        "libcdio",
    ),
}
_FORMATS = ",".join(sorted(av.formats_available - _LEFT_OUT))
_PNG = {"png", "apng"}
# FFmpeg decodes a picture of each stream that it opens. Pictures of PNG are checked first.
_CODECS = ",".join(sorted(av.codec.codecs_available - _PNG))
_BUFFER = 1 << 18  # bytes to read at once
# In transport streams, a stream may begin late, or under another number: a recording with
# other parts between. The reader looks for streams in so many bytes and microseconds.
_TRANSPORT = {
    "merge_pmt_versions": "1",
    "probesize": "40000000",
    "analyzeduration": "600000000",
    "scan_all_pmts": "1",
}
_SYNC = ((0, 188, 376), (4, 196, 388))  # where packets of transport streams begin with 0x47
_MOST_PACKETS = 250  # among which a video has two if it moves
_LIMIT = "CLOUDCONV_MAX_PIXELS"
_MAX_PIXELS = 8192 * 8192
_LONGEST_HEAD = 1 << 20  # bytes of a header
_DIGITS = 40  # of a limit that no picture reaches; Python converts 4,300 at most


def open_container(
    path: Path, hardware: HWAccel | None = None, **options: str
) -> InputContainer:
    """Open a media file for reading; raise InputError with the reason if that fails.

    ``options`` are those of FFmpeg's reader.
    """
    try:
        check_kind(path)  # a pipe may have replaced a file, and would block for ever
        try:
            return _open(path, hardware, _FORMATS, codec_whitelist=_CODECS, **options)
        except av.error.ArgumentError:
            if not is_png(path):
                raise
            # A picture without a duration then has one that is too short, see `VideoClock`.
            return _open(path, hardware, "png_pipe,apng", default_fps="100")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(_reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    match error:
        case av.error.EOFError():
            return too_short(path)
        case av.error.InvalidDataError():
            with path.open("rb") as file:
                is_mp4 = file.read(12)[4:8] == b"ftyp"
            if is_mp4:
                return (
                    f"damaged-mp4: {path} is a damaged, incomplete or encrypted MP4 file "
                    "(its index cannot be read): copy or record it again, or repair it "
                    "first."
                )
            return (
                f"not-a-video: {path} is damaged, or is not a video: give a video that "
                "FFmpeg can read."
            )
        case av.error.ArgumentError():
            return (
                f"names-files: {path} is text, a list of files such as a playlist, or a "
                "format that FFmpeg cannot read: join the files first, for example with "
                f"'ffmpeg -i {as_argument(path)} -c copy joined.mkv'."
            )
    if getattr(error, "errno", None) == errno.EIO and _is_short(path):
        # FFmpeg has the error of a disk also for the end within a header.
        return too_short(path)
    raise_read_error(path, error)
    why = f"cannot be read as a video ({getattr(error, 'strerror', None) or error})"
    return f"unreadable-video: {path} {why}: give a video that FFmpeg can read."


def _is_short(path: Path) -> bool:
    """Return whether the file may be a part of a header, and the disk returns all of it."""
    with suppress(OSError), path.open("rb") as file:
        return len(file.read(_LONGEST_HEAD + 1)) <= _LONGEST_HEAD
    return False


def too_short(path: Path) -> str:
    """Return the message for a file without a whole frame."""
    return f"ends-before-frame: {path} ends before its first frame: give a complete file."


def _open(
    path: Path, hardware: HWAccel | None, formats: str, **options: str
) -> InputContainer:
    options |= _TRANSPORT if is_transport(path) else {}
    # The prefix prevents that a name such as "a:b.mp4" is read as a protocol. The option
    # prevents that a "%" in a picture's name is read as a sequence.
    return av.open(
        reader_of(path) or f"file:{os.fspath(path)}",
        mode="r",
        metadata_errors="replace",
        container_options={"pattern_type": "none", "format_whitelist": formats, **options},
        hwaccel=hardware,
        buffer_size=_BUFFER,
    )


def is_transport(path: Path) -> bool:
    """Return whether a file is an MPEG transport stream."""
    with path.open("rb") as file:
        head = file.read(400)
    return any(all(head[at : at + 1] == b"G" for at in places) for places in _SYNC)


def main_video(container: InputContainer, path: Path, number: int | None = None) -> Any:
    """Return video stream ``number``, or the best one that is no cover art or thumbnail.

    Raises InputError if there is none.
    """
    hidden = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [s for s in container.streams.video if not s.disposition & hidden]
    if number is not None:
        videos = [s for s in container.streams.video if s.index == number]
        if not videos:
            raise no_stream(number, [s.index for s in container.streams.video], path)
    best = container.streams.best("video")
    chosen = best if best in videos else next(iter(videos), None)
    if len(videos) > 1:
        chosen = _moving(path, chosen, videos)
    if chosen is None:
        names = {"video": "a cover picture", "subtitle": "subtitles"}
        kinds = {names.get(s.type, s.type) for s in container.streams}
        what = f"only {', '.join(sorted(kinds))}" if kinds else "and no other stream"
        raise InputError(
            f"no-video: {path} holds no video, {what}: give a file with a video stream."
        )
    if chosen.codec_context is None:
        raise InputError(
            f"unknown-codec: {path} holds video in a codec that this FFmpeg cannot decode: "
            "convert it first."
        )
    tiles = sum(bool(video.disposition & Disposition.dependent) for video in videos)
    if number is None and tiles:
        raise InputError(
            f"photo-in-tiles: {path} is a photo in {counted(tiles, 'tile')}, such as HEIC, "
            "and FFmpeg reads each tile alone: convert the photo to PNG or JPEG first."
        )
    check_size(chosen.codec_context.width, chosen.codec_context.height, path)
    return chosen


def _moving(path: Path, best: Any, videos: list[Any]) -> Any:
    """Return the best video, or another one if that one has a single frame."""
    counts = Counter[int]()
    with open_container(path) as container:
        for packet in islice(
            read_packets(container, [container.streams[v.index] for v in videos]),
            _MOST_PACKETS,
        ):
            counts[packet.stream.index] += 1
            if counts[best.index] > 1:
                return best
    return max([best, *videos], key=lambda video: counts[video.index])


def no_stream(number: int, numbers: Sequence[int], path: Path) -> InputError:
    """Return the error for a number that is not among those of the video streams."""
    choices = (
        listed([str(choice) for choice in numbers], "or")
        if numbers
        else "a file with video"
    )
    return InputError(
        f"no-such-stream: {path} has no video stream {number}: give {choices}."
    )


def check_size(width: int, height: int, path: Path) -> None:
    """Refuse pictures that may fill the memory: a tiny file may need gigabytes per frame.

    The limit is in CLOUDCONV_MAX_PIXELS, by default 8192². Raises InputError, or
    SettingsError if the limit is no whole number above 0.
    """
    limit = os.environ.get(_LIMIT, "")
    digits = limit.lstrip("0")[:_DIGITS]
    if limit and not (limit.isascii() and limit.isdecimal() and digits):
        raise SettingsError(
            f"bad-environment: The environment variable {_LIMIT} must be a whole number "
            f"above 0, got {limit!r}."
        )
    most = int(digits) if limit else _MAX_PIXELS
    if width * height > most:
        raise InputError(
            f"too-many-pixels: {path} is {width}x{height}, and pictures of more than "
            f"{most} pixels are refused, because they may fill the memory: set {_LIMIT} to "
            "allow more."
        )


def is_made_anew(stream: Any) -> bool:
    """Return whether the muxer creates the stream itself: MP4's chapters and time codes."""
    has_code = (
        stream.type == "data" and stream.name is None and "timecode" in stream.metadata
    )
    return has_code or is_chapters(stream)


def is_chapters(stream: Any) -> bool:
    """Return whether the stream is the track of chapter titles in MP4."""
    is_named = "subtitle" in stream.metadata.get("handler_name", "").lower()
    return stream.type == "data" and is_named and bool(stream.container.chapters())


def only(container: InputContainer, indices: Container[int]) -> None:
    """Make the demuxer skip the data of every other stream."""
    for other in container.streams:
        if other.index not in indices:
            other.discard = Discard.all


def read_packets(
    container: InputContainer, stream: Any, clock: VideoClock | None = None
) -> Iterator[Any]:
    """Yield the stream's packets that contain data.

    The reading continues after up to 7 errors in a row. The times are moved to ``clock``,
    if there is one, which leaves late packets out. Raises ReadError if the disk fails.
    """
    failures = 0
    while failures < 8:
        try:
            for packet in container.demux(stream):
                failures = 0
                if packet.size:
                    if getattr(packet.stream.codec_context, "name", None) in _PNG:
                        _check_png(io.BytesIO(packet), container.name.removeprefix("file:"))
                    if clock is None or clock.move(packet):
                        yield packet
            return
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError) as error:
            raise_read_error(container.name.removeprefix("file:"), error)
            failures += 1
        except IndexError:
            # This error may come after the last packet if a stream begins late
            # (PyAV-Org/PyAV#692).
            return


def open_decoder(stream: Any) -> Any:
    """Return a codec context that decodes the stream with its alpha channel."""
    codec = stream.codec_context.codec.canonical_name
    # FFmpeg may write a tag besides the element, in capitals, which hides the element.
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if codec in ("vp8", "vp9") and tags.get("alpha_mode") == "1":
        # The default decoders drop the alpha channel, which is stored in side data.
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[codec]
        return av.CodecContext.create(name, "r")
    return stream.codec_context


def is_shown(packet: Any, codec: str) -> bool:
    """Return whether the packet's frame is shown: edit list and codec do not hide it."""
    if packet.is_discard:
        return False
    if codec == "vp8":
        return bool(memoryview(packet)[0] & 0x10)
    if codec == "vp9" and packet.size < 1 << 30:
        data = memoryview(packet)
        if data[-1] & 0xE0 == 0xC0:
            return True  # a superframe: hidden frames and a shown one in the same packet
        bits = f"{data[0]:08b}"
        position = 4 + (bits[2:4] == "11")
        # The packet shows an existing frame, or its own.
        return "1" in (bits[position], bits[position + 2])
    return True


# Pixel formats by the two factors of each component, of four bits each. FFmpeg converts
# CMYK.
_JPEG_FORMATS = {
    (0x22, 0x11, 0x11): "yuvj420p",
    (0x21, 0x11, 0x11): "yuvj422p",
    (0x12, 0x11, 0x11): "yuvj440p",
    (0x11, 0x11, 0x11): "yuvj444p",
    (0x11, 0x11, 0x11, 0x11): "gbrap",
}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST = 1 << 26  # unpacked bytes of all these chunks


def is_png(path: Path) -> bool:
    """Return whether a file is a PNG or APNG.

    Raise InputError for one that fills the memory.
    """
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            return False
        _check_png(file, path)
    return True


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield kind and size of each chunk of a PNG, whose content can be read then."""
    following = 8
    while file.seek(following) and len(head := file.read(8)) == 8:
        size = int.from_bytes(head[:4], "big")
        following += size + 12
        yield head[4:], size


def _check_png(file: BinaryIO, name: Path | str) -> None:
    """Raise InputError for a PNG that fills the memory.

    FFmpeg unpacks texts and the colour profile without a limit: `ffprobe` on a PNG whose
    chunk zTXt has a megabyte of packed zeros. Here their limit is 64 MiB.
    """
    left = _MOST
    for kind, size in _chunks(file):
        if kind == b"IHDR":
            width, height = struct.unpack(">2I", file.read(8).ljust(8, b"\0"))
            check_size(width, height, Path(name))
        if kind in (b"iCCP", b"zTXt"):
            # The compressed data follows a name, a zero and the number of the method.
            packed = file.read(min(size, _MOST)).partition(b"\0")[2][1:]
            with suppress(zlib.error):
                left -= len(zlib.decompressobj().decompress(packed, left))
        if left <= 0:
            raise InputError(
                f"large-png: {name} has a colour profile or texts of more than "
                f"{_MOST >> 20} MiB: remove them from the picture."
            )


def jpeg_format(path: Path) -> str | None:
    """Return FFmpeg's pixel format for a JPEG.

    The result is None for other files and uncommon samplings.
    """
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return None
        while len(head := file.read(4)) == 4 and head[0] == 0xFF:
            size = int.from_bytes(head[2:], "big")
            if 0xC0 <= head[1] <= 0xCF and head[1] not in (0xC4, 0xC8, 0xCC):
                samplings = tuple(file.read(size - 2)[7::3])
                return _JPEG_FORMATS.get(samplings, "gray" if len(samplings) == 1 else None)
            file.seek(size - 2, os.SEEK_CUR)
    return None


def png_kind(path: Path) -> tuple[int, int, bool] | None:
    """Return the bits, the colour type and whether a colour is transparent.

    The result is None for other files. In the colour type, 2 means colour and 4 alpha.
    """
    with path.open("rb") as file:
        head = file.read(33)
        if len(head) < 33 or not head.startswith(_SIGNATURE):
            return None
        kinds = (kind for kind, _ in _chunks(file) if kind in (b"IDAT", b"tRNS"))
        return head[24], head[25], next(kinds, b"") == b"tRNS"
