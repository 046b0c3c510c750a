"""What the commands that write a video share: its name, its encoding, and how a run is told of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from cloudconv.cli import streams
from cloudconv.cli.console import Console, as_json, print_json, print_result
from cloudconv.cli.values import QualityLevel
from cloudconv.events import Warned
from cloudconv.timeline import rate_name

if TYPE_CHECKING:
    from cloudconv.jobs.dream.settings import DreamPlan
    from cloudconv.jobs.extrapolate import ExtrapolatePlan
    from cloudconv.jobs.interp.settings import InterpPlan
    from cloudconv.jobs.outcome import Progress
    from cloudconv.media.write.encoder_options import EncodeSettings

    Plan = InterpPlan | ExtrapolatePlan | DreamPlan


Result = TypeVar("Result")
Number = TypeVar("Number", int, float)


def target(out: str | None, output: str | None, *, json: bool, dry_run: bool) -> str | None:
    """The one output that was named, if any; a usage error for one that cannot be."""
    if out is not None and output is not None:
        raise typer.BadParameter("the output is named twice: as OUT and with --output")
    named = out if output is None else output
    if named == "-" and json:
        raise typer.BadParameter("--json and the video can't both go to stdout: name a file")
    if named == "-" and "stdout" in streams.closed:
        raise typer.BadParameter("standard output is closed: name a file")
    if named == "-" and not dry_run and sys.stdout.isatty():
        raise typer.BadParameter("stdout is a terminal: send the video to a file or a pipe")
    return named


def chosen_models(given: list[str] | None, quality: QualityLevel | None) -> tuple[str, ...]:
    """The models that ``--model`` names, or the one that ``--quality`` stands for, if any."""
    if quality is None:
        return tuple(given or ())
    if given:
        raise typer.BadParameter("--quality chooses a model, and so does --model: give one")
    from cloudconv.models import registry

    return (registry.QUALITIES[quality.value],)


def chosen_scale(scale: float | None, *, uhd: bool) -> float:
    """What ``--scale`` and ``--UHD`` say together."""
    if uhd and scale not in (None, 0.5):
        raise typer.BadParameter(f"--UHD means --scale 0.5, which contradicts --scale {scale:g}")
    return 0.5 if uhd else 1.0 if scale is None else scale


def encoding(
    encoder: str | None,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
    encoder_option: list[Any] | None,
    threads: int | None,
) -> EncodeSettings:
    """The encoding options as the jobs take them."""
    from cloudconv.media.write.encoder_options import EncodeSettings

    return EncodeSettings(
        encoder=encoder,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        options=tuple(encoder_option or ()),
        threads=threads,
    )


def tell_plan(console: Console, plan: Plan, text: str, *, json: bool) -> None:
    """Print what a run would do."""
    if json:
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
    run: Callable[..., Any],
    summary: Callable[[Any], str],
    *,
    json: bool,
    note: Callable[[Any], str] | None = None,
) -> None:
    """Run a job under a progress bar, then say what came of it.

    ``run`` takes ``on_progress`` and ``on_warning``; warnings are shown as soon as they are known.
    ``note`` says in a few words what else a progress tells.
    """
    said: list[Warned] = []

    def warn(warned: Warned) -> None:
        if warned not in said:
            said.append(warned)
            console.warning(warned)

    result = under_bar(console, label, partial(run, on_warning=warn), note)
    for warned in result.warnings:
        warn(warned)
    console.info(summary(result))
    if json:
        print_json(as_json(result))


def under_bar(
    console: Console,
    label: str,
    run: Callable[[Callable[[Progress], None]], Result],
    note: Callable[[Any], str] | None = None,
) -> Result:
    """Run a job under a progress bar; a Ctrl-C that got lost ends it after the next frame."""
    with console.progress(label) as tell:

        def update(progress: Progress) -> None:
            adapting = getattr(progress, "adapting", None)
            if adapting is not None:
                tell(*map(round, adapting), stage="adapting", unit="s")
                return
            analysing = getattr(progress, "analysing", None)
            if analysing is not None:
                tell(round(100 * analysing), 100, stage="analysing", unit="%")
                return
            tell(
                progress.frames_done,
                progress.frames_expected,
                "" if note is None else note(progress),
                found=getattr(progress, "frames_found", 0),
                stage=label,
            )

        return run(update)


def about(value: Number | None, words: Callable[[Number], str]) -> str:
    """An estimate for people; None where there is none."""
    return "unknown" if value is None else f"about {words(value)}"


def rate(rational: str | None) -> str:
    """A frame rate for people: 119.88 fps for 120000/1001."""
    if rational is None:
        return "a variable rate"
    return f"{rate_name(Fraction(rational))} fps"
