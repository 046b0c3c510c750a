"""Declare the options of ``train``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from cloudconv.errors import SettingsError
from cloudconv.settings import values
from cloudconv.settings.groups import DEINTERLACE, Machine, Overwrite, on_machine
from cloudconv.settings.option import declared, option
from cloudconv.settings.values import File, Files

CLIPS, LEARNING = "Clips", "Learning"


_learn = partial(option, group=LEARNING)
_clip = partial(option, group=CLIPS)
_rare = partial(option, hidden=True)  # in Python and recipes, not on the command line
_fraction = partial(_rare, default=0.0, least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Overwrite, Machine):
    """The options of :func:`cloudconv.train`.

    Give ``clips``, and ``model`` or ``init``; or give a ``recipe``. Each entry of ``clips``
    gives equally many samples. ``clip.mp4[0:0.75]@480`` is the first three quarters of a
    clip, with the frames shrunk to 480 pixels on the longest side.
    """

    clips: Files = field(
        default=(),
        kw_only=False,
        metadata=declared(
            """Train on videos, folders of videos, or pictures; clip.mp4[0:0.75]@480 is the
            first 75 %, shrunk to 480 pixels on the longest side.""",
            "CLIPS…",
            parse=values.files,
            hidden=True,
        ),
    )
    output: File | None = field(
        default=None,
        kw_only=False,
        metadata=declared(
            "Write the weights to this file.",
            "FILE",
            also="-o",
            parse=values.weights_file,
            shown="<model>_trained.safetensors",
            pinned=False,
        ),
    )
    model: str = option(
        "Train this model.", "NAME", default="", shown="the model of --init"
    )
    init: File | None = option(
        "Start from these weights: a model's name, or a file.", "NAME"
    )
    recipe: File | None = option(
        "Read settings, also rare ones, from a TOML file; options override them.",
        "FILE",
        pinned=False,
    )
    steps: int | None = option(
        "Train for N steps.", "N", least=1, shown="1000", pinned=False
    )
    minutes: float | None = option(
        "Train for M minutes, scores included; the run may take 15 s more.",
        "M",
        above=0,
        most=1e6,
        pinned=False,
    )
    loss: str = option(
        """Minimise l1, l2, charbonnier, ssim, gdl, laplacian, psnr, adversarial, or a sum:
        l1+gdl, l2:1,gdl:0.5.""",
        "SUM",
        default="charbonnier",
        parse=values.checked(values.loss_terms),
    )
    val: Files = option(
        "Validate on these clips, which are never trained on; may be repeated.",
        "CLIPS",
        default=(),
        parse=values.files,
        shown="parts of the clips",
        repeats=True,
    )
    resume: bool = option(
        "Resume from the checkpoint of an interrupted run, or start again.",
        default=True,
        off="--no-resume",
        pinned=False,
    )
    task: Literal["interpolate", "predict", "reconstruct"] | None = _learn(
        "Train to interpolate, predict or reconstruct.", "TASK", shown="the model's own"
    )
    relative: bool = _rare("Divide each loss by that of the naive picture.", default=False)
    batch: int = _learn("Use N samples for each step.", "N", default=8, least=1, most=4096)
    rollout: int | None = _learn(
        "Train predictors K frames ahead.",
        "K",
        least=1,
        most=1000,
        shown="1, or 8 for voxelflow",
    )
    gap: int = _rare(
        "Train on pairs at most K frames apart.", default=2, least=2, most=1000
    )
    noise: float = _rare(
        "Add noise of this deviation, where white is 1.", default=0.0, least=0
    )
    learning_rate: float | None = _learn(
        "Train at this learning rate.",
        "R",
        above=0,
        most=1,
        shown="5e-4, or 1e-4 if --init sets all weights",
    )
    precision: Literal["auto", "fp32", "bf16"] = on_machine(
        """Train in this number format: auto, fp32 or bf16; gradients are too small for
        fp16.""",
        "NAME",
        default="auto",
    )
    seed: int = _learn(
        "Draw the samples with this seed; the same seed repeats a training.",
        "N",
        default=0,
        least=0,
        most=2**63 - 1,
    )
    crop: int = _clip("Cut samples of N by N pixels.", "N", default=128, least=1)
    interval: int | str | Sequence[int] = _clip(
        "Take every K-th frame; with K-L, each sample draws its own number from K to L.",
        "K",
        default=(1, 1),
        parse=values.interval,
        shown="1",
    )
    min_motion: float = _rare(
        "Leave out stiller samples, in levels of 255.", default=0.0, least=0
    )
    val_part: str | None = _clip(
        "Validate on this part of each clip.",
        "A:B",
        parse=values.checked(values.parse_spans),
        shown="three parts of each",
    )
    deinterlace: bool = _clip(DEINTERLACE, default=False)
    crops: int = _rare("Cut this many samples from each window.", default=8, least=1)
    repeats: bool = _rare("Keep repeated frames.", default=False)
    lively: float = _fraction("Use the liveliest of four windows for this many samples.")
    overlays: float = _fraction("Put marks that stand still on this many samples.")
    augment: bool = _rare("Flip and turn samples at random.", default=True)
    reversal: bool = _rare("Play samples backwards at random.", default=True)
    frozen: Files = _rare(
        "Freeze tensors with these beginnings.", default=(), parse=values.files
    )
    anchor: float = _fraction("Mix this fraction of the first weights into the result.")
    val_windows: int = _rare("Validate on this many samples.", default=24, least=1)
    val_crop: int = _rare("Validate on squares of this side.", default=256, least=1)
    validate_every: int = _rare(
        "Validate and save every N steps.", default=200, least=1, pinned=False
    )
    weight_decay: float = _rare("Use this weight decay.", default=1e-4, least=0)
    ema: float = _rare(
        "Write the moving average, with this decay.", default=0.99, least=0, most=1 - 1e-9
    )
    clip_gradient: float = _rare("Limit the norm of the gradient.", default=1.0, above=0)

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return the models that the values name: names, or files of weights."""
        return tuple(str(name) for name in (self.model, self.init) if name)

    def _check(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise SettingsError(
                "steps-and-minutes: --steps and --minutes both limit the training: give "
                "one of them."
            )
        if self.recipe is None and not self.clips:
            raise SettingsError(
                "no-clips: There is nothing to train on: name clips, or give a --recipe."
            )
