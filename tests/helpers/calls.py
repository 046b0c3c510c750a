"""Jobs as the tests call them: watched while they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudconv.jobs import extrapolate as extrapolating
from cloudconv.jobs import train as training
from cloudconv.jobs.compare import run as comparing
from cloudconv.jobs.dream import run as dreaming
from cloudconv.jobs.interp import run as interpolating
from cloudconv.settings import (
    CompareSettings,
    DreamSettings,
    ExtrapolateSettings,
    InterpSettings,
    TrainSettings,
)

Watch = Callable[..., None] | None


def flat(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with those of ``encode`` among them."""
    encode = options.get("encode") or {}
    return {name: value for name, value in options.items() if name != "encode"} | encode


def interpolate(
    clip: Any,
    output: Any = None,
    *,
    on_progress: Watch = None,
    on_warning: Watch = None,
    **options: Any,
) -> Any:
    """Interpolate; ``on_progress`` is told how far it is, ``on_warning`` each warning."""
    return interpolating.run(InterpSettings(clip, output, **flat(options)), on_progress, on_warning)


def extrapolate(clip: Any, output: Any = None, *, on_progress: Watch = None, **options: Any) -> Any:
    """Forecast; ``on_progress`` is told how far it is."""
    return extrapolating.run(ExtrapolateSettings(clip, output, **flat(options)), on_progress)


def dream(clip: Any, output: Any = None, *, on_progress: Watch = None, **options: Any) -> Any:
    """Dream; ``on_progress`` is told how far it is."""
    return dreaming.run(DreamSettings(clip, output, **flat(options)), on_progress)


def compare(clip: Any, *, on_progress: Watch = None, **options: Any) -> Any:
    """Compare; ``on_progress`` is told how far it is."""
    return comparing.run(CompareSettings(clip, **options), on_progress)


def train(clips: Any, output: Any = None, *, on_progress: Watch = None, **options: Any) -> Any:
    """Train; ``on_progress`` is told how far it is."""
    return training.run(TrainSettings(clips, output, **options), on_progress)
