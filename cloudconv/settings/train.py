"""Declare the options of ``train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

from cloudconv.errors import SettingsError
from cloudconv.settings import values
from cloudconv.settings.groups import DEINTERLACE, Machine, Overwrite
from cloudconv.settings.option import Option
from cloudconv.settings.spans import parse_spans
from cloudconv.settings.values import File, Files

CLIPS, LEARNING = "Clips", "Learning"

_RATE_HELP = "Train at this learning rate."
_RATE_DEFAULT = "5e-4, or 1e-4 if --init sets all weights"

_learn = partial(Option, group=LEARNING)
_clip = partial(Option, group=CLIPS)
_rare = partial(Option, hidden=True)  # in Python and recipes, not on the command line
_period = partial(_rare, least=1, pinned=False)

_CLIPS = """Train on videos, folders of videos, or pictures; clip.mp4[0:0.75]@480 is the first 75 %,
shrunk to 480 pixels on the longest side."""
_OUTPUT = "<model>_trained.safetensors"
_INIT = "Start from these weights: a model's name, or a file."
_RECIPE = "Read settings, also rare ones, from a TOML file; options override them."
_LOSS = """Minimise l1, l2, charbonnier, ssim, gdl, laplacian, psnr, adversarial, or a sum: l1+gdl,
l2:1,gdl:0.5."""
_VAL = "Validate on these clips, which are never trained on; may be repeated."
_RESUME = "Resume from the checkpoint of an interrupted run, or start again."
_TASK = "Train to interpolate, predict or reconstruct."
_RELATIVE = """Divide each sample's loss by that of a baseline: the blend of both frames, or the
last frame."""
_ROLLOUT = "1, or 8 for voxelflow"
_GAP = "Train interpolators on pairs of frames that are at most K frames apart."
_INTERVAL = "Take every K-th frame; with K-L, each sample draws its own number from K to L."
_STILL = "Leave out samples whose neighbouring frames differ by less than N of 255 levels."
_NOISE = "Add noise of this standard deviation to the input, where white is 1."
_SEED = "Draw the samples with this seed; the same seed repeats a training."
_SIZE = "Shrink clips to N pixels on the longest side."
_PART = "Train on this part of each clip; 0 is the start, 1 the end."
_VAL_PART = "Validate on this part of each clip."
_LIVELY = "For this fraction of the samples, draw four windows and use the one with most motion."
_OVERLAYS = "Put marks that stand still, such as text, on this fraction of the samples."
_FROZEN = "Leave the tensors unchanged whose names begin with this text, such as block0."
_ANCHOR = "Mix this fraction of the initial weights into the result."
_LAST = "Write the last weights instead of those that score best in validation."
_VAL_CROP = "Validate on squares of this many pixels a side."
_EMA = "Write the moving average of the weights, with this decay."


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Overwrite, Machine):
    """The options of :func:`cloudconv.train`.

    Give ``clips``, and ``model`` or ``init``; or give a ``recipe``. Each entry of ``clips`` gives
    equally many samples. ``clip.mp4[0:0.75]@480`` is the first three quarters of a clip, with the
    frames shrunk to 480 pixels on the longest side.
    """

    clips: Annotated[
        Files, Option(_CLIPS, "CLIPS…", parse=values.files, hidden=True, names="clips")
    ] = field(default=(), kw_only=False)
    output: Annotated[
        File | None,
        Option(
            *("Write the weights to this file.", "FILE"),
            also=("-o",),
            parse=values.weights_file,
            shown=_OUTPUT,
            pinned=False,
        ),
    ] = field(default=None, kw_only=False)
    model: Annotated[str, Option("Train this model.", "NAME", shown="the model of --init")] = ""
    init: Annotated[File | None, Option(_INIT, "NAME", names="words")] = None
    recipe: Annotated[File | None, Option(_RECIPE, "FILE", pinned=False)] = None
    steps: Annotated[
        int | None, Option("Train for N steps.", "N", least=1, shown="1000", pinned=False)
    ] = None
    minutes: Annotated[
        float | None, Option("Train for M minutes.", "M", above=0, most=1e6, pinned=False)
    ] = None
    loss: Annotated[str, Option(_LOSS, "SUM", parse=values.checked(values.loss_terms))] = (
        "charbonnier"
    )
    val: Annotated[
        Files,
        Option(
            *(_VAL, "CLIPS"),
            names="clips",
            parse=values.files,
            shown="parts of the clips",
            repeats=True,
        ),
    ] = ()
    resume: Annotated[bool, Option(_RESUME, off="--no-resume", pinned=False)] = True
    task: Annotated[
        Literal["interpolate", "predict", "reconstruct"] | None,
        _learn(_TASK, "TASK", shown="the model's own"),
    ] = None
    relative: Annotated[bool, _rare(_RELATIVE)] = False
    batch: Annotated[int, _learn("Use N samples for each step.", "N", least=1, most=4096)] = 8
    rollout: Annotated[
        int | None,
        _learn("Train predictors K frames ahead.", "K", least=1, most=1000, shown=_ROLLOUT),
    ] = None
    gap: Annotated[int, _rare(_GAP, least=2, most=1000)] = 2
    noise: Annotated[float, _rare(_NOISE, least=0)] = 0.0
    learning_rate: Annotated[
        float | None, _learn(_RATE_HELP, "R", above=0, most=1, shown=_RATE_DEFAULT)
    ] = None
    seed: Annotated[int, _learn(_SEED, "N", least=0, most=2**63 - 1)] = 0
    crop: Annotated[int, _clip("Cut samples of N by N pixels.", "N", least=1)] = 128
    interval: Annotated[
        int | str | Sequence[int], _clip(_INTERVAL, "K", parse=values.interval, shown="1")
    ] = (1, 1)
    size: Annotated[int | None, _rare(_SIZE, least=1)] = None
    min_motion: Annotated[float, _rare(_STILL, least=0)] = 0.0
    train_part: Annotated[str | None, _rare(_PART, parse=values.checked(parse_spans))] = None
    val_part: Annotated[
        str | None,
        _clip(_VAL_PART, "A:B", parse=values.checked(parse_spans), shown="three parts of each"),
    ] = None
    deinterlace: Annotated[bool, _clip(DEINTERLACE)] = False
    crops: Annotated[
        int, _rare("Cut this many samples from each run of decoded frames.", least=1)
    ] = 8
    repeats: Annotated[bool, _rare("Keep repeated frames.")] = False
    lively: Annotated[float, _rare(_LIVELY, least=0, most=1)] = 0.0
    overlays: Annotated[float, _rare(_OVERLAYS, least=0, most=1)] = 0.0
    augment: Annotated[bool, _rare("Flip and turn samples at random.")] = True
    reversal: Annotated[bool, _rare("Play samples backwards at random.")] = True
    frozen: Annotated[Files, _rare(_FROZEN, parse=values.files, names="words")] = ()
    anchor: Annotated[float, _rare(_ANCHOR, least=0, most=1)] = 0.0
    last: Annotated[bool, _rare(_LAST)] = False
    val_windows: Annotated[int, _rare("Validate on this many samples.", least=1)] = 24
    val_crop: Annotated[int, _rare(_VAL_CROP, least=1)] = 256
    validate_every: Annotated[int, _period("Validate every N steps.")] = 200
    checkpoint_every: Annotated[int, _period("Write a checkpoint every N steps.")] = 200
    weight_decay: Annotated[float, _rare("Use this weight decay.", least=0)] = 1e-4
    ema: Annotated[float, _rare(_EMA, least=0, most=1 - 1e-9)] = 0.99
    clip_gradient: Annotated[float, _rare("Limit the norm of the gradient.", above=0)] = 1.0

    def _check(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise SettingsError(
                "steps-and-minutes: --steps and --minutes both limit the training: give one of "
                "them."
            )
        if self.recipe is None and not self.clips:
            raise SettingsError(
                "no-clips: There is nothing to train on: name clips, or give a --recipe."
            )
        if not (self.recipe or self.model or self.init):
            raise SettingsError(
                "no-model: There is no model to train: give --model, --init or --recipe."
            )


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(TrainSettings):
    """Complete training settings: the caller's, and the recipe's or else the model's for the rest.

    ``model`` and ``output`` are named. None remains only where None is a choice, such as no limit
    on the steps, and for ``learning_rate``, which depends on the weights that are found.
    """
