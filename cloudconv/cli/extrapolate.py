"""``cloudconv extrapolate``."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cloudconv.cli import options, values
from cloudconv.cli import output as outputs
from cloudconv.cli.console import Console, clock, megabytes, table

if TYPE_CHECKING:
    from cloudconv.jobs.extrapolate import ExtrapolatePlan, ExtrapolateResult

EXAMPLES = """[bold]Examples[/bold]

cloudconv extrapolate clouds.mp4 --frames 30

cloudconv extrapolate clouds.mp4 more.mp4 --seconds 2 --only-new

cloudconv extrapolate video.mkv what_if.mkv --at 1:02.5 --seconds 1 --model flow
"""


def _predictors(incomplete: str) -> list[str]:
    from cloudconv.models import registry

    shown = [s for s in registry.specs() if s.task == "predict" and not s.hidden]
    return [spec.name for spec in shown if spec.name.startswith(incomplete)]


Frames = Annotated[
    int | None,
    typer.Option(
        "--frames", metavar="N", min=1, help="Make so many new frames.", show_default=False
    ),
]
Seconds = Annotated[
    Fraction | None,
    typer.Option(
        "--seconds",
        metavar="S",
        parser=values.time,
        help="Go on for so long.",
        show_default=False,
    ),
]
At = Annotated[
    Fraction | None,
    typer.Option(
        "--at",
        metavar="T",
        parser=values.time,
        help="Go on from here instead of the end: seconds or h:mm:ss.",
        show_default=False,
    ),
]
OnlyNew = Annotated[
    bool,
    typer.Option("--only-new", help="Leave the source's frames out.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A predictor from 'cloudconv models', or a file that 'cloudconv train' wrote.",
        autocompletion=_predictors,
        show_default=False,
        rich_help_panel="Inference",
    ),
]


def extrapolate(
    source: options.Input,
    out: options.OutputArgument = None,
    output: options.Output = None,
    frames: Frames = None,
    seconds: Seconds = None,
    at: At = None,
    only_new: OnlyNew = False,
    input_fps: options.InputFps = None,
    scene_cut: options.SceneCut = "auto",
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    model: Model = None,
    device: options.Device = "auto",
    precision: options.ComputePrecision = values.Precision.AUTO,
    threads: options.Threads = None,
    encoder: options.Encoder = None,
    crf: options.Crf = None,
    preset: options.Preset = None,
    pix_fmt: options.PixelFormat = None,
    encoder_option: options.EncoderOption = None,
    progress: options.ShowProgress = values.ProgressShown.AUTO,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Forecast what follows the last frame of IN. Give one of --frames and --seconds."""
    target = outputs.target(out, output, json=json, dry_run=dry_run)
    if (frames is None) == (seconds is None):
        raise typer.BadParameter("give exactly one of --frames and --seconds")

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs import extrapolate as job

    settings = job.ExtrapolateSettings(
        input=source,
        output=target,
        frames=frames,
        seconds=seconds,
        at=at,
        input_fps=input_fps,
        model=model or job.DEFAULT,
        only_new=only_new,
        scene_cut=scene_cut,
        encode=outputs.encoding(encoder, crf, preset, pix_fmt, encoder_option, threads),
        overwrite=overwrite,
        device=device,
        precision=precision.value,
        threads=threads,
    )
    console = Console(quiet, verbose, progress.value)
    if dry_run:
        plan = job.plan(settings)
        outputs.tell_plan(console, plan, _plan_text(plan), json=json)
        return
    outputs.watched(console, "forecasting", partial(job.run, settings), _summary, json=json)


def _summary(result: ExtrapolateResult) -> str:
    rhythm = f"; {result.cadence}, and so are the new ones" if result.cadence else ""
    return (
        f"{result.output}: {result.output_frames} frames ({result.new_frames} new, "
        f"from {clock(result.at)} on) at {outputs.rate(result.output_fps)}, "
        f"{clock(result.duration)}{rhythm}; took {clock(result.wall_seconds)} "
        f"({result.model}, {result.device}, {result.precision})"
    )


def _plan_text(plan: ExtrapolatePlan) -> str:
    rows = [
        ["input", plan.input],
        ["output", plan.output],
        ["result", f"{plan.output_frames} frames at {outputs.rate(plan.output_fps)}"],
        ["duration", clock(plan.duration)],
        ["new frames", f"{plan.new_frames}, from {clock(plan.at)} on"],
        ["context", f"{plan.context_frames} frames"],
        ["cadence", plan.cadence or "none"],
        ["model", f"{plan.model} on {plan.device}, {plan.precision}"],
        ["encoder", f"{plan.encoder}, {plan.pix_fmt}"],
        ["memory", f"about {megabytes(plan.memory_bytes)}"],
        ["time", f"about {clock(plan.seconds)}"],
    ]
    return table(rows[0], rows[1:])
