"""Define the outcome of an interpolation."""

from __future__ import annotations

from dataclasses import dataclass

from cloudconv.jobs.adapt import Adapted
from cloudconv.jobs.outcome import Done, Estimate, Outcome


@dataclass(frozen=True, kw_only=True)
class InterpOutcome(Outcome):
    """The facts that an estimate and a result share.

    ``held_frames`` is the number of frames that are repeated, because no new frame is possible, as
    at a cut or after the last frame. ``cuts`` are the times of each new scene's first frame, in
    seconds from the input's first frame.
    """

    model: str
    held_frames: int
    cuts: list[float]


@dataclass(frozen=True, kw_only=True)
class InterpEstimate(Estimate, InterpOutcome):
    """The expected outcome and cost of a run.

    ``memory_bytes`` is the peak of this process in the host's memory, times the number of local
    workers; 0 if the system does not report the peak. ``memory_bytes`` and ``seconds`` are None if
    the run would end before its first frame. ``disk_bytes`` is the approximate space on the disk,
    estimated from the input's size. If segments are joined, ``disk_bytes`` is twice the output's
    size. ``seconds`` includes the time for adapting the model first.
    """

    disk_bytes: int


@dataclass(frozen=True, kw_only=True)
class InterpResult(Done, InterpOutcome):
    """The result of a run; ``frames_per_second`` excludes the frames of an earlier run."""

    resumed: bool
    adapted: Adapted | None = None
