"""Plan or run each command, from its settings to its result."""

import atexit
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any

from cloudconv import settings as kinds
from cloudconv.errors import CloudconvError, SettingsError
from cloudconv.events import Job, Pace, Progress, Warnings
from cloudconv.jobs.words import check_words, refusals_named

_MODULES: dict[type, str] = {
    kinds.InterpSettings: "cloudconv.jobs.interp.run",
    kinds.InterpManySettings: "cloudconv.jobs.interp.batch",
    kinds.ExtrapolateSettings: "cloudconv.jobs.extend.extrapolate",
    kinds.DreamSettings: "cloudconv.jobs.extend.dream",
    kinds.CompareSettings: "cloudconv.jobs.compare.run",
    kinds.TrainSettings: "cloudconv.jobs.train.run",
    kinds.DoctorSettings: "cloudconv.jobs.doctor",
}
"""The module of each command, which is imported when the command runs."""
_turns = threading.Condition()
_running: list[tuple[int, Job | None]] = []
"""The running jobs, None for a plan, each after the number of its thread, which is the same
for all."""
_used_by: int | None = None  # the process that has run the first job
_latest = time.monotonic()  # when the latest event came
_PATIENCE = 60.0  # seconds for which a job waits for one whose events nobody takes


def check_process() -> None:
    """Raise CloudconvError in a fork of a process that has used cloudconv.

    The threads of PyTorch (OpenMP) do not exist in the fork, which would wait for them for
    ever.
    """
    global _used_by
    _used_by = _used_by or os.getpid()
    if _used_by != os.getpid():
        raise CloudconvError(
            "forked: This process is a fork of one that has used cloudconv, and the "
            "threads of PyTorch are missing in it: start processes by "
            "multiprocessing.get_context('spawn')."
        )


def run(settings: kinds.Settings) -> Job:
    """Run a command from its settings; yield the events of the job.

    >>> for event in cloudconv.run(settings):  # doctest: +SKIP
    ...     print(event)

    The last event is :class:`Finished`, with the result. Closing the generator cancels the
    job; finished work is kept. The job waits until the jobs of other threads have ended.
    """
    job: Job = _module(settings, "run").run(settings)
    return _one_after_another(job)


def plan(settings: kinds.Settings) -> dict[str, Any]:
    """Return what ``--dry-run --json`` prints; no output is written.

    These are the keys of the result that are decided before the run, such as ``output``,
    ``encoder`` and ``warnings``. Numbers of frames are approximate. The first error that
    the run would find before its frames is raised.
    """
    with closing(planning(settings)) as steps:
        return next(steps)


def planning(settings: kinds.Settings) -> Generator[dict[str, Any], None, None]:
    """Yield what :func:`plan` returns, and then rows for people, which take some seconds.

    These are the time of an interpolation, the mode of a dream, the model and the number of
    frames of a forecast, or the length and the clips of a training.
    """
    module = _module(settings, "decide")
    from cloudconv.render.device import exact_arithmetic, restored  # imports PyTorch

    with _turn(), refusals_named(), exact_arithmetic(), restored():
        decided = module.decide(settings)
        yield planned(decided)
        if hasattr(module, "foresee"):  # yields what people want to know before a run
            yield from module.foresee(decided)


def _one_after_another(job: Job) -> Job:
    global _latest
    from cloudconv.render.device import exact_arithmetic, restored  # imports PyTorch

    pace = Pace()

    with _turn(job), refusals_named(), exact_arithmetic(), restored(), closing(job):
        for event in job:
            _latest = time.monotonic()
            yield pace(event) if isinstance(event, Progress) else event


@contextmanager
def _turn(job: Job | None = None) -> Iterator[None]:
    """Keep other threads' jobs out: PyTorch's threads and FFmpeg's log are shared."""
    check_process()
    thread = threading.get_ident()
    began = time.monotonic()
    with _turns:
        while any(other != thread for other, _ in _running):
            _turns.wait(_PATIENCE / 60)
            left = [
                generator and getgeneratorstate(generator) == GEN_SUSPENDED
                for _, generator in _running
            ]
            if (
                any(left)
                and all(left)
                and time.monotonic() - max(_latest, began) > _PATIENCE
            ):
                raise SettingsError(
                    "job-not-ended: A job of another thread has not ended, and nobody "
                    "takes its events: take all of them, or close the job."
                )
        _running.append((thread, job))
    try:
        yield
    finally:
        with _turns:
            _running.remove((thread, job))
            _turns.notify_all()


def _close_all() -> None:
    """Close the jobs whose events nobody has taken to the end, when Python ends."""
    for _, job in [*_running]:
        # Another thread runs the job, or the threads of the job have ended.
        with suppress(ValueError, RuntimeError):
            if job is not None:
                job.close()


# Python ends the threads of all pools before the functions of `atexit` run, and a job that
# is closed needs its threads. A Python without the private function closes the job later.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _module(settings: Any, function: str) -> Any:
    kind = type(settings)
    check_words(settings)  # before PyTorch is imported, which takes a second
    if "torch" not in sys.modules:
        from cloudconv.transfer import start_gpu  # imports PyTorch

        # The GPU starts while the other libraries are imported and the input is probed.
        start_gpu(getattr(settings, "device", None) or "cpu")
    module = import_module(_MODULES[kind]) if kind in _MODULES else None
    if not hasattr(module, function):
        raise SettingsError(
            f"not-settings: {kind.__name__} is not the settings class of a command that "
            f"can {'run' if function == 'run' else 'be planned'}: give one such as "
            "InterpSettings."
        )
    return module


def planned(plan: Any) -> dict[str, Any]:
    """Return the JSON of a plan: the keys of the result that are decided, with warnings."""
    from cloudconv.jobs.video import VideoPlan  # imports PyTorch
    from cloudconv.media.writing.sink import try_streams

    warnings = Warnings(plan.warnings)
    if isinstance(plan, VideoPlan):
        try_streams(plan.encoding(plan.probable_start), warnings)
    texts = dict.fromkeys(warning.text for warning in warnings)
    return {**plan.facts, "warnings": [*texts]}


def as_json(result: Any) -> dict[str, Any]:
    """Return the JSON of a result: its fields, with warnings as sentences."""
    fields = asdict(result)
    if "warnings" in fields:
        fields["warnings"] = [warning.text for warning in result.warnings]
    return fields
