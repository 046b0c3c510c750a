"""What to train, on what, and how: the settings, and the recipe files that hold them."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cloudconv.errors import InputError, SettingsError
from cloudconv.media.input.spool import read_whole
from cloudconv.models import registry
from cloudconv.models.base import Task
from cloudconv.training.losses import parse_loss

_MAY_CHANGE = frozenset(
    [
        "output",
        "recipe",
        "steps",
        "minutes",
        "validate_every",
        "checkpoint_every",
        "threads",
        "resume",
        "overwrite",
    ]
)
"""Settings that a resumed run may give anew; the others decide what is learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What to train, on what, and how.

    ``clips``: videos, folders of videos, folders or patterns of pictures; each one given is
    drawn as often as the others, whatever is inside; ``[0:0.75]`` behind one takes a part of
    its clips, ``@480`` behind that shrinks them to 480 pixels. ``init``: a model's name or a
    weights file to start from. ``loss``: terms and weights, see
    :func:`cloudconv.training.losses.parse_loss`; ``relative`` divides each by the naive
    picture's. One of ``steps`` and ``minutes`` ends the training (default: 1000 steps).
    ``rollout``: predictors: frames ahead (default: 6 for those that are told the horizon, else
    1). ``gap``: interpolators: the most frames from x0 to x1. ``interval``: smallest and
    largest step between frames that differ. ``size``: longest side that clips are shrunk to.
    ``crops``: samples cut from each window that is decoded. ``noise``: standard deviation of
    what is added to the input, in [0, 1]. ``min_motion``: levels of 255. ``repeats``: keep
    repeated frames. ``deinterlace``: make whole frames from fields first. ``lively``: share of the
    windows that are the liveliest of four drawn.
    ``overlays``: share of the samples that get marks which stand still, as text and logos do.
    ``frozen``: beginnings of the names of tensors that stay as they are, such as ``block0.``.
    ``anchor``: how much of the weights of ``init`` is in what is delivered, from 0 to 1.
    ``last``: deliver the last weights, in the place of those that validate best.
    ``learning_rate``: by default 5e-4, and 1e-4 for a model that starts from
    whole weights. ``val``: clips to validate on, which are never trained on; without it
    ``val_part`` of the same clips is (by default three stretches inside each, or the end where
    they would be too short), and the rest is trained on unless ``train_part`` says otherwise.
    ``val_windows``, ``val_crop``: how much of them. ``ema``: decay of the moving average of the
    weights, which is what is delivered. ``recipe``: the file that settings were read from.
    """

    clips: tuple[str, ...]
    model: str
    output: str
    task: Task | None = None
    init: str | None = None
    loss: str = "charbonnier"
    relative: bool = False
    steps: int | None = None
    minutes: float | None = None
    crop: int = 128
    batch: int = 8
    crops: int = 8
    rollout: int | None = None
    gap: int = 2
    interval: tuple[int, int] = (1, 1)
    size: int | None = None
    noise: float = 0.0
    min_motion: float = 0.0
    repeats: bool = False
    deinterlace: bool = False
    lively: float = 0.0
    overlays: float = 0.0
    frozen: tuple[str, ...] = ()
    anchor: float = 0.0
    last: bool = False
    augment: bool = True
    reversal: bool = True
    val: tuple[str, ...] = ()
    train_part: str | None = None
    val_part: str | None = None
    val_windows: int = 24
    val_crop: int = 256
    validate_every: int = 200
    checkpoint_every: int = 200
    learning_rate: float | None = None
    weight_decay: float = 1e-4
    ema: float = 0.99
    clip_gradient: float = 1.0
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads: int | None = None
    resume: bool = True
    overwrite: bool = False
    recipe: str | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise SettingsError("give `steps` or `minutes`, not both")
        whole = [
            "steps",
            "crop",
            "batch",
            "crops",
            "rollout",
            "val_windows",
            "val_crop",
            "validate_every",
        ]
        for name in (*whole, "checkpoint_every", "minutes", "learning_rate", "clip_gradient"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"`{name}` must be above 0, got {value:g}")
        for name in ("noise", "min_motion", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise SettingsError(f"`{name}` must not be negative, got {getattr(self, name):g}")
        if self.seed >= 2**63:
            raise SettingsError(f"`seed` must be below 2^63, got {self.seed}")
        if not 0 <= self.ema < 1:
            raise SettingsError(f"`ema` must be from 0 to below 1, got {self.ema:g}")
        for name in ("lively", "overlays", "anchor"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"`{name}` must be from 0 to 1, got {getattr(self, name):g}")
        if not 1 <= self.interval[0] <= self.interval[1]:
            raise SettingsError(f"`interval` must be 1 or more and rising, got {self.interval}")
        if Path(self.output).suffix != ".safetensors":
            raise SettingsError(
                f"weights are written as .safetensors, so {self.output} needs that ending"
            )
        parse_loss(self.loss)


def settings_from(recipe: Path | str | None = None, **given: Any) -> TrainSettings:
    """Settings from a TOML file whose keys are their names, and from what is given beside it.

    Args:
        recipe: the file, or None.
        given: settings that count more than the file's; None stands for not given. Without a
            model, the one that ``init`` names is meant; without an output, or for a folder, a
            name made from it.
            Without a file, what suits the model is taken where nothing is given.

    Raises:
        InputError: the file cannot be read.
        SettingsError: it is no TOML, or a key or value makes no sense.
    """
    source = "The training" if recipe is None else f"The recipe {recipe}"
    found = {} if recipe is None else _read_recipe(recipe)
    given = {name: value for name, value in given.items() if value is not None}
    # One of the two is replaced by the other.
    if "minutes" in given or "steps" in given:
        found = {name: value for name, value in found.items() if name not in ("minutes", "steps")}
    found |= given
    known = {field.name for field in fields(TrainSettings)} - {"recipe"}
    if unknown := sorted(found.keys() - known):
        raise SettingsError(f"{source} has {unknown[0]!r}, which is no training setting.")
    if "model" not in found and "init" in found:
        found["model"] = registry.spec(found["init"]).name
    if recipe is None and "model" in found:
        found = {**registry.spec(found["model"], found.get("task")).training, **found}
    folder = found.get("output", "")
    if "model" in found and (not folder or Path(folder).is_dir()):
        found["output"] = str(Path(folder, f"{found['model']}_trained.safetensors"))
    for name in ("clips", "val", "interval", "frozen"):
        if name in found:
            found[name] = tuple(found[name])
    try:
        return TrainSettings(**found, recipe=None if recipe is None else str(recipe))
    except TypeError as error:
        raise SettingsError(f"{source} does not fit: {error}.") from error


def _read_recipe(path: Path | str) -> dict[str, Any]:
    try:
        return tomllib.loads(read_whole(Path(path)).decode("utf-8"))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise SettingsError(f"The recipe {path} is no TOML: {error}.") from error


def fingerprint(settings: TrainSettings) -> str:
    """What a checkpoint must have in common with the run that goes on from it, as JSON."""
    kept = {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE}
    return json.dumps(kept, sort_keys=True)
