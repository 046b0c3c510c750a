"""Score methods that make frames against frames that really are there."""

from __future__ import annotations

from cloudconv.engine.device import set_threads
from cloudconv.jobs.compare import drop as compare_drop
from cloudconv.jobs.compare import horizon as compare_horizon
from cloudconv.jobs.compare.settings import CompareResult, CompareSettings, Watch
from cloudconv.jobs.interp.adapt import OnAdapting
from cloudconv.media.read.probe import probe

__all__ = ["CompareResult", "CompareSettings", "run"]


def run(
    settings: CompareSettings,
    on_progress: Watch | None = None,
    on_adapting: OnAdapting | None = None,
) -> CompareResult:
    """Score every method on ``settings.input``; ``on_progress`` gets (frames read, in all).

    ``on_adapting`` gets the seconds that adapting has taken, and those that it is given.

    Raises :class:`~cloudconv.errors.CloudconvError`; then there is no report, or the one that was
    there is as it was.
    """
    set_threads(settings.threads)
    info = probe(settings.input, settings.input_fps)
    if settings.horizon is None:
        return compare_drop.measure(settings, info, on_progress, on_adapting)
    return compare_horizon.measure(settings, info, on_progress)
