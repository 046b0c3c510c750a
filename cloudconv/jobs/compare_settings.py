"""What can be asked of ``compare``, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cloudconv.engine.device import choose_device, choose_precision, precision_name
from cloudconv.errors import SettingsError
from cloudconv.jobs.schedule import SceneCut
from cloudconv.jobs.scoring import DEFAULT_METRICS, SEQUENCE_METRICS, check_metrics
from cloudconv.jobs.sharing import crew_of
from cloudconv.models import registry
from cloudconv.models.base import Task
from cloudconv.models.baselines import BLEND, LAST, LINEAR

MINTERPOLATE = "minterpolate"
"""FFmpeg's own motion compensation: a method, but not a model."""

MOST_DROP, MOST_HORIZON = 64, 1000

_FORECASTS = (LAST.name, LINEAR.name, "flow")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """What to compare. The verdict is about the first model.

    With ``drop`` (the default, 2) one frame of every N is kept and interpolators, or
    ``minterpolate``, make the others again. With ``horizon`` H predictors forecast H frames from
    every ``every``-th frame (default 6) on. ``models`` and ``against`` default to the best that
    there are and to the naive methods. ``frames``: score at most so many, spread evenly.
    ``workers``: who works, as for interp; the scores are the same.

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
    frames: int | None = None
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

    def __post_init__(self) -> None:
        crew_of(self.workers, self.device)
        _within("drop", self.drop, 2, MOST_DROP)
        _within("horizon", self.horizon, 1, MOST_HORIZON)
        _within("every", self.every, 1, 1_000_000)
        _within("frames", self.frames, 1, None)
        check_metrics(self.metrics)
        if self.horizon is None:
            if self.every is not None:
                raise SettingsError("every says where forecasts begin: give a horizon with it")
            self._check_scale()
            return
        if self.drop is not None:
            raise SettingsError(
                "drop is about frames between others and horizon about those that follow: give one"
            )
        asked = self.scale, self.batch, self.tile, self.fallback
        if asked != (1.0, "auto", "auto", "blend"):
            raise SettingsError(
                "scale, batch, tile and fallback are for interpolation: leave them out here"
            )
        if self.frames is not None and self.frames < self.horizon:
            raise SettingsError(
                f"frames is {self.frames}, less than one forecast over a horizon of {self.horizon}"
            )
        for name in self.metrics:
            if name in SEQUENCE_METRICS:
                raise SettingsError(
                    f"{name} needs every frame in order, which forecasts don't give: leave it out"
                )

    def _check_scale(self) -> None:
        names = [name for name in self.methods if name != MINTERPOLATE]
        specs = [registry.spec(name, "interpolate") for name in names]
        if self.scale != 1 and not any(spec.scale_option for spec in specs):
            raise SettingsError(f"none of {', '.join(names)} takes a scale: leave it at 1")

    @property
    def kept(self) -> int:
        """One frame of every so many is kept."""
        return self.drop or 2

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method once, the model first."""
        if self.horizon is not None:
            known = {s.name for s in registry.specs() if s.task == "predict"}
            against = self.against or tuple(name for name in _FORECASTS if name in known)
            return tuple(dict.fromkeys((*(self.models or (_predictor(),)), *against, LAST.name)))
        models = self.models or (registry.DEFAULT,)
        return tuple(dict.fromkeys((*models, *(self.against or ()), BLEND.name)))

    @property
    def model(self) -> str:
        """The method that the verdict is about."""
        return self.methods[0]

    @property
    def baseline(self) -> str:
        """What the model has to beat: ``blend``, for forecasts ``hold``, or else another method."""
        naive = BLEND.name if self.horizon is None else LAST.name
        others = [name for name in self.methods if name != self.model]
        return naive if self.model != naive or not others else others[0]


def ran_on(settings: CompareSettings, method: str, task: Task) -> tuple[str, str]:
    """The device and the precision of a method, in words.

    Raises :class:`~cloudconv.errors.DeviceError` where there is no such device.
    """
    device = choose_device(settings.device.removesuffix(":all"))
    spec = registry.spec(method, task)
    precision = precision_name(choose_precision(settings.precision, device, spec))
    return settings.device if settings.device == "cuda:all" else str(device), precision


def _within(name: str, value: int | None, least: int, most: int | None) -> None:
    if value is not None and not (least <= value and (most is None or value <= most)):
        accepted = f"{least} or more" if most is None else f"from {least} to {most}"
        raise SettingsError(f"{name} must be {accepted}, got {value}")


def _predictor() -> str:
    """The predictor that is used when none is named: one that learned, if there is one."""
    found = [spec for spec in registry.specs() if spec.task == "predict" and not spec.hidden]
    learned = [spec.name for spec in found if spec.weights]
    clever = [spec.name for spec in found if spec.name not in (LAST.name, LINEAR.name)]
    return (*learned, *clever, LINEAR.name)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareResult:
    """What was found out.

    ``methods`` maps a name to its mean scores, or for forecasts to those of each horizon.
    ``loses`` are the numbers of the frames on which the first model's PSNR is below the baseline's.
    ``skipped_frames`` were left out because of a cut.
    """

    input: str
    drop: int | None
    horizon: int | None
    device: str
    precision: str
    scored_frames: int
    skipped_frames: int
    cuts: list[float]
    methods: dict[str, dict[str, Any]]
    per_frame: list[dict[str, Any]]
    baseline: str
    loses: list[int]
    verdict: str
    wall_seconds: float
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        """The command's JSON: ``drop`` or ``horizon``, ``loses_to_blend`` or ``loses_to_hold``."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        del found["drop" if self.drop is None else "horizon"]
        naive = BLEND.name if self.horizon is None else LAST.name
        loses = found.pop("loses")
        found[f"loses_to_{naive}"] = loses if self.baseline == naive else []
        return found


Watch = Callable[[int, int], None]
"""Gets (frames read, frames in all)."""
