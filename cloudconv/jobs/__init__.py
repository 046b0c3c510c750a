"""Plan or run each command, from its settings to its result."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from cloudconv import settings as kinds
from cloudconv.errors import SettingsError
from cloudconv.events import Job
from cloudconv.jobs.outcome import planned
from cloudconv.media.input import check_there
from cloudconv.settings.values import clip_files

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


def run(settings: Any) -> Job:
    """Return the job of a command; it waits until the jobs of other threads have ended."""
    job: Job = _module(settings, "run").run(settings)
    return _one_after_another(job)


def plan(settings: Any) -> dict[str, Any]:
    """Return the keys of a run's result that are decided before the run; write nothing."""
    module = _module(settings, "decide")
    with _turn():
        return planned(module.decide(settings))


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


def _module(settings: Any, function: str) -> Any:
    kind = type(settings)
    # Before PyTorch is imported, which takes a second.
    check_there([getattr(settings, "input", "-")])
    check_there(clip_files(getattr(settings, "clips", ())))
    module = import_module(_MODULES[kind]) if kind in _MODULES else None
    if not hasattr(module, function):
        raise SettingsError(
            f"not-settings: {kind.__name__} is not the settings class of a command that can "
            f"{'run' if function == 'run' else 'be planned'}: give one such as InterpSettings."
        )
    return module
