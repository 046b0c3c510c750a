"""Run or estimate each command, from its settings to its result."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from cloudconv.errors import SettingsError
from cloudconv.events import Finished, Job

_JOBS = {
    "InterpSettings": "jobs.interp.run",
    "InterpManySettings": "jobs.interp.batch",
    "ExtrapolateSettings": "jobs.extrapolate",
    "DreamSettings": "jobs.dream.run",
    "CompareSettings": "jobs.compare.run",
    "TrainSettings": "jobs.train",
    "DoctorSettings": "jobs.doctor",
}
_turns = threading.Condition()
_running: list[int] = []
"""The thread of each job that has started and not ended; all have the same thread."""
_WITHOUT_ESTIMATE = ("InterpManySettings", "DoctorSettings")


def run(settings: Any) -> Job:
    """Return the job of a command; the work starts when the job is iterated.

    The work also waits until the jobs of other threads have ended.

    Raises:
        SettingsError: these are not the settings of a command.
    """
    job: Job = _module(settings).run(settings)
    return _one_after_another(job)


def estimate(settings: Any) -> Job:
    """Estimate the outcome and the cost of interp, extrapolate, dream, compare or train.

    No output is written.

    Yields:
        The warnings that are known before the trial of a few frames, and at the end the outcome,
        which contains these warnings too.

    Raises:
        SettingsError: these are not the settings of such a command.
        CloudconvError: the input cannot be read, or a model or a device is missing.
    """
    module = _module(settings, _WITHOUT_ESTIMATE)
    with _turn():
        plan = module.decide(settings)
        yield from plan.warnings
        yield Finished(module.estimate(plan))


def _one_after_another(job: Job) -> Job:
    with _turn():
        yield from job


@contextmanager
def _turn() -> Iterator[None]:
    """Wait until no job of another thread runs, and keep such jobs from starting in the block.

    PyTorch's number of threads and FFmpeg's log belong to the whole process.
    """
    thread = threading.get_ident()
    with _turns:
        _turns.wait_for(lambda: set(_running) <= {thread})
        _running.append(thread)
    try:
        yield
    finally:
        with _turns:
            _running.remove(thread)
            _turns.notify_all()


def _module(settings: Any, refused: Sequence[str] = ()) -> Any:
    name = type(settings).__name__
    if name not in _JOBS or name in refused:
        raise SettingsError("not-settings", name=name, estimate=bool(refused))
    return import_module(f"cloudconv.{_JOBS[name]}")
