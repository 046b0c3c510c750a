"""Decode the source frames of a segment from their times, in a worker process."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial

from cloudconv.errors import UnfitInputError
from cloudconv.media.frame import Frame, FrameTask
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.decode import DecoderCache
from cloudconv.media.read.source import Source
from cloudconv.segments.render import RenderPlan
from cloudconv.segments.segment import SegmentPlan


class FramesByTime:
    """The frames of a part of the source by time; a request for a frame decodes the frame."""

    def __init__(
        self,
        info: MediaInfo,
        wanted: Iterable[Fraction],
        *,
        main: Fraction,
        threads: int | None,
        cache: DecoderCache,
        nvdec: bool = False,
    ) -> None:
        """Open the source.

        Args:
            info: the source.
            wanted: the times of all frames that will be requested, on the source's clock.
            main: the start of the part. A loop may also need earlier frames; these are read one by
                one, after a seek.
            threads: the number of decoder threads; None lets the decoder choose.
            cache: keeps the decoder of an earlier part, which this part uses if possible.
            nvdec: whether the GPU's decoder (NVDEC) is used; this process sees one GPU.
        """
        self._info = info
        self._wanted = set(wanted)
        self._main = main
        self._source = partial(
            Source, info, threads=threads, nvdec=0 if nvdec else None, cache=cache
        )
        self._decoded: dict[Fraction, Frame] = {}
        self._frames = self._from(main)
        self._from_start = False

    def get(self, time: Fraction) -> Frame:
        """Return the frame at a time.

        Raises:
            UnfitInputError: the source has changed and has no such frame.
        """
        if time < self._main and time not in self._decoded:
            first = next(self._from(time), None)
            if first is not None and first.time == time:
                self._decoded[time] = first
        while time not in self._decoded:
            frame = next(self._frames, None)
            if frame is not None and frame.time <= time:
                if frame.time in self._wanted:
                    self._decoded[frame.time] = frame
            elif self._from_start:
                raise UnfitInputError(
                    f"frame-gone: {self._info.path} has no frame at {float(time):.3f} s any more: "
                    "the file has changed, or it is damaged and each reading gives other frames. "
                    "Repair the file, or convert a copy of it, and start again; interp needs "
                    "--no-resume then."
                )
            else:
                # Start at the beginning: some damaged files lose frames after a seek.
                self._frames, self._from_start = self._from(None), True
        return self._decoded[time]

    def forget(self, before: Fraction) -> None:
        """Release the decoded frames from ``main`` up to the time ``before``."""
        for time in [t for t in self._decoded if self._main <= t < before]:
            del self._decoded[time]

    def close(self) -> None:
        """Return the decoder to the cache."""
        self._frames.close()

    def _from(self, time: Fraction | None) -> Generator[Frame, None, None]:
        start = None
        if time is not None:
            start = time - self._info.timing.start
        return self._source(start=start).frames()


def decode(plan: RenderPlan, segment: SegmentPlan, cache: DecoderCache) -> Iterator[FrameTask]:
    """Decode the source frames of a segment, and yield each planned frame with its source frames.

    The decoder comes from the cache if possible, and returns to the cache at the end.

    Raises:
        UnfitInputError: the source has changed and has no frame at a planned time.
    """
    reader = FramesByTime(
        plan.info,
        segment.sources,
        # The last frames of a loop also need the source's first frame, which is before this start.
        main=segment.start,
        threads=plan.threads,
        cache=cache,
        nvdec=plan.nvdec,
    )
    lefts = segment.start, segment.frames[0].left
    with closing(reader) as frames:
        for frame in segment.frames:
            yield frame.of(frames.get)
            # The left frame of the previous pair may still be an outer frame of this pair.
            lefts = lefts if frame.left == lefts[1] else (lefts[1], frame.left)
            frames.forget(lefts[0])
