"""Train a model on clips, from random or existing weights, and write a weights file."""

import hashlib
import json
import os
import threading
import time
import tomllib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from math import floor, fsum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from cloudconv import checkpoints, errors, files, interrupts
from cloudconv.events import Event, Finished, Job, Measured, Progress, Reported, Warned
from cloudconv.files import reading
from cloudconv.jobs.compare import run as compare
from cloudconv.jobs.compare.plan import CompareResult
from cloudconv.jobs.compare.score import EQUAL
from cloudconv.jobs.video import check_outputs
from cloudconv.media.frame import MediaInfo
from cloudconv.media.identity import has_changed
from cloudconv.media.input import check_there, local_file
from cloudconv.media.output import check_free, check_home, writing
from cloudconv.messages import flag, shortened
from cloudconv.models import registry
from cloudconv.models.base import Model
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.registry import weights_fingerprint
from cloudconv.pipeline import prefetch
from cloudconv.render import device as devices
from cloudconv.settings import CompareSettings, TrainSettings, fields_of, values
from cloudconv.settings.values import WHOLE, names_folder, parse_spans, split_path, without
from cloudconv.training import clips, loop
from cloudconv.training.clips import TrainingClip, Windows
from cloudconv.training.goals import Goal, goal_for

# The least length of a held-back part, in windows. Repeated frames do not count, so a
# window may need more frames of the clip than its length.
_ROOM = 1.5
_MOST_COMPARED = 60  # frames of the held-back parts that compare scores at the end
_STEPS = 1000  # if neither steps nor minutes are given
_RATE = 5e-4  # learning rate if some or all weights start as random numbers
_FINE_RATE = 1e-4  # learning rate from existing weights of the whole model


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
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
    device: str
    precision: str
    parameters: int
    resumed: bool
    warnings: list[Warned]
    naive: str
    steps: int
    steps_before: int
    wall_seconds: float
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
        groups = (*self.train.groups, *self.held_back.groups)
        return {clip.info.path: clip.info for group in groups for clip in group}

    @property
    def warnings(self) -> list[Warned]:
        """Return the warnings about the clips and the device."""
        found = [
            (path, each) for path, info in self.infos.items() for each in info.warnings
        ]
        fields = [replace(each, about=path.name) for path, each in found]
        fields = [each for each in fields if each.code in ("interlaced", "not-interlaced")]
        return [*self.train.warnings, *devices.auto_warnings(self.settings.device), *fields]

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


def decide(given: TrainSettings) -> TrainPlan:
    """Probe the clips, and decide everything that does not need the model."""
    settings = completed(given)
    output = Path(str(settings.output))
    checkpoint = files.beside(output, ".checkpoint")
    spec = registry.spec(settings.model, settings.task)
    device = devices.choose_device(settings.device)
    check_there(
        values.clip_files((*values.files(settings.clips), *values.files(settings.val)))
    )
    precision = _precision(settings, device, spec)
    _check_output(output, checkpoint, settings)
    goal = goal_for(spec, rollout=settings.rollout, gap=settings.gap)
    windows = _windows(settings, goal, [output, checkpoint])
    resumes = settings.resume and checkpoint.exists()
    return TrainPlan(
        settings, output, checkpoint, spec, device, precision, goal, *windows, resumes
    )


def completed(settings: TrainSettings) -> TrainSettings:
    """Return a training's complete settings: given, the recipe's or the model's own.

    The default model is the model that ``init`` names, which also names the output.
    """
    known = {each.name for each in fields_of(TrainSettings)} - {"recipe"}
    given = settings.passed
    merged = {} if settings.recipe is None else _read_recipe(settings.recipe)
    if unknown := sorted(merged.keys() - known):
        raise errors.SettingsError(
            f"unknown-training-setting: The recipe {settings.recipe} has {unknown[0]!r}, "
            "which is not a training setting: correct that name."
        )
    # A given `steps` also replaces the recipe's `minutes`, and the reverse.
    if "minutes" in given or "steps" in given:
        merged = {
            name: value
            for name, value in merged.items()
            if name not in ("minutes", "steps")
        }
    # A given None, or nothing, unsets a value of the recipe.
    merged = {k: v for k, v in (merged | given).items() if v not in (None, (), "")}
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


def run(given: TrainSettings) -> Job:
    """Train a model, and write the weights with the best scores on the held-back windows.

    A checkpoint beside the output, ``….checkpoint``, lets a later run with the same
    settings continue exactly where this run stopped. Ctrl-C ends the training after the
    current step, and writes the best weights so far and a checkpoint.

    Yields:
        Warnings, the progress of every step and window, ``losses`` at intervals and after
        each validation, ``stopping`` after Ctrl-C, and at the end a :class:`TrainResult`.
    """
    plan = decide(given)
    settings, checkpoint = plan.settings, plan.checkpoint
    with ExitStack() as stack:
        with writing(plan.output):
            stack.enter_context(files.Claim(plan.output))
        # Without a list, PyTorch would initialise every GPU.
        gpus = [] if settings.device in ("cpu", "mps") else range(torch.cuda.device_count())
        stack.enter_context(torch.random.fork_rng(list(gpus)))
        try:
            yield Finished((yield from _run(plan)))
        except KeyboardInterrupt as error:
            if not loop.is_checkpoint(checkpoint):
                raise
            raise errors.Interrupted(f"{checkpoint} keeps the training so far") from error


def _run(plan: TrainPlan) -> Generator[Event, None, TrainResult]:
    began = time.monotonic()
    stop = threading.Event()
    reported = Reported()
    settings, checkpoint = plan.settings, plan.checkpoint
    devices.set_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model = plan.spec.build()
    goal = plan.goal
    infos = plan.infos
    sha256 = None if settings.init is None else weights_fingerprint(str(settings.init))
    initialised = _initialise(model, settings, sha256)
    started = _stored(model.state_dict(), plan.spec, {})
    _check_frozen(model, settings)
    yield from reported.new(plan.warnings)
    complete = initialised == len(model.state_dict())
    rate = settings.learning_rate or (_FINE_RATE if complete else _RATE)
    trainer = loop.Trainer(model, goal, settings, plan.device, plan.precision, rate)
    own = {} if settings.init is None else {str(settings.init): sha256}
    footage = {str(path): info.fingerprint for path, info in infos.items()} | own
    written = _restore(trainer, checkpoint, footage) if plan.resumes else []
    results = _Results(plan, trainer, footage, written)
    steps_before = trainer.step
    windows = yield from plan.held_back.chosen()
    best = yield from _trained(plan, trainer, results, windows, stop)
    interrupted = stop.is_set()
    seen = None
    initial = trainer.history[0]
    if not interrupted:
        trainer.shown.load_state_dict(trainer.best_state)
        windows = yield from plan.train.chosen()
        seen = replace(
            (yield from trainer.validate(trainer.shown, windows)), step=best.step
        )
        initial, best = yield from _compared(plan, started, initial, best)
        results.write(initial, best)
        checkpoint.unlink(missing_ok=True)
        if (lost := initial.gain - best.gain) >= EQUAL:
            is_worse = Warned(
                f"training-lost: On the held-back part {plan.output} is {lost:.2f} dB "
                f"worse than {settings.init or 'its initial weights'}: do not use the new "
                "weights."
            )
            yield from reported.new([is_worse])
    yield from reported.new(_changed(infos))
    return TrainResult(
        **plan.facts | {"steps": trainer.step},
        naive=goal.naive,
        steps_before=steps_before,
        wall_seconds=time.monotonic() - began,
        interrupted=interrupted,
        improved=best.step > 0,
        initialised=initialised,
        held_back=[(float(a), float(b)) for _, a, b in _spans(plan)],
        initial=initial,
        best=best,
        seen=seen,
        history=trainer.history,
        warnings=reported,
    )


def _trained(
    plan: TrainPlan,
    trainer: loop.Trainer,
    results: "_Results",
    windows: list[Tensor],
    stop: threading.Event,
) -> Generator[Event, None, loop.Validation]:
    """Train until the last step or Ctrl-C; return the scores of the weights on disk."""

    def save(kind: type[BaseException] | None, *_: object) -> None:
        if kind is GeneratorExit and trainer.best:
            results.save()

    with interrupts.deferred(stop), ExitStack() as stack:
        stack.push(save)
        batches = clips.batches(plan.train, trainer.step, stop.is_set)
        ready = stack.enter_context(prefetch(batches, 2))
        for event in stack.enter_context(closing(trainer.train(ready, windows))):
            if isinstance(event, Measured) and event.values.best:
                results.write()
            yield event
            is_step = isinstance(event, Progress) and event.stage == "training"
            if is_step and trainer.step % plan.settings.checkpoint_every == 0:
                results.save()
            if stop.is_set():
                yield Measured("stopping", None)
                break
        if trainer.best is None:
            raise KeyboardInterrupt
        results.write()
        return trainer.best


def _spans(plan: TrainPlan) -> list[tuple[TrainingClip, Fraction, Fraction]]:
    """Return each held-back part: its clip, and its start and end in whole milliseconds.

    They are rounded down, so that an exact number in JSON leads to the same frames.
    """
    every = [clip for group in plan.held_back.groups for clip in group]
    parts = [(clip, 1000 * clip.gap, part) for clip in every for part in clip.parts()]
    return [
        (clip, Fraction(floor(begin * gap), 1000), Fraction(floor(end * gap), 1000))
        for clip, gap, (begin, end) in parts
    ]


def _compared(
    plan: TrainPlan, started: bytes, initial: loop.Validation, best: loop.Validation
) -> Generator[Event, None, tuple[loop.Validation, loop.Validation]]:
    if plan.spec.task != "interpolate":
        return initial, best
    settings = plan.settings
    spans = _spans(plan)
    scores: list[CompareResult] = []
    with TemporaryDirectory(prefix="cloudconv-") as folder:
        before = Path(folder, "initial.safetensors")
        before.write_bytes(started)
        same = ("deinterlace", "device", "precision", "threads")
        given: dict[str, Any] = {name: getattr(settings, name) for name in same}
        given |= {"model": [str(before), str(plan.output)], "metrics": "psnr"}
        given["frames"] = max(1, _MOST_COMPARED // len(spans))
        for clip, start, end in spans:
            wanted = CompareSettings(clip.info.path, start=start, end=end, **given)
            # No frame of a short part, or beside a cut, can be scored.
            try:
                with closing(compare.run(wanted)) as job:
                    for event in job:
                        if isinstance(event, Finished):
                            scores.append(event.result)
                        elif isinstance(event, Progress):
                            yield replace(event, stage="checking")
            except (errors.ReadError, errors.UnfitInputError):
                raise
            except errors.InputError:
                continue
    count = sum(each.scored_frames for each in scores)
    if not count:
        return initial, best

    def scored(old: loop.Validation, name: str) -> loop.Validation:
        psnr, naive = (
            fsum(each.methods[method]["psnr"] * each.scored_frames for each in scores)
            / count
            for method in (name, plan.goal.naive)
        )
        return replace(old, psnr={"1": psnr}, naive_psnr={"1": naive}, gain=psnr - naive)

    return scored(initial, str(before)), scored(best, str(plan.output))


@dataclass(slots=True)
class _Results:
    """The files that a training writes: the checkpoint, and the best weights.

    ``footage`` has a hash of each file that is read. ``written`` are hashes of the outputs
    that this training may replace: its newest, and the one before if it is killed in
    between.
    """

    plan: TrainPlan
    trainer: loop.Trainer
    footage: dict[str, str | None]
    written: list[str]

    def save(self) -> None:
        pinned = {"settings": self.plan.settings.pinned(), "footage": self.footage}
        state = {**self.trainer.state(), **pinned, "written": self.written}
        with writing(self.plan.checkpoint):
            loop.save_checkpoint(self.plan.checkpoint, state, of=self.plan.output)

    def write(
        self, initial: loop.Validation | None = None, best: loop.Validation | None = None
    ) -> None:
        initial = initial or self.trainer.history[0]
        best = best or self.trainer.best
        assert best is not None
        left_out = ("output", "recipe", "resume", "overwrite")
        recipe = {k: v for k, v in asdict(self.plan.settings).items() if k not in left_out}
        metadata = {
            "steps": str(best.step),
            "scores": json.dumps({k: v for k, v in asdict(best).items() if k != "step"}),
            "gained": f"{best.gain - initial.gain:.4f}",
            "recipe": json.dumps(recipe, default=str),
        }
        data = _stored(self.trainer.best_state, self.plan.spec, metadata)
        output = self.plan.output
        self.written = [*self.written[-1:], hashlib.sha256(data).hexdigest()]
        self.save()
        replaces = self.plan.settings.overwrite or _digest(output) in self.written
        try:
            with writing(output):
                files.write_whole(output, data, overwrite=replaces)
        except errors.OutputError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            checkpoint = self.plan.checkpoint
            raise errors.OutputError(
                f"weights-appeared: Another program made {output} during the training, and "
                f"that file is left as it is. The training so far is kept in {checkpoint}: "
                "move the file away and run the command again."
            ) from error


def _check_output(output: Path, checkpoint: Path, settings: TrainSettings) -> None:
    resumes = settings.resume and checkpoint.exists()
    if os.path.lexists(checkpoint) and not loop.is_checkpoint(checkpoint):
        raise errors.InputError(
            f"checkpoint-foreign: The checkpoint {checkpoint} is damaged, of another "
            "version, or another program's file: move it away, or name another output."
        )
    if os.path.lexists(output) and not settings.overwrite:
        own: list[str] = []
        if resumes:
            with loop.load_checkpoint(checkpoint, torch.device("cpu")) as state:
                own = list(state["written"])
        if _digest(output) not in own:
            check_free(output, overwrite=False)
    check_home(output)
    recipe = [] if settings.recipe is None else [Path(settings.recipe)]
    check_outputs(settings, [output, checkpoint], recipe)


def _precision(
    settings: TrainSettings, device: torch.device, spec: ModelSpec
) -> torch.dtype:
    if settings.precision != "auto":
        return devices.choose_precision(settings.precision, device, spec)
    fast = device.type == "cuda" and spec.half_precision and devices.has_bf16(device)
    return torch.bfloat16 if fast else torch.float32


def _initialise(model: Model, settings: TrainSettings, sha256: str | None) -> int:
    """Load the weights of ``init``, which have that hash.

    Return the number of loaded tensors.

    All weights of the same model must fit; of another model's, those of the same name and
    shape.
    """
    if settings.init is None:
        return 0
    try:
        spec = registry.spec(settings.init, model.spec.task)
    except errors.ModelError:
        spec = registry.spec(settings.init)
    tensors = registry.state_of(settings.init, spec, sha256)
    if tensors is None:
        raise errors.ModelError(
            f"nothing-to-train: {settings.init} has no weights, so there is nothing to "
            "train: choose a network."
        )
    state = {name: tensor.float() for name, tensor in tensors.items()}
    if spec.name == model.spec.name:
        registry.fill(model, state, settings.init)
        return len(state)
    state = model.start_from(state)
    own = model.state_dict()
    fitting = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    if not fitting:
        raise errors.WeightsError(
            f"nothing-fits: No tensor of the weights {settings.init} ({spec.name}) has the "
            f"name and shape of one of {model.spec.name}: start from other weights, or "
            "without --init."
        )
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def _check_frozen(model: Model, settings: TrainSettings) -> None:
    names = [name for name, _ in model.named_parameters()]
    frozen = values.files(settings.frozen)
    known = all(any(name.startswith(each) for name in names) for each in frozen)
    if frozen and (not known or all(name.startswith(frozen) for name in names)):
        raise errors.SettingsError(
            f"unknown-tensor: {', '.join(frozen)} do not name some of the tensors of "
            f"{model.spec.name} to freeze: its tensors are {names[0]}, … {names[-1]}."
        )


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
            most = max(clip.info.timing.frames for group in whole for clip in group)
            shortest = min(end - begin for begin, end in values.HELD_BACK) * most
            fits = shortest >= _ROOM * goal.length * interval[0]
            held_back = values.HELD_BACK if fits else values.HELD_LAST
        groups, train_groups = [], []
        for text, group in zip(values.files(settings.clips), whole, strict=True):
            _, part, _ = split_path(text)
            used = without(held_back) if part is None else parse_spans(part)
            rest = held_back if part is None else without(used)
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
    read = [clip.info.path for group in (*groups, *train_groups) for clip in group]
    check_outputs(settings, written, read)
    # Validation uses the smallest interval, and accepts small clips and windows without
    # motion.
    length = 1 + max(max(picks) for picks, _ in goal.validation())
    least = (interval[0],) * 2
    validation = replace(settings, crop=1, interval=least, min_motion=0.0)
    try:
        return (
            Windows(train_groups, goal.length, goal.picks, settings),
            Windows(groups, length, goal.picks, validation),
        )
    except errors.InputError:
        if not goal.narrow():
            raise
        return _windows(settings, goal, written)


def _changed(infos: Mapping[Path, MediaInfo]) -> Iterator[Warned]:
    for path, info in infos.items():
        with suppress(errors.InputError):
            if has_changed(info):
                yield Warned(
                    f"clip-changed: {path} was changed while it was trained on: train "
                    "again."
                )


def _restore(
    trainer: loop.Trainer, checkpoint: Path, footage: Mapping[str, str | None]
) -> list[str]:
    """Continue a training.

    Return the hashes of the outputs that the training has written.
    """
    with loop.load_checkpoint(checkpoint, trainer.device) as state:
        saved = state["settings"]
        now = trainer.settings.pinned()
        if name := min(
            (name for name in now if saved.get(name) != now[name]), default=None
        ):
            raise errors.SettingsError(
                f"checkpoint-of-other-settings: {checkpoint} belongs to a run with another "
                f"{flag(name)}: give the same settings, or start again with --no-resume."
            )
        before = state["footage"]
        names = sorted(
            n for n in before.keys() | footage.keys() if before.get(n) != footage.get(n)
        )
        if names:
            raise errors.InputError(
                f"checkpoint-of-other-clips: {checkpoint} belongs to a run with other "
                f"content of {shortened(names, 3)}: give the same files, or start again "
                "with --no-resume."
            )
        trainer.restore(state)
        return list(state["written"])


def _digest(path: Path) -> str | None:
    with suppress(errors.WeightsError):  # there is no file that can be read
        return checkpoints.digest(path)
    return None


def _stored(
    state: Mapping[str, Tensor], spec: ModelSpec, metadata: Mapping[str, str]
) -> bytes:
    about = {"model": spec.name, "task": spec.task, **metadata}
    if spec.task == "interpolate" and not spec.arbitrary_timestep:
        about["timesteps"] = "middle"
    # safetensors refuses tensors with common memory, which `half` and `cpu` may return.
    stored = {
        name: (tensor.half() if tensor.is_floating_point() else tensor)
        .cpu()
        .contiguous()
        .clone()
        for name, tensor in state.items()
    }
    return safetensors.torch.save(stored, about)
