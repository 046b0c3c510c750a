"""How far an interpolation has come, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from cloudconv.errors import OutputError
from cloudconv.jobs.outcome import Outcome
from cloudconv.settings import InterpSettings
from cloudconv.training.fine_tune import Adapted

__all__ = ["InterpPlan", "InterpResult", "InterpSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpOutcome(Outcome):
    """What a plan and a result both say.

    ``cuts``: the time of each new scene's first frame, in seconds from the input's first frame.
    """

    model: str
    held_frames: int
    cuts: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpPlan(InterpOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` were measured on a few frames.

    They are None where the run would end before its first frame. ``memory_bytes``: of the whole
    process in the host's memory; 0 where the system does not tell.
    ``disk_bytes``: about what it takes on the disk, by the input's size; until its segments are
    joined, a video is there twice. ``refusals``: why the run would refuse to write the output.
    ``adapt``: minutes that the model would be adapted for first, None for not at all.
    """

    pix_fmt: str
    memory_bytes: int | None
    disk_bytes: int
    seconds: float | None
    refusals: list[OutputError]
    adapt: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpResult(InterpOutcome):
    """What was done. ``frames_per_second`` leaves out the frames that an earlier run had made."""

    wall_seconds: float
    frames_per_second: float
    resumed: bool
    adapted: Adapted | None = None
