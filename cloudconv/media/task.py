"""Define the type of a planned frame together with its decoded source frames."""

from __future__ import annotations

from fractions import Fraction
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


class FrameTask(NamedTuple):
    """A planned frame with its source frames, which stay in memory as long as the task."""

    plan: FramePlan
    sources: Sources


def task_of(
    left: Frame,
    right: Frame | None,
    timestep: Fraction,
    time: Fraction,
    duration: Fraction,
    *,
    opens_scene: bool = False,
    outer: tuple[Beside | None, Beside | None] = (None, None),
) -> FrameTask:
    """Return the task of an output frame; see :class:`~cloudconv.timeline.FramePlan`.

    ``outer`` are the frames before and after the pair.
    """
    plan = FramePlan(
        left.time,
        None if right is None else right.time,
        timestep,
        time,
        duration,
        opens_scene,
        *(each and Neighbour(each[0].time, each[1]) for each in outer),
    )
    return FrameTask(plan, Sources(left, right, *(each and each[0] for each in outer)))
