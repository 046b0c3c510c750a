"""Reading a media file's packets: open, choose the video stream, go on after damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Discard, Disposition

from cloudconv.errors import InputError


def open_container(path: Path, hardware: HWAccel | None = None) -> InputContainer:
    """Open a media file for reading; raises InputError saying what is wrong with it.

    ``hardware``: what decodes it, where it can.
    """
    try:
        if path.stat().st_size == 0 and path.is_file():
            raise InputError(f"{path} is empty (0 bytes); give a complete video file.")
        # The prefix keeps names such as "a:b.mp4" from being read as a protocol, the option keeps
        # a "%" in a picture's name from being read as a sequence.
        return av.open(
            f"file:{path}",
            mode="r",
            metadata_errors="replace",
            container_options={"pattern_type": "none"},
            hwaccel=hardware,
        )
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; check the name.") from error
    except NotADirectoryError as error:
        raise InputError(f"There is no file {path}; part of that path is not a folder.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not a video file.") from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied.") from error
    except av.error.EOFError as error:
        raise InputError(f"{path} ends before its first frame; give a complete file.") from error
    except av.error.InvalidDataError as error:
        raise InputError(_unreadable_message(path)) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as video: {reason}.") from error


def main_video(container: InputContainer, path: Path) -> Any:
    """The best video stream that is not cover art; raises InputError where there is none."""
    hidden = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [s for s in container.streams.video if not s.disposition & hidden]
    best = container.streams.best("video")
    chosen = best if best in videos else next(iter(videos), None)
    if chosen is None:
        found = sorted({s.type for s in container.streams})
        if container.streams.video:
            what = "only a cover picture and " + (
                " and ".join(set(found) - {"video"}) or "no sound"
            )
        else:
            what = f"only {' and '.join(found)}" if found else "no streams at all"
        raise InputError(f"{path} holds no video, {what}; give a file with a video stream.")
    if chosen.codec_context is None:
        raise InputError(
            f"{path} holds video in a codec that this FFmpeg cannot decode; convert it first."
        )
    return chosen


def only(container: InputContainer, stream: Any) -> None:
    """Let the demuxer skip every other stream's data."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def read_packets(container: InputContainer, stream: Any) -> Iterator[Any]:
    """The stream's packets, going on after read errors; empty packets are left out."""
    failures = 0
    while failures < 8:
        try:
            for packet in container.demux(stream):
                failures = 0
                if packet.size:
                    yield packet
            return
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            failures += 1


def open_decoder(stream: Any) -> Any:
    """The codec context that decodes the stream, alpha channel included."""
    codec = stream.codec_context.codec.canonical_name
    if codec in ("vp8", "vp9") and stream.metadata.get("alpha_mode") == "1":
        # The default decoders drop the alpha channel, which lies beside the packets.
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[codec]
        return av.CodecContext.create(name, "r")
    return stream.codec_context


def is_shown(packet: Any, codec: str) -> bool:
    """Whether the packet makes a frame that is shown: no edit list hides it, nor its codec."""
    if packet.is_discard:
        return False
    if codec == "vp8":
        return bool(memoryview(packet)[0] & 0x10)
    if codec == "vp9" and packet.size < 1 << 30:
        return _vp9_is_shown(memoryview(packet))
    return True


def _vp9_is_shown(data: memoryview) -> bool:
    if data[-1] & 0xE0 == 0xC0:
        return True  # a superframe: hidden frames packed together with the one that is shown
    bits = f"{data[0]:08b}"
    position = 4 + (bits[2:4] == "11")
    shows_existing = bits[position] == "1"
    return shows_existing or bits[position + 2] == "1"


def _unreadable_message(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return (
            f"{path} is a damaged or incomplete MP4 file (its index cannot be read); "
            "copy or record it again, or repair it first."
        )
    return f"{path} is not a video that can be read; it is damaged or of another kind."
