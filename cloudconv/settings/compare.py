"""What can be asked of ``compare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cloudconv.settings import values
from cloudconv.settings.groups import (
    FRAMES,
    QUALITIES,
    Cuts,
    InputRate,
    Machine,
    Overwrite,
    Part,
    Rendering,
    SavedModel,
    Workers,
)
from cloudconv.settings.option import Option, refused
from cloudconv.settings.values import File, Files

SEQUENCE_METRICS = ("xpsnr", "vmaf")
"""Metrics that must see every frame in order; FFmpeg's filters."""

TEXTURE_METRICS = ("texture", "texture2")
METRICS = (
    *("psnr", "ssim", "ms_ssim", "l1", "l2", "gdl", "sharpness"),
    *(*TEXTURE_METRICS, "flicker", *SEQUENCE_METRICS),
)
DEFAULT_METRICS = tuple(name for name in METRICS if name not in ("ms_ssim", *SEQUENCE_METRICS))

MOST_DROP, MOST_HORIZON = 64, 1000


def _metrics(value: Files) -> tuple[str, ...]:
    named = values.names(value)
    if not named:
        raise refused(f"Name at least one metric of {', '.join(METRICS)}.")
    for name in named:
        if name not in METRICS:
            raise refused(f"There is no metric called {name!r}: choose from {', '.join(METRICS)}.")
    return named


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Overwrite, InputRate, Part, Cuts, SavedModel, Rendering, Workers, Machine):
    """What to compare. The verdict is about the first model.

    With ``drop`` one frame of every N is kept, and interpolators make the others again. With
    ``horizon`` predictors forecast so many frames, from every ``every``-th frame on.

    Raises :class:`~cloudconv.errors.SettingsError` on values that cannot be.
    """

    drop: Annotated[
        int | None,
        Option(
            "Keep one frame of every N and make the others again.",
            metavar="N",
            least=2,
            most=MOST_DROP,
            default_text="2",
        ),
    ] = None
    horizon: Annotated[
        int | None,
        Option(
            "Instead of --drop: forecast H frames ahead.",
            metavar="H",
            least=1,
            most=MOST_HORIZON,
        ),
    ] = None
    model: Annotated[
        Files,
        Option(
            "A name from 'cloudconv models' or a file of weights; may be repeated.",
            metavar="NAME",
            parse=values.names,
            default_text="the best that ships",
            repeats=True,
            complete="methods",
        ),
    ] = ()
    against: Annotated[
        Files | None,
        Option(
            "What to compare with: names from 'cloudconv models', files of your own, "
            "minterpolate; the verdict is about the first.",
            metavar="NAME,…",
            parse=values.names,
            default_text="blend; for forecasts hold,linear",
            complete="methods",
        ),
    ] = None
    metrics: Annotated[
        Files,
        Option(
            f"{', '.join(METRICS)}.",
            metavar="NAME,…",
            parse=_metrics,
            default_text="all but the slow ones",
        ),
    ] = DEFAULT_METRICS
    frames: Annotated[
        int | None,
        Option(
            "Score at most so many frames, spread evenly.",
            metavar="N",
            least=1,
            most=1_000_000_000,
        ),
    ] = None
    report: Annotated[
        File | None,
        Option(
            "Leave a page with charts and pictures, a video side by side, and the figures.",
            metavar="DIR",
        ),
    ] = None
    every: Annotated[
        int | None,
        Option(
            "With --horizon: begin a forecast at every K-th frame.",
            group=FRAMES,
            metavar="K",
            least=1,
            most=1_000_000,
            default_text="6",
        ),
    ] = None

    def _check(self) -> None:
        if self.quality is not None and self.model:
            raise refused("`quality` chooses a model, and so does `model`: give one.")
        if self.quality is not None:
            self._set("model", (QUALITIES[self.quality],))
            self._set("quality", None)
        self._resolve_scale()
        self._check_part()
        self._check_workers()
        self._check_save_model()
        if self.overwrite and self.report is None and self.save_model is None:
            raise refused("`overwrite` is about the report: give `report` with it.")
        if self.horizon is not None:
            self._check_forecasts(self.horizon)
        elif self.every is not None:
            raise refused("`every` says where forecasts begin: give a `horizon` with it.")

    def _check_forecasts(self, horizon: int) -> None:
        if self.drop is not None:
            raise refused(
                "`drop` is about frames between others and `horizon` about those that follow: "
                "give one."
            )
        if (self.scale, self.batch, self.tile, self.fallback, self.adapt) != (
            *(1.0, "auto", "auto", "blend", None),
        ):
            raise refused(
                "`scale`, `batch`, `tile`, `fallback` and `adapt` are for interpolation: leave "
                "them out here."
            )
        if self.frames is not None and self.frames < horizon:
            raise refused(
                f"`frames` is {self.frames}, less than one forecast over a horizon of {horizon}."
            )
        for name in values.names(self.metrics):
            if name in SEQUENCE_METRICS:
                raise refused(
                    f"{name} needs every frame in order, which forecasts don't give: leave it out."
                )
