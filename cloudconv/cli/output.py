"""Run the jobs of the commands: name the output, show the progress, describe the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from cloudconv import events, jobs
from cloudconv.cli import interrupts, streams
from cloudconv.cli.console import Console, print_json
from cloudconv.cli.progress import reporting
from cloudconv.cli.streams import print_result
from cloudconv.cli.text import clock, field_rows, format_value, rate
from cloudconv.errors import SettingsError
from cloudconv.events import Ended, Event, Finished, Job, Measured, Progress, Warned
from cloudconv.jobs.outcome import as_json
from cloudconv.messages import counted
from cloudconv.settings import Settings
from cloudconv.settings.groups import INPUT

InputArgument = Annotated[str, typer.Argument(metavar="IN", help=INPUT)]
OutputArgument = Annotated[str | None, typer.Argument(metavar="[OUT]", help="Same as --output.")]
Note = Callable[[Any], str | None]
"""A function that returns the words beside the bar for a ``Measured`` or ``Ended`` event; with None
the last words stay."""


def chosen_output(console: Console, out: str | None, given: dict[str, Any]) -> str | None:
    """Return the output, from the option or from ``out``; remove the option from ``given``."""
    if out is not None and "output" in given:
        raise SettingsError(
            "output-twice: The output is given twice, as OUT and with --output: give one."
        )
    output: str | None = given.pop("output", out)
    if output != "-":
        return output
    if console.json:
        raise SettingsError(
            "json-and-video: With --json the result goes to stdout, so the video cannot: name an "
            "output file."
        )
    closed = "stdout" in streams.closed_streams
    if closed or (not console.dry_run and sys.stdout.isatty()):
        raise SettingsError(
            f"stdout-{'closed' if closed else 'is-terminal'}: The standard output is "
            f"{'closed' if closed else 'a terminal'}: name an output file, or send the video into "
            "a pipe."
        )
    return output


def run_job(
    console: Console,
    label: str,
    settings: Settings,
    summary: Callable[[Any], str] | None = None,
    note: Note | None = None,
    opening: str = "",
) -> Any:
    """Run the job of a command and return its result; with ``--dry-run`` print an estimate.

    Args:
        console: the output for people.
        label: the word for the job's main stage.
        settings: the settings of the command.
        summary: a function that describes the result in one line; with ``--json`` the JSON
            follows. None prints neither.
        note: see :data:`Note`.
        opening: a line to print when the job has checked its settings and its files.

    Returns:
        The result, or None after an estimate.
    """
    if console.dry_run:
        early: list[Warned] = []

        def show(event: Event) -> None:
            if isinstance(event, Warned) and not console.json:  # the JSON has the warnings
                console.warning(event)
                early.append(event)

        _print_estimate(console, events.watched(jobs.estimate(settings), show), early)
        return None
    result = run_with_progress(console, label, jobs.run(settings), note=note, opening=opening)
    if summary is not None:
        console.info(summary(result))
        if console.json:
            print_json(as_json(result))
    return result


def _print_estimate(console: Console, estimate: Any, printed: Sequence[Warned]) -> None:
    shown = as_json(estimate)
    if console.json:
        print_json(shown)
        return
    print_warnings(console, estimate, printed=printed)
    del shown["warnings"], shown["refusals"]
    print_result(field_rows(shown))


def print_warnings(
    console: Console, estimate: Any, about: str | None = None, *, printed: Sequence[Warned] = ()
) -> None:
    """Print the warnings of an estimate, and each reason to refuse the run as a warning.

    The warnings in ``printed`` are left out.
    """
    warnings = [warned for warned in estimate.warnings if warned not in printed]
    refused = (Warned(f"refused: A run would fail: {error.text}") for error in estimate.refusals)
    for warned in (*warnings, *refused):
        console.warning(warned, about)


def run_with_progress(
    console: Console, label: str, job: Job, note: Note | None = None, opening: str = ""
) -> Any:
    """Run a job, show its progress and its warnings, and return its result.

    A Ctrl-C whose exception was lost ends the job at the next report of progress. After the job has
    finished, signals are ignored: a signal would report a complete output as interrupted.

    Args:
        console: the output for people.
        label: the word for the job's main stage.
        job: the job.
        note: see :data:`Note`.
        opening: see :func:`run_job`.
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

        return events.watched(job, show)


def describe_video(result: Any, more: str = "") -> str:
    """Return the line that describes a finished video; ``more`` follows the duration."""
    by = (getattr(result, "model", None), result.device, result.precision)
    size = [
        format_value(name, getattr(result, name)) for name in ("output_bytes", "bits_per_second")
    ]
    written = ", ".join(filter(None, (result.encoder, *size)))
    frames = counted(result.output_frames, "frame")
    since = f", from {clock(result.at)} on" if hasattr(result, "at") else ""
    if since and not result.source_frames:
        frames = f"{counted(result.new_frames, 'new frame')} that continue the source{since}"
    else:
        frames += f" ({result.new_frames} new{since})"
    return (
        f"{result.output}: {frames} at {rate(result.output_fps)}, "
        f"{clock(result.duration)}{more}; {written}; took {clock(result.wall_seconds)}, "
        f"{result.frames_per_second:.2f} frames/s ({', '.join(filter(None, by))})"
    )
