"""Encode frames at exact times into an output, which appears only when the output is complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from heapq import heappushpop
from pathlib import Path
from typing import Any, Self

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.containers import container_of
from cloudconv.media.convert import Palette, encoder_picture
from cloudconv.media.encoders import supported_options
from cloudconv.media.encoding import EncodingPlan, extradata_hash
from cloudconv.media.frame import Frame
from cloudconv.media.identity import check_unchanged
from cloudconv.media.input import is_stdout
from cloudconv.media.muxer import FileWriter, PictureWriter, hold_last, read_back
from cloudconv.media.output import Part, too_close, writing
from cloudconv.media.packets import PacketSummary, PacketWriter, Writer, read_packets
from cloudconv.media.sidedata import CAPTIONS, KINDS, Captions

FEW = 2
"""The largest number of pictures for which libx265 sets arbitrary decode times, as one shows."""


class FrameEncoder:
    """An encoder of frames at exact times, whose packets a writer stores in ``file``.

    By default that is the packet file of a segment, which :meth:`Sink.join` reads later. Otherwise
    it is a temporary file or folder, or standard output. ``warnings`` are about the encoding and
    the copied streams; they are complete after :meth:`complete`.
    """

    def __init__(
        self,
        plan: EncodingPlan,
        file: Path,
        writer: Callable[[EncodingPlan, Path], Writer] = PacketWriter,
    ) -> None:
        self.plan, self.file = plan, file
        with writing(plan.target), ExitStack() as undo:
            undo.callback(self._discard)
            self._writer = writer(plan, file)
            undo.pop_all()
        self._container = container_of(plan.target)
        size = plan.info.width, plan.info.height
        self._palette = Palette(*size) if self._container.has_palette else None
        stores = "a53cc" in supported_options(self.encoder)
        self._captions = Captions(*size, plan.choice.pix_fmt) if stores else None
        self._lost: list[Warned] = []
        self._written = 0
        self._ended = False
        self._last: int | None = None
        self._last_time = Fraction(0)
        self._durations: dict[int, int] = {}  # of the pictures in the encoder, by time in ticks
        self._lasts = 0
        fastest = self._container.fastest
        self._least_gap = 1 if fastest is None else round(1 / (fastest * plan.tick))

    @property
    def encoder(self) -> str:
        """Return the name of the encoder."""
        return self.plan.choice.encoder

    @property
    def warnings(self) -> list[Warned]:
        """Return the warnings so far."""
        return [*self.plan.warnings, *self._writer.warnings, *self._lost]

    def write(self, frame: Frame) -> None:
        """Encode a frame without changing the frame's picture.

        ``frame.time`` is on the output's clock, at least 0, and later than the time of the frame
        before. Raises ValueError for another time or size, and OutputError if players cannot show
        frames so close to each other, or the container cannot store so long a frame.
        """
        plan, info, container = self.plan, self.plan.info, self._container
        tick = round(frame.time / plan.tick)
        end = round((frame.time + frame.duration) / plan.tick)
        if tick < 0 or (self._last is not None and frame.time <= self._last_time):
            raise ValueError(f"Output times must be 0 or more and increase, got {frame.time} s.")
        frame = plan.turn.frame(frame)
        if (frame.width, frame.height) != (info.width, info.height):
            raise ValueError(
                f"A frame of {frame.width}x{frame.height} has another size than others."
            )
        if self._last is not None and tick - self._last < self._least_gap:
            # The frame is too close to the frame before: players need a larger gap, or the clock is
            # so coarse that both frames have the same tick.
            if container.fastest is not None:
                raise too_close(container)
            tick = self._last + 1
        container.check_span(frame.time, frame.duration, plan.tick)
        choice = plan.choice
        picture = encoder_picture(
            frame, pix_fmt=choice.pix_fmt, working=choice.working, tags=plan.tags
        )
        picture = picture if self._palette is None else self._palette.reduce(picture)
        if frame.captions and self._captions is not None:
            picture = self._captions.add(picture, frame.captions)
        elif frame.captions and not self._lost:
            text = f"The {KINDS[CAPTIONS]} of the source cannot be written by {self.encoder}"
            which = "will be missing; libx264 and libx265 write them"
            self._lost.append(Warned(f"captions-lost: {text}, and {which}."))
        picture.pts, picture.time_base = tick, plan.tick
        self._durations[tick] = self._lasts = max(end - tick, 1)
        with writing(plan.target):
            self._store(self._writer.encoder.encode(picture))
        self._last, self._last_time = tick, frame.time
        self._written += 1

    def _store(self, packets: list[Any], *, restamp: bool = False) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            if restamp:
                packet.dts = packet.pts
            self._writer.write(packet)

    def _flush(self) -> Any:
        if not self._written:
            raise OutputError(
                f"no-frames: There are no frames to write, so {self.plan.target} was not made: "
                "choose another part."
            )
        if self._last is not None:
            self._store(self._writer.encoder.encode(None), restamp=self._written <= FEW)
        return self._writer.finish()

    def complete(self) -> Any:
        """Complete the file, and return what the writer returns: by default the summary."""
        with self._abandoned_on_error():
            completed = self._flush()
        self._ended = True
        return completed

    @contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        with ExitStack() as undo, writing(self.plan.target):
            undo.callback(self.abandon)
            yield
            undo.pop_all()

    def abandon(self) -> None:
        """Delete the unfinished output; do nothing if the output is complete."""
        # When the MP4 muxer is closed, it opens its file again and rewrites everything to move the
        # index to the start. The muxer does not rewrite a file that was deleted before.
        self._discard()
        if not self._ended:
            self._ended = True
            self._writer.abandon()
            self._discard()

    def _discard(self) -> None:
        # Some systems refuse to delete an open file, so `abandon` closes the file and tries again.
        if not is_stdout(self.file):
            files.remove(self.file)


class Sink(FrameEncoder):
    """An encoder of frames into ``path``, which appears when the block ends without an error.

    ``path`` is the target of the plan. Until then everything is written to a temporary file or
    folder beside ``path``. Standard output is written directly. Without ``overwrite`` no existing
    file is replaced: if the name is taken at the end, the output gets another name, and TakenError
    is raised. Most errors are raised before the first frame, but that for a full disk is raised
    later, and UnfitInputError at the end if the source has changed since the source was probed.
    """

    def __init__(self, plan: EncodingPlan, *, overwrite: bool = False) -> None:
        path, container = plan.target, container_of(plan.target)
        self._part: Part | None = None
        if not is_stdout(path):
            with writing(path):
                self._part = Part(path, folder=container.is_folder, overwrite=overwrite)
        writer = PictureWriter if container.is_folder else FileWriter
        super().__init__(plan, path if self._part is None else self._part.path, writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.abandon()
        else:
            self.finish()

    def finish(self) -> None:
        """Finish the output and rename it, as at the end of the ``with`` block."""
        with self._abandoned_on_error():
            self.complete()
            if self._part is not None:
                self._part.commit()

    def complete(self) -> Path | None:
        """Complete the output except for its name; further calls do nothing.

        Return the temporary path, which :meth:`finish` renames; None for standard output.
        """
        if not self._ended:
            with self._abandoned_on_error():
                self._flush()
                if self._part is not None:
                    end = ((self._last or 0) + self._lasts) * self.plan.tick
                    hold_last(self.file, self._container, end, self._lasts * self.plan.tick)
                    self._verify()
                check_unchanged(self.plan.info)
            self._ended = True
        return None if self._part is None else self.file

    def join(self, segments: Sequence[tuple[Path, PacketSummary]]) -> None:
        """Write the packets of all segments, which follow each other in time; complete the output.

        Every segment begins with a key frame and does not refer to other segments. The decode times
        of all packets are new. Each encoder counted decode times from the start of its own segment,
        but the first packets of a segment must be decoded before the last picture of the segment
        before is shown. One delay is used throughout: packet ``k`` is decoded when picture
        ``k - delay`` is shown. Raises OutputError if a segment is damaged, or was encoded with
        other settings.
        """
        delay = max(summary.delay for _, summary in segments)
        # The ticks from one frame to the next; 1 at a variable rate.
        step = 1 if self.plan.rate is None else round(1 / (self.plan.rate * self.plan.tick))
        first = segments[0][1].first
        # A heap of the times that are not yet used as decode times; ``delay`` times remain in it.
        unused = [first - k * step for k in range(delay, 0, -1)]
        # On a clock too coarse for the frames, two segments can use the same tick. ``late`` has the
        # number of ticks by which each segment is moved.
        late, last = [], first - 1
        for path, summary in segments:
            if summary.extradata != extradata_hash(self._writer.encoder):
                raise OutputError(
                    f"segment-encoded-otherwise: The finished segment {path} was encoded with "
                    "other parameters than this output: start again with --no-resume."
                )
            late.append(max(last + 1 - summary.first, 0))
            last = summary.last + late[-1]
        with writing(self.plan.target):
            for (path, summary), ticks in zip(segments, late, strict=True):
                for packet in read_packets(path, summary):
                    packet.pts += ticks
                    packet.dts = heappushpop(unused, packet.pts)
                    self._writer.write(packet)
        self._written = sum(summary.packets for _, summary in segments)
        self._last_time = last * self.plan.tick

    def _verify(self) -> None:
        """Read the file back, because some muxers report success on a full disk."""
        found, last = read_back(self.file, self._container, self._written)
        grain = max(self._container.clock or self.plan.tick, self.plan.tick)
        if found != self._written:
            raise OutputError(
                f"output-incomplete: {self.plan.target} is incomplete: it holds {found} of "
                f"{self._written} frames. Is the disk full?"
            )
        if last is not None and abs(last - self._last_time) > grain:
            raise OutputError(
                f"last-frame-misplaced: {self.plan.target} is wrong: its last frame is at "
                f"{float(last):.3f} s instead of {float(self._last_time):.3f} s. Please report "
                "this."
            )


def try_copies(plan: EncodingPlan) -> list[Warned]:
    """Write all streams that are copied to nowhere, and return the warnings.

    Raises OutputError if the container refuses a packet.
    """
    with writing(plan.target), ExitStack() as stack:
        writer = FileWriter(plan, Path(os.devnull))
        stack.callback(writer.abandon)
        writer.write_copies()
    return writer.warnings
