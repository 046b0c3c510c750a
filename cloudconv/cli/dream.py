"""``cloudconv dream``."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import extrapolate, options, values
from cloudconv.cli import output as outputs
from cloudconv.cli.console import Console, clock, megabytes, table

if TYPE_CHECKING:
    from cloudconv.dreaming.vitals.vitals import Vitals
    from cloudconv.jobs.dream.settings import DreamPlan, DreamResult, Progress

EXAMPLES = """[bold]Examples[/bold]

cloudconv dream clouds.mp4 --seconds 20

cloudconv dream waves.mov endless.gif --frames 90 --loop --only-new

cloudconv dream sky.jpg sky.mp4 --seconds 10 --wind 1.5,0

cloudconv dream clouds.mp4 --seconds 20 --mode rollout --model voxelflow --texture-keep
"""


class Sound(StrEnum):
    """What ``--audio`` does where the source ends."""

    END = "end"
    LOOP = "loop"


def wind(text: str) -> tuple[float, float]:
    """``dx,dy``."""
    try:
        across, down = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not of the form dx,dy: two numbers, in pixels a frame"
        ) from error
    return across, down


def _modes(incomplete: str) -> list[str]:
    from cloudconv.dreaming.methods.registry import METHODS

    return [name for name in ("auto", *(m.name for m in METHODS)) if name.startswith(incomplete)]


Mode = Annotated[
    str,
    typer.Option(
        "--mode",
        metavar="NAME",
        help="How: collage, texture, flow or rollout; auto chooses by the material.",
        autocompletion=_modes,
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", metavar="N", min=0, help="Another seed, another dream."),
]
Loop = Annotated[
    bool,
    typer.Option("--loop", help="Let the last frame lead into the first.", show_default=False),
]
Wind = Annotated[
    Any,
    typer.Option(
        "--wind",
        metavar="dx,dy",
        parser=wind,
        help="Where things move, in pixels a frame: for stills, with the mode flow.",
        show_default=False,
    ),
]
TextureKeep = Annotated[
    bool,
    typer.Option(
        "--texture-keep",
        help="Hold a rollout to the source's detail and colours.",
        show_default=False,
    ),
]
SoundAfter = Annotated[
    Sound,
    typer.Option("--audio", help="Where the source ends, end its sound, or begin it again."),
]
Report = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="DIR",
        help="A folder for a page with the video, its frames, and charts of the vitals.",
        show_default=False,
    ),
]


def dream(
    source: options.Input,
    out: options.OutputArgument = None,
    output: options.Output = None,
    frames: extrapolate.Frames = None,
    seconds: extrapolate.Seconds = None,
    mode: Mode = "auto",
    seed: Seed = 0,
    loop: Loop = False,
    at: extrapolate.At = None,
    only_new: extrapolate.OnlyNew = False,
    audio: SoundAfter = Sound.END,
    wind: Wind = None,
    input_fps: options.InputFps = None,
    scene_cut: options.SceneCut = "auto",
    report: Report = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    model: extrapolate.Model = None,
    texture_keep: TextureKeep = False,
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
    """Go on from the last frame of IN for as long as asked, and stay alive.

    Give one of --frames and --seconds.
    """
    target = outputs.target(out, output, json=json, dry_run=dry_run)
    if (frames is None) == (seconds is None):
        raise typer.BadParameter("give exactly one of --frames and --seconds")

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs.dream import run as job
    from cloudconv.jobs.dream.settings import DreamSettings

    settings = DreamSettings(
        input=source,
        output=target,
        frames=frames,
        seconds=seconds,
        at=at,
        input_fps=input_fps,
        only_new=only_new,
        mode=mode,
        model=model,
        seed=seed,
        loop=loop,
        wind=wind,
        texture_keep=texture_keep,
        audio=audio.value,
        report=report,
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
    note = partial(_note, names=verbose)
    outputs.watched(console, "dreaming", partial(job.run, settings), _summary, json=json, note=note)


def _note(progress: Progress, *, names: bool) -> str:
    """The newest vitals in a few words, or by their ``names``."""
    if progress.vitals is None:
        return ""
    return _vitals(progress.vitals) if names else _life(progress.vitals)


def _life(vitals: Vitals) -> str:
    from cloudconv.dreaming.vitals.words import failures, in_words

    if not vitals.alive:
        return f"dying: {', '.join(failures(vitals).values())}"
    motion = vitals.values["motion"]
    return "alive" if motion is None else f"alive: {in_words('motion', motion)}"


def _vitals(vitals: Vitals) -> str:
    keys = ("sharpness", "saturation", "motion")
    shown = [f"{k} {v:.2f}" for k in keys if (v := vitals.values[k]) is not None]
    return ", ".join([*shown, "alive" if vitals.alive else f"dying: {', '.join(vitals.failed)}"])


def _summary(result: DreamResult) -> str:
    lives = sum(row["alive"] for row in result.vitals)
    return (
        f"{result.output}: {result.output_frames} frames ({result.new_frames} new, "
        f"from {clock(result.at)} on) at {outputs.rate(result.output_fps)}, "
        f"{clock(result.duration)}; "
        f"{result.why.removesuffix('.')}; alive in {lives} of {len(result.vitals)} windows; "
        f"took {clock(result.wall_seconds)} ({result.frames_per_second:.1f} frames/s, "
        f"{result.device})"
    )


def _plan_text(plan: DreamPlan) -> str:
    rows = [
        ["input", plan.input],
        ["output", plan.output],
        ["result", f"{plan.output_frames} frames at {outputs.rate(plan.output_fps)}"],
        ["duration", clock(plan.duration)],
        ["new frames", f"{plan.new_frames}, from {clock(plan.at)} on"],
        ["material", f"{plan.material_frames} frames"],
        ["cadence", plan.cadence or "none"],
        ["mode", plan.why],
        ["model", plan.model or "none"],
        ["seed", str(plan.seed)],
        ["device", f"{plan.device}, {plan.precision}"],
        ["encoder", f"{plan.encoder}, {plan.pix_fmt}"],
        ["memory", f"about {megabytes(plan.memory_bytes)}"],
        ["time", f"about {clock(plan.seconds)}"],
    ]
    return table(rows[0], rows[1:])
