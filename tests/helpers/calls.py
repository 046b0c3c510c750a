"""Jobs as typed calls that take a watcher of their events."""

from __future__ import annotations

from typing import Any

from cloudconv.jobs import extrapolate as extrapolating
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
from cloudconv.training import train as training
from tests.helpers.jobs import Watch, finish, ignore


def flat(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with those of ``encode`` beside the others."""
    encode = options.get("encode") or {}
    return {name: value for name, value in options.items() if name != "encode"} | encode


def interpolate(clip: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``interp`` and return its result."""
    return finish(interpolating.run(InterpSettings(clip, output, **flat(options))), watch)


def extrapolate(clip: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``extrapolate`` and return its result."""
    return finish(extrapolating.run(ExtrapolateSettings(clip, output, **flat(options))), watch)


def dream(clip: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``dream`` and return its result."""
    return finish(dreaming.run(DreamSettings(clip, output, **flat(options))), watch)


def compare(clip: Any, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``compare`` and return its result."""
    return finish(comparing.run(CompareSettings(clip, **options)), watch)


def train(clips: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``train`` and return its result."""
    return finish(training.run(TrainSettings(clips, output, **options)), watch)
