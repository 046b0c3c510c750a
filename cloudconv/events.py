"""Define the events of a job; a step that takes time is a generator of events too."""

import inspect
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from cloudconv.messages import in_python

Result = TypeVar("Result", covariant=True)
Returned = TypeVar("Returned")
Yielded = TypeVar("Yielded")

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


class Reported(list[Warned]):
    """The warnings that a job has yielded, each once, for its result."""

    def new(self, warnings: Iterable[Warned]) -> Iterator[Warned]:
        """Yield and keep those of the warnings that are new."""
        for warned in warnings:
            if warned not in self:
                self.append(warned)
                yield warned


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


def watched(job: Job, show: Callable[[Event], object] = lambda _: None) -> Any:
    """Run a job to its end and return its result; call ``show`` with each event.

    Ctrl-C during this call is raised inside the job, which then reports the saved work.
    """
    result: Any = None
    interrupt: KeyboardInterrupt | None = None
    with closing(job):
        while True:
            try:
                event = job.throw(interrupt) if interrupt else next(job)
                interrupt = None
                if isinstance(event, Finished):
                    result = event.result
                show(event)
            except StopIteration:
                break
            except KeyboardInterrupt as error:
                # A signal that arrives while the job yields is raised here, outside the
                # job.
                if inspect.getgeneratorstate(job) == inspect.GEN_CLOSED:
                    raise
                interrupt = error
    if interrupt is not None and result is None:
        raise interrupt
    return result


def mapped(
    events: Generator[Yielded, None, Returned], change: Callable[[Yielded], Any]
) -> Generator[Any, None, Returned]:
    """Yield what ``change`` makes of each event, unless it is None; return the result.

    An interrupt and the closing of this generator reach ``events``.
    """
    try:
        event = next(events)
        while True:
            changed = change(event)
            try:
                if changed is not None:
                    yield changed
            except GeneratorExit:
                events.close()
                raise
            except KeyboardInterrupt as error:
                event = events.throw(error)
            else:
                event = next(events)
    except StopIteration as end:
        returned: Returned = end.value
        return returned
