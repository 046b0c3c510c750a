"""Define the events of a job; a step that takes time is a generator of events too."""

import inspect
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

from cloudconv import interrupts
from cloudconv.errors import CloudconvError
from cloudconv.messages import in_python

Result = TypeVar("Result", covariant=True)
Given = ParamSpec("Given")

_SPEED_SECONDS = 60.0  # over which a speed is measured


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning for the user: ``message`` has a code, a colon and a text.

    ``about`` names the input if there are several.
    """

    message: str
    about: str | None = None

    @property
    def code(self) -> str:
        """Return the code, which identifies the warning for programs."""
        return self.message.partition(": ")[0]

    @property
    def text(self) -> str:
        """Return the text with options as on the command line."""
        return self.message.partition(": ")[2]

    def __str__(self) -> str:
        return in_python(self.text)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a stage: ``done`` of ``total`` items, or of an unknown number.

    An earlier run made ``resumed`` of them. ``seconds_left`` is the rest of a time limit,
    or it follows from ``rate``, the items a second in the last minute; None if unknown.
    """

    stage: Literal["checking", "analysing", "training", "scoring", "rendering", "joining"]
    done: int
    total: int | None
    resumed: int = 0
    seconds_left: float | None = None
    unit: str = "frames"
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured values of a running job.

    ``name`` is ``losses``, ``vitals``, ``check``, ``held`` for a trial of a forecast,
    ``verdict`` for a mode of a preview, or ``stopping`` for a training after Ctrl-C.
    """

    name: str
    values: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one of several ``inputs``, which ``number`` counts from 0.

    ``outcome`` is the result, the CloudconvError, or an output that existed.
    """

    number: int
    input: str
    outcome: Any
    inputs: int


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The end of a job, with its result; no event follows."""

    result: Result


Event = Warned | Progress | Measured | Ended | Finished[Any]
Job = Generator[Event, None, None]  # a running job; its last event is ``Finished``


class Warnings(list[Warned]):
    """The warnings of a job, each once, in the order in which they were found.

    The job makes this object, and gives it to all that may warn, also in other threads.
    :func:`reporting` yields the warnings as events; the result of the job has them all.
    """

    _yielded = 0

    def add(self, *warnings: Warned) -> None:
        """Add the warnings that are new."""
        self.extend(dict.fromkeys(new for new in warnings if new not in self))

    def amid(self, events: Iterable[Any]) -> Iterator[Any]:
        """Yield the new warnings before each of the ``events``, and before an error.

        After the iterator is closed, no warning is yielded.
        """
        try:
            for event in events:
                yield from self.new()
                yield event
        except GeneratorExit:
            self._yielded = sys.maxsize
        finally:
            yield from self.new()

    def new(self) -> Iterator[Warned]:
        """Yield the warnings that were added after the last call."""
        while self._yielded < len(self):
            self._yielded += 1
            yield self[self._yielded - 1]


class Pace:
    """The speed of a stage in the last minute, from which the rest of its time follows.

    The speed is measured from the first item on: the start of a stage takes longer.
    """

    def __init__(self) -> None:
        self._stage: tuple[str, int] | None = None
        self._marks: deque[tuple[float, int]] = deque(maxlen=1000)

    def __call__(self, at: Progress) -> Progress:
        """Return the progress with its rate, and with ``seconds_left`` if this follows."""
        if self._stage != (at.stage, at.resumed):
            self._stage = at.stage, at.resumed
            self._marks.clear()
        if at.done <= at.resumed:
            return at
        now = time.monotonic()
        self._marks.append((now, at.done))
        while now - self._marks[0][0] > _SPEED_SECONDS:
            self._marks.popleft()
        began, first = self._marks[0]
        if at.done <= first or now <= began:
            return at
        rate = (at.done - first) / (now - began)
        left = at.seconds_left
        if left is None and at.total is not None:
            left = max(at.total - at.done, 0) / rate
        return replace(at, rate=rate, seconds_left=left)


def reporting(run: Callable[Concatenate[Warnings, Given], Job]) -> Callable[Given, Job]:
    """Give a function that makes a job the warnings, which the job then yields.

    New warnings come before each event, and before an error or an interrupt; also those of
    other threads.
    """

    @wraps(run)
    def reported(*arguments: Given.args, **options: Given.kwargs) -> Job:
        warnings = Warnings()
        with closing(run(warnings, *arguments, **options)) as job:
            yield from warnings.amid(job)

    return reported


def watched(job: Job, show: Callable[[Event], object] = lambda _: None) -> Any:
    """Run a job to its end and return its result; call ``show`` with each event.

    After Ctrl-C during ``show`` the job ends at its next check, and reports the saved work.
    An error after a signal is an interrupt.
    """
    result: Any = None
    with closing(job):
        while inspect.getgeneratorstate(job) != inspect.GEN_CLOSED:
            try:
                for event in job:
                    if isinstance(event, Finished):
                        result = event.result
                    show(event)
            except KeyboardInterrupt:
                if inspect.getgeneratorstate(job) == inspect.GEN_CLOSED:
                    raise
                interrupts.remember()
            except CloudconvError:
                # A library that discards an interrupt may report a file as damaged.
                interrupts.check()
                raise
    if result is None:  # the job has ended at an interrupt
        raise KeyboardInterrupt
    return result
