"""Tasks shared out among processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Self

from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.workers.events import AHEAD, SOON, TRIES, Done, Event, Failed, Task, Work, content_of


class Processes(Generic[Task]):
    """Processes that do tasks; a context manager that ends them.

    They start with the first tasks, and stay for all later ones. The tasks of a process that dies
    are given to others, and another process takes its place. All of them end with this process,
    however that ends.

    Args:
        work: what each process does.
        environments: for each process, what it finds among its environment variables.
    """

    def __init__(self, work: Work[Task], environments: Sequence[Mapping[str, str]]) -> None:
        self._work = work
        self._environments = environments
        self._workers: list[_Worker[Task]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().stop()

    def run(self, tasks: Iterator[Task | None]) -> Generator[Event[Task], None, None]:
        """Do tasks; see :func:`~cloudconv.workers.pool.run`. One row of them at a time.

        Args:
            tasks: taken as they are needed, a few ahead; None where the next one is not known yet,
                so that what workers tell, and their end, is noticed meanwhile.
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
                ready = wait([worker.connection for worker in workers], SOON if more else None)
                for worker in workers:
                    if worker.connection in ready:
                        yield from worker.hear(waiting)
            undo.pop_all()


@dataclass(slots=True)
class _Attempt(Generic[Task]):
    """A task, and how many processes died of it."""

    task: Task
    deaths: int = 0


def _give(
    workers: list[_Worker[Task]], waiting: deque[_Attempt[Task]], tasks: Iterator[Task | None]
) -> bool:
    """Give out as much as is known; whether somebody waits for more that is yet to come."""
    # Whoever has least gets the next one: tasks may become known slowly.
    while len((idlest := min(workers, key=lambda each: len(each.busy))).busy) < AHEAD:
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
    """A process, and the tasks that it has, oldest first."""

    def __init__(self, work: Work[Task], environment: Mapping[str, str]) -> None:
        self.busy: deque[_Attempt[Task]] = deque()
        # In bytes, which are looked into once the environment is as it shall be: work brings
        # PyTorch along, and that looks for its GPUs only once.
        self._given = dict(environment), pickle.dumps(work)
        self._start()

    def _start(self) -> None:
        # A forked child would inherit locks that threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._given), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, attempt: _Attempt[Task]) -> None:
        self.busy.append(attempt)
        try:
            self.connection.send(attempt.task)
        except OSError:
            return  # it has died, which is noticed where its messages are waited for

    def hear(self, waiting: deque[_Attempt[Task]]) -> Iterator[Event[Task]]:
        """Take its next message; if it has died, what it had is ``waiting`` for others."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            message = None
        if message is None or isinstance(message, CloudconvError):
            yield from self._lost(message, waiting)
            return
        kind, ends, place, content = message
        task = None if place is None else self.busy[place].task
        if ends:
            del self.busy[place]
        yield kind(task, content)

    def _lost(
        self, error: CloudconvError | None, waiting: deque[_Attempt[Task]]
    ) -> Iterator[Event[Task]]:
        attempts = list(self.busy)
        code = self._replace()
        if error is None and code == 1:
            raise RuntimeError("a worker process failed; what it said stands above")
        if not attempts:
            return
        # The oldest is the one that it worked on.
        oldest = attempts[0]
        oldest.deaths += 1
        if error is None and oldest.deaths < TRIES:
            waiting.extend(attempts)
            return
        waiting.extend(attempts[1:])
        yield Failed(
            oldest.task,
            error or DeviceError("workers-died", tries=TRIES, code=code),
        )

    def _replace(self) -> int | None:
        """Start another process in its place; returns the exit code of the old one."""
        self._end()
        code = self._process.exitcode
        self.busy.clear()
        self._start()
        return code

    def _end(self) -> None:
        self.connection.close()
        self._process.join(1)
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self._process.terminate()
        self._end()


class TaskQueue(Iterator[Task]):
    """Tasks of a worker, put in by another thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Task] | None] = queue.SimpleQueue()

    def put(self, task: Task) -> None:
        """Add one."""
        self._queue.put((task,))

    def close(self) -> None:
        """Let nobody wait for more."""
        self._queue.put(None)

    def __next__(self) -> Task:
        held = self._queue.get()
        if held is None:
            self.close()
            raise StopIteration
        return held[0]


def _serve(connection: Connection, environment: dict[str, str], packed: bytes) -> None:
    """The main function of a worker process."""
    os.environ.update(environment)
    work: Work[Any] = pickle.loads(packed)
    # Ctrl-C reaches every process of the terminal; the one that shares out the work decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks: TaskQueue[Any] = TaskQueue()
    held: list[Any] = []  # as in the other process: a task is known by its place

    def listen() -> None:
        try:
            while True:
                task = connection.recv()
                held.append(task)
                tasks.put(task)
        except (EOFError, OSError):
            # Whoever gave out the work is gone; nobody would ever look at the result.
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    try:
        for event in work(tasks):
            place = next((k for k, task in enumerate(held) if task is event.task), None)
            ends = isinstance(event, Done | Failed)
            connection.send((type(event), ends, place, content_of(event)))
            if ends and place is not None:
                del held[place]
    except CloudconvError as error:
        connection.send(error)
