"""Raise a video's frame rate, exactly: the Python side of the ``cloudconv`` command.

>>> import cloudconv
>>> result = cloudconv.interpolate("in.mp4", factor=4)  # doctest: +SKIP
>>> result.output_frames  # doctest: +SKIP
1000

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudconv import errors
from cloudconv.errors import CloudconvError

if TYPE_CHECKING:
    from cloudconv.jobs.compare_settings import CompareResult
    from cloudconv.jobs.continuing import Progress as ExtrapolateProgress
    from cloudconv.jobs.dream import DreamResult
    from cloudconv.jobs.dream import Progress as DreamProgress
    from cloudconv.jobs.extrapolate import ExtrapolateResult
    from cloudconv.jobs.interp import InterpResult, Progress
    from cloudconv.models.base import Model, ModelSpec

__version__ = version("cloudconv")
__all__ = [
    "CloudconvError",
    "compare",
    "dream",
    "errors",
    "extrapolate",
    "interpolate",
    "list_models",
    "load_model",
]


def interpolate(
    input: Path | str,
    output: Path | str | None = None,
    *,
    factor: Fraction | float | str | None = None,
    fps: Fraction | float | str | None = None,
    slowmo: Fraction | float | str | None = None,
    start: Fraction | float | str | None = None,
    end: Fraction | float | str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> InterpResult:
    """Interpolate ``input`` into ``output`` (default: beside it) and say what was done.

    Exactly one of ``factor`` (whole N ≥ 2: n·N frames, every source frame kept), ``fps`` (frame k
    at exactly k/fps; ``"60000/1001"`` and ``59.94`` mean the same) and ``slowmo`` (same frame
    rate, N times longer). ``start`` and ``end`` are seconds from the first frame. Further
    ``settings`` are the fields of :class:`cloudconv.jobs.interp.InterpSettings`: model, scale,
    scene_cut, duplicates, batch, tile, loop, encode, overwrite, resume, workers, device, precision,
    threads …

    Raises a :class:`CloudconvError`; then the output does not exist, or is as it was before.
    """
    from cloudconv.jobs.interp import InterpSettings, run
    from cloudconv.timeline import parse_factor, parse_rate, parse_time

    return run(
        InterpSettings(
            input=input,
            output=output,
            factor=None if factor is None else parse_factor(factor),
            fps=None if fps is None else parse_rate(fps),
            slowmo=None if slowmo is None else parse_factor(slowmo),
            start=None if start is None else parse_time(start),
            end=None if end is None else parse_time(end),
            **settings,
        ),
        on_progress,
    )


def compare(
    input: Path | str,
    *,
    drop: int | None = None,
    horizon: int | None = None,
    report: Path | str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> CompareResult:
    """Score models on your own clip, against the frames that really are there.

    ``drop`` (default 2): one frame of every N is kept, and interpolators make the others again.
    ``horizon``: predictors forecast so many frames ahead instead. ``report``: a folder for a page
    with charts and pictures, a film side by side, and the figures. ``on_progress`` gets (frames
    read, frames in all). Further ``settings`` are the fields of
    :class:`cloudconv.jobs.compare.CompareSettings`: models, against, metrics, scene_cut, frames,
    every, overwrite, device, precision, threads …

    Raises a :class:`CloudconvError`; then there is no report, or it is as it was before.
    """
    from cloudconv.jobs.compare import CompareSettings, run

    return run(
        CompareSettings(input=input, drop=drop, horizon=horizon, report=report, **settings),
        on_progress,
    )


def extrapolate(
    input: Path | str,
    output: Path | str | None = None,
    *,
    frames: int | None = None,
    seconds: Fraction | float | str | None = None,
    at: Fraction | float | str | None = None,
    on_progress: Callable[[ExtrapolateProgress], None] | None = None,
    **settings: Any,
) -> ExtrapolateResult:
    """Forecast what follows ``input``, or what follows its frame at ``at`` seconds.

    Exactly one of ``frames`` and ``seconds``. The output is the source followed by the forecast.
    Further ``settings`` are the fields of
    :class:`cloudconv.jobs.extrapolate.ExtrapolateSettings`: model, only_new, scene_cut, encode,
    overwrite, device, precision, threads.

    Raises a :class:`CloudconvError`; then the output does not exist, or is as it was before.
    """
    from cloudconv.jobs.extrapolate import ExtrapolateSettings, run
    from cloudconv.timeline import parse_time

    return run(
        ExtrapolateSettings(
            input=input,
            output=output,
            frames=frames,
            seconds=None if seconds is None else parse_time(seconds),
            at=None if at is None else parse_time(at),
            **settings,
        ),
        on_progress,
    )


def dream(
    input: Path | str,
    output: Path | str | None = None,
    *,
    frames: int | None = None,
    seconds: Fraction | float | str | None = None,
    at: Fraction | float | str | None = None,
    on_progress: Callable[[DreamProgress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
    **settings: Any,
) -> DreamResult:
    """Go on from the last frame of ``input`` for as long as asked, and stay alive.

    Exactly one of ``frames`` and ``seconds``. The output is the source followed by the dream;
    whether it lives is measured on the way (``result.vitals``), and ``on_warning`` is told once if
    it does not. Further ``settings`` are the fields of
    :class:`cloudconv.jobs.dream.DreamSettings`: mode, model, seed, loop, wind, texture_keep, audio,
    report, only_new, scene_cut, encode, overwrite, device, precision, threads.

    Raises a :class:`CloudconvError`; then the output does not exist, or is as it was before.
    """
    from cloudconv.jobs.dream import DreamSettings, run
    from cloudconv.timeline import parse_time

    return run(
        DreamSettings(
            input=input,
            output=output,
            frames=frames,
            seconds=None if seconds is None else parse_time(seconds),
            at=None if at is None else parse_time(at),
            **settings,
        ),
        on_progress,
        on_warning,
    )


def list_models() -> list[ModelSpec]:
    """Every model that can be named, the ones kept for tests left out."""
    from cloudconv.models import registry

    return [spec for spec in registry.specs() if not spec.hidden]


def load_model(name: str, *, device: str = "auto", precision: str = "auto") -> Model:
    """A registered model with its weights, ready to run.

    An interpolator is called as ``interpolate(x0, x1, timestep)``, a predictor as
    ``predict(context)``: see :mod:`cloudconv.models.base`.

    Raises :class:`~cloudconv.errors.ModelError`, :class:`~cloudconv.errors.WeightsError` or
    :class:`~cloudconv.errors.DeviceError`.
    """
    from cloudconv.engine.device import choose_device, choose_precision
    from cloudconv.models import registry

    chosen = choose_device(device)
    return registry.load_model(
        name, chosen, choose_precision(precision, chosen, registry.spec(name))
    )
