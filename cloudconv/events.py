"""What a job tells while it works: every job is an iterator of these events.

A step that takes time is a generator of events, too, and hands its result back with ``return``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from cloudconv.messages import Word, keyword, rendered, warning

Result = TypeVar("Result", covariant=True)
Returned = TypeVar("Returned")

Stage = Literal["checking", "analysing", "adapting", "training", "scoring", "rendering", "joining"]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should look at.

    ``code`` says what, ``parameters`` are what its text tells (:mod:`cloudconv.messages`), and
    ``about`` is the input that it is about, where there are several.
    """

    code: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    about: str | None = None

    def text(self, word: Word = keyword) -> str:
        """Return a sentence; ``word`` shows the options in it."""
        return rendered(warning(self.code, self.parameters), word)

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage has come.

    ``done`` of ``total`` (None: unknown) are done, counted in ``unit``. An earlier run made
    ``resumed`` of them. ``seconds_left``: where the clock decides when a stage ends.
    """

    stage: Stage
    done: int
    total: int | None
    resumed: int = 0
    seconds_left: float | None = None
    unit: str = "frames"


@dataclass(frozen=True, slots=True)
class Measured:
    """Values that were measured on the way: losses, a validation, the vitals of a dream."""

    name: str
    values: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """One of several inputs has ended: with a result, or with a CloudconvError."""

    number: int
    input: str
    outcome: Any


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The job is done; no event follows."""

    result: Result


Event = Warned | Progress | Measured | Ended | Finished[Any]
Job = Generator[Event, None, None]
"""A job at work; its last event is ``Finished``."""


def watched(job: Job, show: Callable[[Event], object] = lambda _: None) -> Any:
    """Take all events of a job, and return what it has finished with.

    Args:
        job: at work.
        show: called with each event; Ctrl-C in it is raised in the job, which says what is kept.
    """
    result: Any = None
    with closing(job):
        event = next(job, None)
        while event is not None:
            if isinstance(event, Finished):
                result = event.result
            try:
                show(event)
            except KeyboardInterrupt as error:
                event = job.throw(error)
            else:
                event = next(job, None)
    return result


class Warnings:
    """The warnings of a job, each once; ``said`` in their order."""

    def __init__(self) -> None:
        self.said: list[Warned] = []

    def new(self, warnings: Iterable[Warned]) -> Iterator[Warned]:
        """Yield those that are new."""
        for warned in warnings:
            if warned not in self.said:
                self.said.append(warned)
                yield warned


def mapped(
    events: Generator[Event, None, Returned], change: Callable[[Event], Event]
) -> Generator[Event, None, Returned]:
    """Pass events on, each changed, and what is thrown back; return what ``events`` returns."""
    try:
        event = next(events)
        while True:
            try:
                yield change(event)
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


def returned(events: Generator[Any, None, Returned]) -> Returned:
    """Take all events of a step; return what the step returns."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            value: Returned = end.value
            return value
