"""Run the jobs of the commands: name the output, show the progress, describe the result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any

import typer

from cloudconv import events
from cloudconv.cli import streams
from cloudconv.cli.console import (
    Console,
    as_json,
    clock,
    megabytes,
    print_json,
    print_result,
    table,
)
from cloudconv.errors import SettingsError
from cloudconv.events import Ended, Event, Job, Measured, Progress, Warned
from cloudconv.settings import Settings
from cloudconv.settings.groups import INPUT
from cloudconv.timeline import rate_name

Input = Annotated[str, typer.Argument(metavar="IN", help=INPUT)]
OutputArgument = Annotated[str | None, typer.Argument(metavar="OUT", help="Same as --output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]


def target(console: Console, out: str | None, given: dict[str, Any], *, dry_run: bool) -> None:
    """Add the output that was named by position to the options that were ``given``.

    Raises:
        SettingsError: the output is named twice, or stdout cannot take the video.
    """
    if out is not None and "output" in given:
        raise SettingsError("output-twice")
    if out is not None:
        given["output"] = out
    if given.get("output") != "-":
        return
    if console.json:
        raise SettingsError("json-and-video")
    if "stdout" in streams.closed:
        raise SettingsError("stdout-closed")
    if not dry_run and sys.stdout.isatty():
        raise SettingsError("stdout-terminal")


def make_video(
    console: Console,
    label: str,
    settings: Settings,
    *,
    dry_run: bool,
    summary: Callable[[Any], str],
    note: Callable[[Measured], str | None] | None = None,
) -> None:
    """Run the job of a command and print its result; with ``dry_run`` print an estimate.

    Args:
        console: the output for people.
        label: the word for the job's main stage.
        settings: the settings of the command.
        dry_run: whether only an estimate is wanted.
        summary: a function that describes the result in one line.
        note: see :func:`under_bar`.
    """
    if dry_run:
        print_plan(console, settings)
        return
    # The import takes seconds, which --help should not cost.
    from cloudconv import jobs

    result = under_bar(console, label, jobs.run(settings), note=note)
    console.info(summary(result))
    if console.json:
        print_json(as_json(result))


def print_plan(console: Console, settings: Settings) -> None:
    """Print the estimate of a run."""
    from cloudconv import jobs

    estimate = jobs.estimate(settings)
    if console.json:
        print_json(as_json(estimate))
        return
    for warned in remarks(estimate):
        console.warning(warned)
    found = (row for name, row in _ROWS.items() if hasattr(estimate, name))
    rows = [[label, text(estimate)] for label, text in found]
    print_result(table(rows[0], rows[1:]))


def remarks(estimate: Any) -> list[Warned]:
    """Return the warnings of an estimate, and a warning for each refusal of a run."""
    refused = (Warned("refused", {"error": error}) for error in estimate.refusals)
    return [*estimate.warnings, *refused]


def under_bar(
    console: Console,
    label: str,
    job: Job,
    *,
    ended: Callable[[Ended], str] | None = None,
    note: Callable[[Measured], str | None] | None = None,
) -> Any:
    """Run a job, show its progress and its warnings, and return its result.

    A lost Ctrl-C ends the job after the next frame.

    Args:
        console: the output for people.
        label: the word for the job's main stage.
        job: the job.
        ended: a function that returns a note for the bar at the end of each of several inputs.
        note: a function that returns a note for the bar from measured values; None keeps the note.
    """
    words = ""
    with console.reporting(label) as report:

        def show(event: Event) -> None:
            nonlocal words
            if isinstance(event, Warned):
                console.warning(event)
            elif isinstance(event, Measured) and note is not None:
                made = note(event)
                words = words if made is None else made
            elif isinstance(event, Ended) and ended is not None:
                words = ended(event)
            elif isinstance(event, Progress):
                is_main = event.stage in ("rendering", "scoring")
                stage = label if is_main else event.stage
                report(event, words if stage == label else "", stage=stage)

        return events.watched(job, show)


def made(result: Any, more: str = "") -> str:
    """Return the line that describes a finished video; ``more`` follows the counts."""
    by = (getattr(result, "model", None), result.device, result.precision)
    return (
        f"{result.output}: {result.output_frames} frames ({result.new_frames} new{_since(result)}) "
        f"at {rate(result.output_fps)}, {clock(result.duration)}{more}; took "
        f"{clock(result.wall_seconds)}, {result.frames_per_second:.2f} frames/s "
        f"({', '.join(filter(None, by))})"
    )


def _since(result: Any) -> str:
    """Return the start of the new frames in words; empty if they lie between others."""
    return f", from {clock(result.at)} on" if hasattr(result, "at") else ""


def about(value: float | None, words: Callable[[float], str]) -> str:
    """Return an approximate value in words; ``unknown`` for None."""
    return "unknown" if value is None else f"about {words(value)}"


def rate(rational: str | None) -> str:
    """Return a frame rate for people: 119.88 fps for 120000/1001."""
    return "a variable rate" if rational is None else f"{rate_name(Fraction(rational))} fps"


_ROWS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "input": ("input", lambda plan: plan.input),
    "output": ("output", lambda plan: plan.output),
    "methods": ("methods", lambda plan: ", ".join(plan.methods)),
    "horizon": (
        "frames",
        lambda plan: (
            f"one frame of every {plan.drop} kept"
            if plan.horizon is None
            else f"forecasts of up to {plan.horizon} frames"
        ),
    ),
    "scored_frames": (
        "scored",
        lambda plan: f"about {plan.scored_frames} frames, of {plan.source_frames} read",
    ),
    "source_fps": ("source", lambda p: f"{p.source_frames} frames at {rate(p.source_fps)}"),
    "output_fps": ("result", lambda p: f"{p.output_frames} frames at {rate(p.output_fps)}"),
    "duration": ("duration", lambda plan: clock(plan.duration)),
    "new_frames": ("new frames", lambda plan: f"{plan.new_frames}{_since(plan)}"),
    "held_frames": ("held frames", lambda plan: str(plan.held_frames)),
    "cuts": ("cuts", lambda plan: ", ".join(f"{cut:.3f} s" for cut in plan.cuts) or "none"),
    "material_frames": ("source of dream", lambda plan: f"{plan.material_frames} frames"),
    "context_frames": ("context", lambda plan: f"{plan.context_frames} frames"),
    "cadence": ("cadence", lambda plan: plan.cadence or "none"),
    "why": ("mode", lambda plan: plan.why),
    "model": ("model", lambda plan: plan.model or "none"),
    "parameters": ("parameters", lambda plan: str(plan.parameters)),
    "task": ("task", lambda plan: plan.task),
    "clips": ("clips", lambda p: f"{p.clips}, in windows of {p.window_frames} frames"),
    "steps": ("steps", lambda plan: "no limit" if plan.steps is None else str(plan.steps)),
    "minutes": ("minutes", lambda p: "no limit" if p.minutes is None else f"{p.minutes:g}"),
    "resumed": ("continues", lambda p: "an earlier run" if p.resumed else "no earlier run"),
    "seed": ("seed", lambda plan: str(plan.seed)),
    "device": ("device", lambda plan: f"{plan.device}, {plan.precision}"),
    "adapt": ("adapting", lambda p: "no" if p.adapt is None else f"for {p.adapt:g} min first"),
    "encoder": ("encoder", lambda plan: f"{plan.encoder}, {plan.pix_fmt}"),
    "memory_bytes": ("memory", lambda plan: about(plan.memory_bytes, megabytes)),
    "disk_bytes": ("disk", lambda plan: f"{about(plan.disk_bytes, megabytes)} during the run"),
    "seconds": ("time", lambda plan: about(plan.seconds, clock)),
}
"""The rows of ``--dry-run``: the field that the plan needs, the label, and the text."""
