"""``cloudconv train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, as_json, clock, print_json, table
from cloudconv.events import Event, Measured, Progress, Warned, watched
from cloudconv.settings import TrainSettings

if TYPE_CHECKING:
    from cloudconv.training.loop import Losses, Validation
    from cloudconv.training.train import TrainEstimate, TrainResult

EXAMPLES = examples(
    "cloudconv train in.mp4 --init rife-4.6 --minutes 5 -o mine.safetensors",
    "cloudconv train clips/ --model unet5 --loss charbonnier+gdl --steps 5000",
    "cloudconv interp in.mp4 --factor 4 --model mine.safetensors",
)

INTERRUPTED = 130

Clips = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CLIPS…",
        help="Videos, folders of them, or pictures; clip.mp4[0:0.75] for a part of one.",
    ),
]


@with_options(TrainSettings, progress=True)
def train(
    console: Console, clips: Clips = None, dry_run: outputs.DryRun = False, **given: Any
) -> None:
    """Train a model on CLIPS.

    With --init a model that ships goes on training, on footage of your own.
    """
    settings = TrainSettings(clips or (), **given)

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.training import train as job

    if dry_run:
        plan = job.estimate(job.decide(settings, dry_run=True))
        outputs.tell_plan(console, plan, _plan_text(plan))
        return
    with console.progress("starting", "clips") as tell:

        def show(event: Event) -> None:
            if isinstance(event, Warned):
                console.warning(event)
            elif isinstance(event, Progress):
                tell(
                    event.done,
                    event.total,
                    stage=event.stage,
                    found=event.resumed,
                    unit=event.unit,
                    left=event.seconds_left,
                )
            elif isinstance(event, Measured) and event.name == "stopping":
                console.info(
                    "stopping after this step, the best weights so far are kept; "
                    "Ctrl-C again ends it at once"
                )
            elif isinstance(event, Measured) and event.values.validation is not None:
                console.detail(_line(event.values, event.values.validation))

        result = watched(job.run(settings), show)
    console.info(_summary(result))
    if console.json:
        print_json(as_json(result))
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _plan_text(plan: TrainEstimate) -> str:
    steps = [] if plan.steps is None else [f"{plan.steps} steps"]
    minutes = [] if plan.minutes is None else [f"{plan.minutes:g} minutes"]
    rows = [
        ["output", plan.output],
        ["model", f"{plan.model}, {plan.parameters} parameters"],
        ["task", plan.task],
        ["clips", f"{plan.clips}, in windows of {plan.window_frames} frames"],
        ["length", " and ".join([*steps, *minutes])],
        ["continues", "an earlier run" if plan.resumed else "no earlier run"],
        ["device", f"{plan.device}, {plan.precision}"],
        ["time", outputs.about(plan.seconds, clock)],
    ]
    return table(rows[0], rows[1:])


def _line(progress: Losses, validation: Validation) -> str:
    trained = ""
    if progress.loss is not None and progress.naive_loss is not None:
        trained = f"train {progress.loss:.4f} (naive {progress.naive_loss:.4f}), "
    return (
        f"step {progress.step} ({progress.done:.0%}, {clock(progress.seconds)}): {trained}"
        f"validation {validation.loss:.4f} (naive {validation.naive_loss:.4f}), "
        f"{_scores(validation)}{', best' if progress.best else ''}"
    )


def _scores(validation: Validation) -> str:
    return "; ".join(
        f"{psnr:.2f} dB{_ahead(validation, label)}" for label, psnr in validation.psnr.items()
    )


def _ahead(validation: Validation, label: str) -> str:
    return f" {label} ahead" if len(validation.psnr) > 1 else ""


def _summary(result: TrainResult) -> str:
    """Return the PSNR on held-back frames before and after, and what went otherwise."""
    change = "; ".join(
        f"{result.initial.psnr[label]:.2f} → {psnr:.2f} dB{_ahead(result.best, label)}"
        for label, psnr in result.best.psnr.items()
    )
    made = result.steps - result.steps_before
    if result.interrupted:
        what = f"interrupted after {result.steps} steps; the same command carries on; so far "
    elif result.resumed and not made:
        what = f"all {result.steps} steps were made before; "
    elif not result.improved:
        what = "training gained nothing, so these are the initial weights; "
    else:
        what = ""
    return f"{result.output}: {what}{change} on held-back frames"
