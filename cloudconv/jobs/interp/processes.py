"""Render segments in processes of this machine. The module loads no PyTorch."""

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
from typing import TYPE_CHECKING, Any, Self

from cloudconv import interrupts
from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Finished, SegmentEvent
from cloudconv.host import lack_of_memory, reuse_memory

if TYPE_CHECKING:
    from cloudconv.jobs.interp.render import RenderPlan, SegmentWork
    from cloudconv.jobs.interp.segments import SegmentPlan
    from cloudconv.jobs.interp.store import FinishedSegment

POLL = 0.05
"""Seconds until the next request for a segment, if the next one is not known yet."""
MAX_ATTEMPTS = 3
"""The number of attempts at a segment whose worker dies each time."""
LAST_SECONDS = 10.0
"""Seconds for the workers to cut their segments short after an interrupt."""
END: Any = object()
"""What replaces the next segment after the last one."""

Keep = Callable[["SegmentPlan", "FinishedSegment"], None]
"""What keeps the result of a segment."""


def event_of(segment: SegmentPlan, content: Any, keep: Keep) -> SegmentEvent:
    """Return a worker's event about a segment; ``keep`` gets the result, if this is the end."""
    event = SegmentEvent(segment.number, content)
    if isinstance(content, Finished) and event.error is None:
        keep(segment, content.result)
    return event


class Processes:
    """Processes that render segments; a context manager that ends them.

    Each process has its own copy of the work, and gets one of the environments in addition. The
    processes start at the first call of :meth:`map`; later calls use the same processes. A process
    that dies is replaced, and its segment is made again. All processes end with this process.
    """

    def __init__(self, work: SegmentWork, environments: Sequence[Mapping[str, str]]) -> None:
        self._work, self._environments = work, environments
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().end()

    def map(
        self, plan: RenderPlan, segments: Iterator[SegmentPlan | None], keep: Keep
    ) -> Generator[SegmentEvent, None, None]:
        """Render segments in any order and yield their events; ``Finished`` ends each segment.

        ``keep`` gets each result. If a segment is made again, its events come again. None among the
        segments means that the next one is not known yet; ``map`` then yields events before the
        next request. An interrupt, and closing the generator, end the processes: each has some
        seconds to cut its segment short, and ``keep`` gets the results. The method may be called
        again when the generator has ended. Errors of ``segments`` are raised, and RuntimeError if a
        process ends with an unexpected exception.
        """
        for environment in self._environments[len(self._workers) :]:
            self._workers.append(_Worker(self._work, environment))
        with ExitStack() as undo:
            undo.callback(self.__exit__)
            try:
                yield from self._events(plan, segments, keep)
            except (KeyboardInterrupt, GeneratorExit):
                self._cut_short(keep)
                raise
            undo.pop_all()

    def _events(
        self, plan: RenderPlan, segments: Iterator[SegmentPlan | None], keep: Keep
    ) -> Iterator[SegmentEvent]:
        while True:
            for worker in (each for each in self._workers if not each.segment):
                if (segment := next(segments, END)) in (None, END):
                    break
                worker.give(plan, segment)
            busy = {each.connection: each for each in self._workers if each.segment}
            if segment is END and not busy:
                break
            for connection in wait(list(busy), POLL if segment is None else None):
                for made, content in busy[connection].received():  # type: ignore[index]
                    yield event_of(made, content, keep)

    def _cut_short(self, keep: Keep) -> None:
        until = time.monotonic() + LAST_SECONDS
        busy = [worker for worker in self._workers if worker.has_begun]
        for worker in busy:
            with suppress(OSError):  # the process is dead
                worker.connection.send(None)
        for worker in busy:
            with suppress(OSError, EOFError):
                while worker.segment and worker.connection.poll(max(until - time.monotonic(), 0)):
                    event = event_of(worker.segment, worker.connection.recv(), keep)
                    if isinstance(event.content, Finished):
                        worker.segment = None


class _Worker:
    """A process, and the segment that it renders."""

    def __init__(self, work: SegmentWork, environment: Mapping[str, str]) -> None:
        self.segment: SegmentPlan | None = None
        self.has_begun = False  # whether the segment has had an event
        self._deaths = 0  # of processes that rendered the segment
        self._sent: object = None
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

    def give(self, plan: RenderPlan, segment: SegmentPlan) -> None:
        self.segment, self._deaths, self._sent = segment, 0, (plan, segment)
        self._send()

    def _send(self) -> None:
        with suppress(OSError):  # the process is dead, and `received` replaces it
            self.connection.send(self._sent)

    def received(self) -> Iterator[tuple[SegmentPlan, Any]]:
        """Yield the next event; replace a process that has died, until its segment is given up."""
        assert self.segment is not None
        segment = self.segment
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
            self.segment = None
        yield segment, content

    def end(self) -> None:
        self.connection.close()
        self._process.join(0.1)  # so that a process that ended by itself keeps its exit code
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, environment: dict[str, str], packed: bytes) -> None:
    os.environ.update(environment)
    # Waiting threads of OpenMP must leave the cores to other processes. The command line also sets
    # this variable, but a script that imports cloudconv does not.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    reuse_memory()
    work: SegmentWork | None = None

    def do(sent: bytes) -> Iterator[Any]:
        nonlocal work
        work = work or pickle.loads(packed)  # imports PyTorch, as what is sent does
        yield from work(*pickle.loads(sent))

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


def outcome_of(work: Callable[..., Iterator[Any]], *given: Any) -> Generator[Any, None, None]:
    """Do the work and yield its events; an error for the user becomes the result."""
    try:
        yield from work(*given)
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
