"""Score ways of making frames against frames that really are there."""

from __future__ import annotations

from cloudconv.engine.device import set_threads
from cloudconv.jobs import compare_drop, compare_horizon
from cloudconv.jobs.compare_settings import CompareResult, CompareSettings, Watch
from cloudconv.media.probe import probe

__all__ = ["CompareResult", "CompareSettings", "run"]


def run(settings: CompareSettings, on_progress: Watch | None = None) -> CompareResult:
    """Score every method on ``settings.input``; ``on_progress`` gets (frames read, in all).

    Raises :class:`~cloudconv.errors.CloudconvError`; then there is no report, or the one that was
    there is as it was.
    """
    set_threads(settings.threads)
    info = probe(settings.input)
    if settings.horizon is None:
        return compare_drop.measure(settings, info, on_progress)
    return compare_horizon.measure(settings, info, on_progress)
