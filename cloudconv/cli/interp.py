"""``cloudconv interp``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from cloudconv.cli import batch as many
from cloudconv.cli import options, values
from cloudconv.cli import output as outputs
from cloudconv.cli.console import Console, clock, megabytes, table

if TYPE_CHECKING:
    from cloudconv.jobs.interp.settings import InterpPlan, InterpResult

EXAMPLES = """[bold]Examples[/bold]

cloudconv interp clouds.mp4 --factor 4

cloudconv interp video.mkv video_60.mkv --fps 60 --scene-cut 0.4

cloudconv interp run.mov --slowmo 8 --start 1:02 --end 1:05.5 -o slow.mov

cloudconv interp frames/%05d.png out.mp4 --factor 2 --encoder libx265 --crf 18

cloudconv interp one.mp4 two.mkv clips/*.mov --factor 2 --out-dir smooth

cloudconv interp video.mkv --factor 2 --workers local:4

cloudconv interp video.mkv --factor 2 --adapt 5 --save-model video.safetensors

cat in.mkv | cloudconv interp - -o - --factor 2 | mpv -
"""


def interp(
    inputs: options.Inputs,
    output: options.Output = None,
    out_dir: options.OutDir = None,
    factor: options.Factor = None,
    fps: options.Fps = None,
    slowmo: options.Slowmo = None,
    input_fps: options.InputFps = None,
    audio: options.SlowAudio = None,
    scene_cut: options.SceneCut = "auto",
    duplicates: options.DuplicateFrames = values.Duplicates.KEEP,
    loop: options.Loop = False,
    deinterlace: options.Deinterlace = False,
    start: options.Start = None,
    end: options.End = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = True,
    preview: options.Preview = None,
    dry_run: options.DryRun = False,
    model: options.Model = None,
    quality: options.Quality = None,
    scale: options.Scale = None,
    uhd: options.Uhd = False,
    fallback: options.Fallback = values.FallbackTo.BLEND,
    adapt: options.Adapt = None,
    save_model: options.SaveModel = None,
    device: options.Device = "auto",
    precision: options.ComputePrecision = values.Precision.AUTO,
    threads: options.Threads = None,
    workers: options.Workers = "local",
    hwaccel: options.Hwaccel = values.HardwareDecoder.NONE,
    batch: options.Batch = "auto",
    tile: options.Tile = "auto",
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
    """Raise the frame rate of IN.

    Give one of --factor, --fps and --slowmo, or --slowmo together with --fps.
    """
    if out_dir is not None:
        many.check(output, preview)
    elif len(inputs) > 2:
        raise typer.BadParameter("more than one input needs --out-dir")
    out = inputs[1] if len(inputs) == 2 and out_dir is None else None
    target = outputs.target(out, output, json=json, dry_run=dry_run)
    if (factor is None) == (fps is None and slowmo is None):
        raise typer.BadParameter("give one of --factor, --fps and --slowmo, or --slowmo with --fps")
    if audio is not None and (slowmo is None) != (audio is values.Audio.COPY):
        raise typer.BadParameter(
            "--audio drop and stretch are for --slowmo, and --audio copy for all else"
        )
    motion_scale = outputs.chosen_scale(scale, uhd=uhd)
    models = outputs.chosen_models(None if model is None else [model], quality)

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs.interp import run as job
    from cloudconv.jobs.interp.settings import InterpSettings
    from cloudconv.models import registry

    settings = InterpSettings(
        input=inputs[0],
        output=target,
        factor=factor,
        fps=fps,
        slowmo=slowmo,
        input_fps=input_fps,
        model=models[0] if models else registry.DEFAULT,
        scale=motion_scale,
        fallback=fallback.value,
        scene_cut=scene_cut,
        duplicates=duplicates.value,
        batch=batch,
        tile=tile,
        loop=loop,
        deinterlace=deinterlace,
        start=start,
        end=end,
        audio="drop" if audio is None else audio.value,
        encode=outputs.encoding(encoder, crf, preset, pix_fmt, encoder_option, threads),
        overwrite=overwrite,
        device=device,
        precision=precision.value,
        threads=threads,
        preview=preview,
        resume=resume,
        workers=workers,
        hwaccel=hwaccel.value,
        adapt=adapt,
        save_model=save_model,
    )
    console = Console(quiet, verbose, progress.value)
    if out_dir is not None:
        many.interp_all(console, settings, inputs, out_dir, dry_run=dry_run, json=json)
        return
    if dry_run:
        plan = job.plan(settings)
        outputs.tell_plan(console, plan, _plan_text(plan), json=json)
        return
    outputs.watched(console, "interpolating", partial(job.run, settings), _summary, json=json)


def _summary(result: InterpResult) -> str:
    cuts = f", {len(result.cuts)} cut{'s'[: len(result.cuts) != 1]} held" if result.cuts else ""
    return (
        f"{result.output}: {result.output_frames} frames ({result.new_frames} new) "
        f"at {outputs.rate(result.output_fps)}, {clock(result.duration)}{cuts}; "
        f"took {clock(result.wall_seconds)}{' to carry on' if result.resumed else ''}, "
        f"{result.frames_per_second:.2f} frames/s "
        f"({result.model}, {result.device}, {result.precision})"
        f"{f'; {result.adapted}' if result.adapted and result.adapted.kept else ''}"
    )


def _plan_text(plan: InterpPlan) -> str:
    rows = [
        ["input", plan.input],
        ["output", plan.output],
        ["source", f"{plan.source_frames} frames at {outputs.rate(plan.source_fps)}"],
        ["result", f"{plan.output_frames} frames at {outputs.rate(plan.output_fps)}"],
        ["duration", clock(plan.duration)],
        ["new frames", str(plan.new_frames)],
        ["held frames", str(plan.held_frames)],
        ["cuts", ", ".join(f"{cut:.3f} s" for cut in plan.cuts) or "none"],
        ["model", f"{plan.model} on {plan.device}, {plan.precision}"],
        *([["adapting", f"for {plan.adapt:g} min first"]] if plan.adapt is not None else []),
        ["encoder", f"{plan.encoder}, {plan.pix_fmt}"],
        ["memory", outputs.about(plan.memory_bytes, megabytes)],
        ["disk", f"about {megabytes(plan.disk_bytes)}, until all is done"],
        ["time", outputs.about(plan.seconds, clock)],
    ]
    return table(rows[0], rows[1:])
