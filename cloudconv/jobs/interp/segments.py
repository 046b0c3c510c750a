"""Divide the output frames of a run into segments.

Segments are independent of each other: an interrupted run resumes after the finished segments, and
several processes or machines can make segments at once. The plan of a segment and the source are
enough to make its frames in any process.
"""

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Self

from cloudconv.media.frame import Frame, FrameTask
from cloudconv.media.packets import PacketSummary
from cloudconv.media.sink import Sink
from cloudconv.timeline import Task

MAX_SOURCE_FRAMES = 64  # the largest number of source frames that start a pair in a segment
MAX_FRAMES = 512
"""The largest number of output frames in a segment, so that a kill loses little work."""
_FIRST = 8
"""The largest number of source frames in the first segment. Each further segment doubles this
number, up to ``MAX_SOURCE_FRAMES``."""
_LEAST_BEFORE_CUT = 8  # the least number of source frames of a segment that ends at a cut


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Consecutive output frames; ``number`` is that of the first one, which counts from 0."""

    number: int
    frames: tuple[Task[Fraction], ...]

    @property
    def digest(self) -> str:
        """Return a hash of the plan, which does not depend on the process."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]

    def first(self, count: int) -> Self:
        """Return the plan of the segment's first frames alone."""
        return replace(self, frames=self.frames[:count])

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
        before = [frame.before[0] for frame in self.frames if frame.before is not None]
        return min([self.frames[0].left, *before])


@dataclass(eq=False, slots=True)
class Segment:
    """A segment that is being planned and made; for ``number`` see :class:`SegmentPlan`.

    ``open`` opens its encoder at the first frame. Another thread calls ``keep`` with the plan, the
    encoder's complete file and its summary. A part without ``keep`` is the whole output.
    """

    number: int
    frames: Iterator[FrameTask]
    open: Callable[[], Sink] | None = None
    keep: Callable[[SegmentPlan, Path, PacketSummary], Any] | None = None
    encoder: Sink | None = None
    written: int = 0
    _planned: list[Task[Fraction]] = field(default_factory=list)
    _ended: bool = False

    def tasks(self) -> Iterator[FrameTask | None]:
        """Yield the planned frames, and None after the last; they may be taken ahead."""
        for task in self.frames:
            self._planned.append(task.of(attrgetter("time")))
            yield task
        self._ended = True
        yield None

    @property
    def plan(self) -> SegmentPlan:
        """Return the plan of the frames that are taken."""
        return SegmentPlan(self.number, tuple(self._planned))

    def skip(self) -> SegmentPlan:
        """Take all frames without rendering them, and return the plan."""
        for _ in self.tasks():
            pass
        return self.plan

    @property
    def is_written(self) -> bool:
        """Return whether all frames are written."""
        return self._ended and self.written == len(self._planned)

    def write(self, frame: Frame) -> None:
        """Encode the next frame."""
        if self.encoder is None:
            assert self.open is not None
            self.encoder = self.open()
        self.encoder.write(frame)
        self.written += 1

    def complete(self) -> Any:
        """Complete the encoder's file, and return what ``keep`` makes of it."""
        assert self.encoder is not None
        summary = self.encoder.complete()
        return self.keep and self.keep(self.plan, self.encoder.file, summary)


def split(tasks: Iterator[FrameTask], finished: Mapping[int, int]) -> Iterator[Segment]:
    """Divide planned frames into segments.

    The caller must take all frames of a segment before the next segment. ``finished`` has the
    number of frames of each finished segment by its number. An interrupt may have cut one short:
    the others of its frames are a segment of their own.

    A segment ends after :data:`MAX_SOURCE_FRAMES` source frames or :data:`MAX_FRAMES` output
    frames. It also ends before a cut, where the encoder would start a key frame anyway, unless the
    segment is very short. The first segments are shorter, so that a run soon has finished segments,
    and each worker soon receives a segment.
    """
    ends = {number + count for number, count in finished.items()}
    for number, numbered in groupby(_numbered(tasks, ends.union(finished)), itemgetter(0)):
        yield Segment(number, (task for _, task in numbered))


def _numbered(tasks: Iterator[FrameTask], cuts: Container[int]) -> Iterator[tuple[int, FrameTask]]:
    count = number = frames = sources = 0
    left: Fraction | None = None
    for index, task in enumerate(tasks):
        is_new_source = task.left.time != left
        most = min(_FIRST << min(count, 8), MAX_SOURCE_FRAMES)
        is_full = sources + is_new_source > most or frames >= MAX_FRAMES
        if is_full or (task.opens_scene and sources >= _LEAST_BEFORE_CUT):
            number, count, frames, sources, is_new_source = index, count + 1, 0, 0, True
        elif index in cuts:
            number = index
        frames, sources, left = frames + 1, sources + is_new_source, task.left.time
        yield number, task
