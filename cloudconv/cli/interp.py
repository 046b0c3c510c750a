"""``cloudconv interp``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import batch as many
from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, clock, megabytes, table
from cloudconv.errors import SettingsError
from cloudconv.settings import InterpManySettings, InterpSettings

if TYPE_CHECKING:
    from cloudconv.jobs.interp.settings import InterpEstimate, InterpResult

EXAMPLES = examples(
    "cloudconv interp clouds.mp4 --factor 4",
    "cloudconv interp video.mov slow.mov --slowmo 8 --start 1:02 --end 1:05",
    "cloudconv interp one.mp4 two.mkv clips/*.mov --fps 60 --out-dir smooth",
)

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN [OUT]",
        help="A video, an animation, a folder or pattern of pictures, or - for stdin. With "
        "--out-dir all of them are inputs.",
    ),
]


@with_options(InterpSettings, InterpManySettings, progress=True)
def interp(console: Console, inputs: Inputs, dry_run: outputs.DryRun = False, **given: Any) -> None:
    """Raise the frame rate of IN.

    Give one of --factor, --fps and --slowmo, or --slowmo together with --fps.
    """
    if "out_dir" in given:
        many.interp_all(console, inputs, given, dry_run=dry_run)
        return
    if len(inputs) > 2:
        raise SettingsError("several-inputs")
    out = inputs[1] if len(inputs) == 2 else None
    outputs.target(console, out, given, dry_run=dry_run)
    if out is not None and given.get("overwrite") and Path(out).is_file():
        console.info(f"{out} is taken as the output and replaced; with --out-dir both are inputs")
    settings = InterpSettings(inputs[0], **given)

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs.interp import run as job

    if dry_run:
        plan = job.estimate(job.decide(settings, dry_run=True))
        outputs.tell_plan(console, plan, _plan_text(plan))
        return
    outputs.watched(console, "interpolating", job.run(settings), _summary)


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


def _plan_text(plan: InterpEstimate) -> str:
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
