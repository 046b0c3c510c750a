"""What a job tells while it works: every job is an iterator of these events.

A step that takes time is a generator of events, too, and hands its result back with ``return``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from cloudconv.messages import Word, keyword, rendered, warning

Result = TypeVar("Result", covariant=True)

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

    ``done`` of ``total`` (None: unknown) are done: frames, in ``adapting`` seconds, in
    ``analysing`` percent, in ``training`` steps. An earlier run made ``resumed`` of them.
    ``seconds_left``: where the clock decides when a stage ends.
    """

    stage: Stage
    done: int
    total: int | None
    resumed: int = 0
    seconds_left: float | None = None


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
Events = Iterator[Event]


def result_of(events: Iterator[Event]) -> Any:
    """Take all events, and return what the job has finished with."""
    result = None
    for event in events:
        if isinstance(event, Finished):
            result = event.result
    return result
