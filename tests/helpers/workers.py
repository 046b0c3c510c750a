"""Work for the tests of workers. None needs pictures, so that the workers start quickly."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudconv.errors import InputError
from cloudconv.events import Finished, TaskEvent
from cloudconv.workers.events import Tasks, Work
from tests.helpers.system import kill_this_process


@dataclass(frozen=True)
class Job:
    """A task that equals no other task, even one with the same number."""

    number: int


Events = Generator[TaskEvent[Job], None, None]


class Tenfold(Work[Job]):
    """Work that multiplies by ten and reports its process.

    The work fails at the number ``fails``. Its process dies at the number ``deadly``: each time, or
    once if ``marker`` names a file, which the work creates before the process dies.
    """

    def __init__(self, fails: int = -1, deadly: int = -1, marker: Path | None = None) -> None:
        self.fails = fails
        self.deadly = deadly
        self.marker = marker

    def __call__(self, tasks: Tasks[Job]) -> Events:
        for task in tasks:
            if task.number == self.deadly and not (self.marker and self.marker.exists()):
                if self.marker is not None:
                    self.marker.touch()
                kill_this_process()
            if task.number == self.fails:
                raise InputError(
                    "no-permission: this cannot be read: permission denied. Change its permissions."
                )
            yield TaskEvent(task, os.getpid())
            yield TaskEvent(task, Finished(task.number * 10))


class Pair(Work[Job]):
    """Work that takes two tasks before it ends the first, as rendering does."""

    def __call__(self, tasks: Tasks[Job]) -> Events:
        previous: Job | None = None
        for task in tasks:
            yield TaskEvent(task, "taken")
            if previous is not None:
                yield TaskEvent(previous, Finished(previous.number * 10))
            previous = task
            if task.number % 2:
                yield TaskEvent(task, Finished(task.number * 10))
                previous = None


class ReportsEnvironment(Work[Job]):
    """Work that reports the environment of its process when the process unpickles the work.

    The report has the visible GPUs, the wait policy, and whether PyTorch was imported by then.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {"packed": True}

    def __setstate__(self, _: dict[str, Any]) -> None:
        names = ("CUDA_VISIBLE_DEVICES", "OMP_WAIT_POLICY")
        self.seen = *map(os.environ.get, names), "torch" in sys.modules

    def __call__(self, tasks: Tasks[Job]) -> Events:
        for task in tasks:
            yield TaskEvent(task, self.seen)
            yield TaskEvent(task, Finished(None))


class Waits(Work[Job]):
    """Work that never ends a task."""

    def __call__(self, tasks: Tasks[Job]) -> Events:
        for task in tasks:
            yield TaskEvent(task, os.getpid())
            threading.Event().wait(60)


class Reads(Work[Job]):
    """Work that returns the text of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self, task: Job) -> tuple[Path, ...]:
        return (self.path,)

    def __call__(self, tasks: Tasks[Job]) -> Events:
        for task in tasks:
            yield TaskEvent(task, Finished(self.path.read_text()))


def numbered(count: int) -> Iterator[Job]:
    return map(Job, range(count))
