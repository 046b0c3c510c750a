"""A job cut into independent pieces: resume, several processes and a cluster all use them.

Pure data and arithmetic: no pixels, no codec, no float. Every output frame belongs to one segment,
and a segment says all that it takes to make its frames, wherever that is done.
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
"""So many source frames are the left ones of a segment's frames, at most."""
MAX_FRAMES = 512
"""So many output frames has a segment, at most: a slow model must not lose an hour in a kill."""
_FIRST = 8
_WORTH_A_CUT = 8


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Output frames that follow each other; segments are numbered from 0."""

    number: int
    frames: tuple[FramePlan, ...]

    @property
    def digest(self) -> str:
        """Alike for segments that ask for the same frames, in every process and release."""
        return hashlib.sha256(json.dumps(_to_data(self)).encode()).hexdigest()

    @property
    def sources(self) -> list[Fraction]:
        """The times of all source frames that are needed, in order."""
        return sorted({time for frame in self.frames for time in frame.sources})

    @property
    def start(self) -> Fraction:
        """The time of the first source frame, but for a first one that a loop comes back to."""
        before = [frame.before.time for frame in self.frames if frame.before is not None]
        return min([self.frames[0].left, *before])


class Splitter:
    """Gathers planned frames into segments as they come.

    A segment ends after :data:`MAX_SOURCE_FRAMES` source frames or :data:`MAX_FRAMES` of its own,
    and before a cut, where the encoder would put a key frame anyway, unless it is very short. The
    first few are shorter, each twice as long as the one before, so that soon there is something
    to keep, and something to do for everyone.
    """

    def __init__(self) -> None:
        self._frames: list[FramePlan] = []
        self._number = 0
        self._sources = 0

    @property
    def number(self) -> int:
        """Of the segment that the last frame belongs to."""
        return self._number

    def push(self, frame: FramePlan, *, cut: bool) -> SegmentPlan | None:
        """Take the next frame; returns the segment before it if a new one begins with it.

        Args:
            frame: the next in order of time.
            cut: whether a scene has begun since the frame before.
        """
        moved = not self._frames or frame.left != self._frames[-1].left
        most = min(_FIRST << min(self._number, 8), MAX_SOURCE_FRAMES)
        full = self._sources + moved > most or len(self._frames) >= MAX_FRAMES
        done = None
        if full or (cut and self._sources >= _WORTH_A_CUT):
            done = self.finish()
            moved = True
        self._frames.append(frame)
        self._sources += moved
        return done

    def finish(self) -> SegmentPlan | None:
        """The last segment; None if there were no frames."""
        if not self._frames:
            return None
        done = SegmentPlan(self._number, tuple(self._frames))
        self._frames = []
        self._number += 1
        self._sources = 0
        return done


class OpenSegment(Iterator[FramePlan]):
    """A segment's frames as they are planned; ``plan`` is there once all of them are taken."""

    def __init__(self, number: int, frames: Iterator[tuple[FramePlan, SegmentPlan | None]]) -> None:
        self.number = number
        self.plan: SegmentPlan | None = None
        self._frames = frames

    @classmethod
    def each(cls, frames: Iterator[tuple[FramePlan, SegmentPlan | None]]) -> Iterator[OpenSegment]:
        """Every segment of a row of frames; each is to be taken before the next."""
        for number, head in enumerate(frames):
            yield cls(number, chain([head], frames))

    def __next__(self) -> FramePlan:
        if self.plan is not None:
            raise StopIteration
        frame, self.plan = next(self._frames)
        return frame


def split(frames: Iterator[FramePlan]) -> Iterator[OpenSegment]:
    """Divide planned frames into segments as they come; each is to be taken before the next."""
    return OpenSegment.each(_ended(frames))


def _ended(frames: Iterator[FramePlan]) -> Iterator[tuple[FramePlan, SegmentPlan | None]]:
    """Each frame, and the segment that it is the last of, if it is."""
    splitter = Splitter()
    last: FramePlan | None = None
    for frame in frames:
        ended = splitter.push(frame, cut=frame.opens_scene)
        if last is not None:
            yield last, ended
        last = frame
    if last is not None:
        yield last, splitter.finish()


def _to_data(segment: SegmentPlan) -> dict[str, Any]:
    """The segment as JSON holds it: every time an exact fraction in words."""
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
