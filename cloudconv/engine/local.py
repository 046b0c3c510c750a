"""Segments shared out among processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.segments import Segment

_AHEAD = 2
"""Segments that a worker has at once: it decodes the next one while it encodes the last."""
_TRIES = 3


class Work(Protocol):
    """What one process does from its start to its end; picklable.

    It calls ``done`` with each segment and what came of it, ``tell`` with whatever is worth
    telling meanwhile, and closes ``segments`` when it fails.
    """

    def __call__(
        self,
        segments: Jobs,
        done: Callable[[Segment, Any], None],
        tell: Callable[[Any], None],
    ) -> None: ...


def share(
    works: Sequence[Work],
    segments: Iterator[Segment],
    *,
    done: Callable[[Segment, Any], None],
    told: Callable[[int, Any], None],
) -> None:
    """Start a process for each of ``works`` and give them segments until there are no more.

    Segments are done in any order. Those of a process that dies are given to others, and another
    process takes its place. All processes end with this call, and with this process, however it
    ends.

    Args:
        works: what each process does.
        segments: taken as they are needed, a few ahead.
        done: told of each segment and what came of it.
        told: the number of the process, and what it tells.

    Raises:
        CloudconvError: what a worker raised.
        DeviceError: processes died again and again on the same segment.
    """
    with ExitStack() as stack:
        crew = [stack.enter_context(_Worker(work)) for work in works]
        again: deque[Segment] = deque()
        deaths: Counter[int] = Counter()
        while True:
            for worker in crew:
                while len(worker.busy) < _AHEAD:
                    segment = again.popleft() if again else next(segments, None)
                    if segment is None:
                        break
                    worker.give(segment)
            if not any(worker.busy for worker in crew):
                return
            ready = wait([worker.connection for worker in crew])
            for number, worker in enumerate(crew):
                if worker.connection not in ready:
                    continue
                message = worker.hear()
                if message is None:
                    told(number, None)
                    again.extend(_lost(worker, deaths))
                elif isinstance(message, CloudconvError):
                    raise message
                elif message[0] == "done":
                    done(worker.busy.pop(message[1]), message[2])
                else:
                    told(number, message[1])


def _lost(worker: _Worker, deaths: Counter[int]) -> list[Segment]:
    """Replace a process that has died; the segments that it had."""
    segments = list(worker.busy.values())
    code = worker.replace()
    if code == 1:
        raise RuntimeError("a worker process failed; what it said stands above")
    # The oldest is the one that it worked on.
    deaths.update(segment.number for segment in segments[:1])
    if any(count >= _TRIES for count in deaths.values()):
        raise DeviceError(
            f"Worker processes died {_TRIES} times on the same frames (exit code {code}), most "
            "likely for want of memory: use fewer workers."
        )
    return segments


class Jobs(Iterator[Segment]):
    """The segments that a worker is given, as they come."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Segment | None] = queue.SimpleQueue()

    def put(self, segment: Segment | None) -> None:
        """Add one; None is the end."""
        self._queue.put(segment)

    def close(self) -> None:
        """Let nobody wait for more."""
        self._queue.put(None)

    def __next__(self) -> Segment:
        segment = self._queue.get()
        if segment is None:
            raise StopIteration
        return segment


class _Worker:
    """A process, and the segments that it has; a context manager that ends it."""

    def __init__(self, work: Work) -> None:
        self.busy: dict[int, Segment] = {}
        self._work = work
        self._start()

    def _start(self) -> None:
        # A forked child would inherit locks that threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, segment: Segment) -> None:
        self.busy[segment.number] = segment
        try:
            self.connection.send(segment)
        except OSError:
            return  # it has died, which is noticed where its messages are waited for

    def hear(self) -> Any:
        """Its next message; None if it has died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def replace(self) -> int | None:
        """Start another process in its place; returns the exit code of the old one."""
        self._end()
        code = self._process.exitcode
        self.busy = {}
        self._start()
        return code

    def _end(self) -> None:
        self.connection.close()
        self._process.join(1)
        self._process.kill()
        self._process.join()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._end()


def _serve(connection: Connection, work: Work) -> None:
    """The main function of a worker process."""
    # Ctrl-C reaches every process of the terminal; the one that shares out the work decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs = Jobs()
    lock = threading.Lock()

    def listen() -> None:
        try:
            while True:
                jobs.put(connection.recv())
        except (EOFError, OSError):
            # Whoever gave out the work is gone; nobody would ever look at the result.
            os._exit(0)

    def send(message: object) -> None:
        with lock:
            connection.send(message)

    threading.Thread(target=listen, daemon=True).start()
    try:
        work(jobs, lambda segment, result: send(("done", segment.number, result)),
             lambda message: send(("told", message)))  # fmt: skip
    except CloudconvError as error:
        send(error)
