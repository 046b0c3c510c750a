"""Store source frames for planned frames, which name them by their times."""

from __future__ import annotations

from fractions import Fraction
from threading import Lock
from typing import NamedTuple

from cloudconv.media.frame import Frame
from cloudconv.timeline import FramePlan, Neighbour

Beside = tuple[Frame, Fraction]
"""A frame beside a pair, and its distance as a multiple of the time between the pair's frames."""


class Sources(NamedTuple):
    """The source frames that a planned frame names."""

    left: Frame
    right: Frame | None = None
    before: Frame | None = None
    after: Frame | None = None


class Pictures:
    """The source frames of planned frames, from decoding until the renderer takes them.

    One thread decodes and stores frames, another one takes them. A source frame is stored as long
    as a waiting plan names it.
    """

    def __init__(self) -> None:
        """Create an empty store."""
        self._sources: dict[int, Sources] = {}
        self._lock = Lock()

    def plan(
        self,
        left: Frame,
        right: Frame | None,
        timestep: Fraction,
        time: Fraction,
        duration: Fraction,
        *,
        opens_scene: bool = False,
        before: Beside | None = None,
        after: Beside | None = None,
    ) -> FramePlan:
        """Return a :class:`FramePlan` of decoded frames, and store those frames."""
        beside = (each and Neighbour(each[0].time, each[1]) for each in (before, after))
        plan = FramePlan(
            left.time,
            None if right is None else right.time,
            timestep,
            time,
            duration,
            opens_scene,
            *beside,
        )
        return self.put(plan, Sources(left, right, before and before[0], after and after[0]))

    def put(self, plan: FramePlan, sources: Sources) -> FramePlan:
        """Store the frames of a plan until this very object is taken; return the plan."""
        with self._lock:
            self._sources[id(plan)] = sources
        return plan

    def take(self, plan: FramePlan) -> Sources:
        """Remove the frames that the plan names from the store and return them."""
        with self._lock:
            return self._sources.pop(id(plan))
