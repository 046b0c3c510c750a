"""Define the tasks and the work of workers. The module loads neither PyTorch nor FFmpeg."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

from cloudconv.events import TaskEvent

POLL = 0.05
"""Seconds until the next request for tasks, if the next task is not known yet."""
TASKS_PER_WORKER = 2
"""The number of tasks that each worker holds, so that one is decoded while another is encoded."""
MAX_ATTEMPTS = 3
"""The number of attempts at a task whose worker dies each time."""

Task = TypeVar("Task")


class Tasks(Iterator[Task]):
    """The tasks of a worker, in the order of their arrival; another thread adds them."""

    def __init__(self) -> None:
        """Start without tasks."""
        self._queue: SimpleQueue[tuple[Task] | None] = SimpleQueue()

    def put(self, task: Task) -> None:
        """Add a task."""
        self._queue.put((task,))

    def close(self) -> None:
        """End the iterator after the tasks so far; may be called in any thread."""
        self._queue.put(None)

    def __next__(self) -> Task:
        """Wait for the next task and return it."""
        item = self._queue.get()
        if item is None:
            self.close()  # so that the iterator stays at its end
            raise StopIteration
        return item[0]


class Work(ABC, Generic[Task]):
    """A function that a worker process applies to its tasks; must be picklable.

    Each process has its own copy. A local process calls its copy once, for all its tasks. A process
    of a cluster calls its copy once for each task, also after an error.
    """

    @abstractmethod
    def __call__(self, tasks: Tasks[Task]) -> Generator[TaskEvent[Task], None, None]:
        """Do the tasks in order and yield their events; ``Finished`` ends each task.

        The task of an event must be the object that ``tasks`` returned, not an equal one.

        Raises:
            CloudconvError: the first unfinished task cannot be done.
        """

    def files(self, task: Task) -> tuple[Path, ...]:
        """Return the files that the task reads; a cluster copies them to machines without them."""
        return ()

    def moved(self, task: Task, files: Mapping[Path, Path]) -> Task:
        """Return the task for a machine that has the files at other paths."""
        return task
