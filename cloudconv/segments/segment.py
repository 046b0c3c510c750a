"""Divide the output frames of a job into segments.

Segments are independent of each other: an interrupted run resumes after the finished ones, and
several processes or machines can make them at once. The plan of a segment and the source are enough
to make its frames in any process. This module computes with plans and exact times only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

from cloudconv.timeline import FramePlan

MAX_SOURCE_FRAMES = 64
"""The largest number of source frames that start a pair in a segment."""
MAX_FRAMES = 512
"""The largest number of output frames in a segment, so that a kill loses little work."""
_FIRST = 8
"""The largest number of source frames in the first segment; doubled for each further segment."""
_WORTH_A_CUT = 8
"""The least number of source frames of a segment that ends at a cut."""


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Consecutive output frames; segments are numbered from 0."""

    number: int
    frames: tuple[FramePlan, ...]

    @property
    def digest(self) -> str:
        """Return a hash of the plan, which does not depend on the process or the release."""
        return hashlib.sha256(json.dumps(_to_data(self)).encode()).hexdigest()

    @property
    def sources(self) -> list[Fraction]:
        """Return the times of all source frames that the segment needs, in order."""
        return sorted({time for frame in self.frames for time in frame.sources})

    @property
    def start(self) -> Fraction:
        """Return the time of the first source frame, without the frame to which a loop returns."""
        before = [frame.before.time for frame in self.frames if frame.before is not None]
        return min([self.frames[0].left, *before])


class OpenSegment(Iterator[FramePlan]):
    """A segment whose frames are still being planned.

    The iterator returns the planned frames. ``plan`` is None until all of them are taken.
    """

    def __init__(self, number: int, frames: Iterator[tuple[FramePlan, SegmentPlan | None]]) -> None:
        """Create segment ``number``, which ends at the first frame that has a plan."""
        self.number = number
        self.plan: SegmentPlan | None = None
        self._frames = frames

    @classmethod
    def each(cls, frames: Iterator[tuple[FramePlan, SegmentPlan | None]]) -> Iterator[OpenSegment]:
        """Yield every segment; the caller takes all frames of one before the next.

        Args:
            frames: each frame, with the plan of the segment of which it is the last frame, or None.
        """
        for number, first in enumerate(frames):
            yield cls(number, chain([first], frames))

    def __next__(self) -> FramePlan:
        """Return the next frame."""
        if self.plan is not None:
            raise StopIteration
        frame, self.plan = next(self._frames)
        return frame


def split(frames: Iterator[FramePlan]) -> Iterator[OpenSegment]:
    """Divide planned frames into segments; the caller takes all frames of one before the next.

    A segment ends after :data:`MAX_SOURCE_FRAMES` source frames or :data:`MAX_FRAMES` output
    frames. It also ends before a cut, where the encoder would start a key frame anyway, unless it
    is very short. The first segments are shorter, so that a run soon has finished segments, and
    each worker soon receives a segment.
    """
    return OpenSegment.each(_with_ends(frames))


def _with_ends(frames: Iterator[FramePlan]) -> Iterator[tuple[FramePlan, SegmentPlan | None]]:
    """Yield each frame, with the plan of the segment of which it is the last frame, or None."""
    number = sources = 0
    segment: list[FramePlan] = []
    for frame in frames:
        moved = not segment or frame.left != segment[-1].left
        most = min(_FIRST << min(number, 8), MAX_SOURCE_FRAMES)
        ends = sources + moved > most or len(segment) >= MAX_FRAMES
        ends = ends or (frame.opens_scene and sources >= _WORTH_A_CUT)
        if segment:
            yield segment[-1], SegmentPlan(number, tuple(segment)) if ends else None
        if ends:
            number, sources, segment, moved = number + 1, 0, [], True
        segment.append(frame)
        sources += moved
    if segment:
        yield segment[-1], SegmentPlan(number, tuple(segment))


def _to_data(segment: SegmentPlan) -> dict[str, Any]:
    """Return the segment for JSON, with every time as the text of a fraction."""
    return {
        "number": segment.number,
        "frames": [
            [
                str(frame.left),
                None if frame.right is None else str(frame.right),
                str(frame.timestep),
                str(frame.time),
                str(frame.duration),
                *(each and [*map(str, each)] for each in (frame.before, frame.after)),
            ]
            for frame in segment.frames
        ],
    }
