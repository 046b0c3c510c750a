"""Hold what is special about GIF, APNG and animated WebP.

The muxers of APNG and WebP guess the duration of the last frame, and the options
``final_delay`` must be known before the first frame, so the finished file is corrected. The
rows in `containers` name these functions.
"""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from cloudconv.media.containers.muxed import MuxedFile

PILLOW_ERRORS = (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError)
_LARGEST_FIELD = 2**16 - 1  # of a duration in APNG


def gif_options(source: Path, _tick: Fraction) -> dict[str, str]:
    """Return the muxer's number of repeats: 0 without end, -1 for no repeat."""
    shows = shows_of(source)
    return {"loop": str(-1 if shows == 1 else max(shows - 1, 0))}


def shows(source: Path, _tick: Fraction, option: str) -> dict[str, str]:
    """Return how often the animation is shown, as an option of the muxer."""
    return {option: str(shows_of(source))}


def hold_apng(muxed: MuxedFile) -> None:
    """Write the duration of the last frame."""
    with muxed.path.open("rb+") as file:
        # A packet begins with a chunk fcTL (PNG, third edition), which has the duration.
        if start := file.seek(_last_packet(muxed.path)):
            file.seek(start + 8)
            control = bytearray(file.read(26))
            most = max(min(_LARGEST_FIELD, int(_LARGEST_FIELD / muxed.lasts)), 1)
            delay = muxed.lasts.limit_denominator(most)
            fields = min(delay.numerator, _LARGEST_FIELD), delay.denominator
            control[20:24] = struct.pack(">HH", *fields)
            file.seek(start + 8)
            file.write(control + struct.pack(">I", zlib.crc32(b"fcTL" + control)))


def hold_webp(muxed: MuxedFile) -> None:
    """Write the duration of the last frame; the encoder joins equal frames to one."""
    with muxed.path.open("rb+") as file:
        durations = list(frame_durations(file))
        if durations:
            before = sum(milliseconds for _, milliseconds in durations[:-1])
            file.seek(durations[-1][0])
            last = max(round(muxed.end * 1000) - before, 1)
            file.write(last.to_bytes(3, "little"))


def _last_packet(path: Path) -> int:
    """Return the place of the last packet in a file, 0 if there is none."""
    import av

    with av.open(f"file:{path}") as readable:
        places = (packet.pos or 0 for packet in readable.demux() if packet.size)
        return max(places, default=0)


def shows_of(file: Path) -> int:
    """Return how often programs show an animation.

    The result is 0 for an animation without end, and for any other file.
    """
    try:
        with Image.open(file) as image:
            if not getattr(image, "is_animated", False):
                return 0
            loop = image.info.get("loop")
            if image.format != "GIF":
                return int(loop or 0)
            # A GIF has the number of repeats, and no number if there is none.
            return 1 if loop is None else loop and int(loop) + 1
    except PILLOW_ERRORS:
        return 0


def frame_durations(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the offset in an animated WebP of each frame's duration, and the milliseconds.

    A duration has three bytes, the lowest one first. Format: RFC 9649.
    """
    position = 12
    # The duration follows the chunk's head and the frame's place and size, twelve bytes.
    while file.seek(position) and len(head := file.read(23)) >= 8:
        kind, size = struct.unpack_from("<4sI", head)
        if not any(kind):  # a hole in the file, or another file
            return
        if kind == b"ANMF" and len(head) == 23:
            yield position + 20, int.from_bytes(head[20:], "little")
        position += 8 + size + size % 2
