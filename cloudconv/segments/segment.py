"""Divide the output frames of a job into segments.

Segments are independent of each other: an interrupted run resumes after the finished segments, and
several processes or machines can make segments at once. The plan of a segment and the source are
enough to make its frames in any process. This module handles plans and exact times, not pictures.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, islice

from cloudconv.media.task import FrameTask
from cloudconv.timeline import FramePlan

MAX_SOURCE_FRAMES = 64
"""The largest number of source frames that start a pair in a segment."""
MAX_FRAMES = 512
"""The largest number of output frames in a segment, so that a kill loses little work."""
_FIRST = 8
"""The largest number of source frames in the first segment. Each further segment doubles this
number, up to ``MAX_SOURCE_FRAMES``."""
_LEAST_BEFORE_CUT = 8
"""The least number of source frames of a segment that ends at a cut."""


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Consecutive output frames; segments are numbered from 0."""

    number: int
    frames: tuple[FramePlan, ...]

    @property
    def digest(self) -> str:
        """Return a hash of the plan, which does not depend on the process."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def sources(self) -> list[Fraction]:
        """Return the times of all source frames that the segment needs, in order."""
        return sorted({time for frame in self.frames for time in frame.sources})

    @property
    def start(self) -> Fraction:
        """Return the time of the segment's first source frame.

        ``right`` does not count. In the last pair of a loop, ``right`` is the first frame of the
        video, which can be earlier than the segment.
        """
        before = [frame.before.time for frame in self.frames if frame.before is not None]
        return min([self.frames[0].left, *before])


class OpenSegment(Iterable[FrameTask]):
    """A segment whose frames are still being planned.

    ``plan`` is None until all frames are taken.
    """

    def __init__(self, number: int, ahead: deque[FrameTask], rest: Iterator[FrameTask]) -> None:
        """Start before the first frame.

        Args:
            number: the number of the segment, from 0.
            ahead: contains the first frame of the segment, and after the iteration the first frame
                of the next segment, if any.
            rest: all later frames of the video.
        """
        self.number = number
        self.plan: SegmentPlan | None = None
        self._ahead, self._rest = ahead, rest

    def __iter__(self) -> Iterator[FrameTask]:
        """Yield the frames, then set ``plan``."""
        most = min(_FIRST << min(self.number, 8), MAX_SOURCE_FRAMES)
        frames: list[FramePlan] = []
        sources = 0
        for task in chain([self._ahead.popleft()], self._rest):
            frame = task.plan
            is_new_source = not frames or frame.left != frames[-1].left
            is_full = sources + is_new_source > most or len(frames) >= MAX_FRAMES
            if is_full or (frame.opens_scene and sources >= _LEAST_BEFORE_CUT):
                self._ahead.append(task)
                break
            frames.append(frame)
            sources += is_new_source
            yield task
        self.plan = SegmentPlan(self.number, tuple(frames))

    def skip(self) -> SegmentPlan:
        """Take all frames without rendering them, and return the plan."""
        for _ in self:
            pass
        assert self.plan is not None
        return self.plan


def split(tasks: Iterator[FrameTask]) -> Iterator[OpenSegment]:
    """Divide planned frames into segments.

    The caller must take all frames of a segment before the next segment.

    A segment ends after :data:`MAX_SOURCE_FRAMES` source frames or :data:`MAX_FRAMES` output
    frames. It also ends before a cut, where the encoder would start a key frame anyway, unless the
    segment is very short. The first segments are shorter, so that a run soon has finished segments,
    and each worker soon receives a segment.
    """
    ahead = deque(islice(tasks, 1))
    for number in count():
        if not ahead:
            return
        yield OpenSegment(number, ahead, tasks)
