"""Jobs that are watched, and stopped, while they work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudconv.events import Event, Finished, Job, Progress

Watch = Callable[[Event], object]


def nobody(_: Event) -> None:
    """Watch nothing."""


def finish(job: Job, watch: Watch = nobody) -> Any:
    """The result of a job; what ``watch`` raises at one of its events is raised in the job."""
    result = None
    event = next(job, None)
    while event is not None:
        if isinstance(event, Finished):
            result = event.result
        try:
            watch(event)
        except BaseException as error:  # noqa: BLE001 - the job has to cope with whatever it is
            event = job.throw(error)
        else:
            event = next(job, None)
    return result


def on(stage: str, do: Callable[[Progress], object]) -> Watch:
    """Do something with the progress of a stage."""

    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == stage:
            do(event)

    return watch


def stop_after(
    done: int, stage: str = "rendering", error: type[BaseException] = KeyboardInterrupt
) -> Watch:
    """Raise an error, or Ctrl-C, once so much of a stage is done."""

    def stop(progress: Progress) -> None:
        if progress.done >= done:
            raise error

    return on(stage, stop)
