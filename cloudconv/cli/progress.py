"""Show the progress of a run: a bar on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from cloudconv.cli import interrupts
from cloudconv.cli.streams import print_message
from cloudconv.cli.text import clock
from cloudconv.events import Progress

Mode = Literal["auto", "json", "off"]

JSON_EVERY = 1.0
LINE_EVERY = 10.0
"""The least time in seconds between two JSON objects, or between two lines."""

_WINDOW = 60.0  # seconds over which the speed is measured
_LEAST_SECONDS = 0.1  # a speed over less time is too inexact to show


@dataclass
class Stage:
    """One stage of a run, with its latest progress, and its speed over the last minute.

    ``at`` is the latest progress. ``now`` returns the time in seconds. ``counts`` are pairs of a
    time and the number of items made until then, for the last minute.
    """

    name: str
    at: Progress
    note: str = ""
    now: Callable[[], float] = field(default_factory=lambda: time.monotonic)
    counts: deque[tuple[float, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Start to measure the speed."""
        self.counts.append((self.now(), 0.0))

    def count(self, made: float) -> None:
        """Record the number of items made so far."""
        moment = self.now()
        self.counts.append((moment, made))
        while len(self.counts) > 2 and self.counts[1][0] < moment - _WINDOW:
            self.counts.popleft()

    @property
    def rate(self) -> float | None:
        """Return the number of items per second, or None before the first measurement."""
        (started, before), (ended, made) = self.counts[0], self.counts[-1]
        if made <= before or ended < started + _LEAST_SECONDS:
            return None
        return (made - before) / (ended - started)

    @property
    def seconds_left(self) -> float | None:
        """Return the remaining time in seconds, or None if it is unknown."""
        if self.at.seconds_left is not None or self.at.total is None or self.rate is None:
            return self.at.seconds_left
        return max(self.at.total - self.at.done, 0) / self.rate

    @property
    def speed(self) -> list[str]:
        """Return the rate and the remaining time as texts; an unknown value is left out."""
        rate, left, unit = self.rate, self.seconds_left, self.at.unit
        # A rate in seconds or percent per second is of no use to a user.
        words = [] if rate is None or unit in ("s", "%") else [f"{rate:.1f} {unit}/s"]
        return words if left is None else [*words, f"{clock(left)} left"]


class Reporter:
    """A receiver of progress that passes stages to ``show``, at most once in each period.

    Args:
        label: the name of the first stage.
        show: a function that shows a stage.
        period: the least time in seconds between two calls of ``show``.
        first: the time in seconds until the first call.
        last: whether the end of each stage is shown too.
    """

    def __init__(
        self,
        label: str,
        show: Callable[[Stage], object],
        period: float = 0.0,
        *,
        first: float = 0.0,
        last: bool = False,
    ) -> None:
        """Start the first stage, without progress."""
        self._stage = Stage(label, Progress("rendering", 0, None))
        self._show, self._period, self._last = show, period, last
        self._due = time.monotonic() + first
        self._is_pending = False

    def __call__(self, at: Progress, note: str = "", *, stage: str | None = None) -> None:
        """Show the progress of a stage.

        Args:
            at: the progress. Items of an earlier run do not count for the speed.
            note: a few words to show beside the progress.
            stage: the name of the stage; a new name starts a new stage.

        Raises:
            KeyboardInterrupt: the user has interrupted the run. A callback may have discarded the
                exception of the signal itself.
        """
        interrupts.check()
        if stage is not None and stage != self._stage.name:
            self.finish()
            self._stage = Stage(stage, at)
        self._stage.at, self._stage.note = at, note
        self._stage.count(at.done - at.resumed)
        self._is_pending = True
        if time.monotonic() >= self._due:
            self._show_now()

    def finish(self) -> None:
        """End the current stage; show its end if ``last`` is set."""
        if self._is_pending and self._last:
            self._show_now()

    def _show_now(self) -> None:
        self._due, self._is_pending = time.monotonic() + self._period, False
        self._show(self._stage)


def _print_line(stage: Stage) -> None:
    of = "" if stage.at.total is None else f" of {stage.at.total}"
    counts = f"{stage.name}: {stage.at.done}{of} {stage.at.unit}"
    print_message(", ".join(part for part in (counts, *stage.speed, stage.note) if part))


def _print_object(stage: Stage) -> None:
    rate, left = stage.rate, stage.seconds_left
    shown: dict[str, Any] = {"stage": stage.name, "done": stage.at.done, "total": stage.at.total}
    shown["rate"] = None if rate is None else round(rate, 3)
    shown["seconds_left"] = None if left is None else round(left, 1)
    print_message(json.dumps(shown))


@contextmanager
def reporting(label: str, mode: Mode, *, quiet: bool) -> Iterator[Reporter]:
    """Return a context with a reporter that shows progress on stderr.

    Args:
        label: the name of the first stage.
        mode: ``auto`` is a bar on a terminal, otherwise a line every ten seconds. ``json`` is a
            JSON object every second. ``off`` shows nothing.
        quiet: whether the mode ``auto`` shows nothing too.
    """
    if mode == "json":
        reporter = Reporter(label, _print_object, JSON_EVERY, last=True)
        yield reporter
        reporter.finish()
    elif mode == "off" or quiet:
        yield Reporter(label, lambda _: None)
    elif not sys.stderr.isatty():
        yield Reporter(label, _print_line, LINE_EVERY, first=LINE_EVERY)
    else:
        # rich is imported here, because --help should start fast.
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        # On a narrow terminal the bar and the note become shorter. Numbers are never cut off.
        unshortened = Column(no_wrap=True)
        columns = [
            TextColumn("{task.description}", markup=False, table_column=unshortened),
            BarColumn(),
            MofNCompleteColumn(table_column=unshortened),
            TextColumn("{task.fields[speed]}", markup=False, table_column=unshortened),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None, note="", speed="")

            def draw(stage: Stage) -> None:
                bar.update(
                    task,
                    description=stage.name,
                    completed=stage.at.done,
                    total=stage.at.total,
                    note=stage.note,
                    speed="  ".join(stage.speed),
                )

            yield Reporter(label, draw)
