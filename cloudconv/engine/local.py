"""Pieces of work shared out among processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from cloudconv.errors import CloudconvError, DeviceError

_AHEAD = 2
"""Pieces that a worker has at once: it decodes the next one while it encodes the last."""
_TRIES = 3

Piece = TypeVar("Piece")
Given = TypeVar("Given", contravariant=True)


class Work(Protocol[Piece]):
    """What one process does from its start to its end; picklable.

    It takes its pieces in order, and calls ``done`` in that order with what came of each, ``tell``
    with whatever is worth telling meanwhile. An error is about the first piece that is not done;
    then it closes ``pieces``.
    """

    def __call__(
        self,
        pieces: Pieces[Piece],
        done: Callable[[Any], None],
        tell: Callable[[Any], None],
    ) -> None: ...


class Client(Protocol[Given]):
    """Whose pieces they are."""

    def done(self, piece: Given, result: Any) -> None:
        """Told of each piece and what came of it."""

    def failed(self, piece: Given, error: CloudconvError) -> None:
        """Told of a piece that cannot be done; what this raises ends the sharing."""

    def again(self, piece: Given) -> bool:
        """Told of a piece that was lost; whether another worker shall do it."""

    def told(self, number: int, message: Any) -> None:
        """Told the number of a process and what it tells; None when it has ended early."""


def share(works: Sequence[Work[Piece]], pieces: Iterator[Piece], client: Client[Piece]) -> None:
    """Start a process for each of ``works`` and give them pieces until there are no more.

    Pieces are done in any order. Those of a process that dies are given to others, and another
    process takes its place. All processes end with this call, and with this process, however it
    ends.

    Args:
        works: what each process does.
        pieces: taken as they are needed, a few ahead.
        client: told what becomes of them. A piece fails where its worker raised an error, and
            where processes died again and again on it.
    """
    with ExitStack() as stack:
        crew = [stack.enter_context(_Worker(work)) for work in works]
        waiting: deque[_Job] = deque()
        while True:
            # Whoever has least gets the next one: pieces may become known slowly.
            while len((idlest := min(crew, key=lambda each: len(each.busy))).busy) < _AHEAD:
                if not waiting:
                    piece = next(pieces, None)
                    if piece is None:
                        break
                    waiting.append(_Job(piece))
                idlest.give(waiting.popleft())
            if not any(worker.busy for worker in crew):
                return
            ready = wait([worker.connection for worker in crew])
            for number, worker in enumerate(crew):
                if worker.connection not in ready:
                    continue
                message = worker.hear()
                if message is None or isinstance(message, CloudconvError):
                    client.told(number, None)
                    waiting.extend(_lost(worker, message, client))
                elif message[0] == "done":
                    client.done(worker.busy.popleft().piece, message[1])
                else:
                    client.told(number, message[1])


@dataclass(slots=True)
class _Job:
    """A piece, and how many processes died of it."""

    piece: Any
    deaths: int = 0


def _lost(worker: _Worker, error: CloudconvError | None, client: Client[Any]) -> list[_Job]:
    """Replace a process that has ended; the pieces that it had and that are not given up."""
    jobs = list(worker.busy)
    code = worker.replace()
    if error is None and code == 1:
        raise RuntimeError("a worker process failed; what it said stands above")
    if not jobs:
        return []
    # The oldest is the one that it worked on.
    oldest, *others = jobs
    oldest.deaths += 1
    if error is None and oldest.deaths < _TRIES:
        others = jobs
    else:
        client.failed(
            oldest.piece,
            error
            or DeviceError(
                f"Worker processes died {_TRIES} times on the same frames (exit code {code}), most "
                "likely for want of memory: use fewer workers."
            ),
        )
    return [job for job in others if client.again(job.piece)]


class Pieces(Iterator[Piece]):
    """The pieces that a worker is given, as they come."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Piece] | None] = queue.SimpleQueue()

    def put(self, piece: Piece) -> None:
        """Add one."""
        self._queue.put((piece,))

    def close(self) -> None:
        """Let nobody wait for more."""
        self._queue.put(None)

    def __next__(self) -> Piece:
        held = self._queue.get()
        if held is None:
            raise StopIteration
        return held[0]


class _Worker:
    """A process, and the pieces that it has; a context manager that ends it."""

    def __init__(self, work: Work[Any]) -> None:
        self.busy: deque[_Job] = deque()
        self._work = work
        self._start()

    def _start(self) -> None:
        # A forked child would inherit locks that threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, job: _Job) -> None:
        self.busy.append(job)
        try:
            self.connection.send(job.piece)
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
        self.busy.clear()
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


def _serve(connection: Connection, work: Work[Any]) -> None:
    """The main function of a worker process."""
    # Ctrl-C reaches every process of the terminal; the one that shares out the work decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pieces: Pieces[Any] = Pieces()
    lock = threading.Lock()

    def listen() -> None:
        try:
            while True:
                pieces.put(connection.recv())
        except (EOFError, OSError):
            # Whoever gave out the work is gone; nobody would ever look at the result.
            os._exit(0)

    def send(message: object) -> None:
        with lock:
            connection.send(message)

    threading.Thread(target=listen, daemon=True).start()
    try:
        work(
            pieces,
            lambda result: send(("done", result)),
            lambda message: send(("told", message)),
        )
    except CloudconvError as error:
        send(error)
