"""Complete an output: correct and check the finished file, and give it its name."""

from __future__ import annotations

import struct
import zlib
from array import array
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Self

import av

from cloudconv.errors import OutputError
from cloudconv.media.containers import Container, container_of
from cloudconv.media.encoding import EncodingPlan
from cloudconv.media.identity import check_unchanged
from cloudconv.media.input import is_stdout
from cloudconv.media.muxer import Muxer, PictureFolder
from cloudconv.media.output import Part, writing
from cloudconv.media.packets import Writer
from cloudconv.media.pictures import frame_durations

_LARGEST_FIELD = 2**16 - 1  # of a duration in APNG


class Shown(NamedTuple):
    """The frames of an output: their number, and times of the last one in seconds."""

    frames: int = 0
    last: Fraction = Fraction(0)  # its time
    end: Fraction = Fraction(0)
    lasts: Fraction = Fraction(0)  # 0 if packets were copied


class Target:
    """The output of a plan, which appears when the block ends without an error.

    Until then everything is written to a temporary file or folder beside the output. Standard
    output is written directly. Without ``overwrite`` no existing file is replaced: if the name is
    taken at the end, the output gets another name, and TakenError is raised. UnfitInputError is
    raised at the end if the source has changed since the source was probed.
    """

    def __init__(self, plan: EncodingPlan, *, overwrite: bool = False) -> None:
        path, container = plan.target, container_of(plan.target)
        self.plan, self._container, self._part = plan, container, None
        if not is_stdout(path):
            with writing(path):
                self._part = Part(path, folder=container.is_folder, overwrite=overwrite)
        kind = PictureFolder if container.is_folder else Muxer
        self.writer: Writer = kind(plan, path if self._part is None else self._part.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.writer.abandon()

    def complete(self, shown: Shown) -> Path | None:
        """Complete the output except for its name; return its file, None for standard output."""
        with self.writer.abandoned_on_error():
            self.writer.finish()
            if self._part is not None:
                hold_last(self._part.path, self._container, shown.end, shown.lasts)
                self._verify(self._part.path, shown)
            check_unchanged(self.plan.info)
        return None if self._part is None else self._part.path

    def commit(self) -> None:
        """Give the complete output its name."""
        if self._part is not None:
            with self.writer.abandoned_on_error():
                self._part.commit()

    def _verify(self, file: Path, shown: Shown) -> None:
        """Read the file back, because some muxers report success on a full disk."""
        found, last = read_back(file, self._container, shown.frames)
        grain = max(self._container.clock or self.plan.tick, self.plan.tick)
        if found != shown.frames:
            raise OutputError(
                f"output-incomplete: {self.plan.target} is incomplete: it holds {found} of "
                f"{shown.frames} frames. Is the disk full?"
            )
        if last is not None and abs(last - shown.last) > grain:
            raise OutputError(
                f"last-frame-misplaced: {self.plan.target} is wrong: its last frame is at "
                f"{float(last):.3f} s instead of {float(shown.last):.3f} s. Please report "
                "this."
            )


def hold_last(path: Path, container: Container, end: Fraction, duration: Fraction) -> None:
    """Write the last frame's duration into a finished file whose muxer guesses this duration.

    ``end`` is the end of the last frame and ``duration`` its duration, in seconds; 0 if packets
    were copied. The options ``final_delay`` of the muxers must be known before the first frame.
    """
    if container.muxer == "webp":
        with path.open("rb+") as file:
            # The encoder guesses the duration of the last frame, and joins equal frames to one.
            durations = list(frame_durations(file))
            if durations:
                before = sum(milliseconds for _, milliseconds in durations[:-1])
                file.seek(durations[-1][0])
                file.write(max(round(end * 1000) - before, 1).to_bytes(3, "little"))
    elif container.muxer in ("gif", "apng") and duration:
        with av.open(f"file:{path}") as made:
            start = max((packet.pos or 0 for packet in made.demux() if packet.size), default=0)
        with path.open("rb+") as file:
            if start and container.muxer == "gif":
                # A packet begins with a graphic control extension (GIF89a), which has the duration.
                file.seek(start + 4)
                file.write(round(duration * 100).to_bytes(2, "little"))
            elif start:
                # A packet begins with a chunk fcTL (PNG, third edition), which has the duration.
                file.seek(start + 8)
                control = bytearray(file.read(26))
                most = max(min(_LARGEST_FIELD, int(_LARGEST_FIELD / duration)), 1)
                delay = duration.limit_denominator(most)
                fields = min(delay.numerator, _LARGEST_FIELD), delay.denominator
                control[20:24] = struct.pack(">HH", *fields)
                file.seek(start + 8)
                file.write(control + struct.pack(">I", zlib.crc32(b"fcTL" + control)))


def read_back(path: Path, container: Container, written: int) -> tuple[int, Fraction | None]:
    """Return the number of frames in a finished output of ``written`` frames, and the last time.

    The time is in seconds, None if the container or its reader does not state the time exactly.
    """
    if container.is_folder:
        return sum(1 for file in path.iterdir() if file.stat().st_size), None
    if container.muxer == "webp":  # FFmpeg cannot read animated WebP
        return written if path.stat().st_size else 0, None
    with av.open(f"file:{path}") as made:
        stream = made.streams.video[0]
        tick = Fraction(stream.time_base or 0)
        times = array("q")
        times.extend(p.pts for p in made.demux(stream) if p.size and p.pts is not None)
    # An APNG stores durations exactly. Readers round each one, and add up the rounded ones.
    return len(times), max(times) * tick if times and container.muxer != "apng" else None
