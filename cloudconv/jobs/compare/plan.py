"""Plan a comparison: its methods, its metrics, and the workers that compute them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from cloudconv.errors import OutputError, SettingsError
from cloudconv.events import Warned
from cloudconv.jobs.adapt import Adapted, check_adapting
from cloudconv.jobs.outcome import as_json
from cloudconv.jobs.output import check_outputs
from cloudconv.media.info import MediaInfo
from cloudconv.media.output import collect_refusals
from cloudconv.media.probe import probe
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.render.device import auto_warnings, choose_device, choose_precision, precision_name
from cloudconv.report.folder import check_folder
from cloudconv.settings import CompareSettings, exact
from cloudconv.settings.compare import DEFAULT_METRICS, FAULT
from cloudconv.settings.extend import DEFAULT_PREDICTOR
from cloudconv.settings.values import names

MINTERPOLATE = "minterpolate"
"""The method that uses FFmpeg's filter of this name instead of a model."""

ADAPTED = "adapted"
"""The name of the method that is the first model, adapted to the clip."""

PAGE, VIDEO, RESULT = PAGES = ("index.html", "side_by_side.mp4", "result.json")
"""The files of a report."""

HOLD, BLEND = "hold", "blend"
_FORECASTS = (HOLD, "linear", "flow", "layers")


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
    """The expected outcome and cost; numbers of frames are approximate."""

    methods: list[str]
    source_frames: int
    seconds: float
    refusals: list[OutputError]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareResult(CompareOutcome):
    """The result of a comparison.

    ``methods`` maps each name to its mean scores, or for forecasts to the scores of each horizon.
    ``loses_to_blend`` and ``loses_to_hold`` are the numbers of the frames on which the first
    model's PSNR is below that method's. ``skipped_frames`` counts repeats, and frames left out
    because of a cut. ``filmed`` has the texture of the dropped source frames in dB: where light
    changes, even these differ from 0.
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


@dataclass(frozen=True)
class ComparePlan:
    """The decisions before the first frame; ``refusals`` are reasons to refuse to write.

    The verdict compares the first of ``methods`` with ``baseline``: the first other method of
    ``against``, otherwise ``naive``, the method that every model should beat.
    """

    settings: CompareSettings
    info: MediaInfo
    device: torch.device
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    naive: str
    baseline: str
    drop: int
    warnings: tuple[Warned, ...]
    refusals: tuple[OutputError, ...]

    @property
    def forecasts(self) -> bool:
        """Return whether the models are predictors."""
        return self.settings.horizon is not None

    @property
    def judged(self) -> str:
        """Return the name of the first model."""
        return self.methods[0]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the fields that an estimate and a result share, except counts and warnings."""
        models = (name for name in self.methods if name != MINTERPOLATE)
        spec = registry.spec(next(models, BLEND), "predict" if self.forecasts else "interpolate")
        dtype = choose_precision(self.settings.precision, self.device, spec)
        return {
            "input": str(self.settings.input),
            "drop": None if self.forecasts else self.drop,
            "horizon": self.settings.horizon,
            "device": str(self.device),
            "precision": precision_name(dtype),
        }


def decide(settings: CompareSettings) -> ComparePlan:
    """Probe the input, and decide everything that does not need its frames."""
    forecasts, methods = settings.horizon is not None, methods_of(settings)
    models = [name for name in methods if name not in (MINTERPOLATE, ADAPTED)]
    specs = [registry.spec(name, "predict" if forecasts else "interpolate") for name in models]
    if settings.scale not in (None, 1.0) and not any(spec.cls.scale_option for spec in specs):
        raise SettingsError(
            f"scale-for-none: None of the models {', '.join(models)} has --scale: leave it at 1."
        )
    drop = settings.drop or 2
    for spec in () if forecasts else specs:
        registry.check_times(spec, Fraction(drop))
    device = choose_device(settings.device)
    info = probe(settings.input, exact(settings.input_fps), deinterlace=settings.deinterlace)
    refusals: list[OutputError] = []
    report = None if settings.report is None else Path(settings.report)
    pages = [] if report is None else [report / name for name in PAGES]
    with collect_refusals(refusals):
        check_outputs(settings, pages, [info.path])
    with collect_refusals(refusals):
        check_adapting(settings, methods[0])
    if report is not None:
        with collect_refusals(refusals):
            check_folder(report, PAGES, overwrite=settings.overwrite)
    metrics, naive = names(settings.metrics), HOLD if forecasts else BLEND
    others = (*names(settings.against or ()), naive, *methods)
    return ComparePlan(
        settings,
        info,
        device,
        methods,
        (*metrics, FAULT) if forecasts and metrics == DEFAULT_METRICS else metrics,
        naive,
        next((name for name in others if name != methods[0]), methods[0]),
        drop,
        (*info.warnings, *auto_warnings(settings.device)),
        tuple(refusals),
    )


def methods_of(settings: CompareSettings) -> tuple[str, ...]:
    """Return the names of all methods, the first model first."""
    against = names(settings.against or ())
    if settings.horizon is not None:
        models = settings.models or (DEFAULT_PREDICTOR,)
        return tuple(dict.fromkeys((*models, *(against or _FORECASTS), HOLD)))
    models = settings.models or (registry.DEFAULT,)
    adapted = () if settings.adapt is None else (ADAPTED,)
    return tuple(dict.fromkeys((*models, *adapted, *against, BLEND)))
