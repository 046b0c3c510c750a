"""Define the outcome of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.jobs.outcome import as_json
from cloudconv.messages import OptionFormat, counted, keyword
from cloudconv.models.baselines import BLEND, LAST
from cloudconv.training.fine_tune import Adapted

MINTERPOLATE = "minterpolate"
"""The method that uses FFmpeg's filter of this name instead of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOutcome:
    """The facts that an estimate and a result share."""

    input: str
    drop: int | None
    horizon: int | None
    device: str
    precision: str
    scored_frames: int
    warnings: list[Warned]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareEstimate(CompareOutcome):
    """The expected outcome and cost of a comparison.

    ``methods`` are in the order of the scores. ``source_frames`` and ``scored_frames`` are
    approximate. ``seconds`` is the time for scoring and adapting. ``refusals`` are the reasons for
    which the run would refuse to write.
    """

    methods: list[str]
    source_frames: int
    seconds: float
    refusals: list[OutputError]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareResult(CompareOutcome):
    """The result of a comparison.

    ``methods`` maps each name to its mean scores, or for forecasts to the scores of each horizon.
    ``loses`` are the numbers of the frames on which the first model's PSNR is below the naive
    method's. ``skipped_frames`` counts frames left out because of a cut, and repeats of the frame
    before. ``adapted`` is None without adapting. ``filmed`` has the mean of each texture metric for
    the dropped source frames. Texture is the amount of fine detail relative to the two kept frames
    beside the frame, in dB; 0 is equal. Even source frames differ from 0 where, for example, the
    light changes. ``filmed`` is empty for forecasts.
    """

    skipped_frames: int
    cuts: list[float]
    adapted: Adapted | None = None
    methods: dict[str, dict[str, Any]]
    filmed: dict[str, float | None]
    per_frame: list[dict[str, Any]]
    baseline: str
    loses: list[int]
    verdict: str
    wall_seconds: float

    @property
    def loses_to_blend(self) -> list[int]:
        """Return ``loses`` with ``drop``, otherwise an empty list; also a key of the JSON."""
        return self.loses if self.horizon is None else []

    @property
    def loses_to_hold(self) -> list[int]:
        """Return ``loses`` with ``horizon``, otherwise an empty list; also a key of the JSON."""
        return [] if self.horizon is None else self.loses

    @property
    def summary(self) -> str:
        """Return the numbers of frames, the device, and the texture of the dropped frames."""
        left = f", {self.skipped_frames} left out (cuts, repeats)" if self.skipped_frames else ""
        filmed = self.filmed.get("texture")
        where = f"{self.device}, {self.precision}"
        scored = f"{counted(self.scored_frames, 'frame')} scored{left} ({where})"
        if filmed is None:
            return scored
        return f"{scored}; the texture of the dropped frames is {filmed:+.2f} dB"

    def as_json(self, option: OptionFormat = keyword) -> dict[str, Any]:
        """Return the command's JSON, with the keys of either ``drop`` or ``horizon``.

        ``option`` formats the options in the warnings.
        """
        result = as_json(self, option)
        del result["drop" if self.drop is None else "horizon"]
        naive = BLEND.name if self.horizon is None else LAST.name
        result[f"loses_to_{naive}"] = result.pop("loses")
        return result
