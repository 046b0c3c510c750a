"""Declare the options of ``compare``."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from cloudconv.errors import SettingsError
from cloudconv.messages import did_you_mean
from cloudconv.settings import groups, values
from cloudconv.settings.groups import (
    Cuts,
    Input,
    InputPart,
    Machine,
    Overwrite,
    Reading,
    Rendering,
)
from cloudconv.settings.option import option
from cloudconv.settings.values import File, Files

SEQUENCE_METRICS = ("vmaf",)
"""Metrics that need every frame in order."""

FAULT = "fault"
"""The metric that ``extrapolate`` chooses by; computed by default for forecasts only."""

METRICS = (
    *("psnr", "ssim", "l2", "gdl", "sharpness", "texture"),
    *(FAULT, "flicker", *SEQUENCE_METRICS),
)
_SLOW = (FAULT, *SEQUENCE_METRICS)
DEFAULT_METRICS = tuple(name for name in METRICS if name not in _SLOW)

_WITH_OPTIONS = re.compile(r"(.+?)((?::\w+=[^:=]*)+)")


def _metrics(value: Files) -> tuple[str, ...]:
    named = values.names(value)
    for name in named or ("",):
        if name not in METRICS:
            raise SettingsError(
                f"unknown-metric: There is no metric called {name!r}"
                f"{did_you_mean(name, METRICS)}: choose from "
                f"{', '.join(METRICS)}."
            )
    return named


_methods = partial(option, parse=values.names)


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Overwrite, Reading, InputPart, Cuts, Input, Rendering, Machine):
    """The options of :func:`cloudconv.compare`. The verdict is about the first model.

    With ``drop`` one frame of every N is kept, and interpolators make the others again.
    With ``horizon`` predictors forecast that many frames.
    """

    drop: int | None = option(
        "Keep one frame of every N and make the others again.",
        "N",
        least=2,
        most=64,
        shown="2",
    )
    horizon: int | None = option(
        "Forecast H frames ahead, instead of --drop.", "H", least=1, most=1000
    )
    model: Files = _methods(
        """Score a model from 'cloudconv models', or a file of weights of this or
        another program, if wished with a scale of its own: cloud-best:scale=0.5; may be
        repeated.""",
        "NAME",
        default=(),
        shown=groups.DEFAULT_MODEL,
        repeats=True,
    )
    against: Files | None = _methods(
        """Compare with these: names from 'cloudconv models', or your own files; the last
        line of the result compares with the first one.""",
        "NAME,…",
        shown="blend; for forecasts hold,linear,flow,layers",
    )
    metrics: Files = option(
        f"Compute these scores: {', '.join(METRICS)}.",
        "NAME,…",
        default=DEFAULT_METRICS,
        parse=_metrics,
        shown="all but the slow ones",
    )
    frames: int | None = option("Score at most N frames, spread evenly.", "N", least=1)
    report: File | None = option(
        "Write a page with a chart and pictures, a side-by-side video, and the scores.",
        "DIR",
    )

    @property
    def models_task(self) -> Any:
        """Return the task of all models."""
        return "interpolate" if self.horizon is None else "predict"

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names and files of the given models."""
        return values.names(self.model)

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return the models that the values name: names, or files of weights."""
        methods = *self.models, *values.names(self.against or ())
        return tuple(self.of_method(method)[0] for method in methods)

    def of_method(self, method: str) -> tuple[str, Self]:
        """Return the model of a method, and the settings with the method's own options.

        ``cloud-best:scale=0.5`` is ``cloud-best`` with the option ``scale``. Raises
        SettingsError if a method cannot have the option or its value.
        """
        match = _WITH_OPTIONS.fullmatch(method)
        if match is None:
            return method, self
        own = dict(part.split("=") for part in match[2][1:].split(":"))
        if own.keys() != {"scale"}:
            raise SettingsError(
                f"option-of-no-method: A method can have scale of its own, got {method}."
            )
        return match[1], self.changed(**own)

    def _check(self) -> None:
        if self.overwrite and self.report is None:
            raise SettingsError(
                "nothing-to-overwrite: --overwrite replaces the files of --report: give "
                "--report too, or leave --overwrite out."
            )
        if (horizon := self.horizon) is None:
            return
        if (self.drop, self.scale, self.timesteps) != (None, None, None):
            raise SettingsError(
                "not-for-forecasts: --drop, --scale and --timesteps are for interpolation: "
                "leave them out with --horizon."
            )
        if self.frames is not None and self.frames < horizon:
            raise SettingsError(
                f"frames-below-horizon: --frames is {self.frames}, less than one forecast "
                f"over a horizon of {horizon}: give more --frames, or a smaller --horizon."
            )
        for name in values.names(self.metrics):
            if name in SEQUENCE_METRICS:
                raise SettingsError(
                    f"metric-not-for-forecasts: {name} needs every frame in order, which "
                    "forecasts do not give: leave it out."
                )
