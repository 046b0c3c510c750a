"""Write an output: merge its streams, check it, and name it when it is complete."""

import io
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from heapq import heappushpop
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.events import Warnings
from cloudconv.media.carried.beside import OtherStreams
from cloudconv.media.containers.containers import Content, container_of
from cloudconv.media.containers.input import is_stdout, numbered, pictures_of
from cloudconv.media.containers.muxed import MuxedFile
from cloudconv.media.frames.formats import layout
from cloudconv.media.reading.identity import check_unchanged
from cloudconv.media.writing.encoding import EncodingPlan, Shown
from cloudconv.media.writing.known_encoders import known_encoder
from cloudconv.media.writing.output import claimed, writing
from cloudconv.media.writing.packets import PacketSummary, Writer, read_segment


class Sink(Writer, AbstractContextManager["Sink"]):
    """The output of a plan, which appears when the ``with`` block ends without an error.

    The output is one file with the other streams of the source, or a folder of numbered
    pictures. Until it is complete everything is written to ``file``, a temporary file or
    folder beside the output. Standard output is written directly, and a trial to nowhere.
    Without ``overwrite`` no existing file is replaced: if the name is taken at the end, the
    output gets another name, and TakenError is raised. Most errors are raised before the
    first frame, but that for a full disk is raised later, and UnfitInputError at the end if
    the source has changed since the source was probed. ``warnings`` get those about the
    encoding and the other streams, the last ones in :meth:`complete`.
    """

    def __init__(
        self,
        plan: EncodingPlan,
        *,
        overwrite: bool = False,
        warnings: Warnings | None = None,
        is_trial: bool = False,
    ) -> None:
        warnings = Warnings() if warnings is None else warnings
        warnings.add(*plan.warnings)
        container = container_of(plan.target)
        self._overwrite = overwrite
        self._others: OtherStreams | None = None
        self._names = numbered(plan.target) if container.is_folder else None
        self._pictures = 0  # written to a folder
        # Data on standard output cannot be corrected afterwards.
        self._amends = not is_stdout(plan.target)
        self._prepared = b""
        orders = container.has_edit_lists and plan.rate is None
        self._order = _DecodeTimes() if orders else None
        part = None
        url: Any = io.BytesIO()
        if self._amends and not is_trial:
            part = _part_of(plan.target, folder=container.is_folder)
        if part is not None and not container.is_folder:
            url = f"file:{part}"
        elif not (self._amends or is_trial):
            url = "pipe:1"
        options = container.options and container.options(plan.info.path, plan.tick)
        super().__init__(plan, part, url, warnings, options)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.abandon()
            return
        self.complete()
        self.commit()

    def _add_streams(self) -> None:
        plan = self.plan
        container = self._container
        stream = self.encoder.stream
        carry = plan.carry
        # Several pictures and animated WebP have no other streams.
        takes_streams = Content.STREAMS in container.keeps
        if carry is not None and takes_streams and carry.info.has_streams:
            self._others = OtherStreams(
                carry,
                self._out,
                container,
                stream,
                plan.rate,
                seekable=self._amends,
                warnings=self.warnings,
            )
            self._opened.callback(self._others.close)
        if self._amends and container.prepare is not None:
            self._prepared = container.prepare(self._out, stream)
        if layout(plan.choice.working).alpha:
            stream.metadata.update(known_encoder(plan.choice.encoder).alpha_tags)
        matrix = plan.info.display_matrix
        if matrix is not None and Content.ROTATION in container.keeps:
            stream.set_display_matrix(struct.unpack("<9i", matrix))

    def store(self, packet: Any) -> None:
        """Write a packet, and before it all earlier packets of the other streams."""
        if self._names is not None:
            self._pictures += 1
            (self.file / self._names.name(self._pictures)).write_bytes(bytes(packet))
            return
        packet.stream = self.encoder.stream
        for ready in [packet] if self._order is None else self._order.push(packet):
            self._mux(ready)

    def _mux(self, packet: Any) -> None:
        self._mux_others(packet.dts * self.plan.tick)
        self._check(packet)
        self._out.mux(packet)

    def _mux_others(self, time: Fraction | None) -> None:
        if self._others is not None:
            for other in self._others.until(time):
                self._out.mux(other)

    def _finish(self, shown: Shown) -> None:
        """Write the remaining packets, close the file, correct it and read it back."""
        if self._order is not None:
            for packet in self._order.finish():
                self._mux(packet)
        self._mux_others(None)
        tracks = {
            stream.index + 1: (
                stream.type == "subtitle" and not stream.disposition & Disposition.default,
                stream.metadata.get("language", ""),
            )
            for stream in self._out.streams
        }
        self._opened.close()
        file = self._part
        if file is not None:
            amend = self._container.amend
            if amend is not None:
                info = self.plan.info
                muxed = MuxedFile(
                    path=file,
                    size=(info.width, info.height),
                    aspect=info.aspect,
                    varies=self.plan.rate is None,
                    end=shown.end,
                    lasts=shown.lasts,
                    tracks=tracks,
                    prepared=self._prepared,
                    delays=[] if self._others is None else self._others.delays,
                )
                amend(muxed)
            self._verify(file, shown)
        check_unchanged(self.plan.info)

    def commit(self) -> None:
        """Write the complete output to the disk, and give it its name.

        Raises TakenError if something else has the name and cannot be replaced, so that the
        output has another name, and OutputError if the output cannot be synced or renamed.
        """
        file = self._part
        is_folder = self._container.is_folder
        if file is None:
            return
        with self.abandoned_on_error():
            for written in sorted(file.iterdir()) if is_folder else [file]:
                with written.open("rb+") as opened:
                    os.fsync(opened.fileno())
            target = self.plan.target
            home = claimed(self.plan.target)
            try:
                if is_folder:
                    files.put_all(
                        file,
                        target.parent,
                        overwrite=self._overwrite,
                        old=pictures_of(target),
                    )
                else:
                    files.put(file, home, overwrite=self._overwrite)
            except (FileExistsError, PermissionError) as error:
                # Windows cannot replace a file that another program has open.
                is_refused = isinstance(error, PermissionError)
                if is_refused and (is_folder or not os.path.lexists(home)):
                    raise
                raise files.put_under_free_name(file, home, error) from error
            files.sync_folder(home.parent)

    def _verify(self, file: Path, counts: Shown) -> None:
        """Read the file back, because some muxers report success on a full disk."""
        container = self._container
        last = None
        if container.is_folder:
            frames = sum(1 for picture in file.iterdir() if picture.stat().st_size)
        elif not container.is_readable:
            frames = counts.frames if file.stat().st_size else 0
        else:
            with av.open(f"file:{file}") as readable:
                stream = readable.streams.video[0]
                times = array("q")
                times.extend(
                    p.pts for p in readable.demux(stream) if p.size and p.pts is not None
                )
                frames = len(times)
                tick = Fraction(stream.time_base or 0)
            last = max(times) * tick if times and not container.sums_rounded else None
        grain = max(container.clock or self.plan.tick, self.plan.tick)
        if frames != counts.frames:
            raise OutputError(
                f"output-incomplete: {self.plan.target} is incomplete: it holds {frames} "
                f"of {counts.frames} frames. Is the disk full?"
            )
        if last is not None and abs(last - counts.last) > grain:
            raise OutputError(
                f"last-frame-misplaced: {self.plan.target} is wrong: its last frame is at "
                f"{float(last):.3f} s instead of {float(counts.last):.3f} s. Please report "
                "this."
            )


def join(segments: Sequence[tuple[Path, PacketSummary]], target: Sink) -> Iterator[int]:
    """Write the packets of all segments, in the order of time, and complete the target.

    Yield the number of packets so far after each packet. Every segment begins with a key
    frame and does not refer to other segments. The decode times of all packets are new.
    Each encoder counted decode times from the start of its own segment, but the first
    packets of a segment must be decoded before the last picture of the segment before is
    shown. One delay is used throughout: packet ``k`` is decoded when picture ``k - delay``
    is shown. Raises OutputError if a segment is damaged, or was encoded with other
    settings.
    """
    plan = target.plan
    delay = max(summary.delay for _, summary in segments)
    # The ticks from one frame to the next; 1 at a variable rate.
    step = 1 if plan.rate is None else round(1 / (plan.rate * plan.tick))
    first = segments[0][1].first
    # A heap of the times that are not yet used as decode times; ``delay`` times remain in
    # it.
    unused = [first - k * step for k in range(delay, 0, -1)]
    own = target.encoder.extradata_hash
    for path, summary in segments:
        if summary.extradata != own:
            raise OutputError(
                f"segment-encoded-otherwise: The finished segment {path} was encoded with "
                "other parameters than this output: start again with --no-resume."
            )
    last = first - 1
    with target.abandoned_on_error():
        written = 0
        for path, summary in segments:
            # On a clock too coarse for the frames, two segments can use the same tick.
            late = max(last + 1 - summary.first, 0)
            last = summary.last + late
            for packet in read_segment(path, summary):
                packet.pts += late
                packet.dts = heappushpop(unused, packet.pts)
                target.store(packet)
                written += 1
                yield written
    target.complete(Shown(sum(s.packets for _, s in segments), last * plan.tick))


def try_streams(plan: EncodingPlan, warnings: Warnings) -> None:
    """Find the warnings about the streams beside the video, before any work.

    The header of the output is written to nowhere. Raises OutputError if FFmpeg refuses
    that.
    """
    with writing(plan.target):
        Sink(plan, warnings=warnings, is_trial=True).abandon()


def _part_of(target: Path, *, folder: bool) -> Path:
    """Create the unfinished output, so that an unwritable folder is an error at once."""
    home = claimed(target)
    # An existing folder gets the part, because the folder's parent may not be writable.
    within = home if folder and home.exists() else None
    with writing(target):
        return files.create_part(home, folder=folder, within=within)


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
