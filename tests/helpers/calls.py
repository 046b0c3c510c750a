"""Jobs as typed calls that take a watcher of their events."""

from __future__ import annotations

from pathlib import Path
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
from tests.helpers.jobs import Watch, finish, ignore

LOSSLESS = {"encoder": "ffv1"}
EXACT = {"encoder": "libx264", "crf": 0}


def lossless(out: Path | str) -> dict[str, Any]:
    """Return the options that keep every bit of the pictures in this output, or none."""
    return {".mkv": LOSSLESS, ".mp4": EXACT, ".mov": EXACT}.get(Path(out).suffix, {})


def interpolate(clip: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``interp`` and return its result."""
    return finish(interpolating.run(InterpSettings(clip, output, **options)), watch)


def extrapolate(clip: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``extrapolate`` and return its result."""
    return finish(extrapolating.run(ExtrapolateSettings(clip, output, **options)), watch)


def dream(clip: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``dream`` and return its result."""
    return finish(dreaming.run(DreamSettings(clip, output, **options)), watch)


def compare(clip: Any, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``compare`` and return its result."""
    return finish(comparing.run(CompareSettings(clip, **options)), watch)


def train(clips: Any, output: Any = None, *, watch: Watch = ignore, **options: Any) -> Any:
    """Run ``train`` and return its result."""
    return finish(training.run(TrainSettings(clips, output, **options)), watch)
