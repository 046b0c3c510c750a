"""Show the progress of a run: a bar on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from cloudconv.cli import interrupts
from cloudconv.cli.streams import print_message
from cloudconv.cli.text import clock
from cloudconv.events import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import Task

ProgressMode = Literal["auto", "json", "off"]

JSON_EVERY = 1.0
LINE_EVERY = 10.0
_BAR_EVERY = 0.1
"""The least time in seconds between two JSON objects, two lines, or two texts beside the bar."""

_WINDOW = 60.0  # seconds over which the speed is measured


class Reporter:
    """A receiver of progress that calls ``show`` at most once in each ``period`` of seconds.

    Each stage of a run is a task of ``bar``, a bar of the library rich, which measures the speed
    also if it is disabled. The fields of the task are ``at``, the latest :class:`Progress`, and
    ``note``, a few words. ``first`` is the time in seconds until the first call.
    """

    def __init__(
        self, bar: Bar, label: str, show: Callable[[Task], object], period: float, first: float
    ) -> None:
        """Start the first stage, which is called ``label``, without progress."""
        self._bar, self._show, self._period = bar, show, period
        self._task = self._started(label, Progress("rendering", 0, None))
        self._due, self._is_pending = time.monotonic() + first, False

    def __call__(self, at: Progress, note: str = "", *, stage: str | None = None) -> None:
        """Show the progress of a stage, with a few words beside it; a new name starts a new stage.

        Items of an earlier run do not count for the speed.

        Raises:
            KeyboardInterrupt: the user has interrupted the run. A callback may have discarded the
                exception of the signal itself.
        """
        interrupts.check()
        before = self._task
        name = before.description if stage is None else stage
        if (name, at.resumed) != (before.description, before.fields["at"].resumed):
            self.finish()
            self._task = self._started(name, at)
        self._task.total = at.total  # Bar.update() would forget the speed with each new total
        self._bar.update(self._task.id, completed=at.done, at=at, note=note)
        self._is_pending = time.monotonic() < self._due
        if not self._is_pending:
            self._due = time.monotonic() + self._period
            self._show(self._task)

    def finish(self) -> None:
        """End the current stage, whose end is one of the JSON objects."""
        if self._is_pending and self._show is _print_object:
            self._is_pending = False
            self._show(self._task)

    def _started(self, name: str, at: Progress) -> Task:
        """Return a new task, whose speed is measured from now on, in place of the earlier one."""
        for earlier in self._bar.task_ids:
            self._bar.remove_task(earlier)
        self._bar.add_task(name, total=at.total, completed=at.done, at=at, note="", speed="")
        return self._bar.tasks[0]


def _seconds_left(task: Task) -> float | None:
    left: float | None = task.fields["at"].seconds_left
    if left is not None or task.remaining is None or not task.speed:
        return left
    return max(task.remaining, 0) / task.speed


def _speed(task: Task) -> list[str]:
    """Return the rate and the remaining time as texts; an unknown value is left out."""
    rate, left, unit = task.speed, _seconds_left(task), task.fields["at"].unit
    # A rate in seconds or percent per second is of no use to a user.
    words = [] if rate is None or unit in ("s", "%") else [f"{rate:.1f} {unit}/s"]
    return words if left is None else [*words, f"{clock(left)} left"]


def _write_speed(task: Task) -> None:
    task.fields["speed"] = "  ".join(_speed(task))


def _print_line(task: Task) -> None:
    at: Progress = task.fields["at"]
    of = "" if at.total is None else f" of {at.total}"
    counts = f"{task.description}: {at.done}{of} {at.unit}"
    print_message(", ".join(part for part in (counts, *_speed(task), task.fields["note"]) if part))


def _print_object(task: Task) -> None:
    at, rate, left = task.fields["at"], task.speed, _seconds_left(task)
    shown: dict[str, Any] = {"stage": task.description, "done": at.done, "total": at.total}
    shown["unit"] = at.unit
    shown["rate"] = None if rate is None else round(rate, 3)
    shown["seconds_left"] = None if left is None else round(left, 1)
    print_message(json.dumps(shown))


@contextmanager
def reporting(label: str, mode: ProgressMode, *, quiet: bool) -> Iterator[Reporter]:
    """Return a context with a reporter that shows progress on stderr.

    The mode ``auto``, which ``quiet`` turns off, is a bar on a terminal, otherwise a line every ten
    seconds. ``json`` is a JSON object every second. ``label`` is the name of the first stage.
    """
    # rich is imported here, because --help should start fast.
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    # On a narrow terminal the bar and the note become shorter. Numbers are never cut off.
    unshortened = Column(no_wrap=True)
    bar = Bar(
        TextColumn("{task.description}", markup=False, table_column=unshortened),
        BarColumn(),
        MofNCompleteColumn(table_column=unshortened),
        TextColumn("{task.fields[speed]}", markup=False, table_column=unshortened),
        TextColumn("{task.fields[note]}", markup=False),
        console=RichConsole(stderr=True),
        get_time=time.monotonic,
        speed_estimate_period=_WINDOW,
        transient=True,
        disable=mode != "auto" or quiet or not sys.stderr.isatty(),
    )
    show: Callable[[Task], object] = _write_speed
    period, first = _BAR_EVERY, 0.0
    if mode == "json":
        show, period = _print_object, JSON_EVERY
    elif mode == "off" or quiet:
        show = id  # shows nothing
    elif bar.disable:
        show, period, first = _print_line, LINE_EVERY, LINE_EVERY
    reporter = Reporter(bar, label, show, period, first)
    with bar:
        yield reporter
    reporter.finish()
