"""Encode frames at exact times into an output, which gets its name when complete."""

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from heapq import heappushpop
from pathlib import Path
from typing import Any

import av

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.events import Warned, Warnings
from cloudconv.media.colour.convert import encoder_picture
from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.input import is_stdout, pictures_of
from cloudconv.media.containers.sidedata import CAPTIONS, KINDS, Captions
from cloudconv.media.frames.filters import Chain
from cloudconv.media.frames.frame import Frame
from cloudconv.media.reading.identity import check_unchanged
from cloudconv.media.writing.encoders import supported_options
from cloudconv.media.writing.encoding import EncodingPlan, extradata_hash
from cloudconv.media.writing.muxer import Muxer, PictureFolder
from cloudconv.media.writing.output import claimed, too_close, writing
from cloudconv.media.writing.packets import (
    PacketFile,
    PacketSummary,
    Shown,
    Writer,
    read_segment,
)

_LARGE = 5_000_000  # bytes of an animation in a second, which pages load slowly
FEW = 2  # at most so many pictures get arbitrary decode times from libx265, as one shows


class Sink(AbstractContextManager["Sink"]):
    """The output of a plan, which appears when the ``with`` block ends without an error.

    Until then everything is written to ``file``, a temporary file or folder beside the
    output. Standard output is written directly. Without ``overwrite`` no existing file is
    replaced: if the name is taken at the end, the output gets another name, and TakenError
    is raised. Most errors are raised before the first frame, but that for a full disk is
    raised later, and UnfitInputError at the end if the source has changed since the source
    was probed. With ``file``, the output is that packet file of a segment. ``warnings`` get
    those about the encoding and the other streams, the last ones in :meth:`complete`.
    """

    def __init__(
        self,
        plan: EncodingPlan,
        *,
        file: Path | None = None,
        overwrite: bool = False,
        warnings: Warnings | None = None,
    ) -> None:
        self.warnings = Warnings() if warnings is None else warnings
        self.warnings.add(*plan.warnings)
        self.plan = plan
        self._overwrite = overwrite
        self._segment = file
        self._container = container_of(plan.target)
        path = plan.target
        folder = self._container.is_folder
        if file is None and not is_stdout(path):
            home = claimed(path)
            # An existing folder gets the part, because the folder's parent may not be
            # writable.
            within = home if folder and home.exists() else None
            # Create the part now, so that an unwritable folder is an error before any work.
            with writing(path):
                path = files.create_part(home, folder=folder, within=within)
        if file is not None:
            self.writer: Writer = PacketFile(plan, file)
        elif folder:
            self.writer = PictureFolder(plan, path)
        else:
            self.writer = Muxer(plan, path, self.warnings)
        self.file = self.writer.file or plan.target
        self._palette: Chain | None = None
        stores = "a53cc" in supported_options(plan.choice.encoder)
        size = plan.info.width, plan.info.height
        self._captions = Captions(*size, plan.choice.pix_fmt) if stores else None
        self._bytes = 0
        # Of the pictures in the encoder, by time in ticks.
        self._durations: dict[int, int] = {}
        self._shown = Shown()
        self._last = -1  # the time of the last picture in ticks
        self._is_complete = False

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.writer.abandon()
            return
        self.complete()
        self.commit()

    def write(self, frame: Frame) -> None:
        """Encode a frame without changing the frame's picture.

        ``frame.time`` is on the output's clock, at least 0, and later than the time of the
        frame before. Raises OutputError if players cannot show frames so close to each
        other, or the container cannot store so long a frame.
        """
        plan = self.plan
        container = self._container
        counts = self._shown
        tick = round(frame.time / plan.tick)
        end = round((frame.time + frame.duration) / plan.tick)
        frame = replace(frame, picture=plan.turn.picture(frame.picture))
        gap = 1 if container.fastest is None else round(1 / (container.fastest * plan.tick))
        if counts.frames and tick - self._last < gap:
            # The frame is too close to the frame before: players need a larger gap, or the
            # clock is so coarse that both frames have the same tick.
            if container.fastest is not None:
                raise too_close(container)
            tick = self._last + 1
        container.check_span(frame.time, frame.duration, plan.tick)
        choice = plan.choice
        picture = encoder_picture(
            frame, pix_fmt=choice.pix_fmt, working=choice.working, tags=plan.tags
        )
        if container.has_palette:
            self._palette = self._palette or Chain(picture, reduces=True)
            (picture,) = self._palette.push(picture, counts.frames)
        if frame.captions and self._captions is not None:
            picture = self._captions.add(picture, frame.captions)
        elif frame.captions:
            self._note(
                f"captions-lost: The {KINDS[CAPTIONS]} of the source cannot be written by "
                f"{choice.encoder}, and will be missing; libx264 and libx265 write them."
            )
        picture.pts = tick
        picture.time_base = plan.tick
        lasts = self._durations[tick] = max(end - tick, 1)
        with writing(plan.target):
            self._store(self.writer.encoder.encode(picture))
        end = tick + lasts
        self._last = tick
        self._shown = Shown(
            counts.frames + 1, frame.time, end * plan.tick, lasts * plan.tick
        )

    def _store(self, packets: list[Any], *, restamp: bool = False) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            if restamp:
                packet.dts = packet.pts
            self._bytes += packet.size
            self.writer.write(packet)
        seconds = self._shown.end
        is_animation = self._container.has_one_encoder and not self._container.is_folder
        if is_animation and 1 <= seconds < self._bytes / _LARGE:
            self._note(
                f"large-animation: {self.plan.target.name} takes more than 5 MB a second: "
                "an .mp4 is a small part of that; a lower --fps and a shorter part are "
                "smaller, too."
            )

    def _note(self, text: str) -> None:
        self.warnings.add(Warned(text))

    def complete(self, joined: Shown | None = None) -> Any:
        """Complete the output except for its name; further calls do nothing.

        ``joined`` are the frames whose packets were written without an encoder. Return the
        unfinished file, None for standard output, or the summary of a segment.
        """
        if self._is_complete:
            return None
        with self.writer.abandoned_on_error():
            counts = joined or self._shown
            if not counts.frames:
                raise OutputError(
                    f"no-frames: There are no frames to write, so {self.plan.target} was "
                    "not made: choose another part."
                )
            if joined is None:
                self._store(self.writer.encoder.encode(None), restamp=counts.frames <= FEW)
            self._is_complete = True
            complete_file = self.writer.finish(counts)
            file = self.writer.file
            if self._segment is not None:
                return complete_file
            if file is not None:
                self._verify(file, counts)
            check_unchanged(self.plan.info)
        return file

    def commit(self) -> None:
        """Write the complete output to the disk, and give it its name.

        Raises TakenError if something else has the name and cannot be replaced, so that the
        output has another name, and OutputError if the output cannot be synced or renamed.
        """
        file = self.writer.file
        is_folder = self._container.is_folder
        if file is None or self._segment is not None:
            return
        with self.writer.abandoned_on_error():
            for written in sorted(file.iterdir()) if is_folder else [file]:
                with written.open("rb+") as opened:
                    os.fsync(opened.fileno())
            target = self.plan.target
            home = claimed(self.plan.target)
            try:
                if is_folder:
                    old = pictures_of(target)
                    files.put_all(file, target.parent, overwrite=self._overwrite, old=old)
                else:
                    files.put(file, home, overwrite=self._overwrite)
            except (FileExistsError, PermissionError) as error:
                # Windows cannot replace a file that another program has open.
                is_refused = isinstance(error, PermissionError)
                if is_refused and (is_folder or not os.path.lexists(home)):
                    raise
                raise files.put_under_free_name(file, home) from error
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
    # On a clock too coarse for the frames, two segments can use the same tick. ``late`` has
    # the number of ticks by which each segment is moved.
    late = []
    last = first - 1
    own = extradata_hash(target.writer.encoder)
    for path, summary in segments:
        if summary.extradata != own:
            raise OutputError(
                f"segment-encoded-otherwise: The finished segment {path} was encoded with "
                "other parameters than this output: start again with --no-resume."
            )
        late.append(max(last + 1 - summary.first, 0))
        last = summary.last + late[-1]
    with target.writer.abandoned_on_error():
        written = 0
        for (path, summary), ticks in zip(segments, late, strict=True):
            for packet in read_segment(path, summary):
                packet.pts += ticks
                packet.dts = heappushpop(unused, packet.pts)
                target.writer.write(packet)
                written += 1
                yield written
    target.complete(Shown(sum(s.packets for _, s in segments), last * plan.tick))
