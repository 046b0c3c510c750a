"""Source frames for planned frames, which name them by their times."""

from __future__ import annotations

from fractions import Fraction
from threading import Lock
from typing import NamedTuple

from cloudconv.media.frame import Frame
from cloudconv.timeline import FramePlan, Neighbour

Beside = tuple[Frame, Fraction]
"""A frame beside a pair, and its distance in gaps of the pair."""


class Sources(NamedTuple):
    """The source frames that a planned frame names."""

    left: Frame
    right: Frame | None = None
    before: Frame | None = None
    after: Frame | None = None


class Pictures:
    """The source frames of planned frames, from when they are decoded to when they are taken.

    One thread decodes and puts, another takes. A source frame is kept as long as a plan that names
    it waits.
    """

    def __init__(self) -> None:
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
        """Plan a frame of frames that are there, and keep those; see :class:`FramePlan`."""
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
        """Keep the frames of a plan until this very object is taken; return the plan."""
        with self._lock:
            self._sources[id(plan)] = sources
        return plan

    def take(self, plan: FramePlan) -> Sources:
        """Return the frames that the plan names, and let go of them."""
        with self._lock:
            return self._sources.pop(id(plan))
