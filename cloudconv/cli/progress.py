"""Show the progress of a run: a bar on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cloudconv.cli import interrupts
from cloudconv.cli.streams import say
from cloudconv.events import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Mode = Literal["auto", "json", "off"]

JSON_EVERY = 1.0
LINE_EVERY = 10.0
"""The least time in seconds between two objects, or two lines."""

_WINDOW = 60.0  # seconds over which the speed is measured
_SOON = 0.1  # seconds; a speed over less time means nothing


class Pace:
    """The speed over the last minute."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Start measuring; ``now`` returns the time in seconds."""
        self._now = now or time.monotonic
        self._marks: deque[tuple[float, float]] = deque([(self._now(), 0.0)])

    def note(self, made: float) -> None:
        """Record the number of items made so far."""
        moment = self._now()
        self._marks.append((moment, made))
        while len(self._marks) > 2 and self._marks[1][0] < moment - _WINDOW:
            self._marks.popleft()

    @property
    def rate(self) -> float | None:
        """Return the number of items per second, or None while none is made."""
        (started, before), (ended, made) = self._marks[0], self._marks[-1]
        if made <= before or ended < started + _SOON:
            return None
        return (made - before) / (ended - started)


@dataclass(slots=True)
class Stage:
    """One stage of a run, with its latest progress and its speed."""

    name: str
    at: Progress
    note: str = ""
    pace: Pace = field(default_factory=Pace)

    @property
    def seconds_left(self) -> float | None:
        """Return the remaining time in seconds, or None if it is unknown."""
        rate, at = self.pace.rate, self.at
        if at.seconds_left is not None or at.total is None or rate is None:
            return at.seconds_left
        return max(at.total - at.done, 0) / rate

    @property
    def speed(self) -> list[str]:
        """Return the rate and the remaining time in words, as far as they are known."""
        rate, left, unit = self.pace.rate, self.seconds_left, self.at.unit
        # A stage that is counted in seconds or percent lasts for a given time.
        words = [] if rate is None or unit in ("s", "%") else [f"{rate:.1f} {unit}/s"]
        return words if left is None else [*words, f"{clock(left)} left"]


class Reporter:
    """A silent reporter of progress; its subclasses show each stage."""

    def __init__(self, label: str) -> None:
        """Start with a stage of this name."""
        self._stage = Stage(label, Progress("rendering", 0, None))
        self._last = -JSON_EVERY

    def __call__(self, at: Progress, note: str = "", *, stage: str | None = None) -> None:
        """Show the progress of a stage.

        Args:
            at: the progress. Items of an earlier run do not count for the speed.
            note: a few words to show with it.
            stage: the name of the stage; a new name starts a new stage.

        Raises:
            KeyboardInterrupt: Python has lost an earlier one.
        """
        interrupts.check()
        if stage is not None and stage != self._stage.name:
            self._end(self._stage)
            self._stage = Stage(stage, at)
        self._stage.at, self._stage.note = at, note
        self._stage.pace.note(at.done - at.resumed)
        self._show(self._stage)

    def finish(self) -> None:
        """End the last stage."""
        self._end(self._stage)

    def _is_due(self, period: float) -> bool:
        if (moment := time.monotonic()) - self._last < period:
            return False
        self._last = moment
        return True

    def _show(self, stage: Stage) -> None:
        pass

    def _end(self, stage: Stage) -> None:
        pass


class _Lines(Reporter):
    """A reporter that prints a line every ten seconds."""

    def __init__(self, label: str) -> None:
        """Print the first line after ten seconds."""
        super().__init__(label)
        self._last = time.monotonic()

    def _show(self, stage: Stage) -> None:
        if self._is_due(LINE_EVERY):
            of = "" if stage.at.total is None else f" of {stage.at.total}"
            counts = f"{stage.name}: {stage.at.done}{of} {stage.at.unit}"
            say(", ".join(part for part in (counts, *stage.speed, stage.note) if part))


class _Objects(Reporter):
    """A reporter that prints a JSON object a second, and one at the end of every stage."""

    _waiting = False

    def _show(self, stage: Stage) -> None:
        self._waiting = True
        if self._is_due(JSON_EVERY):
            self._end(stage)

    def _end(self, stage: Stage) -> None:
        if not self._waiting:
            return
        self._last, self._waiting = time.monotonic(), False
        rate, left = stage.pace.rate, stage.seconds_left
        shown = {
            "stage": stage.name,
            "done": stage.at.done,
            "total": stage.at.total,
            "rate": None if rate is None else round(rate, 3),
            "seconds_left": None if left is None else round(left, 1),
        }
        say(json.dumps(shown))


class _Bar(Reporter):
    """A reporter that draws a bar on a terminal."""

    def __init__(self, label: str, bar: RichProgress) -> None:
        """Add a task to the bar."""
        super().__init__(label)
        self._bar = bar
        self._task = bar.add_task(label, total=None, note="", speed="")

    def _show(self, stage: Stage) -> None:
        self._bar.update(
            self._task,
            description=stage.name,
            completed=stage.at.done,
            total=stage.at.total,
            note=stage.note,
            speed="  ".join(stage.speed),
        )


@contextmanager
def reporting(label: str, mode: Mode, *, quiet: bool) -> Iterator[Reporter]:
    """Show progress; ``auto`` is a bar on a terminal, otherwise a line every ten seconds."""
    if mode == "auto" and not quiet and sys.stderr.isatty():
        # rich is imported here, because --help should start fast.
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        # On a narrow terminal the bar and the note give way, never a number.
        whole = Column(no_wrap=True)
        columns = [
            TextColumn("{task.description}", markup=False, table_column=whole),
            BarColumn(),
            MofNCompleteColumn(table_column=whole),
            TextColumn("{task.fields[speed]}", markup=False, table_column=whole),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            yield _Bar(label, bar)
        return
    silent = mode == "off" or (mode == "auto" and quiet)
    reporter = (Reporter if silent else _Objects if mode == "json" else _Lines)(label)
    yield reporter
    reporter.finish()


def clock(seconds: float) -> str:
    """Return a length of time for people: 8.3 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
