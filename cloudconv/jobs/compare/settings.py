"""What a comparison means for this machine's models, and what it answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from cloudconv.errors import SettingsError
from cloudconv.events import Warned
from cloudconv.models import registry
from cloudconv.models.base import Task
from cloudconv.models.baselines import BLEND, LAST, LINEAR
from cloudconv.settings import CompareSettings
from cloudconv.settings.values import names
from cloudconv.training.fine_tune import Adapted

MINTERPOLATE = "minterpolate"
"""FFmpeg's own motion compensation: a method, but not a model."""

ADAPTED = "adapted"
"""The first model, adapted to the clip."""


_FORECASTS = (LAST.name, LINEAR.name, "flow")


@dataclass(frozen=True, kw_only=True)
class CompareJob(CompareSettings):
    """The settings, and what they mean for this machine's models.

    ``adapted`` and ``adapted_weights`` are what came of adapting the first model.
    """

    adapted: Adapted | None = None
    adapted_weights: str | None = None

    @classmethod
    def of(cls, settings: CompareSettings) -> CompareJob:
        """Return the comparison that the settings ask for.

        Raises:
            SettingsError: no method takes the scale that is asked for.
        """
        made = cls(**{each.name: getattr(settings, each.name) for each in fields(settings)})
        if made.horizon is None:
            made._check_scale()
        return made

    def _check_scale(self) -> None:
        models = [name for name in self.methods if name not in (MINTERPOLATE, ADAPTED)]
        specs = [registry.spec(name, "interpolate") for name in models]
        if self.scale not in (None, 1.0) and not any(spec.scale_option for spec in specs):
            raise SettingsError("scale-for-none", models=models)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the scores."""
        return names(self.metrics)

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
            models = names(self.model) or (_predictor(),)
            against = self._against or _FORECASTS
            return tuple(dict.fromkeys((*models, *against, LAST.name)))
        models = names(self.model) or (registry.DEFAULT,)
        own = () if self.adapt is None else (ADAPTED,)
        return tuple(dict.fromkeys((*models, *own, *self._against, BLEND.name)))

    def model_of(self, method: str) -> str:
        """The model, or the file of weights, that makes a method's frames."""
        if method == ADAPTED and self.adapted_weights is not None:
            return self.adapted_weights
        return method

    @property
    def _against(self) -> tuple[str, ...]:
        return names(self.against or ())

    @property
    def judged(self) -> str:
        """The method that the verdict is about."""
        return self.methods[0]

    @property
    def naive(self) -> str:
        """The method that every other should beat: ``blend``, for forecasts ``hold``."""
        return BLEND.name if self.horizon is None else LAST.name

    @property
    def baseline(self) -> str:
        """What the verdict holds the model against: what was asked for first, or the naive one."""
        others = (*self._against, self.naive, *self.methods)
        return next((name for name in others if name != self.judged), self.judged)


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
