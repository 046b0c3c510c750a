"""Define the outcome of a dream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudconv.jobs.extend.plan import ExtendOutcome
from cloudconv.jobs.outcome import Done, Estimate


@dataclass(frozen=True, kw_only=True)
class DreamOutcome(ExtendOutcome):
    """The facts that an estimate and a result share; the fields are keys of the command's JSON.

    ``why`` is the reason for the mode. ``model`` is the predictor, None in a mode without one.
    ``material_frames`` is the number of frames that the dream is made of. ``cut`` is the time of
    the cut before them, in seconds from the first frame, or None.
    """

    mode: str
    why: str
    model: str | None
    seed: int
    loop: bool
    material_frames: int
    cut: float | None


@dataclass(frozen=True, kw_only=True)
class DreamEstimate(Estimate, DreamOutcome):
    """The expected outcome and cost of a run."""


@dataclass(frozen=True, kw_only=True)
class DreamResult(Done, DreamOutcome):
    """The result of a run.

    ``vitals`` has a row for every 100 frames. ``limits`` are the lowest and highest healthy value
    of each vital, None for no limit. ``alive`` states whether all rows are within the limits.
    ``report`` is the folder of the report, None without a report.
    """

    vitals: list[dict[str, Any]]
    limits: dict[str, tuple[float | None, float | None]]
    alive: bool
    report: str | None

    @property
    def verdict(self) -> str:
        """Return a clause about the new frames, for a headline."""
        alive = sum(row["alive"] for row in self.vitals)
        windows = f"{len(self.vitals)} windows of {min(100, self.new_frames)} frames"
        return f"like the clip in {alive} of {windows}"
