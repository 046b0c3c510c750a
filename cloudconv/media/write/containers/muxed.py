"""Write containers of FFmpeg's muxers."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.codec.context import Flags

from cloudconv.events import Warned
from cloudconv.media.carry.carry import Carry, needs_unlisted
from cloudconv.media.carry.copier import Copier
from cloudconv.media.carry.muxer import open_muxer
from cloudconv.media.formats import layout
from cloudconv.media.matroska import add_chapters
from cloudconv.media.write.containers.base import Container, Writer
from cloudconv.media.write.encode import EncodingPlan, extradata_hash, open_strictly
from cloudconv.media.write.names import is_stdout


class Muxed(Container):
    """A container of an FFmpeg muxer."""

    def options(self, tick: Fraction, carry: Carry | None, *, amends: bool) -> dict[str, str]:
        """Return the muxer's options; with ``amends`` the finished file is corrected later."""
        return {}

    def hold_last(self, path: Path, duration: Fraction) -> None:
        """Set the duration of a finished file's last frame, in seconds, if the muxer does not."""

    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        """Return a writer into ``path``."""
        return FileWriter(path, self, plan)

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None, Fraction]:
        """Read a finished output back; see ``Container.read_back``."""
        count, last = 0, None
        with av.open(f"file:{path}") as made:
            stream = made.streams.video[0]
            tick = Fraction(stream.time_base or 0)
            for packet in made.demux(stream):
                if packet.size and packet.pts is not None:
                    count += 1
                    last = packet.pts if last is None else max(last, packet.pts)
        return count, None if last is None else last * tick, self.rounding(count, tick)

    def rounding(self, frames: int, tick: Fraction) -> Fraction:
        """Return the largest error of the last frame's time in a reader that counts in ``tick``."""
        return Fraction(0)


class FileWriter:
    """A writer of a file, which copies the source's other streams."""

    def __init__(self, path: Path, container: Muxed, plan: EncodingPlan) -> None:
        """Open the muxer and the encoder, and add the other streams.

        Args:
            path: the temporary file, or standard output.
            container: the container to write.
            plan: the settings of the encoding.
        """
        self.warnings: list[Warned] = []
        self._tick = plan.tick
        self._order = _DecodeTimes() if container.sums_gaps and plan.rate is None else None
        self._path, self._container = path, container
        self._copier: Copier | None = None
        choice, carry, on_pipe = plan.choice, plan.carry, is_stdout(path)
        unlisted = carry is not None and needs_unlisted(carry, container)
        options = container.options(plan.tick, carry, amends=plan.amends or unlisted)
        url = "pipe:1" if on_pipe else f"file:{path}"
        self._out = open_muxer(url, container.muxer, options, unlisted=unlisted)
        with ExitStack() as undo:
            undo.callback(self.abandon)
            stream = self.encoder = plan.add_video(self._out)
            if unlisted:
                stream.codec_context.flags |= Flags.global_header
            if carry is not None and container.is_video:
                self._copier = Copier(
                    carry, self._out, container, seekable=not on_pipe, unlisted=unlisted
                )
                self._copier.describe_video(stream, plan.rate)
            if choice.encoder.startswith("libvpx") and layout(choice.working).alpha:
                # Readers look for alpha beside the packets only if this tag is set.
                stream.metadata["alpha_mode"] = "1"
            if plan.info.display_matrix is not None and container.is_video:
                stream.set_display_matrix(struct.unpack("<9i", plan.info.display_matrix))
            open_strictly(choice, self._out.start_encoding)
            undo.pop_all()
        if self._copier is not None:
            self.warnings += self._copier.warnings
            self._copier.warnings.clear()

    def write(self, packet: Any) -> None:
        """Write a packet, and before it all earlier packets of the other streams."""
        packet.stream = self.encoder
        for ready in [packet] if self._order is None else self._order.push(packet):
            if self._copier is not None:
                self._copier.until(ready.dts * self._tick)
            self._out.mux(ready)

    @property
    def extradata(self) -> str:
        """Return a hash of the data that a decoder needs before the first packet."""
        return extradata_hash(self.encoder)

    def rehearse(self) -> None:
        """Write the copied streams to the end of the file, without a picture."""
        # Encoding audio takes long, and no container refuses the result.
        if self._copier is not None and not self._copier.encodes:
            self._copier.until(None)
            self._out.close()

    def finish(self, end: int, lasts: int) -> None:
        """Write the remaining packets, and close the file."""
        remaining = [] if self._order is None else self._order.finish()
        self._order = None
        for packet in remaining:
            self.write(packet)
        if self._copier is not None:
            self._copier.until(None)
            self._copier.close()
            self.warnings += self._copier.warnings
        self._out.close()
        if lasts:
            self._container.hold_last(self._path, lasts * self._tick)
        chapters = b"" if self._copier is None else self._copier.chapters
        if chapters and not add_chapters(self._path, chapters):
            self.warnings.append(Warned("chapters-no-room"))

    def abandon(self) -> None:
        """Close everything in any state."""
        if self._copier is not None:
            self._copier.close()
        try:
            self._out.close()
        except (av.error.FFmpegError, OSError, ValueError):
            # The file is deleted. The error that ended it was reported already.
            return


class _DecodeTimes:
    """Decode times of a variable rate whose sum is the length of an MP4 track.

    MP4 stores a packet's duration as the gap to the next decode time, and takes the sum of all gaps
    for the track's length. Encoders that reorder frames set the first decode times before 0, by the
    duration of their first frames. Their last packet need not be the last one shown. If the gaps
    differ, the sum is therefore wrong by seconds. So the packets before the first shown frame are
    placed one tick apart, and the last one gets the remaining duration. All times are in ticks. No
    presentation time changes.
    """

    def __init__(self) -> None:
        """Create an empty queue of packets."""
        self._waiting: list[Any] = []
        self._first: int | None = None
        self._end = 0
        self._early = 0

    def push(self, packet: Any) -> list[Any]:
        """Add a packet and return the packets that can be written, without the newest one."""
        self._first = packet.pts if self._first is None else self._first
        self._end = max(self._end, packet.pts + packet.duration)
        self._waiting.append(packet)
        if packet.dts < self._first:
            return []
        self._number_early()
        ready, self._waiting = self._waiting[:-1], self._waiting[-1:]
        return ready

    def finish(self) -> list[Any]:
        """Return the remaining packets."""
        if self._first is not None:
            self._number_early()
            last = self._waiting[-1]
            last.duration = self._end - self._early - last.dts
            # No packet may seem to be shown beyond the end of the track.
            late = max(last.pts + last.duration - self._end, 0)
            last.dts += late
            last.duration -= late
        return self._waiting

    def _number_early(self) -> None:
        if self._early or self._first is None:
            return
        early = [packet for packet in self._waiting if packet.dts < self._first]
        self._early = len(early)
        for number, packet in enumerate(early):
            packet.dts = self._first + number - self._early
