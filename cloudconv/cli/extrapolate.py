"""``cloudconv extrapolate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, clock, megabytes, table
from cloudconv.settings import ExtrapolateSettings

if TYPE_CHECKING:
    from cloudconv.jobs.extrapolate import ExtrapolateEstimate, ExtrapolateResult

EXAMPLES = examples(
    "cloudconv extrapolate clouds.mp4 --frames 30",
    "cloudconv extrapolate clouds.mp4 more.mp4 --seconds 2 --only-new",
    "cloudconv extrapolate video.mkv --at 1:02.5 --seconds 1 --model flow",
)


@with_options(ExtrapolateSettings, progress=True)
def extrapolate(
    console: Console,
    source: outputs.Input,
    out: outputs.OutputArgument = None,
    dry_run: outputs.DryRun = False,
    **given: Any,
) -> None:
    """Forecast what follows the last frame of IN. Give one of --frames and --seconds."""
    outputs.target(console, out, given, dry_run=dry_run)
    settings = ExtrapolateSettings(source, **given)

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs import extrapolate as job

    if dry_run:
        plan = job.estimate(job.decide(settings, dry_run=True))
        outputs.tell_plan(console, plan, _plan_text(plan))
        return
    outputs.watched(console, "forecasting", job.run(settings), _summary)


def _summary(result: ExtrapolateResult) -> str:
    rhythm = f"; {result.cadence}, and so are the new ones" if result.cadence else ""
    return (
        f"{result.output}: {result.output_frames} frames ({result.new_frames} new, "
        f"from {clock(result.at)} on) at {outputs.rate(result.output_fps)}, "
        f"{clock(result.duration)}{rhythm}; took {clock(result.wall_seconds)} "
        f"({result.model}, {result.device}, {result.precision})"
    )


def _plan_text(plan: ExtrapolateEstimate) -> str:
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
        ["memory", outputs.about(plan.memory_bytes, megabytes)],
        ["time", outputs.about(plan.seconds, clock)],
    ]
    return table(rows[0], rows[1:])
