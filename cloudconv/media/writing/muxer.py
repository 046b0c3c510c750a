"""Write packets into the files of an output, between those of the other streams."""

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.stream import Disposition

from cloudconv.events import Warnings
from cloudconv.media.carried.additions import AddedStreams
from cloudconv.media.containers.containers import Content, container_of
from cloudconv.media.containers.input import is_stdout, numbered
from cloudconv.media.containers.muxed import MuxedFile
from cloudconv.media.frames.formats import layout
from cloudconv.media.writing.encoding import EncodingPlan
from cloudconv.media.writing.known_encoders import known_encoder
from cloudconv.media.writing.output import writing
from cloudconv.media.writing.packets import Shown, Writer


class Muxer(Writer):
    """A writer of one file, which also contains the other streams of the source."""

    def __init__(self, plan: EncodingPlan, path: Path | None, warnings: Warnings) -> None:
        """Open the muxer of the container and the encoder, and add the other streams.

        ``path`` is the temporary file, standard output, or None for a trial without a file.
        """
        container = container_of(plan.target)
        self._path = path
        self._others: AddedStreams | None = None
        self._warnings = warnings
        # Data on standard output cannot be corrected afterwards.
        self._amends = not is_stdout(plan.target)
        self._room = b""
        orders = container.has_edit_lists and plan.rate is None
        self._order = _DecodeTimes() if orders else None
        url: Any = "pipe:1"
        if path is None:
            url = io.BytesIO()
        elif self._amends:
            url = f"file:{path}"
        options = container.options and container.options(plan.info.path, plan.tick)
        super().__init__(plan, path if self._amends else None, url, options)

    def _add_streams(self) -> None:
        plan = self._plan
        container = self._container
        stream = self.encoder
        carry = plan.carry
        takes_streams = Content.STREAMS in container.keeps
        # Several pictures and animated WebP have no other streams.
        if carry is not None and takes_streams and carry.info.has_streams:
            self._others = AddedStreams(
                carry,
                self._out,
                container,
                stream,
                plan.rate,
                seekable=self._amends,
                warnings=self._warnings,
            )
            self._opened.callback(self._others.close)
        if self._amends and container.prepare is not None:
            self._room = container.prepare(self._out, stream)
        if layout(plan.choice.working).alpha:
            stream.metadata.update(known_encoder(plan.choice.encoder).alpha_tags)
        matrix = plan.info.display_matrix
        if matrix is not None and Content.ROTATION in container.keeps:
            stream.set_display_matrix(struct.unpack("<9i", matrix))

    def write(self, packet: Any) -> None:
        """Write a packet, and before it all earlier packets of the other streams."""
        packet.stream = self.encoder
        for ready in [packet] if self._order is None else self._order.push(packet):
            self._mux(ready)

    def _mux(self, packet: Any) -> None:
        if self._others is not None:
            self._others.until(packet.dts * self._plan.tick)
        self._check(packet)
        self._out.mux(packet)

    def finish(self, shown: Shown) -> None:
        """Write the remaining packets, close the file, and correct the file."""
        for packet in [] if self._order is None else self._order.finish():
            self._mux(packet)
        delays: list[Fraction] = []
        if self._others is not None:
            self._others.finish()
            delays = self._others.delays
        hidden = [
            stream.index + 1
            for stream in self._out.streams
            if stream.type == "subtitle" and not stream.disposition & Disposition.default
        ]
        super().finish(shown)
        amend = self._container.amend
        if self._path is None or not self._amends or amend is None:
            return
        info = self._plan.info
        muxed = MuxedFile(
            path=self._path,
            size=(info.width, info.height),
            aspect=info.aspect,
            varies=self._plan.rate is None,
            end=shown.end,
            lasts=shown.lasts,
            room=self._room,
            delays=delays,
            hidden=hidden,
        )
        amend(muxed)


class _DecodeTimes:
    """A queue of packets that gives an MP4 track of a variable rate the right length.

    The track's length is the sum of all gaps between decode times. Encoders that reorder
    frames set the first ones before 0, by the durations of the first frames, and their last
    packet need not be the last one shown: at a variable rate the sum is wrong by seconds.
    The queue places the packets before the first shown frame one tick apart, and gives the
    last packet the remaining duration. All times are in ticks. No presentation time
    changes.
    """

    def __init__(self) -> None:
        self._waiting: list[Any] = []
        self._first: int | None = None
        self._end = 0
        self._early = 0

    def push(self, packet: Any) -> list[Any]:
        """Add a packet, and return packets to write.

        The newest packet stays in the queue.
        """
        self._first = packet.pts if self._first is None else self._first
        self._end = max(self._end, packet.pts + packet.duration)
        self._waiting.append(packet)
        if packet.dts < self._first:
            return []
        self._number_early()
        ready = self._waiting[:-1]
        self._waiting = self._waiting[-1:]
        return ready

    def finish(self) -> list[Any]:
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


class PictureFolder(Writer):
    """A writer of one file per frame, numbered from 1, without times."""

    def __init__(self, plan: EncodingPlan, folder: Path) -> None:
        """Open the encoder; the name of the plan's target has the number field."""
        super().__init__(plan, folder, io.BytesIO())
        names = numbered(plan.target)
        assert names is not None
        self._folder = folder
        self._names = names
        self._count = 0

    def write(self, packet: Any) -> None:
        """Write the next file; the times are ignored."""
        self._count += 1
        (self._folder / self._names.name(self._count)).write_bytes(bytes(packet))


def try_streams(plan: EncodingPlan, warnings: Warnings) -> None:
    """Find the warnings about the streams beside the video, before any work.

    The header of the output is written to nowhere. Raises OutputError if FFmpeg refuses
    that.
    """
    with writing(plan.target):
        Muxer(plan, None, warnings).abandon()
