"""Define the command ``cloudconv train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import output as outputs
from cloudconv.cli.command import INTERRUPTED, examples, with_options
from cloudconv.cli.console import Console
from cloudconv.cli.text import clock
from cloudconv.errors import SettingsError
from cloudconv.events import Measured
from cloudconv.settings import TrainSettings, fields_of

if TYPE_CHECKING:
    from cloudconv.jobs.train import TrainResult
    from cloudconv.training.loop import Losses, Validation

EXAMPLES = examples(
    "cloudconv train in.mp4 --init rife-4.6 --minutes 5 -o mine.safetensors",
    "cloudconv train clips/ --model unet5 --loss charbonnier+gdl --steps 5000",
    "cloudconv interp in.mp4 --factor 4 --model mine.safetensors",
)

_CLIPS = next(each for each in fields_of(TrainSettings) if each.name == "clips").option
Clips = Annotated[list[str] | None, typer.Argument(metavar=_CLIPS.metavar, help=_CLIPS.help)]


@with_options(TrainSettings)
def train(console: Console, clips: Clips = None, **given: Any) -> None:
    """Train a model on CLIPS.

    With --init, fine-tune a shipped model on your own footage.
    """
    try:
        settings = TrainSettings(clips or (), **given)
    except SettingsError as error:
        if error.code == "no-model":
            from cloudconv.training.clips import check_clips

            check_clips(clips or ())  # a wrong name is the more useful message
        raise

    def note(measured: Measured) -> str | None:
        if measured.name == "stopping":
            console.info(
                "stopping after this step, the best weights so far are kept; Ctrl-C again stops "
                "at once"
            )
            return None
        losses: Losses = measured.values
        if losses.validation is None:
            return None
        console.detail(_details(losses, losses.validation))
        return _decibels(losses.validation)

    result: TrainResult | None = outputs.run_job(console, "training", settings, _summary, note)
    if result is not None and result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _details(losses: Losses, validation: Validation) -> str:
    trained = ""
    if losses.loss is not None and losses.naive_loss is not None:
        trained = f"train {losses.loss:.4f} (naive {losses.naive_loss:.4f}), "
    return (
        f"step {losses.step} ({losses.done:.0%}, {clock(losses.seconds)}): {trained}"
        f"validation {validation.loss:.4f} (naive {validation.naive_loss:.4f}), "
        f"{_decibels(validation)}{', best' if losses.best else ''}"
    )


def _decibels(after: Validation, before: Validation | None = None) -> str:
    """Return the PSNR on held-back frames, for each number of frames ahead if there are several."""
    return "; ".join(
        (f"{before.psnr[label]:.2f} → " if before else "")
        + f"{psnr:.2f} dB"
        + (f" {label} ahead" if len(after.psnr) > 1 else "")
        for label, psnr in after.psnr.items()
    )


def _summary(result: TrainResult) -> str:
    if result.interrupted:
        state = f"interrupted after {result.steps} steps; the same command carries on; so far "
    elif result.resumed and result.steps == result.steps_before:
        state = f"all {result.steps} steps were made before; "
    elif not result.improved:
        state = "training gained nothing, so these are the initial weights; "
    else:
        state = ""
    return f"{result.output}: {state}{_decibels(result.best, result.initial)} on held-back frames"
