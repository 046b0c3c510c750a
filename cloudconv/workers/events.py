"""Define tasks and events of workers; this module imports nothing heavy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from cloudconv.errors import CloudconvError

SOON = 0.05
"""Seconds between two requests for tasks that are not known yet."""
AHEAD = 2
"""The number of tasks that a worker has, so that it decodes one while it encodes another."""
TRIES = 3
"""The number of times that a task may lose its worker before it fails."""

Task = TypeVar("Task")


@dataclass(frozen=True, slots=True)
class Done(Generic[Task]):
    """A task with its result."""

    task: Task
    result: Any


@dataclass(frozen=True, slots=True)
class Failed(Generic[Task]):
    """A task with the error that ended it."""

    task: Task
    error: CloudconvError


@dataclass(frozen=True, slots=True)
class Report(Generic[Task]):
    """A message of a worker about a task; a repeated task repeats its messages."""

    task: Task
    message: Any


Event = Done[Task] | Failed[Task] | Report[Task]


def content_of(event: Event[Any]) -> Any:
    """Return the content of an event, without its task."""
    if isinstance(event, Done):
        return event.result
    return event.error if isinstance(event, Failed) else event.message


class Tasks(Iterator[Task]):
    """The tasks of a worker, in the order of their arrival; another thread adds them."""

    def __init__(self) -> None:
        """Start without tasks."""
        self._queue: SimpleQueue[tuple[Task] | None] = SimpleQueue()

    def put(self, task: Task) -> None:
        """Add a task."""
        self._queue.put((task,))

    def close(self) -> None:
        """End the tasks, from any thread."""
        self._queue.put(None)

    def __next__(self) -> Task:
        """Wait for the next task and return it."""
        item = self._queue.get()
        if item is None:
            self.close()
            raise StopIteration
        return item[0]


class Work(ABC, Generic[Task]):
    """The work that a process does with its tasks; picklable.

    Each process has one object, and calls it again for the remaining tasks after an error.
    """

    @abstractmethod
    def __call__(self, tasks: Tasks[Task]) -> Generator[Event[Task], None, None]:
        """Do the tasks in order; yield their events with the very objects of ``tasks``.

        Raises:
            CloudconvError: the first task that is not done yet cannot be done.
        """

    def files(self, task: Task) -> tuple[Path, ...]:
        """Return the files that the task reads; a cluster sends them to machines without them."""
        return ()

    def moved(self, task: Task, files: Mapping[Path, Path]) -> Task:
        """Return the task for a machine that has the files at other paths."""
        return task
