"""What can be asked of ``compare``, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from cloudconv.errors import SettingsError
from cloudconv.events import Warned
from cloudconv.jobs.compare.scores import DEFAULT_METRICS, SEQUENCE_METRICS, check_metrics
from cloudconv.jobs.interp.adapt import Adapted, check_settings
from cloudconv.models import registry
from cloudconv.models.base import Task
from cloudconv.models.baselines import BLEND, LAST, LINEAR
from cloudconv.schedule.frames import SceneCut
from cloudconv.workers.pool import parse_workers

MINTERPOLATE = "minterpolate"
"""FFmpeg's own motion compensation: a method, but not a model."""

ADAPTED = "adapted"
"""The first model, adapted to the clip."""

MOST_DROP, MOST_HORIZON = 64, 1000

OnProgress = Callable[[int, int], None]
"""Gets (frames read, frames in all)."""

_FORECASTS = (LAST.name, LINEAR.name, "flow")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """What to compare. The verdict is about the first model.

    With ``drop`` (the default, 2) one frame of every N is kept and interpolators, or
    ``minterpolate``, make the others again. With ``horizon`` H predictors forecast H frames from
    every ``every``-th frame (default 6) on. ``models`` and ``against`` default to the best that
    there are and to the naive methods; the first of ``against`` is what the verdict holds the model
    against. ``start``, ``end``: compare on this part only, in seconds from the first frame, the end
    exclusive. ``frames``: score at most so many, spread evenly.
    ``input_fps``: the rate of pictures that keep no times (default 25). ``workers``: who works,
    as for interp; the scores are the same. ``adapt``: minutes for fine-tuning the first model on
    this clip, which is then a method of its own, ``adapted``, with what was held back as the only
    frames that are scored; ``save_model``: where its weights are kept. ``adapted`` and
    ``adapted_weights`` are what came of it, for the job itself.

    Raises :class:`SettingsError` on values out of range.
    """

    input: Path | str
    drop: int | None = None
    horizon: int | None = None
    every: int | None = None
    models: tuple[str, ...] = ()
    against: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = DEFAULT_METRICS
    scene_cut: SceneCut = "auto"
    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    input_fps: Fraction | None = None
    report: Path | str | None = None
    overwrite: bool = False
    scale: float = 1.0
    fallback: Literal["blend", "off"] = "blend"
    batch: int | Literal["auto"] = "auto"
    tile: int | Literal["auto", "off"] = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    workers: str = "local"
    adapt: float | None = None
    save_model: Path | str | None = None
    adapted: Adapted | None = None
    adapted_weights: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.adapt, self.save_model)
        parse_workers(self.workers, self.device)
        _within("drop", self.drop, 2, MOST_DROP)
        _within("horizon", self.horizon, 1, MOST_HORIZON)
        _within("every", self.every, 1, 1_000_000)
        _within("frames", self.frames, 1, None)
        check_metrics(self.metrics)
        if self.start is not None and self.start < 0:
            raise SettingsError(f"`start` must not be negative, got {float(self.start):g}")
        if self.end is not None and self.end <= (self.start or 0):
            raise SettingsError(f"`end` ({float(self.end):g} s) must come after `start`")
        if self.horizon is None:
            if self.every is not None:
                raise SettingsError("`every` says where forecasts begin: give a `horizon` with it")
            self._check_scale()
            return
        if self.drop is not None:
            raise SettingsError(
                "`drop` is about frames between others and `horizon` about those that follow: give "
                "one"
            )
        asked = self.scale, self.batch, self.tile, self.fallback, self.adapt
        if asked != (1.0, "auto", "auto", "blend", None):
            raise SettingsError(
                "`scale`, `batch`, `tile`, `fallback` and `adapt` are for interpolation: leave "
                "them out here"
            )
        if self.frames is not None and self.frames < self.horizon:
            raise SettingsError(
                f"`frames` is {self.frames}, less than one forecast over a horizon of "
                f"{self.horizon}"
            )
        for name in self.metrics:
            if name in SEQUENCE_METRICS:
                raise SettingsError(
                    f"{name} needs every frame in order, which forecasts don't give: leave it out"
                )

    def _check_scale(self) -> None:
        names = [name for name in self.methods if name not in (MINTERPOLATE, ADAPTED)]
        specs = [registry.spec(name, "interpolate") for name in names]
        if self.scale != 1 and not any(spec.scale_option for spec in specs):
            raise SettingsError(f"none of {', '.join(names)} takes a `scale`: leave it at 1")

    @property
    def kept(self) -> int:
        """One frame of every so many is kept."""
        return self.drop or 2

    @property
    def step(self) -> int:
        """A forecast begins at every so many frames."""
        return self.every or 6

    @property
    def task(self) -> Task:
        """What the models are asked to do."""
        return "interpolate" if self.horizon is None else "predict"

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method once, the model first."""
        if self.horizon is not None:
            models, against = self.models or (_predictor(),), self.against or _FORECASTS
            return tuple(dict.fromkeys((*models, *against, LAST.name)))
        models = self.models or (registry.DEFAULT,)
        own = () if self.adapt is None else (ADAPTED,)
        return tuple(dict.fromkeys((*models, *own, *(self.against or ()), BLEND.name)))

    def model_of(self, method: str) -> str:
        """The model, or the file of weights, that makes a method's frames."""
        if method == ADAPTED and self.adapted_weights is not None:
            return self.adapted_weights
        return method

    @property
    def model(self) -> str:
        """The method that the verdict is about."""
        return self.methods[0]

    @property
    def naive(self) -> str:
        """The method that every other should beat: ``blend``, for forecasts ``hold``."""
        return BLEND.name if self.horizon is None else LAST.name

    @property
    def baseline(self) -> str:
        """What the verdict holds the model against: what was asked for first, or the naive one."""
        others = (*(self.against or ()), self.naive, *self.methods)
        return next((name for name in others if name != self.model), self.model)


def _within(name: str, value: int | None, least: int, most: int | None) -> None:
    if value is not None and not (least <= value and (most is None or value <= most)):
        accepted = f"{least} or more" if most is None else f"from {least} to {most}"
        raise SettingsError(f"`{name}` must be {accepted}, got {value}")


def _predictor() -> str:
    """The predictor that is used when none is named: one that learned, if there is one."""
    specs = [spec for spec in registry.specs() if spec.task == "predict" and not spec.hidden]
    learned = [spec.name for spec in specs if spec.weights]
    clever = [spec.name for spec in specs if spec.name not in (LAST.name, LINEAR.name)]
    return (*learned, *clever, LINEAR.name)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareResult:
    """What came of a comparison.

    ``methods`` maps a name to its mean scores, or for forecasts to those of each horizon.
    ``loses`` are the numbers of the frames on which the first model's PSNR is below the naive
    method's. ``skipped_frames`` were left out because of a cut, or as repeats of the one before.
    ``adapted``: None without adapting. ``filmed``: the texture that the true frames have, which is
    not 0 where, say, the light changes; empty for forecasts.
    """

    input: str
    drop: int | None
    horizon: int | None
    device: str
    precision: str
    scored_frames: int
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
    warnings: list[Warned]

    @property
    def loses_to_blend(self) -> list[int]:
        """``loses`` of ``drop``; a key of its JSON."""
        return self.loses if self.horizon is None else []

    @property
    def loses_to_hold(self) -> list[int]:
        """``loses`` of ``horizon``; a key of its JSON."""
        return [] if self.horizon is None else self.loses

    def as_json(self) -> dict[str, Any]:
        """The command's JSON: ``drop`` or ``horizon``, ``loses_to_blend`` or ``loses_to_hold``."""
        result = {field.name: getattr(self, field.name) for field in fields(self)}
        del result["drop" if self.drop is None else "horizon"]
        naive = BLEND.name if self.horizon is None else LAST.name
        result["warnings"] = [str(warned) for warned in self.warnings]
        result["adapted"] = None if self.adapted is None else asdict(self.adapted)
        result[f"loses_to_{naive}"] = result.pop("loses")
        return result
