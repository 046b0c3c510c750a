"""What each command does, from its settings to its result."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cloudconv.errors import SettingsError
from cloudconv.events import Job

_JOBS = {
    "InterpSettings": "jobs.interp.run",
    "ExtrapolateSettings": "jobs.extrapolate",
    "DreamSettings": "jobs.dream.run",
    "CompareSettings": "jobs.compare.run",
    "TrainSettings": "training.train",
    "DoctorSettings": "jobs.doctor",
}


def run(settings: Any) -> Job:
    """Start the job of some command's settings.

    Raises:
        SettingsError: there is no such command.
    """
    name = type(settings).__name__
    if name not in _JOBS:
        raise SettingsError(f"A {name} is not the settings of a command.")
    job: Job = import_module(f"cloudconv.{_JOBS[name]}").run(settings)
    return job
