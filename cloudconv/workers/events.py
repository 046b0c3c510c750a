"""What workers are given, and what they tell; imports nothing heavy, see :mod:`.processes`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cloudconv.errors import CloudconvError

SOON = 0.05
"""Seconds until tasks that are not known yet are asked for again."""
AHEAD = 2
"""Tasks that a worker has at once: it decodes the next one while it encodes the last."""
TRIES = 3
"""How often a task may lose its worker before it is given up."""

Task = TypeVar("Task")
Item = TypeVar("Item", covariant=True)


@dataclass(frozen=True, slots=True)
class Done(Generic[Task]):
    """A task, and what came of it."""

    task: Task
    result: Any


@dataclass(frozen=True, slots=True)
class Failed(Generic[Task]):
    """A task that cannot be done."""

    task: Task
    error: CloudconvError


@dataclass(frozen=True, slots=True)
class Report(Generic[Task]):
    """What a worker says of a task that it is at, or of none; a task done again says it again."""

    task: Task | None
    message: Any


Event = Done[Task] | Failed[Task] | Report[Task]


def content_of(event: Event[Any]) -> Any:
    """What an event says of its task: what travels of it."""
    if isinstance(event, Done):
        return event.result
    return event.error if isinstance(event, Failed) else event.message


class Tasks(Protocol[Item]):
    """The tasks that a worker is given, as they come."""

    def __iter__(self) -> Iterator[Item]: ...

    def __next__(self) -> Item: ...

    def close(self) -> None:
        """Let nobody wait for more; in any thread."""


class Work(ABC, Generic[Task]):
    """What a worker does with its tasks, from the first to the last; picklable.

    Each process has one, and calls it again for the tasks that are left after an error.
    """

    @abstractmethod
    def __call__(self, tasks: Tasks[Task]) -> Generator[Event[Task], None, None]:
        """Do the tasks in their order, and tell what comes of them.

        A task is one of the very objects that were given. What this raises is about the first one
        that is not done yet.
        """

    def files(self, task: Task) -> tuple[Path, ...]:
        """What the task reads: a cluster sends it to those of its machines that cannot see it."""
        return ()

    def moved(self, task: Task, files: Mapping[Path, Path]) -> Task:
        """The task for another machine, which has those files at other places."""
        return task
