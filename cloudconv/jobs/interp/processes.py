"""Distribute jobs to processes of this machine. The module loads neither PyTorch nor FFmpeg."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from cloudconv import interrupts
from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Finished, TaskEvent
from cloudconv.host import lack_of_memory, reuse_memory

POLL = 0.05
"""Seconds until the next request for jobs, if the next job is not known yet."""
MAX_ATTEMPTS = 3
"""The number of attempts at a job whose worker dies each time."""
LAST_SECONDS = 10.0
"""Seconds for the workers to cut their jobs short after an interrupt."""
END: Any = object()
"""What replaces the next job after the last one."""

Job = TypeVar("Job")
Given = TypeVar("Given", contravariant=True)


class Work(Protocol[Given]):
    """A function that workers apply to each job; picklable. Each process has its own copy."""

    def __call__(self, job: Given) -> Iterator[Any]:
        """Do the job and yield its events, at last ``Finished``; a CloudconvError ends the job."""

    def files(self, job: Given) -> tuple[Path, ...]:
        """Return the files that the job reads; a cluster copies them to machines without them."""

    def moved(self, job: Given, files: Mapping[Path, Path]) -> Any:
        """Return the job for a machine that has the files at other paths."""


class Processes(Generic[Job]):
    """Processes that do jobs; a context manager that ends them.

    Each process gets one of the environments in addition. The processes start at the first call of
    :meth:`map`; later calls use the same processes. A process that dies is replaced, and its jobs
    are done again. All processes end with this process.
    """

    def __init__(self, work: Work[Job], environments: Sequence[Mapping[str, str]]) -> None:
        self._work, self._environments = work, environments
        self._workers: list[_Worker[Job]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().end()

    def map(
        self, jobs: Iterator[Job | None], keep: Callable[[TaskEvent[Job]], None] = lambda _: None
    ) -> Generator[TaskEvent[Job], None, None]:
        """Do jobs in any order and yield their events; ``Finished`` ends each job.

        If a job is done again, its events come again. None among the jobs means that the next job
        is not known yet; ``map`` then yields events before the next request. An interrupt, and
        closing the generator, end the processes: each has some seconds to cut its job short, and
        ``keep`` gets the results. The method may be called again when the generator has ended.
        Errors of ``jobs`` are raised, and RuntimeError if a process ends with an unexpected
        exception.
        """
        for environment in self._environments[len(self._workers) :]:
            self._workers.append(_Worker(self._work, environment))
        with ExitStack() as undo:
            undo.callback(self.__exit__)
            try:
                yield from self._events(jobs)
            except (KeyboardInterrupt, GeneratorExit):
                self._cut_short(keep)
                raise
            undo.pop_all()

    def _events(self, jobs: Iterator[Job | None]) -> Iterator[TaskEvent[Job]]:
        while True:
            for worker in (each for each in self._workers if not each.job):
                if (job := next(jobs, END)) in (None, END):
                    break
                worker.give(job)
            busy = {each.connection: each for each in self._workers if each.job}
            if job is END and not busy:
                break
            for connection in wait(list(busy), POLL if job is None else None):
                yield from busy[connection].received()  # type: ignore[index]

    def _cut_short(self, keep: Callable[[TaskEvent[Job]], None]) -> None:
        until = time.monotonic() + LAST_SECONDS
        busy = [worker for worker in self._workers if worker.has_begun]
        for worker in busy:
            with suppress(OSError):  # the process is dead
                worker.connection.send(None)
        for worker in busy:
            with suppress(OSError, EOFError):
                while worker.job and worker.connection.poll(max(until - time.monotonic(), 0)):
                    event = TaskEvent(worker.job, worker.connection.recv())
                    if isinstance(event.content, Finished):
                        worker.job = None
                        if event.error is None:
                            keep(event)


class _Worker(Generic[Job]):
    """A process, and the job that it is doing."""

    def __init__(self, work: Work[Job], environment: Mapping[str, str]) -> None:
        self.job: Job | None = None
        self.has_begun = False  # whether the job has yielded an event
        self._deaths = 0  # of processes that did the job
        # The process unpickles the work after it has set the environment: the work imports
        # PyTorch, which reads the visible GPUs only once.
        self._given = dict(environment), pickle.dumps(work)
        self._start()

    def _start(self) -> None:
        # A forked process would inherit locks of this process's threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._given), daemon=True)
        if os.name == "posix":  # the tracker would let the signals through at its own start
            resource_tracker.ensure_running()
        with interrupts.held():
            self._process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        self.job, self._deaths = job, 0
        self._send()

    def _send(self) -> None:
        with suppress(OSError):  # the process is dead, and `received` replaces it
            self.connection.send(self.job)

    def received(self) -> Iterator[TaskEvent[Job]]:
        """Yield the next event; if the process has died, another one does its job.

        The job is given up if too many processes died of it.
        """
        assert self.job is not None
        job = self.job
        try:
            content = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            code = self._process.exitcode
            if code == 1:  # Python's exit code after an exception that is not a CloudconvError
                raise RuntimeError("a worker process failed; its error message is above") from None
            self._start()
            self.has_begun, self._deaths = False, self._deaths + 1
            if self._deaths < MAX_ATTEMPTS:
                self._send()
                return
            content = Finished(
                DeviceError(
                    f"workers-died: Worker processes ended {MAX_ATTEMPTS} times on the same frames "
                    f"(exit code {code}), most likely for lack of memory: use fewer workers."
                )
            )
        self.has_begun = not isinstance(content, Finished)
        if not self.has_begun:
            self.job = None
        yield TaskEvent(job, content)

    def end(self) -> None:
        self.connection.close()
        self._process.join(0.1)  # so that a process that ended by itself keeps its exit code
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, environment: dict[str, str], packed: bytes) -> None:
    """Do the jobs that arrive on a connection; the main function of a worker process."""
    os.environ.update(environment)
    # Waiting threads of OpenMP must leave the cores to other processes. The command line also sets
    # this variable, but a script that imports cloudconv does not.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    reuse_memory()
    work: Work[Any] | None = None

    def do(sent: bytes) -> Iterator[Any]:
        nonlocal work
        work = work or pickle.loads(packed)  # imports PyTorch, as the job does
        yield from work(pickle.loads(sent))

    # On Windows Ctrl-C and Ctrl-Break reach every process of the terminal. The main process alone
    # ends the work.
    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            sent = connection.recv_bytes()
        except (EOFError, OSError):
            return
        events = outcome_of(do, sent)
        for event in events:
            try:
                connection.send(event)
                is_cut = not isinstance(event, Finished) and connection.poll()
            except OSError:  # the main process has ended
                return
            if is_cut:
                with suppress(OSError, KeyboardInterrupt):
                    connection.send(events.throw(KeyboardInterrupt))
                return


def outcome_of(work: Callable[[Job], Iterator[Any]], job: Job) -> Generator[Any, None, None]:
    """Do a job and yield its events; an error for the user becomes the result of the job."""
    try:
        yield from work(job)
    except CloudconvError as error:
        yield Finished(error)
    except (MemoryError, OSError, ImportError, RuntimeError) as error:
        if (why := lack_of_memory(error)) is None:
            raise
        text = f"worker-memory: In a worker process {why}, or use fewer workers."
        yield Finished(DeviceError(text))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)
