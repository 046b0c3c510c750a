"""Print results on stdout and all else on stderr; run the jobs of the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cloudconv import jobs
from cloudconv.cli import interrupts
from cloudconv.cli.progress import ProgressMode, reporting
from cloudconv.cli.streams import print_message, print_result
from cloudconv.cli.text import field_rows
from cloudconv.errors import SettingsError
from cloudconv.events import Ended, Event, Finished, Job, Measured, Progress, Warned, watched
from cloudconv.jobs.outcome import as_json
from cloudconv.settings import Settings
from cloudconv.settings.groups import of_run
from cloudconv.settings.option import option

_PROGRESS = """Show progress: auto is a bar, or without a terminal a line every 10 s; json is an
object a second on stderr, for programs; off."""
_JSON = "Print one JSON object on stdout, and nothing else there."
_VERBOSE = "Print versions too, and the traceback of an error."

Note = Callable[[Any], str | None]
"""A function that returns the words beside the bar for a ``Measured`` or ``Ended`` event; with None
the last words stay."""


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False))


def print_error(text: str) -> None:
    """Print a reason for the end of a command in one line."""
    print_message(f"error: {text}")


@dataclass(frozen=True, kw_only=True)
class Console(Settings):
    """The options that only the command line has, and the output of every command."""

    dry_run: bool = option("Print the plan and stop.", default=False)
    progress: ProgressMode = of_run(_PROGRESS, "HOW", default="auto")
    json: bool = of_run(_JSON, default=False)
    quiet: bool = of_run("Print warnings and errors only.", also="-q", default=False)
    verbose: bool = of_run(_VERBOSE, also="-v", default=False)

    def _check(self) -> None:
        if self.quiet and self.verbose:
            raise SettingsError(
                "quiet-and-verbose: --quiet and --verbose contradict each other: give one of them."
            )

    def info(self, text: str) -> None:
        """Print a line for people, unless the console is quiet."""
        if not self.quiet:
            print_message(text)

    def detail(self, text: str) -> None:
        """Print a line that only ``--verbose`` shows."""
        if self.verbose:
            print_message(text)

    def warning(self, warned: Warned, about: str | None = None) -> None:
        """Print a warning in one line, after the name ``about`` unless the text has that name."""
        text = warned.text
        print_message(f"warning: {text if about is None or about in text else f'{about}: {text}'}")

    def refusals(self, estimate: Any, about: str, printed: Sequence[Warned] = ()) -> None:
        """Print what a run would warn of or refuse, except for the warnings in ``printed``."""
        warnings = [warned for warned in estimate.warnings if warned not in printed]
        refused = (Warned(f"refused: A run would fail: {e.text}") for e in estimate.refusals)
        for warned in (*warnings, *refused):
            self.warning(warned, about or None)


def run_job(
    console: Console,
    label: str,
    settings: Settings,
    summary: Callable[[Any], str] | None = None,
    note: Note | None = None,
    opening: str = "",
) -> Any:
    """Run the job of a command and return its result; with ``--dry-run`` print an estimate.

    ``label`` is the word for the job's main stage. ``summary`` describes the result in one line,
    which the JSON follows; without it neither is printed. ``opening`` is printed when the job has
    checked its settings and its files. The result is None after an estimate.
    """
    if console.dry_run:
        early: list[Warned] = []

        def show(event: Event) -> None:
            if isinstance(event, Warned) and not console.json:  # the JSON has the warnings
                console.warning(event)
                early.append(event)

        estimate = watched(jobs.estimate(settings), show)
        shown = as_json(estimate)
        if console.json:
            print_json(shown)
        else:
            console.refusals(estimate, "", early)
            del shown["warnings"], shown["refusals"]
            print_result(field_rows(shown))
        return None
    result = run_with_progress(console, label, jobs.run(settings), note=note, opening=opening)
    if summary is not None:
        console.info(summary(result))
        if console.json:
            print_json(as_json(result))
    return result


def run_with_progress(
    console: Console, label: str, job: Job, note: Note | None = None, opening: str = ""
) -> Any:
    """Run a job, show its progress and its warnings, and return its result; see :func:`run_job`.

    A Ctrl-C whose exception was lost ends the job at the next report of progress. After the job has
    finished, signals are ignored: a signal would report a complete output as interrupted.
    """
    words = ""
    with reporting(label, console.progress, quiet=console.quiet) as report:

        def show(event: Event) -> None:
            nonlocal words, opening
            if opening:
                console.info(opening)
                opening = ""
            if isinstance(event, Warned):
                console.warning(event, event.about)
            elif isinstance(event, Measured | Ended) and note is not None:
                new = note(event)
                words = words if new is None else new
            elif isinstance(event, Finished):
                interrupts.ignore()  # the output is complete
            elif isinstance(event, Progress):
                stage = label if event.stage in ("rendering", "scoring") else event.stage
                report(event, words if stage == label else "", stage=stage)

        return watched(job, show)
