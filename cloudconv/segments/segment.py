"""A job cut into independent pieces: resume, several processes and a cluster all use them.

Pure data and arithmetic: no pixels, no codec, no float. Every output frame belongs to one segment,
and a segment says all that it takes to make its frames, wherever that is done.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

MAX_SOURCE_FRAMES = 64
"""So many source frames are the left ones of a segment's frames, at most."""
MAX_FRAMES = 512
"""So many output frames has a segment, at most: a slow model must not lose an hour in a kill."""
_FIRST = 8
_WORTH_A_CUT = 8


class OuterTime(NamedTuple):
    """When a frame around a pair is on the source's clock, and how many gaps from the pair."""

    time: Fraction
    reach: Fraction


@dataclass(frozen=True, slots=True)
class PlannedFrame:
    """One output frame as data: the picture at ``timestep`` between two source frames.

    ``left`` and ``right`` are times on the source's clock, ``time`` and ``duration`` on the
    output's, all in seconds. Without ``right`` the frame is ``left`` itself. ``before`` and
    ``after`` are what a model looks at around the pair, if it does.
    """

    left: Fraction
    right: Fraction | None
    timestep: Fraction
    time: Fraction
    duration: Fraction
    before: OuterTime | None = None
    after: OuterTime | None = None

    @property
    def around(self) -> list[OuterTime]:
        """Those of ``before`` and ``after`` that there are."""
        return [each for each in (self.before, self.after) if each is not None]


@dataclass(frozen=True, slots=True)
class Segment:
    """Output frames that follow each other; segments are numbered from 0."""

    number: int
    frames: tuple[PlannedFrame, ...]

    @property
    def digest(self) -> str:
        """Alike for segments that ask for the same frames, in every process and release."""
        return hashlib.sha256(json.dumps(_to_data(self)).encode()).hexdigest()

    @property
    def sources(self) -> list[Fraction]:
        """The times of all source frames that are needed, in order."""
        needed = {frame.left for frame in self.frames}
        needed |= {frame.right for frame in self.frames if frame.right is not None}
        needed |= {each.time for frame in self.frames for each in frame.around}
        return sorted(needed)

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
        self._frames: list[PlannedFrame] = []
        self._number = 0
        self._sources = 0

    @property
    def number(self) -> int:
        """Of the segment that the last frame belongs to."""
        return self._number

    def push(self, frame: PlannedFrame, *, cut: bool) -> Segment | None:
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

    def finish(self) -> Segment | None:
        """The last segment; None if there were no frames."""
        if not self._frames:
            return None
        done = Segment(self._number, tuple(self._frames))
        self._frames = []
        self._number += 1
        self._sources = 0
        return done


def _to_data(segment: Segment) -> dict[str, Any]:
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
