"""Define the outcome of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.jobs.adapt import Adapted
from cloudconv.jobs.outcome import as_json
from cloudconv.messages import counted

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
    ``loses_to_blend`` (with ``horizon``: ``loses_to_hold``) are the numbers of the frames on which
    the first model's PSNR is below that method's. ``skipped_frames`` counts frames left out because
    of a cut, and repeats of the frame before. ``adapted`` is None without adapting. ``filmed`` has
    the mean of each texture metric for the dropped source frames. Texture is the amount of fine
    detail relative to the two kept frames beside the frame, in dB; 0 is equal. Even source frames
    differ from 0 where, for example, the light changes. ``filmed`` is empty for forecasts.
    ``report_video`` has the encoder, the size and the mean bit rate of the report's video.
    """

    skipped_frames: int
    cuts: list[float]
    adapted: Adapted | None = None
    report_video: dict[str, Any] | None = None
    methods: dict[str, dict[str, Any]]
    filmed: dict[str, float | None]
    per_frame: list[dict[str, Any]]
    baseline: str
    loses_to_blend: list[int] = field(default_factory=list)
    loses_to_hold: list[int] = field(default_factory=list)
    verdict: str
    wall_seconds: float

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

    def as_json(self) -> dict[str, Any]:
        """Return the command's JSON, with the keys of either ``drop`` or ``horizon``."""
        drop, ahead = ("drop", "loses_to_blend"), ("horizon", "loses_to_hold")
        other = ahead if self.horizon is None else drop
        return {key: value for key, value in as_json(self).items() if key not in other}
