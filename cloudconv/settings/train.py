"""What can be asked of ``train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from cloudconv.errors import SettingsError
from cloudconv.settings import values
from cloudconv.settings.groups import Machine, Overwrite
from cloudconv.settings.option import Option
from cloudconv.settings.values import File, Files

CLIPS, LEARNING = "Clips", "Learning"

UNSET: Any = None
"""Not given: the recipe, the model, or the option's ``otherwise`` says, see ``resolve``."""

_how = partial(Option, group=LEARNING)
_what = partial(Option, group=CLIPS)
_rule = partial(Option, hidden=True)  # for Python and recipes alone
_rhythm = partial(_rule, least=1, otherwise=200, pinned=False)

_CLIPS = "Videos, folders of them, or pictures; clip.mp4[0:0.75] for a part of one."
_OUTPUT = "<model>_trained.safetensors"
_INIT = "Start from these weights: a model's name, or a file."
_RECIPE = "Settings from a TOML file; options here count more."
_LOSS = """l1, l2, charbonnier, ssim, gdl, laplacian, psnr, adversarial: l1+gdl, or
l2:1,gdl:0.5."""
_VAL = "Clips to validate on, which are never trained on; may be repeated."
_RESUME = "Go on from the checkpoint of a run that was stopped."
_TASK = "What to train for: interpolate, predict or reconstruct."
_RELATIVE = "Divide each item's loss by the naive baseline's."
_ROLLOUT = "1, or 6 for models that reach them at once"
_GAP = "Interpolators: the most frames from one to the other."
_INTERVAL = "Take every K-th frame, or (K-L) K-th to L-th."
_STILL = "Leave out what moves less, in levels of 255."
_LIVELY = "Part of the windows that are the liveliest of four drawn."
_OVERLAYS = "Part of the samples that get marks which stand still, as text and logos do."
_FROZEN = "Beginnings of the names of tensors that stay as they are, such as block0."
_LAST = "Deliver the last weights, in the place of those that validate best."
_EMA = "Decay of the moving average of the weights, which is what is delivered."


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Overwrite, Machine):
    """What to train, on what, and how.

    Name ``clips`` and one of ``model`` and ``init``, or a ``recipe``. Each clip is drawn as often
    as the others; ``[0:0.75]`` behind one takes a part of it, ``@480`` behind that shrinks it to
    480 pixels.

    Raises :class:`~cloudconv.errors.SettingsError` on values that cannot be.
    """

    clips: Annotated[Files, Option(_CLIPS, "CLIPS…", parse=values.files, hidden=True)] = field(
        default=(), kw_only=False
    )
    output: Annotated[
        File,
        Option(
            *("Weights to write.", "FILE"),
            also=("-o",),
            parse=values.weights_file,
            shown=_OUTPUT,
            pinned=False,
        ),
    ] = field(default=UNSET, kw_only=False)
    model: Annotated[str, Option("What to train.", "NAME", shown="what --init names")] = UNSET
    init: Annotated[File | None, Option(_INIT, "NAME")] = None
    recipe: Annotated[File | None, Option(_RECIPE, "FILE", pinned=False)] = None
    steps: Annotated[
        int | None, Option("Train for N steps.", "N", least=1, shown="1000", pinned=False)
    ] = None
    minutes: Annotated[float | None, Option("Train for M minutes.", "M", above=0, pinned=False)] = (
        None
    )
    loss: Annotated[str, Option(_LOSS, "SUM", otherwise="charbonnier")] = UNSET
    val: Annotated[
        Files,
        Option(
            *(_VAL, "CLIPS"),
            parse=values.files,
            shown="parts of the clips",
            otherwise=(),
            repeats=True,
        ),
    ] = UNSET
    resume: Annotated[bool, Option(_RESUME, off="--no-resume", otherwise=True, pinned=False)] = (
        UNSET
    )
    task: Annotated[
        Literal["interpolate", "predict", "reconstruct"] | None,
        _how(_TASK, "TASK", shown="the model's own"),
    ] = None
    relative: Annotated[bool, _how(_RELATIVE, off="--absolute", otherwise=False)] = UNSET
    batch: Annotated[int, _how("Samples a step.", "N", least=1, otherwise=8)] = UNSET
    rollout: Annotated[
        int | None, _how("Predictors: frames ahead.", "K", least=1, most=1000, shown=_ROLLOUT)
    ] = None
    gap: Annotated[int, _how(_GAP, "K", most=1000, otherwise=2)] = UNSET
    noise: Annotated[
        float, _how("Noise added to the input, of 1.", "S", least=0, otherwise=0.0)
    ] = UNSET
    learning_rate: Annotated[
        float | None, _how("Size of a step.", "R", above=0, shown="5e-4, with --init 1e-4")
    ] = None
    seed: Annotated[
        int, _how("Same seed, same training.", "N", least=0, most=2**63 - 1, otherwise=0)
    ] = UNSET
    crop: Annotated[int, _what("Side of a sample in pixels.", "N", least=1, otherwise=128)] = UNSET
    interval: Annotated[
        int | str | Sequence[int],
        _what(_INTERVAL, "K", parse=values.interval, shown="1", otherwise=(1, 1)),
    ] = UNSET
    size: Annotated[int | None, _what("Shrink clips to N pixels, longest side.", "N", least=1)] = (
        None
    )
    min_motion: Annotated[float, _what(_STILL, "N", least=0, otherwise=0.0)] = UNSET
    train_part: Annotated[str | None, _what("Part of each clip to train on, 0 to 1.", "A:B")] = None
    val_part: Annotated[
        str | None, _what("Part to validate on.", "A:B", shown="three stretches inside")
    ] = None
    crops: Annotated[
        int, _rule("Samples cut from each window that is decoded.", least=1, otherwise=8)
    ] = UNSET
    repeats: Annotated[bool, _rule("Keep repeated frames.", otherwise=False)] = UNSET
    deinterlace: Annotated[bool, _rule("Make whole frames from fields first.", otherwise=False)] = (
        UNSET
    )
    lively: Annotated[float, _rule(_LIVELY, least=0, most=1, otherwise=0.0)] = UNSET
    overlays: Annotated[float, _rule(_OVERLAYS, least=0, most=1, otherwise=0.0)] = UNSET
    augment: Annotated[bool, _rule("Flip and turn samples at random.", otherwise=True)] = UNSET
    reversal: Annotated[bool, _rule("Play samples backwards at random.", otherwise=True)] = UNSET
    frozen: Annotated[Files, _rule(_FROZEN, parse=values.files, otherwise=())] = UNSET
    anchor: Annotated[
        float,
        _rule("Weight of init's tensors in what is delivered.", least=0, most=1, otherwise=0.0),
    ] = UNSET
    last: Annotated[bool, _rule(_LAST, otherwise=False)] = UNSET
    val_windows: Annotated[int, _rule("Windows to validate on.", least=1, otherwise=24)] = UNSET
    val_crop: Annotated[int, _rule("Their side in pixels.", least=1, otherwise=256)] = UNSET
    validate_every: Annotated[int, _rhythm("Steps from one validation to the next.")] = UNSET
    checkpoint_every: Annotated[int, _rhythm("Steps from one checkpoint to the next.")] = UNSET
    weight_decay: Annotated[float, _rule("Decay of the weights.", least=0, otherwise=1e-4)] = UNSET
    ema: Annotated[float, _rule(_EMA, least=0, most=1 - 1e-9, otherwise=0.99)] = UNSET
    clip_gradient: Annotated[
        float, _rule("The largest norm of a gradient.", above=0, otherwise=1.0)
    ] = UNSET

    def _check(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise SettingsError("steps-and-minutes")
        if self.recipe is None and not self.clips:
            raise SettingsError("no-clips")
        if self.recipe is None and self.model is None and self.init is None:
            raise SettingsError("no-model")
