"""What can be asked of ``train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from cloudconv.settings import values
from cloudconv.settings.groups import RUN, Machine, Overwrite
from cloudconv.settings.option import Option, refused
from cloudconv.settings.values import File, Files

CLIPS, LEARNING = "Clips", "Learning"

UNSET: Any = None
"""Not given: the recipe, the model, or the option's ``otherwise`` says, see ``resolve``."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Overwrite, Machine):
    """What to train, on what, and how.

    Name ``clips`` and one of ``model`` and ``init``, or a ``recipe``. Each clip is drawn as often
    as the others; ``[0:0.75]`` behind one takes a part of it, ``@480`` behind that shrinks it to
    480 pixels.

    Raises :class:`~cloudconv.errors.SettingsError` on values that cannot be.
    """

    clips: Annotated[
        Files,
        Option(
            "Videos, folders of them, or pictures; clip.mp4[0:0.75] for a part of one.",
            metavar="CLIPS…",
            parse=values.files,
            on_command_line=False,
        ),
    ] = field(default=(), kw_only=False)
    output: Annotated[
        File,
        Option(
            "Weights to write.",
            flags=("--output", "-o"),
            metavar="FILE",
            parse=values.weights_file,
            default_text="<model>_trained.safetensors",
            pinned=False,
        ),
    ] = field(default=UNSET, kw_only=False)
    model: Annotated[
        str,
        Option("What to train.", metavar="NAME", default_text="what --init names"),
    ] = UNSET
    init: Annotated[
        File | None,
        Option("Start from these weights: a model's name, or a file.", metavar="NAME"),
    ] = None
    recipe: Annotated[
        File | None,
        Option("Settings from a TOML file; options here count more.", metavar="FILE", pinned=False),
    ] = None
    steps: Annotated[
        int | None,
        Option(
            "Train for N steps.",
            metavar="N",
            least=1,
            most=10**12,
            default_text="1000",
            pinned=False,
        ),
    ] = None
    minutes: Annotated[
        float | None, Option("Train for M minutes.", metavar="M", above=0, pinned=False)
    ] = None
    loss: Annotated[
        str,
        Option(
            "l1, l2, charbonnier, ssim, gdl, laplacian, psnr, adversarial: l1+gdl, or "
            "l2:1,gdl:0.5.",
            metavar="SUM",
            otherwise="charbonnier",
        ),
    ] = UNSET
    val: Annotated[
        Files,
        Option(
            "Clips to validate on, which are never trained on; may be repeated.",
            metavar="CLIPS",
            parse=values.files,
            otherwise=(),
            repeats=True,
            default_text="parts of the clips",
        ),
    ] = UNSET
    resume: Annotated[
        bool,
        Option(
            "Go on from the checkpoint of a run that was stopped.",
            flags=("--resume/--no-resume",),
            otherwise=True,
            pinned=False,
        ),
    ] = UNSET
    task: Annotated[
        Literal["interpolate", "predict", "reconstruct"] | None,
        Option(
            "What to train for: interpolate, predict or reconstruct.",
            group=LEARNING,
            metavar="TASK",
            default_text="the model's own",
        ),
    ] = None
    relative: Annotated[
        bool,
        Option(
            "Divide each item's loss by the naive baseline's.",
            flags=("--relative/--absolute",),
            group=LEARNING,
            otherwise=False,
        ),
    ] = UNSET
    batch: Annotated[
        int,
        Option("Samples a step.", group=LEARNING, metavar="N", least=1, most=100_000, otherwise=8),
    ] = UNSET
    rollout: Annotated[
        int | None,
        Option(
            "Predictors: frames ahead.",
            group=LEARNING,
            metavar="K",
            least=1,
            most=1000,
            default_text="1, or 6 for models that reach them at once",
        ),
    ] = None
    gap: Annotated[
        int,
        Option(
            "Interpolators: the most frames from one to the other.",
            group=LEARNING,
            metavar="K",
            most=1000,
            otherwise=2,
        ),
    ] = UNSET
    noise: Annotated[
        float,
        Option(
            "Noise added to the input, of 1.", group=LEARNING, metavar="S", least=0, otherwise=0.0
        ),
    ] = UNSET
    learning_rate: Annotated[
        float | None,
        Option(
            "Size of a step.",
            group=LEARNING,
            metavar="R",
            above=0,
            default_text="5e-4, with --init 1e-4",
        ),
    ] = None
    seed: Annotated[
        int,
        Option(
            "Same seed, same training.",
            group=LEARNING,
            metavar="N",
            least=0,
            most=2**63 - 1,
            otherwise=0,
        ),
    ] = UNSET
    crop: Annotated[
        int,
        Option(
            "Side of a sample in pixels.",
            group=CLIPS,
            metavar="N",
            least=1,
            most=100_000,
            otherwise=128,
        ),
    ] = UNSET
    interval: Annotated[
        int | str | Sequence[int],
        Option(
            "Take every K-th frame, or (K-L) K-th to L-th.",
            group=CLIPS,
            metavar="K",
            parse=values.interval,
            default_text="1",
            otherwise=(1, 1),
        ),
    ] = UNSET
    size: Annotated[
        int | None,
        Option(
            "Shrink clips to N pixels, longest side.",
            group=CLIPS,
            metavar="N",
            least=1,
            most=100_000,
        ),
    ] = None
    min_motion: Annotated[
        float,
        Option(
            "Leave out what moves less, in levels of 255.",
            group=CLIPS,
            metavar="N",
            least=0,
            otherwise=0.0,
        ),
    ] = UNSET
    train_part: Annotated[
        str | None,
        Option("Part of each clip to train on, 0 to 1.", group=CLIPS, metavar="A:B"),
    ] = None
    val_part: Annotated[
        str | None,
        Option(
            "Part to validate on.",
            group=CLIPS,
            metavar="A:B",
            default_text="three stretches inside",
        ),
    ] = None
    crops: Annotated[
        int,
        Option(
            "Samples cut from each window that is decoded.",
            group=CLIPS,
            least=1,
            most=100_000,
            otherwise=8,
            on_command_line=False,
        ),
    ] = UNSET
    repeats: Annotated[
        bool,
        Option("Keep repeated frames.", group=CLIPS, otherwise=False, on_command_line=False),
    ] = UNSET
    deinterlace: Annotated[
        bool,
        Option(
            "Make whole frames from fields first.",
            group=CLIPS,
            otherwise=False,
            on_command_line=False,
        ),
    ] = UNSET
    lively: Annotated[
        float,
        Option(
            "Part of the windows that are the liveliest of four drawn.",
            group=CLIPS,
            least=0,
            most=1,
            otherwise=0.0,
            on_command_line=False,
        ),
    ] = UNSET
    overlays: Annotated[
        float,
        Option(
            "Part of the samples that get marks which stand still, as text and logos do.",
            group=CLIPS,
            least=0,
            most=1,
            otherwise=0.0,
            on_command_line=False,
        ),
    ] = UNSET
    augment: Annotated[
        bool,
        Option(
            "Flip and turn samples at random.", group=CLIPS, otherwise=True, on_command_line=False
        ),
    ] = UNSET
    reversal: Annotated[
        bool,
        Option(
            "Play samples backwards at random.",
            group=CLIPS,
            otherwise=True,
            on_command_line=False,
        ),
    ] = UNSET
    frozen: Annotated[
        Files,
        Option(
            "Beginnings of the names of tensors that stay as they are, such as block0.",
            group=LEARNING,
            parse=values.files,
            otherwise=(),
            on_command_line=False,
        ),
    ] = UNSET
    anchor: Annotated[
        float,
        Option(
            "Weight of init's tensors in what is delivered.",
            group=LEARNING,
            least=0,
            most=1,
            otherwise=0.0,
            on_command_line=False,
        ),
    ] = UNSET
    last: Annotated[
        bool,
        Option(
            "Deliver the last weights, in the place of those that validate best.",
            group=LEARNING,
            otherwise=False,
            on_command_line=False,
        ),
    ] = UNSET
    val_windows: Annotated[
        int,
        Option(
            "Windows to validate on.",
            group=CLIPS,
            least=1,
            most=1_000_000,
            otherwise=24,
            on_command_line=False,
        ),
    ] = UNSET
    val_crop: Annotated[
        int,
        Option(
            "Their side in pixels.",
            group=CLIPS,
            least=1,
            most=100_000,
            otherwise=256,
            on_command_line=False,
        ),
    ] = UNSET
    validate_every: Annotated[
        int,
        Option(
            "Steps from one validation to the next.",
            group=RUN,
            least=1,
            most=10**12,
            otherwise=200,
            pinned=False,
            on_command_line=False,
        ),
    ] = UNSET
    checkpoint_every: Annotated[
        int,
        Option(
            "Steps from one checkpoint to the next.",
            group=RUN,
            least=1,
            most=10**12,
            otherwise=200,
            pinned=False,
            on_command_line=False,
        ),
    ] = UNSET
    weight_decay: Annotated[
        float,
        Option(
            "Decay of the weights.",
            group=LEARNING,
            least=0,
            otherwise=1e-4,
            on_command_line=False,
        ),
    ] = UNSET
    ema: Annotated[
        float,
        Option(
            "Decay of the moving average of the weights, which is what is delivered.",
            group=LEARNING,
            least=0,
            most=1 - 1e-9,
            otherwise=0.99,
            on_command_line=False,
        ),
    ] = UNSET
    clip_gradient: Annotated[
        float,
        Option(
            "The largest norm of a gradient.",
            group=LEARNING,
            above=0,
            otherwise=1.0,
            on_command_line=False,
        ),
    ] = UNSET

    def _check(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise refused("Give `steps` or `minutes`, not both.")
        if self.recipe is None and not self.clips:
            raise refused("Name clips to train on, or a `recipe`.")
        if self.recipe is None and self.model is None and self.init is None:
            raise refused("Say what to train with `model`, `init` or `recipe`.")
