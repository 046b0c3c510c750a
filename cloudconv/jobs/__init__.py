"""Run or estimate each command, from its settings to its result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from cloudconv import settings as kinds
from cloudconv.errors import SettingsError
from cloudconv.events import Job, Warned

_MODULES: dict[type, str] = {
    kinds.InterpSettings: "cloudconv.jobs.interp.run",
    kinds.InterpManySettings: "cloudconv.jobs.interp.batch",
    kinds.ExtrapolateSettings: "cloudconv.jobs.extrapolate",
    kinds.DreamSettings: "cloudconv.jobs.dream.run",
    kinds.CompareSettings: "cloudconv.jobs.compare.run",
    kinds.TrainSettings: "cloudconv.jobs.train",
    kinds.DoctorSettings: "cloudconv.jobs.doctor",
}
"""The module of each command, which is imported when the command runs."""
_turns = threading.Condition()
_running: list[int] = []
"""The thread of each job that has started and not ended; all have the same thread."""
_WITHOUT_ESTIMATE = (kinds.InterpManySettings, kinds.DoctorSettings)


def run(settings: Any) -> Job:
    """Return the job of a command; it waits until the jobs of other threads have ended."""
    job: Job = _module(settings).run(settings)
    return _one_after_another(job)


def estimate(settings: Any, warn: Callable[[Warned], None] = lambda warned: None) -> Any:
    """Return the expected outcome and the cost of a run; write no output.

    ``warn`` is called with each warning that is known before the input is read.
    """
    module = _module(settings, _WITHOUT_ESTIMATE)
    with _turn():
        plan = module.decide(settings)
        for warned in plan.warnings:
            warn(warned)
        return module.estimate(plan)


def _one_after_another(job: Job) -> Job:
    from cloudconv.render.device import exact_arithmetic  # imports PyTorch

    with _turn(), exact_arithmetic():
        yield from job


@contextmanager
def _turn() -> Iterator[None]:
    """Keep other threads' jobs out: PyTorch's threads and FFmpeg's log belong to the process."""
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


def _module(settings: Any, refused: Sequence[type] = ()) -> Any:
    kind = type(settings)
    if kind not in _MODULES or kind in refused:
        raise SettingsError(
            f"not-settings: {kind.__name__} is not the settings class of a command"
            f"{' with an estimate' if refused else ''}: give one such as InterpSettings."
        )
    return import_module(_MODULES[kind])
