"""``cloudconv train``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import options, values
from cloudconv.cli.console import Console, as_json, clock, print_json

if TYPE_CHECKING:
    from cloudconv.jobs.train import TrainResult
    from cloudconv.training.loop import Progress, Tick, Validation

EXAMPLES = """[bold]Examples[/bold]

cloudconv train in.mp4 --init rife-4.6 --minutes 5 -o mine.safetensors

cloudconv train clips/ --model unet5 --loss charbonnier+gdl --rollout 4 --steps 5000

cloudconv train --recipe weights/recipes/unet5.toml

cloudconv interp in.mp4 --factor 4 --model mine.safetensors
"""

INTERRUPTED = 130

_DATA = "Clips"
_LEARNING = "Learning"
_INFERENCE = "Inference"


class Task(StrEnum):
    """What a model is trained for."""

    INTERPOLATE = "interpolate"
    PREDICT = "predict"
    RECONSTRUCT = "reconstruct"


def interval(text: str) -> tuple[int, int]:
    """``2``, or ``1-3`` for any of these."""
    low, dash, high = text.partition("-")
    try:
        return (int(low), int(high if dash else low))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no whole number or range such as 1-3") from error


def _option(names: str, metavar: str, text: str, panel: str, **more: Any) -> Any:
    return typer.Option(
        *names.split(),
        metavar=metavar,
        help=text,
        show_default=False,
        rich_help_panel=panel,
        **more,
    )


Clips = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CLIPS…",
        help="Videos, folders of them, or pictures; clip.mp4[0:0.75] for a part of one.",
        show_default=False,
    ),
]
RenderPlan = Annotated[
    str | None,
    _option("--recipe", "FILE", "Settings from a TOML file; options here count more.", _LEARNING),
]
ModelName = Annotated[
    str | None,
    _option("--model", "NAME", "What to train. Default: what --init names.", _LEARNING),
]
TaskName = Annotated[
    Task | None,
    typer.Option(
        "--task",
        help="What to train it for. Default: the model's own.",
        show_default=False,
        rich_help_panel=_LEARNING,
    ),
]
Init = Annotated[
    str | None,
    _option("--init", "WEIGHTS|NAME", "Start from these weights.", _LEARNING),
]
Loss = Annotated[
    str | None,
    _option(
        "--loss",
        "SUM",
        "l1, l2, charbonnier, ssim, gdl, laplacian, psnr, adversarial: l1+gdl, or l2:1,gdl:0.5.",
        _LEARNING,
    ),
]
Relative = Annotated[
    bool | None,
    typer.Option(
        "--relative/--absolute",
        help="Divide each item's loss by the naive baseline's.",
        show_default=False,
        rich_help_panel=_LEARNING,
    ),
]
Steps = Annotated[
    int | None, _option("--steps", "N", "Train for N steps. Default: 1000.", _LEARNING, min=1)
]
Minutes = Annotated[float | None, _option("--minutes", "M", "Train for M minutes.", _LEARNING)]
Crop = Annotated[int | None, _option("--crop", "N", "Side of a sample in pixels.", _DATA, min=1)]
BatchSize = Annotated[int | None, _option("--batch", "N", "Samples a step.", _LEARNING, min=1)]
Rollout = Annotated[
    int | None,
    _option(
        "--rollout",
        "K",
        "Predictors: frames ahead. Default: 1, or 6 if it can reach them at once.",
        _LEARNING,
        min=1,
    ),
]
Gap = Annotated[
    int | None,
    _option("--gap", "K", "Interpolators: the most frames from one to the other.", _LEARNING),
]
Interval = Annotated[
    Any,
    _option(
        "--interval", "K|K-L", "Take every K-th frame, or K-th to L-th.", _DATA, parser=interval
    ),
]
Size = Annotated[
    int | None, _option("--size", "N", "Shrink clips to N pixels, longest side.", _DATA, min=1)
]
Noise = Annotated[
    float | None, _option("--noise", "S", "Noise added to the input, of 1.", _LEARNING)
]
MinMotion = Annotated[
    float | None,
    _option("--min-motion", "N", "Leave out what moves less, in levels of 255.", _DATA),
]
Val = Annotated[
    list[str] | None,
    _option("--val", "CLIPS", "Clips to validate on; may be repeated.", _DATA),
]
TrainPart = Annotated[
    str | None, _option("--train-part", "A:B", "Part of each clip to train on, 0 to 1.", _DATA)
]
ValPart = Annotated[
    str | None,
    _option("--val-part", "A:B", "Part to validate on. Default: three stretches inside.", _DATA),
]
LearningRate = Annotated[
    float | None, _option("--learning-rate", "R", "Default: 5e-4, with --init 1e-4.", _LEARNING)
]
Seed = Annotated[int | None, _option("--seed", "N", "Same seed, same training.", _LEARNING, min=0)]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Go on from the checkpoint of a run that was stopped.",
        rich_help_panel=_LEARNING,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Weights to write. Default: <model>_trained.safetensors.",
        show_default=False,
    ),
]


def train(
    clips: Clips = None,
    output: Weights = None,
    recipe: RenderPlan = None,
    model: ModelName = None,
    task: TaskName = None,
    init: Init = None,
    loss: Loss = None,
    relative: Relative = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: BatchSize = None,
    crop: Crop = None,
    rollout: Rollout = None,
    gap: Gap = None,
    interval: Interval = None,
    size: Size = None,
    noise: Noise = None,
    min_motion: MinMotion = None,
    val: Val = None,
    train_part: TrainPart = None,
    val_part: ValPart = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    resume: Resume = True,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.ComputePrecision = values.Precision.AUTO,
    threads: options.Threads = None,
    progress: options.ShowProgress = values.ProgressShown.AUTO,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a model on CLIPS, or go on training one that ships on footage of your own."""
    if steps is not None and minutes is not None:
        raise typer.BadParameter("give --steps or --minutes, not both")
    if recipe is None and not clips:
        raise typer.BadParameter("name clips to train on, or a --recipe")
    if recipe is None and model is None and init is None:
        raise typer.BadParameter("say what to train with --model, --init or --recipe")

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs import train as job

    given: dict[str, Any] = {
        "clips": tuple(clips or ()) or None,
        "output": output,
        "model": model,
        "task": None if task is None else task.value,
        "init": init,
        "loss": loss,
        "relative": relative,
        "steps": steps,
        "minutes": minutes,
        "batch": batch,
        "crop": crop,
        "rollout": rollout,
        "gap": gap,
        "interval": interval,
        "size": size,
        "noise": noise,
        "min_motion": min_motion,
        "val": tuple(val or ()) or None,
        "train_part": train_part,
        "val_part": val_part,
        "learning_rate": learning_rate,
        "seed": seed,
        "resume": resume,
        "overwrite": overwrite,
        "device": device,
        "precision": None if precision is values.Precision.AUTO else precision.value,
        "threads": threads,
    }
    settings = job.settings_from(recipe, **given)
    console = Console(quiet, verbose, progress.value)

    with console.progress("starting", "clips") as tell:

        def report(progress: Progress) -> None:
            if progress.validation is not None:
                console.info(_line(progress, progress.validation))

        def tick(tick: Tick) -> None:
            if tick.stage == "stopping":
                console.info(
                    "stopping after this step, the best weights so far are kept; "
                    "Ctrl-C again ends it at once"
                )
                return
            tell(tick.done, tick.total, stage=tick.stage, unit=tick.unit, left=tick.left)

        result = job.run(settings, report, tick, on_warning=console.warning)
    console.info(_summary(result))
    if json:
        print_json(as_json(result))
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _line(progress: Progress, validation: Validation) -> str:
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
    change = "; ".join(
        f"{result.initial.psnr[label]:.2f} → {psnr:.2f} dB{_ahead(result.best, label)}"
        for label, psnr in result.best.psnr.items()
    )
    made = result.steps - result.steps_before
    if result.interrupted:
        what = f"interrupted after {result.steps} steps; the same command carries on; so far "
    elif result.resumed and not made:
        what = f"all {result.steps} steps were made before, nothing was left to train; "
    elif not result.improved:
        what = "nothing was gained, so these are the weights it started from; "
    else:
        what = ""
    return (
        f"{result.output}: {what}{change} (held-back part), best at step {result.best.step} of "
        f"{result.steps}; took {clock(result.wall_seconds)}"
    )
