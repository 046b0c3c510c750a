"""Distribute tasks to processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Self

from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Finished, TaskEvent
from cloudconv.workers.events import MAX_ATTEMPTS, POLL, TASKS_PER_WORKER, Task, Tasks, Work


class Processes(Generic[Task]):
    """Processes that do tasks; a context manager that ends them.

    The processes start at the first call of :meth:`map`; later calls use the same processes. A
    process that dies is replaced, and its tasks are done again. All processes end with this
    process.
    """

    def __init__(self, work: Work[Task], environments: Sequence[Mapping[str, str]]) -> None:
        """Start no process yet.

        Args:
            work: the work of each process.
            environments: additional environment variables of each process.
        """
        self._work = work
        self._environments = environments
        self._workers: list[_Worker[Task]] = []

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        while self._workers:
            self._workers.pop().stop()

    def map(self, tasks: Iterator[Task | None]) -> Generator[TaskEvent[Task], None, None]:
        """Do tasks in any order and yield their events.

        Closing the generator ends the processes at once. The method may be called again when the
        generator has ended.

        Args:
            tasks: the tasks. A few are taken before a process is free for them. None means that
                the next task is not known yet; ``map`` then yields events before the next request.

        Yields:
            The events of all tasks; ``Finished`` ends each task. If a task is done again, its
            events come again.

        Raises:
            CloudconvError: ``tasks`` raised this error.
            RuntimeError: a process ended with an unexpected exception.
        """
        while len(self._workers) < len(self._environments):
            self._workers.append(_Worker(self._work, self._environments[len(self._workers)]))
        workers = self._workers
        waiting: deque[_Attempt[Task]] = deque()
        with ExitStack() as undo:
            undo.callback(self.__exit__)
            while True:
                more = _give(workers, waiting, tasks)
                if not more and not any(worker.busy for worker in workers):
                    break
                ready = wait([worker.connection for worker in workers], POLL if more else None)
                for worker in workers:
                    if worker.connection in ready:
                        yield from worker.receive(waiting)
            undo.pop_all()


@dataclass(slots=True)
class _Attempt(Generic[Task]):
    """A task, and the number of processes that died while they did the task."""

    task: Task
    deaths: int = 0


def _give(
    workers: list[_Worker[Task]], waiting: deque[_Attempt[Task]], tasks: Iterator[Task | None]
) -> bool:
    """Give tasks to workers that have too few; return whether the next task is not known yet."""
    # The worker with the fewest tasks gets the next one, so that none waits if tasks come slowly.
    while len((idlest := min(workers, key=lambda each: len(each.busy))).busy) < TASKS_PER_WORKER:
        if not waiting:
            for task in tasks:
                if task is None:
                    return True
                waiting.append(_Attempt(task))
                break
            else:
                return False
        idlest.give(waiting.popleft())
    return False


class _Worker(Generic[Task]):
    """A process with its tasks, oldest first."""

    def __init__(self, work: Work[Task], environment: Mapping[str, str]) -> None:
        """Start the process."""
        self.busy: deque[_Attempt[Task]] = deque()
        # The process unpickles the work after it has set the environment: the work imports
        # PyTorch, which reads the visible GPUs only once.
        self._given = dict(environment), pickle.dumps(work)
        self._start()

    def _start(self) -> None:
        # A forked process would inherit locks of this process's threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._given), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, attempt: _Attempt[Task]) -> None:
        """Send a task to the process."""
        self.busy.append(attempt)
        try:
            self.connection.send(attempt.task)
        except OSError:
            return  # the process is dead, and receive() replaces it

    def receive(self, waiting: deque[_Attempt[Task]]) -> Iterator[TaskEvent[Task]]:
        """Yield the event of the next message.

        If the process has died or reports an error, replace the process, and add the tasks that can
        still be done to ``waiting``.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            message = None
        if message is None or isinstance(message, CloudconvError):
            yield from self._lost(message, waiting)
            return
        index, content = message
        task = self.busy[index].task
        if isinstance(content, Finished):
            del self.busy[index]
        yield TaskEvent(task, content)

    def _lost(
        self, error: CloudconvError | None, waiting: deque[_Attempt[Task]]
    ) -> Iterator[TaskEvent[Task]]:
        """Replace a dead or failed process; end its oldest task if that is given up."""
        attempts = list(self.busy)
        self._end()
        code = self._process.exitcode
        self.busy.clear()
        self._start()
        if error is None and code == 1:
            # The exit code of Python is 1 after an exception that is not a CloudconvError.
            raise RuntimeError("a worker process failed; its error message is above")
        if not attempts:
            return
        # The process was doing the oldest task.
        oldest = attempts[0]
        oldest.deaths += 1
        if error is None and oldest.deaths < MAX_ATTEMPTS:
            waiting.extend(attempts)
            return
        waiting.extend(attempts[1:])
        error = error or DeviceError(
            f"workers-died: Worker processes ended {MAX_ATTEMPTS} times on the same frames (exit "
            f"code {code}), most likely for lack of memory: use fewer workers."
        )
        yield TaskEvent(oldest.task, Finished(error))

    def _end(self) -> None:
        self.connection.close()
        self._process.join(1)
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        """End the process at once."""
        self._process.terminate()
        self._end()


def _serve(connection: Connection, environment: dict[str, str], packed: bytes) -> None:
    """Do the tasks that arrive on a connection; the main function of a worker process."""
    os.environ.update(environment)
    # Waiting threads of OpenMP must leave the cores to other processes. The command line also sets
    # this variable, but a script that imports cloudconv does not.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    work: Work[Any] = pickle.loads(packed)
    # Ctrl-C reaches every process of the terminal, and so does Ctrl-Break on Windows. The main
    # process alone ends the work.
    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    tasks: Tasks[Any] = Tasks()
    started: list[Any] = []  # in the order of the main process, so that an index names a task

    def listen() -> None:
        try:
            while True:
                task = connection.recv()
                started.append(task)
                tasks.put(task)
        except (EOFError, OSError):
            # The main process has closed the connection, so the result is not needed.
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    try:
        for event in work(tasks):
            index = next(k for k, task in enumerate(started) if task is event.task)
            connection.send((index, event.content))
            if isinstance(event.content, Finished):
                del started[index]
    except CloudconvError as error:
        connection.send(error)
