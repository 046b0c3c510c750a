"""What the commands that write a video share: its name, its encoding, and how a run is told of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cloudconv import events
from cloudconv.cli import streams
from cloudconv.cli.console import Console, as_json, print_json, print_result
from cloudconv.errors import SettingsError
from cloudconv.events import Ended, Event, Job, Measured, Progress, Warned
from cloudconv.timeline import rate_name

if TYPE_CHECKING:
    from cloudconv.jobs.compare.settings import CompareEstimate
    from cloudconv.jobs.dream.settings import DreamEstimate
    from cloudconv.jobs.extrapolate import ExtrapolateEstimate
    from cloudconv.jobs.interp.settings import InterpEstimate
    from cloudconv.training.train import TrainEstimate

    Plan = InterpEstimate | ExtrapolateEstimate | DreamEstimate | CompareEstimate | TrainEstimate


Result = TypeVar("Result")
Number = TypeVar("Number", int, float)


Input = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="A video, an animation, a folder or pattern of pictures, or - for stdin.",
    ),
]
OutputArgument = Annotated[str | None, typer.Argument(metavar="OUT", help="Same as --output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]


def target(console: Console, out: str | None, given: dict[str, Any], *, dry_run: bool) -> None:
    """Put the one output that was named, if any, into the options that were ``given``.

    Raises a usage error for an output that cannot be.
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


def tell_plan(console: Console, plan: Plan, text: str) -> None:
    """Print what a run would do."""
    if console.json:
        print_json(as_json(plan))
        return
    for warned in remarks(plan):
        console.warning(warned)
    print_result(text)


def remarks(plan: Plan) -> list[Warned]:
    """What is worth saying of a plan: its warnings, and what a run would refuse."""
    return [*plan.warnings, *(Warned("refused", {"error": error}) for error in plan.refusals)]


def watched(
    console: Console,
    label: str,
    job: Job,
    summary: Callable[[Any], str],
    *,
    note: Callable[[Any], str] | None = None,
) -> None:
    """Run a job under a progress bar, then say what came of it."""
    result = under_bar(console, label, job, note=note)
    console.info(summary(result))
    if console.json:
        print_json(as_json(result))


def under_bar(
    console: Console,
    label: str,
    job: Job,
    *,
    ended: Callable[[Ended], str] | None = None,
    note: Callable[[Any], str] | None = None,
) -> Any:
    """Run a job under a progress bar, and return its result.

    Warnings are shown as they come. A Ctrl-C that got lost ends the job after the next frame.

    Args:
        console: how much is said.
        label: what the job does, for its own stage.
        job: at work.
        ended: told the end of each of several inputs; says in a few words how many there are.
        note: says in a few words what was measured.
    """
    words = ""
    with console.progress(label) as tell:

        def show(event: Event) -> None:
            nonlocal words
            if isinstance(event, Warned):
                console.warning(event)
            elif isinstance(event, Measured) and note is not None:
                words = note(event.values)
            elif isinstance(event, Ended) and ended is not None:
                words = ended(event)
            elif isinstance(event, Progress):
                stage = label if event.stage in ("rendering", "scoring") else event.stage
                tell(
                    event.done,
                    event.total,
                    words if stage == label else "",
                    found=event.resumed,
                    stage=stage,
                    unit=event.unit,
                    left=event.seconds_left,
                )

        return events.watched(job, show)


def about(value: Number | None, words: Callable[[Number], str]) -> str:
    """An estimate for people; None where there is none."""
    return "unknown" if value is None else f"about {words(value)}"


def rate(rational: str | None) -> str:
    """A frame rate for people: 119.88 fps for 120000/1001."""
    if rational is None:
        return "a variable rate"
    return f"{rate_name(Fraction(rational))} fps"
