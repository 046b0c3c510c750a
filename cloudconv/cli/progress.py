"""How far a run has come: a bar on a terminal, a line now and then elsewhere, JSON for programs."""

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
from cloudconv.cli.streams import tell

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Mode = Literal["auto", "json", "off"]

JSON_EVERY = 1.0
LINE_EVERY = 10.0
"""Seconds between two objects, or two lines, at least."""

_WINDOW = 60.0  # seconds over which speed is measured


_SOON = 0.1  # seconds before which a speed means nothing


class Pace:
    """The speed of what is made, over the last minute; ``now`` tells the time in seconds."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or time.monotonic
        self._marks: deque[tuple[float, float]] = deque([(self._now(), 0.0)])

    def note(self, made: float) -> None:
        """So much is made by now."""
        moment = self._now()
        self._marks.append((moment, made))
        while len(self._marks) > 2 and self._marks[1][0] < moment - _WINDOW:
            self._marks.popleft()

    @property
    def rate(self) -> float | None:
        """What is made in a second; None as long as nothing is."""
        (began, before), (ended, made) = self._marks[0], self._marks[-1]
        if made <= before or ended < began + _SOON:
            return None
        return (made - before) / (ended - began)


@dataclass(slots=True)
class Stage:
    """One stage of a run, counted in ``unit``, and how fast it goes."""

    name: str
    unit: str
    done: int = 0
    total: int | None = None
    note: str = ""
    left: float | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def seconds_left(self) -> float | None:
        rate = self.pace.rate
        if self.left is not None or self.total is None or rate is None:
            return self.left
        return max(self.total - self.done, 0) / rate

    @property
    def speed(self) -> list[str]:
        """The rate and the time left in words, as far as they are known."""
        rate, left = self.pace.rate, self.seconds_left
        # Seconds and percent are of a stage that takes its time, whatever is made meanwhile.
        said = [] if rate is None or self.unit in ("s", "%") else [f"{rate:.1f} {self.unit}/s"]
        return said if left is None else [*said, f"{clock(left)} left"]


class Reporter:
    """Tells how far a run has come to nobody; those below tell somebody."""

    def __init__(self, label: str, unit: str) -> None:
        self._stage, self._unit = Stage(label, unit), unit

    def __call__(
        self,
        done: int,
        total: int | None,
        note: str = "",
        *,
        found: int = 0,
        stage: str | None = None,
        unit: str | None = None,
        left: float | None = None,
    ) -> None:
        """So many of so many are done.

        ``note``: a few words. ``found`` of the ``done`` ones were there before, and say nothing of
        the speed. A new ``stage`` begins anew, in its own ``unit`` if it has one. ``left``: the
        seconds still to go, where somebody knows better than from the speed so far.

        Raises:
            KeyboardInterrupt: one was asked for and got lost.
        """
        interrupts.check()
        at = self._stage
        if stage is not None and stage != at.name:
            self._end(at)
            at = self._stage = Stage(stage, unit or self._unit)
        at.done, at.total, at.note, at.left = done, total, note, left
        at.pace.note(done - found)
        self._show(at)

    def finish(self) -> None:
        """The last stage is over."""
        self._end(self._stage)

    def _show(self, stage: Stage) -> None:
        pass

    def _end(self, stage: Stage) -> None:
        pass


class _Lines(Reporter):
    """A line every ten seconds."""

    def __init__(self, label: str, unit: str) -> None:
        super().__init__(label, unit)
        self._said = time.monotonic()

    def _show(self, stage: Stage) -> None:
        if (moment := time.monotonic()) - self._said >= LINE_EVERY:
            self._said = moment
            of = "" if stage.total is None else f" of {stage.total}"
            counted = f"{stage.name}: {stage.done}{of} {stage.unit}"
            tell(", ".join(part for part in (counted, *stage.speed, stage.note) if part))


class _Objects(Reporter):
    """A JSON object a second, and the last word on every stage."""

    def __init__(self, label: str, unit: str) -> None:
        super().__init__(label, unit)
        self._said = -JSON_EVERY
        self._waiting = False

    def _show(self, stage: Stage) -> None:
        self._waiting = True
        if time.monotonic() - self._said >= JSON_EVERY:
            self._end(stage)

    def _end(self, stage: Stage) -> None:
        if not self._waiting:
            return
        self._said, self._waiting = time.monotonic(), False
        rate, left = stage.pace.rate, stage.seconds_left
        shown = {
            "stage": stage.name,
            "done": stage.done,
            "total": stage.total,
            "rate": None if rate is None else round(rate, 3),
            "seconds_left": None if left is None else round(left, 1),
        }
        tell(json.dumps(shown))


class _Bar(Reporter):
    """A bar on a terminal."""

    def __init__(self, label: str, unit: str, bar: RichProgress) -> None:
        super().__init__(label, unit)
        self._bar = bar
        self._task = bar.add_task(label, total=None, note="", speed="")

    def _show(self, stage: Stage) -> None:
        self._bar.update(
            self._task,
            description=stage.name,
            completed=stage.done,
            total=stage.total,
            note=stage.note,
            speed="  ".join(stage.speed),
        )


@contextmanager
def reporting(label: str, mode: Mode, *, quiet: bool, unit: str = "frames") -> Iterator[Reporter]:
    """Tell how far a run has come; ``auto`` is a bar on a terminal, else a line now and then."""
    if mode == "auto" and not quiet and sys.stderr.isatty():
        # Here and not above: rich costs start-up time that --help shouldn't pay.
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        # Where it is narrow the bar and the note give way, never a number.
        whole = Column(no_wrap=True)
        columns = [
            TextColumn("{task.description}", markup=False, table_column=whole),
            BarColumn(),
            MofNCompleteColumn(table_column=whole),
            TextColumn("{task.fields[speed]}", markup=False, table_column=whole),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            yield _Bar(label, unit, bar)
        return
    silent = mode == "off" or (mode == "auto" and quiet)
    kind = Reporter if silent else _Objects if mode == "json" else _Lines
    reporter = kind(label, unit)
    yield reporter
    reporter.finish()


def clock(seconds: float) -> str:
    """A length of time for people: 8.3 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
