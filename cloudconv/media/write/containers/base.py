"""Define the base class of all containers, and write files with FFmpeg's muxers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
from av.codec.context import Flags
from av.video.frame import VideoFrame

from cloudconv.errors import EncoderError
from cloudconv.events import Warned
from cloudconv.media.carry.carry import needs_unlisted
from cloudconv.media.carry.copier import Copier
from cloudconv.media.carry.holder import Holder
from cloudconv.media.carry.muxer import open_muxer
from cloudconv.media.formats import layout
from cloudconv.media.matroska import ROOM
from cloudconv.media.names import is_stdout
from cloudconv.media.write.encode import EncodingPlan, open_strictly


class Writer(Protocol):
    """An open output into which packets of ``encoder`` are written."""

    warnings: list[Warned]
    encoder: Any

    def write(self, packet: Any) -> None:
        """Write a packet of the encoder, with its times in ticks."""

    def finish(self) -> None:
        """Complete the output and close everything that was opened."""

    def abandon(self) -> None:
        """Close everything without completing the output, whatever was written before."""


@dataclass(frozen=True, kw_only=True)
class Container(Holder):
    """A kind of output: a file format, or a folder of pictures.

    Attributes:
        suffixes: the file name suffixes of the container.
        encoders: the encoders of its video, in the order of preference; exactly one if ``is_video``
            is False.
        is_video: whether the container stores other streams, rotation and sample aspect ratio. Only
            such outputs are joined from segments.
        is_folder: whether the output is a folder of pictures without times.
        clock: the tick in seconds that all times are rounded to; None for any tick.
        fastest: the fastest rate that players show, in frames per second; None for any.
        refuses: encoders whose codecs FFmpeg's muxer lists but cannot write.
        refuses_alpha: encoders whose transparency the container cannot store.
        hevc_tag: the tag that players need for HEVC.
        needs_plain: whether few players show RGB, 4:4:4 or transparency in the container.
        keeps_alpha: whether transparency is kept although ``needs_plain`` is set.
        has_palette: whether pictures are reduced to few colours.
        sums_gaps: whether a track's length is the sum of the gaps between decode times.
        most_ticks: the longest duration of a frame, in ticks; None for any.
    """

    suffixes: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    is_video: bool = False
    is_folder: bool = False
    clock: Fraction | None = None
    fastest: Fraction | None = None
    refuses: tuple[str, ...] = ()
    refuses_alpha: tuple[str, ...] = ()
    hevc_tag: str | None = None
    needs_plain: bool = False
    keeps_alpha: bool = False
    has_palette: bool = False
    sums_gaps: bool = False
    most_ticks: int | None = None

    def plays(self, rate: Fraction | None, fastest: Fraction | None = None) -> bool:
        """Return whether the container supports a constant rate, or a variable one (None).

        ``fastest`` is the rate of the shortest frame at a variable rate, None if unknown. If the
        container has a fastest rate, the result is then False: some frames may be too short.
        """
        if self.fastest is not None:
            most = rate or fastest
            return most is not None and most <= self.fastest
        return rate is None or self.clock is None or rate * self.clock <= 1

    def longest_frame(self, tick: Fraction) -> Fraction | None:
        """Return the longest time that a frame can last, in seconds; None for any.

        ``tick`` is the encoder's tick in seconds.
        """
        return None if self.most_ticks is None else self.most_ticks * tick

    def check_packet(self, packet: Any, tick: Fraction) -> None:
        """Refuse a packet that the muxer would refuse, with the reason.

        A muxer that sums gaps stores the time between decoding and showing a frame in as many bits
        as a frame's duration. An encoder that reorders frames makes that time longer than a frame.

        Args:
            packet: a packet of the encoder, with its times in ticks.
            tick: the encoder's tick in seconds.

        Raises:
            EncoderError: the times of the packet are too far from each other.
        """
        longest = self.longest_frame(tick)
        span = max(packet.pts - packet.dts, packet.duration) * tick
        if self.sums_gaps and longest is not None and span > longest:
            raise EncoderError(
                f"gap-too-long: The frames around {float(packet.pts * tick):.3f} s last "
                f"{float(span):.0f} s, and {self.name} stores at most {float(longest):.0f} s "
                "there: write an .mkv instead, or choose a part without the gap."
            )

    def needs_amending(self, encoder: str, *, aspect: Fraction | None, varies: bool) -> bool:
        """Return whether :meth:`amend` must correct the sample aspect ratio or a variable rate.

        The muxer has then written a wrong value.
        """
        return False

    def amend(self, path: Path, plan: EncodingPlan, delays: list[Fraction]) -> None:
        """Correct aspect ratio, variable rate and delays of audio in the finished file."""

    def preparation(self, width: int, height: int) -> Callable[[VideoFrame], VideoFrame]:
        """Return the function that converts each picture before it is encoded."""
        return lambda picture: picture

    def options(self, plan: EncodingPlan) -> dict[str, str]:
        """Return the muxer's options."""
        return {}

    def hold_last(self, path: Path, end: Fraction, duration: Fraction) -> None:
        """Write the last frame's duration into a finished file whose muxer guesses this duration.

        Args:
            path: the file.
            end: the end of the last frame, in seconds; 0 if packets were copied.
            duration: the duration of the last frame, in seconds; 0 if packets were copied.
        """

    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        """Return a writer into ``path``, the temporary file of the plan's target."""
        return FileWriter(path, self, plan)

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None]:
        """Read a finished output of ``written`` frames back.

        Return the number of frames found, and the last one's time in seconds; None for the time if
        the container or its reader does not state the time exactly.
        """
        count, last = 0, None
        with av.open(f"file:{path}") as made:
            stream = made.streams.video[0]
            tick = Fraction(stream.time_base or 0)
            for packet in made.demux(stream):
                if packet.size and packet.pts is not None:
                    count += 1
                    last = packet.pts if last is None else max(last, packet.pts)
        return count, None if last is None else last * tick


def last_packet(path: Path) -> int:
    """Return the offset of the last packet in a finished file of one stream; 0 for the first."""
    with av.open(f"file:{path}") as made:
        return max((packet.pos or 0 for packet in made.demux() if packet.size), default=0)


class FileWriter:
    """A writer of one file, which also contains the other streams of the source."""

    def __init__(self, path: Path, container: Container, plan: EncodingPlan) -> None:
        """Open the muxer and the encoder, and add the other streams.

        Args:
            path: the temporary file, or standard output.
            container: the container to write.
            plan: the settings of the encoding.
        """
        self.warnings: list[Warned] = []
        self._path, self._container, self._plan = path, container, plan
        self._order = _DecodeTimes() if container.sums_gaps and plan.rate is None else None
        self._copier: Copier | None = None
        choice, carry, on_pipe = plan.choice, plan.carry, is_stdout(path)
        unlisted = carry is not None and needs_unlisted(carry, container)
        url = "pipe:1" if on_pipe else f"file:{path}"
        self._out = open_muxer(url, container.muxer, container.options(plan), unlisted=unlisted)
        with ExitStack() as undo:
            undo.callback(self.abandon)
            stream = self.encoder = plan.add_video(self._out)
            if unlisted:
                # A muxer opened through ``tee`` does not request global headers.
                stream.codec_context.flags |= Flags.global_header
            if carry is not None and container.is_video:
                self._copier = Copier(
                    carry, self._out, container, seekable=not on_pipe, unlisted=unlisted
                )
                self.warnings = self._copier.warnings
                self._copier.describe_video(stream, plan.rate)
            if plan.amends:
                stream.metadata["title"] = stream.metadata.get("title", "") + ROOM
            if choice.encoder.startswith("libvpx") and layout(choice.working).alpha:
                # Readers look for alpha beside the packets only if this tag is set.
                stream.metadata["alpha_mode"] = "1"
            if plan.info.display_matrix is not None and container.is_video:
                stream.set_display_matrix(struct.unpack("<9i", plan.info.display_matrix))
            open_strictly(choice, self._out.start_encoding)
            undo.pop_all()

    def write(self, packet: Any) -> None:
        """Write a packet, and before it all earlier packets of the other streams."""
        packet.stream = self.encoder
        for ready in [packet] if self._order is None else self._order.push(packet):
            if self._copier is not None:
                self._copier.until(ready.dts * self._plan.tick)
            self._container.check_packet(ready, self._plan.tick)
            self._out.mux(ready)

    def write_copies(self) -> None:
        """Write all copied streams and close the file; do nothing if a stream is encoded again."""
        # Encoding audio again takes long, and no container refuses the result.
        if self._copier is not None and not self._copier.encodes:
            self._copier.until(None)
            self._out.close()

    def finish(self) -> None:
        """Write the remaining packets and close the file."""
        remaining = [] if self._order is None else self._order.finish()
        self._order = None
        for packet in remaining:
            self.write(packet)
        delays: list[Fraction] = []
        if self._copier is not None:
            self._copier.until(None)
            self._copier.close()
            delays = self._copier.delays
        self._out.close()
        if self._plan.amends:
            self._container.amend(self._path, self._plan, delays)

    def abandon(self) -> None:
        """Close everything in any state."""
        if self._copier is not None:
            self._copier.close()
        try:
            self._out.close()
        except (av.error.FFmpegError, OSError, ValueError):
            # The caller deletes the file, and reports the error that ended the writing.
            return


class _DecodeTimes:
    """A queue of packets that gives an MP4 track of a variable rate the right length.

    MP4 stores a packet's duration as the gap to the next decode time. The track's length is the sum
    of all gaps. Encoders that reorder frames set the first decode times before 0, by the durations
    of the first frames. The last packet of such an encoder need not be the last one shown. With a
    variable rate, the sum of the gaps is therefore wrong by seconds. The queue places the packets
    before the first shown frame one tick apart, and gives the last packet the remaining duration.
    All times are in ticks. No presentation time changes.
    """

    def __init__(self) -> None:
        """Create an empty queue of packets."""
        self._waiting: list[Any] = []
        self._first: int | None = None
        self._end = 0
        self._early = 0

    def push(self, packet: Any) -> list[Any]:
        """Add a packet, and return packets to write; the newest packet stays in the queue."""
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
        """Place the decode times before the first shown frame one tick apart."""
        if self._early or self._first is None:
            return
        early = [packet for packet in self._waiting if packet.dts < self._first]
        self._early = len(early)
        for number, packet in enumerate(early):
            packet.dts = self._first + number - self._early
