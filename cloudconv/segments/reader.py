"""Source frames found by their times, wherever in the file they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from cloudconv.errors import UnfitInputError
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.pictures import Pictures, Sources
from cloudconv.media.read.source import Source
from cloudconv.segments.plan import RenderPlan
from cloudconv.segments.segment import SegmentPlan
from cloudconv.timeline import FramePlan

# Seconds before the first frame that are decoded as well where fields are made whole.
_EARLY = Fraction(1, 2)


class FramesByTime:
    """The frames of a stretch of the source, decoded as they are asked for.

    Args:
        info: of the source.
        wanted: the times of all frames that will be asked for, on the source's clock.
        main: where the stretch begins; earlier frames are fetched one by one.
        threads: that decode; None: as many as the decoder likes.
        deinterlace: whether frames are made whole from fields.
        nvdec: whether a GPU decodes, of which this process sees one.
    """

    def __init__(
        self,
        info: MediaInfo,
        wanted: Iterable[Fraction],
        *,
        main: Fraction,
        threads: int | None,
        deinterlace: bool = False,
        nvdec: bool = False,
    ) -> None:
        self._info = info
        self._wanted = set(wanted)
        self._main = main
        self._threads = threads
        self._deinterlace = deinterlace
        self._nvdec = 0 if nvdec else None
        self._held: dict[Fraction, Frame] = {}
        self._frames = self._from(main)
        self._whole = False

    def get(self, time: Fraction) -> Frame:
        """The frame at that time.

        Raises:
            UnfitInputError: there is none any more.
        """
        if time < self._main and time not in self._held:
            alone = next(self._from(time), None)
            if alone is not None and alone.time == time:
                self._held[time] = alone
        while time not in self._held:
            frame = next(self._frames, None)
            if frame is not None and frame.time <= time:
                if frame.time in self._wanted:
                    self._held[frame.time] = frame
            elif self._whole:
                raise UnfitInputError("frame-gone", path=self._info.path, time=float(time))
            else:
                # Some damaged files lose frames after a seek.
                self._frames, self._whole = self._from(None), True
        return self._held[time]

    def forget(self, before: Fraction) -> None:
        """Let go of the stretch's frames before that time."""
        for time in [t for t in self._held if self._main <= t < before]:
            del self._held[time]

    def _from(self, time: Fraction | None) -> Iterator[Frame]:
        info, start = self._info, None
        if time is not None:
            # A frame is made whole with the help of its neighbours, so those are decoded as well.
            early = _EARLY if self._deinterlace else 0
            start = max(time - info.timing.start - early, Fraction(0))
        frames = Source(
            info,
            start=start,
            threads=self._threads,
            deinterlace=self._deinterlace,
            nvdec=self._nvdec,
        ).frames()
        return frames if time is None else (frame for frame in frames if frame.time >= time)


def decode(plan: RenderPlan, segment: SegmentPlan, pictures: Pictures) -> Iterator[FramePlan]:
    """Decode the source frames of a segment that was planned elsewhere; yield its frames.

    Raises:
        UnfitInputError: a frame is not where the plan has seen it.
    """
    frames = FramesByTime(
        plan.info,
        segment.sources,
        # In a loop the last frames lead on to the first one, long before them.
        main=segment.start,
        threads=plan.threads,
        deinterlace=plan.deinterlace,
        nvdec=plan.nvdec,
    )
    lefts = segment.start, segment.frames[0].left
    for frame in segment.frames:
        outer = (each and frames.get(each.time) for each in (frame.before, frame.after))
        right = None if frame.right is None else frames.get(frame.right)
        yield pictures.put(frame, Sources(frames.get(frame.left), right, *outer))
        # The one before it may still be asked for, as what lies before a pair.
        lefts = lefts if frame.left == lefts[1] else (lefts[1], frame.left)
        frames.forget(lefts[0])
