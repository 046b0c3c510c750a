"""Jobs whose events are watched, and which a watcher can stop."""

from collections.abc import Callable
from typing import Any

from cloudconv.events import Event, Finished, Job, Progress

Watch = Callable[[Event], object]


def ignore(_: Event) -> None:
    """Ignore the event."""


def finish(job: Job, watch: Watch = ignore) -> Any:
    """Run a job and return its result.

    Raise in the job what ``watch`` raises at an event.
    """
    result = None
    event = next(job, None)
    while event is not None:
        if isinstance(event, Finished):
            result = event.result
        try:
            watch(event)
        except BaseException as error:  # noqa: BLE001 - the job must handle any error
            event = job.throw(error)
        else:
            event = next(job, None)
    return result


def on(stage: str, do: Callable[[Progress], object]) -> Watch:
    """Return a watcher that calls ``do`` with the progress of a stage."""

    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == stage:
            do(event)

    return watch


def stop_after(
    done: int, stage: str = "rendering", error: type[BaseException] = KeyboardInterrupt
) -> Watch:
    """Return a watcher that raises an error, or Ctrl-C, after ``done`` units of a stage."""

    def stop(progress: Progress) -> None:
        if progress.done >= done:
            raise error

    return on(stage, stop)
