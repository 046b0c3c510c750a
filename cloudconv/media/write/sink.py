"""Encode frames at exact times into an output, which appears only when the output is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from cloudconv.errors import EncoderError, OutputError
from cloudconv.events import Warned
from cloudconv.media.carry.carry import Carry
from cloudconv.media.convert import encoder_picture
from cloudconv.media.frame import Frame
from cloudconv.media.input.fingerprint import check_unchanged
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.turn import UPRIGHT, turn_of
from cloudconv.media.write.containers import container_of
from cloudconv.media.write.containers.base import FileWriter, Writer
from cloudconv.media.write.encode import FEW
from cloudconv.media.write.encoder_options import DEFAULTS
from cloudconv.media.write.names import is_stdout
from cloudconv.media.write.packets import PacketSummary, PacketWriter
from cloudconv.media.write.plan import plan_encoding
from cloudconv.media.write.target import Part, check_rate, writing
from cloudconv.settings import EncodeSettings


class Sink:
    """An encoder of frames into ``path``, which appears when the block ends without an error.

    Until then everything is written to a temporary file or folder beside ``path``. Standard output
    is written directly. Without ``overwrite`` no existing file is replaced: if the name is taken at
    the end, the output gets another name, and TakenError is raised. ``rate`` is the exact constant
    rate of the output, None for a variable one. All frame times are multiples of ``time_base``
    seconds. ``carry`` describes the contents to carry over from the source file. With ``segment``,
    the encoded pictures are written to that packet file, which ``join`` reads later, and ``path``
    is not touched.

    Raises EncoderError and OutputError. Most of these errors are raised before the first frame; the
    error for a full disk is raised later. Raises UnfitInputError at the end of an output, but not
    of a segment, if the source has changed since the source was probed.
    """

    def __init__(
        self,
        path: Path,
        info: MediaInfo,
        *,
        rate: Fraction | None,
        time_base: Fraction,
        settings: EncodeSettings = DEFAULTS,
        carry: Carry | None = None,
        segment: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        """Choose and open the encoder; see the class for the arguments."""
        self._path = Path(path)
        self._segment = segment
        self._container = container_of(self._path)
        check_rate(self._path, rate)
        turn = UPRIGHT if self._container.is_video else turn_of(info)
        self._turn = turn or UPRIGHT
        info = self._turn.info(info)
        self._plan, self.warnings = plan_encoding(
            self._path,
            info,
            rate=rate,
            time_base=time_base,
            settings=settings,
            carry=carry,
        )
        if turn is None:
            self.warnings.append(Warned("odd-rotation", {"container": self._container.name}))
        self.encoder = self._plan.choice.encoder
        self.pix_fmt = self._plan.choice.working
        self.options = dict(self._plan.choice.options)
        self._prepare = self._container.preparation(info.width, info.height)
        self.ticks_per_frame = 1 if rate is None else round(1 / (rate * self._plan.tick))
        self._written = 0
        self._ended = False
        self._last: int | None = None
        self._last_time = Fraction(0)
        self._durations: dict[int, int] = {}  # of the pictures in the encoder, by time in ticks
        self._lasts = 0
        fastest = self._container.fastest
        self._least_gap = 1 if fastest is None else round(1 / (fastest * self._plan.tick))
        self._part: Part | None = None
        with writing(self._path):
            if segment is None and not is_stdout(self._path):
                self._part = Part(self._path, folder=self._container.is_folder, overwrite=overwrite)
            with ExitStack() as undo:
                undo.callback(self._discard)
                self._writer: Writer
                if segment is not None:
                    self._writer = PacketWriter(segment, self._container.muxer, self._plan)
                else:
                    target = self._path if self._part is None else self._part.path
                    self._writer = self._container.open_writer(target, self._plan)
                undo.pop_all()
        self.warnings += self._writer.warnings
        self._writer.warnings.clear()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the output, or delete the unfinished output on an error."""
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

        Returns:
            The temporary path of the output, which :meth:`finish` renames. None for standard output
            and for a segment.
        """
        if not self._ended:
            with self._abandoned_on_error():
                self._complete()
            self._ended = True
        return None if self._part is None else self._part.path

    @contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        with ExitStack() as undo:
            undo.callback(self.abandon)
            with writing(self._path):
                yield
            undo.pop_all()

    def abandon(self) -> None:
        """Delete the unfinished output, as the ``with`` block does on an error."""
        # When the MP4 muxer is closed, it opens its file again and rewrites everything to move the
        # index to the start. The muxer does not rewrite a file that was deleted before.
        self._discard()
        if not self._ended:
            self._ended = True
            self._writer.abandon()
            self._discard()

    def rehearse(self) -> None:
        """Write all copied streams and discard them, so that errors appear before the rendering.

        Raises:
            OutputError: the container refuses a packet, or there is no room.
        """
        assert isinstance(self._writer, FileWriter)
        try:
            with writing(self._path):
                self._writer.rehearse()
        finally:
            self.abandon()

    @property
    def summary(self) -> PacketSummary:
        """Return the summary of the finished ``segment``."""
        assert isinstance(self._writer, PacketWriter)
        return self._writer.summary

    @contextmanager
    def copying(self, packets: int, last: int) -> Iterator[FileWriter]:
        """Yield the writer of the output to a block that copies encoded packets into the output.

        Args:
            packets: the number of packets. The block must write them in decoding order, with times
                in ticks.
            last: the time of the last picture in ticks.
        """
        assert isinstance(self._writer, FileWriter)
        with writing(self._path):
            yield self._writer
        self._written, self._last_time = packets, last * self._plan.tick

    def write(self, frame: Frame) -> None:
        """Encode a frame without changing the frame's picture.

        ``frame.time`` is on the output's clock, at least 0, and later than the time of the frame
        before.

        Raises:
            ValueError: the time is negative or not later, or the size of the frame differs.
            OutputError: players cannot show frames so close to each other, or the frame cannot be
                written.
            EncoderError: the frame lasts longer than the container can store.
        """
        tick = round(frame.time / self._plan.tick)
        end = round((frame.time + frame.duration) / self._plan.tick)
        if tick < 0 or (self._last is not None and frame.time <= self._last_time):
            raise ValueError(f"Output times must be 0 or more and increase, got {frame.time} s.")
        frame, info = self._turn.frame(frame), self._plan.info
        if (frame.width, frame.height) != (info.width, info.height):
            raise ValueError(
                f"A frame of {frame.width}x{frame.height} has another size than others."
            )
        if self._last is not None and tick - self._last < self._least_gap:
            # The frame is too close to the frame before: players need a larger gap, or the clock is
            # so coarse that both frames have the same tick.
            if (most := self._container.fastest) is not None:
                name = self._container.name
                raise OutputError("rate-beyond-container", container=name, most=most, rate=None)
            tick = self._last + 1
        longest = self._container.most_ticks
        if longest is not None and end - tick > longest:
            raise EncoderError(
                "frame-too-long",
                container=self._container.name,
                time=float(frame.time),
                lasts=float(frame.duration),
                most=float(longest * self._plan.tick),
            )
        picture = encoder_picture(
            frame,
            pix_fmt=self._plan.choice.pix_fmt,
            working=self._plan.choice.working,
            tags=self._plan.tags,
        )
        picture = self._prepare(picture)
        picture.pts, picture.time_base = tick, self._plan.tick
        self._durations[tick] = self._lasts = max(end - tick, 1)
        with writing(self._path):
            for packet in self._writer.encoder.encode(picture):
                packet.duration = self._durations.pop(packet.pts)
                self._writer.write(packet)
        self._last, self._last_time = tick, frame.time
        self._written += 1

    def _complete(self) -> None:
        if not self._written:
            raise OutputError("no-frames", path=self._path)
        if self._last is not None:
            for packet in self._writer.encoder.encode(None):
                packet.duration = self._durations.pop(packet.pts)
                if self._written <= FEW:
                    packet.dts = packet.pts
                self._writer.write(packet)
        self._writer.finish()
        self.warnings += self._writer.warnings
        if self._part is not None:
            end = ((self._last or 0) + self._lasts) * self._plan.tick
            self._container.hold_last(self._part.path, end, self._lasts * self._plan.tick)
            if self._plan.amends:
                self._container.amend(self._part.path, self._plan)
            self._verify(self._part)
        if self._segment is None:
            check_unchanged(self._plan.info)

    def _discard(self) -> None:
        if self._part is not None:
            self._part.discard()
        if self._segment is not None:
            with suppress(OSError):
                self._segment.unlink()

    def _verify(self, part: Part) -> None:
        """Read the file back, because some muxers report success on a full disk."""
        found, last = self._container.read_back(part.path, self._written)
        grain = max(self._container.clock or self._plan.tick, self._plan.tick)
        if found != self._written:
            raise OutputError(
                "output-incomplete", path=self._path, found=found, written=self._written
            )
        if last is not None and abs(last - self._last_time) > grain:
            raise OutputError(
                "last-frame-misplaced",
                path=self._path,
                found=float(last),
                expected=float(self._last_time),
            )
