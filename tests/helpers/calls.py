"""Jobs as typed calls that take a watcher of their events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudconv.events import Job
from cloudconv.jobs.compare import run as comparing
from cloudconv.jobs.extend import dream as dreaming
from cloudconv.jobs.extend import extrapolate as extrapolating
from cloudconv.jobs.interp import run as interpolating
from cloudconv.jobs.train import run as training
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


def _call(run: Callable[[Any], Job], settings: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the settings that runs a job and returns its result."""

    def call(*arguments: Any, watch: Watch = ignore, **options: Any) -> Any:
        return finish(run(settings(*arguments, **options)), watch)

    return call


interpolate = _call(interpolating.run, InterpSettings)
extrapolate = _call(extrapolating.run, ExtrapolateSettings)
dream = _call(dreaming.run, DreamSettings)
compare = _call(comparing.run, CompareSettings)
train = _call(training.run, TrainSettings)
