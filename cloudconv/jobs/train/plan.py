"""Plan a training: its complete settings, its clips and its files."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from math import floor
from pathlib import Path
from typing import Any

import torch

from cloudconv import checkpoints, errors, files
from cloudconv.events import Warned
from cloudconv.files import reading
from cloudconv.jobs.train.results import check_files
from cloudconv.jobs.video import JobResult, check_outputs
from cloudconv.media.containers.input import check_there, local_file
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.models.catalogue import ModelSpec
from cloudconv.render import device as devices
from cloudconv.settings import TrainSettings, fields_of, values
from cloudconv.settings.values import WHOLE, names_folder, parse_spans, split_path, without
from cloudconv.training import clips, loop
from cloudconv.training.clips import TrainingClip, Windows
from cloudconv.training.goals import Goal, goal_for

# The least length of a held-back part, in windows. Repeated frames do not count, so a
# window may need more frames of the clip than its length.
_ROOM = 1.5
_STEPS = 1000  # if neither steps nor minutes are given


@dataclass(frozen=True, kw_only=True)
class TrainResult(JobResult):
    """The result of a training.

    ``initial`` are scores before the first step, ``best`` those of the weights in
    ``output``, and ``seen`` those of the same weights on the training clips. ``steps``
    includes ``steps_before`` of earlier runs. ``initialised`` tensors came from ``init``.
    ``improved``: whether ``output`` has trained weights; otherwise the initial weights have
    the best scores. ``held_back`` are the parts of the clips that ``initial`` and ``best``
    are measured on, in seconds. For an interpolator the PSNR of both is what ``compare``
    finds there, unless the training was interrupted.
    """

    output: str
    model: str
    task: str
    parameters: int
    resumed: bool
    naive: str
    steps: int
    steps_before: int
    interrupted: bool
    improved: bool
    initialised: int
    held_back: list[tuple[float, float]]
    initial: loop.Validation
    best: loop.Validation
    seen: loop.Validation | None
    history: list[loop.Validation]


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """The decisions before the model is built."""

    settings: TrainSettings
    output: Path
    checkpoint: Path
    spec: ModelSpec
    device: torch.device
    precision: torch.dtype
    goal: Goal[Any]
    train: Windows
    held_back: Windows
    resumes: bool  # whether a checkpoint of an earlier run is continued

    @property
    def infos(self) -> dict[Path, MediaInfo]:
        """Return the facts of each file."""
        every = chain(*self.train.groups, *self.held_back.groups)
        return {clip.info.path: clip.info for clip in every}

    @property
    def warnings(self) -> list[Warned]:
        """Return the warnings about the clips and the device."""
        fields = [
            replace(warning, about=path.name)
            for path, info in self.infos.items()
            for warning in info.warnings
            if warning.code in ("interlaced", "not-interlaced")
        ]
        return [*self.train.warnings, *devices.auto_warnings(self.settings.device), *fields]

    @property
    def held_back_parts(self) -> list[tuple[TrainingClip, Fraction, Fraction]]:
        """Return each held-back part: its clip, start and end, in whole milliseconds.

        They are rounded down, so that an exact number in JSON leads to the same frames.
        """
        parts = []
        for clip in chain(*self.held_back.groups):
            gap = 1000 * clip.gap
            for begin, end in clip.parts():
                start = Fraction(floor(begin * gap), 1000)
                parts.append((clip, start, Fraction(floor(end * gap), 1000)))
        return parts

    @property
    def facts(self) -> dict[str, Any]:
        """Return the fields of the result that are decided before the training."""
        return {
            "output": str(self.output),
            "model": self.spec.name,
            "task": self.spec.task,
            "device": str(self.device),
            "precision": devices.precision_name(self.precision),
            "parameters": self.spec.parameters,
            "resumed": self.resumes,
            **({} if self.settings.steps is None else {"steps": self.settings.steps}),
        }


def decide(requested: TrainSettings) -> TrainPlan:
    """Probe the clips, and decide everything that does not need the model."""
    settings = completed(requested)
    output = Path(str(settings.output))
    checkpoint = files.beside(output, ".checkpoint")
    spec = registry.spec(settings.model, settings.task)
    device = devices.choose_device(settings.device)
    check_there(
        values.clip_files((*values.files(settings.clips), *values.files(settings.val)))
    )
    precision = _precision(settings, device, spec)
    check_files(output, checkpoint, settings)
    goal = goal_for(spec, rollout=settings.rollout, gap=settings.gap)
    windows = _windows(settings, goal, [output, checkpoint])
    resumes = settings.resume and checkpoint.exists()
    return TrainPlan(
        settings, output, checkpoint, spec, device, precision, goal, *windows, resumes
    )


def foresee(plan: TrainPlan) -> Iterator[dict[str, str]]:
    """Yield how long the training takes, and its clips."""
    settings = plan.settings
    length = counted(settings.steps or 0, "step")
    if settings.minutes is not None:
        length = f"{settings.minutes:g} min"
    used, kept = (len([*chain(*some.groups)]) for some in (plan.train, plan.held_back))
    yield {"training": f"{length} on {counted(used, 'clip')}; {kept} to validate on"}


def completed(settings: TrainSettings) -> TrainSettings:
    """Return a training's complete settings: given, the recipe's or the model's own.

    The default model is the model that ``init`` names, which also names the output.
    """
    names = {option.name for option in fields_of(TrainSettings)} - {"recipe"}
    passed = settings.passed
    merged = {} if settings.recipe is None else _read_recipe(settings.recipe)
    if unknown := sorted(merged.keys() - names):
        raise errors.SettingsError(
            f"unknown-training-setting: The recipe {settings.recipe} has {unknown[0]!r}, "
            "which is not a training setting: correct that name."
        )
    # A passed `steps` also replaces the recipe's `minutes`, and the reverse.
    if "minutes" in passed or "steps" in passed:
        merged = {
            name: value
            for name, value in merged.items()
            if name not in ("minutes", "steps")
        }
    # A passed None, or nothing, unsets a value of the recipe.
    merged = {k: v for k, v in (merged | passed).items() if v not in (None, (), "")}
    if "model" not in merged and "init" in merged:
        # A published network has no other name than its file.
        start = registry.spec(merged["init"])
        merged["model"] = str(merged["init"]) if start.published else start.name
    if not (model := merged.get("model")):
        raise errors.SettingsError(
            "no-model: There is no model to train: give --model, --init or --recipe."
        )
    if settings.recipe is None:
        merged = (
            dict(registry.spec(model, merged.get("task")).cls.training_settings) | merged
        )
    folder = merged.get("output", "")
    if not folder or names_folder(folder):
        file = checkpoints.file_of(model)
        merged["output"] = str(
            Path(folder, f"{file.stem if file else model}_trained.safetensors")
        )
    if not merged.keys() & {"steps", "minutes"}:
        merged["steps"] = _STEPS
    return TrainSettings(**merged)


def _read_recipe(path: Path | str) -> dict[str, Any]:
    try:
        with reading(path):
            return tomllib.loads(local_file(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise errors.SettingsError(
            f"recipe-not-toml: The recipe {path} is not TOML ({error}): correct that line."
        ) from error


def _precision(
    settings: TrainSettings, device: torch.device, spec: ModelSpec
) -> torch.dtype:
    if settings.precision != "auto":
        return devices.choose_precision(settings.precision, device, spec)
    fast = device.type == "cuda" and spec.half_precision and devices.has_bf16(device)
    return torch.bfloat16 if fast else torch.float32


def _windows(
    settings: TrainSettings, goal: Goal[Any], written: Sequence[Path]
) -> tuple[Windows, Windows]:
    """Return the windows of training and of validation.

    ``written`` must be none of their files.
    """
    held_back = None if settings.val_part is None else parse_spans(settings.val_part)
    interval = values.interval(settings.interval)
    opened = partial(clips.open_clips, deinterlace=settings.deinterlace)
    if settings.val:
        groups = opened(values.files(settings.val), held_back or WHOLE)
        train_groups = clips.excluding(opened(values.files(settings.clips)), groups)
    else:
        whole = opened(values.files(settings.clips))
        if held_back is None:
            most = max(clip.info.timing.frames for clip in chain(*whole))
            shortest = min(end - begin for begin, end in values.HELD_BACK) * most
            fits = shortest >= _ROOM * goal.length * interval[0]
            held_back = values.HELD_BACK if fits else values.HELD_LAST
        groups, train_groups = [], []
        for text, group in zip(values.files(settings.clips), whole, strict=True):
            _, spans, _ = split_path(text)
            used = without(held_back) if spans is None else parse_spans(spans)
            rest = held_back if spans is None else without(used)
            groups.append([replace(clip, spans=rest) for clip in group if rest])
            train_groups.append([replace(clip, spans=used) for clip in group if used])
    if not any(groups):
        raise errors.SettingsError(
            "nothing-held-back: The whole clips are used for training, which leaves "
            "nothing to validate on: give --val or --val-part, or train on "
            "clip.mp4[0:0.75]."
        )
    if not any(train_groups):
        raise errors.SettingsError(
            "all-held-back: The whole clips are held back to validate on, which leaves "
            "nothing to train on: give other clips, or a smaller --val-part."
        )
    read = [clip.info.path for clip in chain(*groups, *train_groups)]
    check_outputs(settings, written, read)
    # Validation uses the smallest interval, and accepts small clips and windows without
    # motion.
    length = 1 + max(max(picks) for picks, _ in goal.validation())
    least = (interval[0],) * 2
    validation = settings.changed(crop=1, interval=least, min_motion=0.0)
    return (
        Windows(train_groups, goal.length, goal.picks, settings),
        Windows(groups, length, goal.picks, validation),
    )
