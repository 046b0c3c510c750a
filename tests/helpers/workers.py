"""Work for the tests of workers. None needs pictures, so that the workers start quickly."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cloudconv.errors import CloudconvError, InputError
from cloudconv.events import Finished
from tests.helpers.system import kill_this_process


@dataclass(frozen=True)
class Number:
    """A stand-in for a segment, which has a number too."""

    number: int


class Tenfold:
    """Work that multiplies by ten and reports its process.

    The work fails at the number ``fails``. Its process dies at the number ``deadly``, the
    given number of ``times``; the size of the file ``deaths`` counts them.
    """

    def __init__(
        self, fails: int = -1, deadly: int = -1, deaths: Path = Path(), times: int = 1
    ) -> None:
        self.fails = fails
        self.deadly = deadly
        self.deaths = deaths
        self.times = times

    def __call__(self, plan: object, at: Number) -> Iterator[Any]:
        if at.number == self.deadly:
            with self.deaths.open("ab") as file:
                if file.tell() < self.times:
                    file.write(b"x")
                    file.flush()
                    kill_this_process()
        if at.number == self.fails:
            raise InputError(
                "no-permission: this cannot be read: permission denied. Change its "
                "permissions."
            )
        yield os.getpid()
        yield Finished(at.number * 10)


class Waits:
    """Work that reports its process and one of its variables, and never ends."""

    def __call__(self, plan: object, at: Number) -> Iterator[Any]:
        yield os.getpid(), os.environ.get("OMP_WAIT_POLICY")
        threading.Event().wait(60)


def numbered(count: int) -> Iterator[Number]:
    return map(Number, range(count))


def rendered(workers: Any, numbers: Iterator[Number | None]) -> Iterator[Any]:
    """Yield the events of workers whose work uses neither a plan nor a store."""
    kept: list[tuple[int, Any]] = []
    events = workers.map(None, numbers, lambda at, result: kept.append((at.number, result)))
    with closing(events):
        yield from _seen(events, kept)


def _seen(events: Iterator[Any], kept: list[tuple[int, Any]]) -> Iterator[Any]:
    for number, content in events:
        result = content.result if isinstance(content, Finished) else None
        error = result if isinstance(result, CloudconvError) else None
        yield SimpleNamespace(number=number, content=content, error=error)
        if isinstance(content, Finished) and error is None:
            assert kept[-1] == (number, result)
