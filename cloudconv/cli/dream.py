"""``cloudconv dream``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, clock, megabytes, table
from cloudconv.settings import DreamSettings

if TYPE_CHECKING:
    from cloudconv.dreaming.vitals.vitals import Vitals
    from cloudconv.jobs.dream.settings import DreamEstimate, DreamResult

EXAMPLES = examples(
    "cloudconv dream clouds.mp4 --seconds 20",
    "cloudconv dream waves.mov endless.gif --frames 90 --loop --only-new",
    "cloudconv dream sky.jpg sky.mp4 --seconds 10 --wind 1.5,0",
)


@with_options(DreamSettings, progress=True)
def dream(
    console: Console,
    source: outputs.Input,
    out: outputs.OutputArgument = None,
    dry_run: outputs.DryRun = False,
    **given: Any,
) -> None:
    """Continue IN with new frames for any length of time.

    Give one of --frames and --seconds.
    """
    outputs.target(console, out, given, dry_run=dry_run)
    settings = DreamSettings(source, **given)

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs.dream import run as job

    if dry_run:
        plan = job.estimate(job.decide(settings, dry_run=True))
        outputs.tell_plan(console, plan, _plan_text(plan))
        return
    note = partial(_note, names=console.verbose)
    outputs.watched(console, "dreaming", job.run(settings), _summary, note=note)


def _note(vitals: Vitals, *, names: bool) -> str:
    """The newest vitals in a few words, or by their ``names``."""
    return _vitals(vitals) if names else _life(vitals)


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


def _plan_text(plan: DreamEstimate) -> str:
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
        ["memory", outputs.about(plan.memory_bytes, megabytes)],
        ["time", outputs.about(plan.seconds, clock)],
    ]
    return table(rows[0], rows[1:])
