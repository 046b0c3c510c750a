"""Print results on stdout and all else on stderr; run jobs, and show their progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from threading import Timer
from typing import Any, Literal

from cloudconv import interrupts, jobs
from cloudconv.cli import streams
from cloudconv.cli.streams import field_rows, print_message, print_object, print_result
from cloudconv.errors import SettingsError
from cloudconv.events import (
    Ended,
    Event,
    Finished,
    Job,
    Measured,
    Progress,
    Warned,
    watched,
)
from cloudconv.messages import clock
from cloudconv.settings import Settings
from cloudconv.settings.groups import of_run
from cloudconv.settings.option import option

ProgressMode = Literal["auto", "json", "off"]

JSON_EVERY = 1.0
LINE_EVERY = 10.0
"""The least time in seconds between two JSON objects, or two lines."""

SILENCE = 1.0  # seconds after the start until a line says what is read

Show = Callable[[str, Progress, str], object]
"""A function that shows the name of a stage, its progress, and a few words."""


class Reporter:
    """A receiver of progress that calls ``show`` at most once in ``period`` seconds."""

    def __init__(self, label: str, show: Show, period: float, first: float) -> None:
        self._label = label
        self._show = show
        self._period = period
        self._due = time.monotonic() + first
        self._stage = label, 0
        self._pending: tuple[str, Progress, str] | None = None

    def __call__(self, at: Progress, note: str = "") -> None:
        """Show the progress of a stage, the main one with a few words beside it."""
        # Frames that are joined look to people like those of a run that goes on.
        if at.stage == "joining" and self._show is not _print_object:
            return
        is_main = at.stage in ("rendering", "scoring")
        name, note = (self._label, note) if is_main else (at.stage, "")
        if (name, at.resumed) != self._stage:
            self.finish()
            self._stage = name, at.resumed
        self._pending = name, at, note
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._period
            self._show(name, at, note)
            self._pending = None

    def finish(self) -> None:
        """End the current stage, whose end is one of the JSON objects."""
        if self._pending is not None and self._show is _print_object:
            _print_object(*self._pending)
            self._pending = None


def _speed(at: Progress) -> list[str]:
    # A rate in percent per second is of no use to a user.
    is_useful = at.rate is not None and at.unit != "%"
    words = [f"{at.rate:.1f} {at.unit}/s"] if is_useful else []
    return words if at.seconds_left is None else [*words, f"{clock(at.seconds_left)} left"]


def _print_line(name: str, at: Progress, note: str) -> None:
    of = "" if at.total is None else f" of {at.total}"
    counts = f"{name}: {at.done}{of} {at.unit}"
    print_message(", ".join(filter(None, (counts, *_speed(at), note))))


def _print_object(name: str, at: Progress, note: str) -> None:
    print_object(
        "progress",
        stage=name,
        done=at.done,
        total=at.total,
        unit=at.unit,
        rate=None if at.rate is None else round(at.rate, 3),
        seconds_left=None if at.seconds_left is None else round(at.seconds_left, 1),
    )


@contextmanager
def _bar(label: str) -> Iterator[Show]:
    """Draw a bar on stderr in the block, which shows the progress."""
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
        transient=True,
    )
    task = bar.add_task(label, total=None, speed="", note="")

    def show(name: str, at: Progress, note: str) -> None:
        counts: dict[str, Any] = {"completed": at.done, "total": at.total}
        speed = "  ".join(_speed(at))
        bar.update(task, description=name, speed=speed, note=note, **counts)

    with bar:
        yield show


@contextmanager
def reporting(label: str, mode: ProgressMode, *, quiet: bool) -> Iterator[Reporter]:
    """Return a context with a reporter that shows progress on stderr.

    The mode ``auto``, which ``quiet`` turns off, is a bar on a terminal, otherwise lines.
    """
    with ExitStack() as stack:
        if mode == "json":
            reporter = Reporter(label, _print_object, JSON_EVERY, 0)
        elif mode == "off" or quiet:
            reporter = Reporter(label, lambda *_: None, 0, 0)
        elif sys.stderr.isatty():
            reporter = Reporter(label, stack.enter_context(_bar(label)), 0, 0)
        else:
            reporter = Reporter(label, _print_line, LINE_EVERY, LINE_EVERY)
        yield reporter
    reporter.finish()


Note = Callable[[Any], str | None]
"""A function that returns the words beside the bar for a ``Measured`` or ``Ended`` event;
with None the last words stay."""


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False))


def print_error(error: str, **facts: Any) -> None:
    """Print a reason for the end of a command in one line.

    ``facts`` are for programs only.
    """
    print_message(f"error: {error}", "error", error=error, **facts)


@dataclass(frozen=True, kw_only=True)
class Console(Settings):
    """The options that only the command line has, and the output of every command."""

    dry_run: bool = option(
        "Print the plan and what a trial of some seconds shows, and stop.", default=False
    )
    progress: ProgressMode = of_run(
        """Show progress: auto is a bar, or without a terminal a line every 10 s; json is an
        object a second on stderr, for programs, and an object for each other line there;
        off.""",
        "HOW",
        default="auto",
    )
    json: bool = of_run(
        "Print one JSON object, and nothing else, on stdout.", default=False
    )
    quiet: bool = of_run("Print warnings and errors only.", also="-q", default=False)
    verbose: bool = of_run(
        "Print versions too, and the traceback of an error.", also="-v", default=False
    )

    def _check(self) -> None:
        if self.quiet and self.verbose:
            raise SettingsError(
                "quiet-and-verbose: --quiet and --verbose contradict each other: give one "
                "of them."
            )

    def info(self, text: str, kind: str = "note") -> None:
        """Print a line for people, unless the console is quiet."""
        if not self.quiet:
            print_message(text, kind)

    def detail(self, text: str) -> None:
        """Print a line that only ``--verbose`` shows."""
        if self.verbose:
            print_message(text)

    def warning(self, text: str, about: str | None = None, code: str | None = None) -> None:
        """Print a warning in one line, after the name ``about`` unless the text has it."""
        line = f"warning: {streams.named(text, about)}"
        print_message(line, "warning", text=text, code=code, about=about)


def run_job(
    console: Console,
    label: str,
    settings: Settings,
    summary: Callable[[Any], Sequence[str]] | None = None,
    note: Note | None = None,
) -> Any:
    """Run the job of a command and return its result; with ``--dry-run`` print its plan.

    ``label`` is the word for the job's main stage. ``summary`` describes the result in a
    few lines, which the JSON follows; without it neither is printed. A line names the
    report. The result is None after a dry run.
    """
    if console.dry_run:
        with closing(jobs.planning(settings)) as steps:
            with patience(console, settings):
                plan = next(steps)
            if console.json:
                print_json(plan)
                return None
            for text in plan.pop("warnings"):
                console.warning(text)
            plan.pop("source_fps", None)  # which ``source_timing`` has in words
            for rows in chain([plan], steps):
                print_result(field_rows(rows))
        return None
    with patience(console, settings) as heard:
        job = jobs.run(settings)  # imports large libraries
        result = run_with_progress(console, label, job, note=note, break_silence=heard)
    if summary is not None:
        lines = summary(result)
        if streams.messages.as_objects:
            lines = ["; ".join(lines)]
        for line in lines:
            console.info(line, "summary")
        if console.json:
            print_json(jobs.as_json(result))
    if (report := getattr(settings, "report", None)) is not None:
        console.info(f"the report is in {report}")
    return result


@contextmanager
def patience(console: Console, settings: Settings) -> Iterator[Callable[[], None]]:
    """Say which input is read if nothing was printed for a second.

    The block calls the function that it gets before it prints. Large libraries are imported
    in that time, and the whole input is read.
    """
    inputs = [getattr(settings, "input", None) or "the inputs"]
    name = "standard input" if str(inputs[0]) == "-" else inputs[0]
    timer = Timer(SILENCE, console.info, (f"reading {name}",))
    timer.daemon = True
    if console.progress == "auto":
        with suppress(RuntimeError):  # the system gives no more threads
            timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def run_with_progress(
    console: Console,
    label: str,
    job: Job,
    note: Note | None = None,
    break_silence: Callable[[], None] = lambda: None,
) -> Any:
    """Run a job, show its progress and its warnings, and return its result.

    For the parameters see :func:`run_job`. ``break_silence`` is called when there is
    something to print; see :func:`patience`.
    """
    words = ""
    resumed = 0
    with reporting(label, console.progress, quiet=console.quiet) as report:

        def show(event: Event) -> None:
            nonlocal words, resumed
            if not isinstance(event, Progress) or event.done:
                break_silence()
            if isinstance(event, Warned):
                console.warning(event.text, event.about, event.code)
            elif isinstance(event, Measured | Ended) and note is not None:
                new = note(event)
                words = words if new is None else new
            elif isinstance(event, Finished):
                interrupts.ignore()  # the output is complete
            elif isinstance(event, Progress):
                if event.resumed > resumed:
                    resumed = event.resumed
                    of = f" of {event.total}" if event.total else ""
                    console.info(f"continuing: {resumed}{of} {event.unit} are done")
                report(event, words)

        return watched(job, show)
