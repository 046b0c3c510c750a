"""Jobs whose events are watched, and which a watcher can stop."""

from collections.abc import Callable
from typing import Any

from cloudconv.events import Event, Job, Progress, watched

Watch = Callable[[Event], object]


def ignore(_: Event) -> None:
    """Ignore the event."""


def finish(job: Job, watch: Watch = ignore) -> Any:
    """Run a job and return its result; a Ctrl-C of ``watch`` interrupts the job."""
    return watched(job, watch)


def on(stage: str, do: Callable[[Progress], object]) -> Watch:
    """Return a watcher that calls ``do`` with the progress of a stage."""

    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == stage:
            do(event)

    return watch


def stop_after(done: int, stage: str = "rendering") -> Watch:
    """Return a watcher that interrupts after ``done`` units of a stage."""

    def stop(progress: Progress) -> None:
        if progress.done >= done:
            raise KeyboardInterrupt

    return on(stage, stop)
