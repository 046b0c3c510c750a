"""Train a model on clips, or go on training one that ships: plan, loop, weights file."""

from __future__ import annotations

import json
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from cloudconv import weights
from cloudconv.engine.device import choose_device, choose_precision, set_threads
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import InputError, ModelError, OutputError, SettingsError, WeightsError
from cloudconv.models import registry
from cloudconv.models.base import Model, ModelSpec
from cloudconv.training.clips import (
    Sampling,
    Windows,
    batches,
    centre,
    excluding,
    held_out,
    open_clips,
)
from cloudconv.training.loop import (
    Progress,
    Rules,
    Schedule,
    Trainer,
    Validation,
    save_checkpoint,
)
from cloudconv.training.losses import Adversary, parse_loss
from cloudconv.training.settings import (
    TrainSettings,
    fingerprint,
    settings_from,
)
from cloudconv.training.spans import WHOLE, parse_spans, split_path, without
from cloudconv.training.tasks import Goal, goal_for

__all__ = ["TrainResult", "TrainSettings", "run", "settings_from"]

_RATE, _FINE_RATE = 5e-4, 1e-4  # learning rates from the beginning, and from weights that work


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a training; the fields are the keys of the command's JSON.

    ``best`` is what ``output`` holds, ``initial`` the scores before the first step, ``seen`` those
    of ``best`` on the clips that it was trained on. ``improved``: whether ``output`` holds
    anything but the start; a fine-tuning that gained nothing gives back what it was given.
    """

    output: str
    model: str
    task: str
    naive: str
    device: str
    precision: str
    steps: int
    wall_seconds: float
    interrupted: bool
    resumed: bool
    improved: bool
    initialised: int
    parameters: int
    initial: Validation
    best: Validation
    seen: Validation
    history: list[Validation]
    warnings: list[str]


def run(
    settings: TrainSettings, on_progress: Callable[[Progress], None] | None = None
) -> TrainResult:
    """Train, and write the weights that were best on the held-out windows.

    A checkpoint beside the output, ``….checkpoint``, lets a later run with the same settings go on
    exactly where this one was stopped; it is gone when the training is done. Ctrl-C ends the
    training after the step at hand, writes the best weights so far, and leaves the checkpoint.

    Raises:
        CloudconvError: before any work where that is possible.
    """
    with torch.random.fork_rng():
        return _run(settings, on_progress or (lambda _: None))


def _run(settings: TrainSettings, on_progress: Callable[[Progress], None]) -> TrainResult:
    began = time.monotonic()
    output = Path(settings.output)
    checkpoint = output.with_name(output.name + ".checkpoint")
    _check_output(output, checkpoint, settings)
    spec = registry.spec(settings.model, settings.task)
    device = choose_device(settings.device)
    precision = _precision(settings, device, spec)
    set_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model = spec.build()
    goal = goal_for(model, rollout=settings.rollout, gap=settings.gap)
    initialised = _initialise(model, settings)
    _check_frozen(model, settings)
    train, held_out = _windows(settings, goal)
    warnings = list(train.warnings)
    rate = settings.learning_rate or (_FINE_RATE if initialised == _tensors(model) else _RATE)
    adversary = _adversary(model, settings, device, rate)
    trainer = Trainer(
        model,
        goal,
        parse_loss(settings.loss, relative=settings.relative),
        Rules(
            rate,
            settings.weight_decay,
            settings.ema,
            settings.clip_gradient,
            settings.noise,
            settings.seed,
            precision,
            settings.frozen,
            settings.anchor,
        ),
        device,
        adversary,
    )
    resumed = settings.resume and checkpoint.exists()
    if resumed:
        _restore(trainer, checkpoint, settings)

    def keep() -> None:
        save_checkpoint(checkpoint, {"settings": fingerprint(settings), **trainer.state()})

    def watch(progress: Progress) -> None:
        if progress.best:
            _write(output, trainer, settings)
        on_progress(progress)

    windows = [
        centre(window, settings.val_crop) for window in held_out.spread(settings.val_windows)
    ]
    schedule = Schedule(
        settings.steps or (None if settings.minutes else 1000),
        settings.minutes,
        settings.validate_every,
        settings.checkpoint_every,
    )
    with _interruptible() as stopped, prefetch(batches(train, trainer.step), 2) as stream:
        trainer.run(stream, windows, schedule, report=watch, checkpoint=keep, stop=stopped)
        interrupted = stopped()
    if interrupted:
        keep()
    best = trainer.best
    assert best is not None
    trainer.shown.module.load_state_dict(trainer.best_state)
    seen = trainer.validate(
        [centre(window, settings.val_crop) for window in train.spread(settings.val_windows)]
    )
    _write(output, trainer, settings)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    return TrainResult(
        output=str(output),
        model=spec.name,
        task=spec.task,
        naive=goal.naive,
        device=str(device),
        precision=str(precision).removeprefix("torch."),
        steps=trainer.step,
        wall_seconds=time.monotonic() - began,
        interrupted=interrupted,
        resumed=resumed,
        improved=best.step > 0,
        initialised=initialised,
        parameters=sum(p.numel() for p in model.parameters()),
        initial=trainer.history[0],
        best=best,
        seen=replace(seen, step=best.step),
        history=trainer.history,
        warnings=warnings,
    )


def _check_output(output: Path, checkpoint: Path, settings: TrainSettings) -> None:
    going_on = settings.resume and checkpoint.exists()
    if output.exists() and not settings.overwrite and not going_on:
        raise OutputError(f"{output} exists: name another file, or allow overwriting (-y).")
    if not output.parent.is_dir():
        raise OutputError(f"The folder {output.parent} does not exist: make it first.")


def _precision(settings: TrainSettings, device: torch.device, spec: ModelSpec) -> torch.dtype:
    if settings.precision != "auto":
        return choose_precision(settings.precision, device, spec)
    if device.type != "cuda" or not spec.half_precision:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _initialise(model: Model, settings: TrainSettings) -> int:
    """Start from other weights; how many tensors came from there.

    The model's own weights must fit wholly; of another's, those whose names and shapes fit are
    taken, such as an autoencoder's encoder for a predictor.
    """
    if settings.init is None:
        return 0
    path = Path(settings.init)
    try:
        spec = registry.spec(settings.init, model.spec.task)
    except ModelError:
        spec = registry.spec(settings.init)
    if path.suffix == ".safetensors":
        state, _ = weights.read_file(path)
    elif spec.weights is None:
        raise ModelError(f"{settings.init} has no weights to start from: choose another model.")
    else:
        state = weights.load_state(spec.weights)
    state = {name: tensor.float() for name, tensor in state.items()}
    if spec.name == model.spec.name:
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise WeightsError(
                f"The weights {settings.init} do not fit {model.spec.name}: they belong to another "
                "version of it; start from others, or without."
            ) from error
        return len(state)
    adopt = getattr(model, "adopt", None)
    if adopt is not None:
        state = adopt(spec.name, state)
    own = model.state_dict()
    fitting = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    if not fitting:
        raise WeightsError(
            f"Nothing of the weights {settings.init} ({spec.name}) fits {model.spec.name}: no "
            "tensor has the same name and shape; start from others, or without."
        )
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def _check_frozen(model: Model, settings: TrainSettings) -> None:
    names = [name for name, _ in model.named_parameters()]
    for beginning in settings.frozen:
        if not any(name.startswith(beginning) for name in names):
            raise SettingsError(
                f"No tensor of {model.spec.name} begins with {beginning!r}, so it cannot be "
                f"frozen: they are {names[0]}, … {names[-1]}."
            )
    if settings.frozen and all(name.startswith(settings.frozen) for name in names):
        raise SettingsError("Every tensor is frozen, which leaves nothing to train.")


def _tensors(model: Model) -> int:
    return len(model.state_dict())


def _windows(settings: TrainSettings, goal: Goal) -> tuple[Windows, Windows]:
    """What is trained on, and what is validated on."""
    own = None if settings.train_part is None else parse_spans(settings.train_part)
    held = None if settings.val_part is None else parse_spans(settings.val_part)
    sampling = Sampling(
        length=goal.length,
        picks=goal.picks,
        crop=settings.crop,
        batch=settings.batch,
        crops=settings.crops,
        interval=settings.interval,
        min_motion=settings.min_motion,
        repeats=settings.repeats,
        augment=settings.augment,
        reversal=settings.reversal,
        seed=settings.seed,
        lively=settings.lively,
        overlays=settings.overlays,
    )
    if settings.val:
        groups = open_clips(settings.val, held or WHOLE, settings.size)
        train_groups = excluding(open_clips(settings.clips, own or WHOLE, settings.size), groups)
    else:
        opened = open_clips(settings.clips, WHOLE, settings.size)
        if held is None:
            needed = goal.length * settings.interval[0]
            held = held_out(opened, needed) if own is None else without(own)
        if not held:
            raise SettingsError(
                "Training takes the whole clips, which leaves nothing to validate on: give val "
                "clips, a val part, or a smaller train part."
            )
        groups, train_groups = [], []
        for text, clips in zip(settings.clips, opened, strict=True):
            _, part, _ = split_path(text)
            used = own or without(held) if part is None else parse_spans(part)
            rest = held if part is None else without(used)
            groups.append([replace(clip, spans=rest) for clip in clips])
            train_groups.append([replace(clip, spans=used) for clip in clips])
    # Repeats in a held-out clip are no motion to be forecast, stillness is.
    judged = replace(sampling, crop=1, interval=(settings.interval[0],) * 2, min_motion=0.0)
    return Windows(train_groups, sampling), Windows(groups, judged)


def _adversary(
    model: Model, settings: TrainSettings, device: torch.device, rate: float
) -> Adversary | None:
    if not parse_loss(settings.loss).adversarial:
        return None
    make: Callable[[], nn.Module] | None = getattr(model, "discriminators", None)
    if make is None:
        raise SettingsError(
            f"{model.spec.name} has no discriminators, so the adversarial loss cannot train it: "
            "leave that out, or choose multiscale-gan."
        )
    return Adversary(make().to(device), rate)


def _restore(trainer: Trainer, checkpoint: Path, settings: TrainSettings) -> None:
    try:
        state = torch.load(checkpoint, weights_only=True, map_location=trainer.device)
        kept = json.loads(state["settings"])
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(
            f"The checkpoint {checkpoint} is damaged: delete it, or start anew with --no-resume."
        ) from error
    now = json.loads(fingerprint(settings))
    changed = sorted(name for name in now if kept.get(name) != now[name])
    if changed:
        name = changed[0]
        raise SettingsError(
            f"{checkpoint} belongs to a run with other settings ({name} was {kept.get(name)}, now "
            f"{now[name]}): give the same ones, or start anew with --no-resume."
        )
    trainer.restore(state)


def _write(output: Path, trainer: Trainer, settings: TrainSettings) -> None:
    """The best weights so far, as float16 safetensors that say what they are."""
    best = trainer.best
    assert best is not None
    spec = trainer.model.spec
    recipe = {
        k: v for k, v in asdict(settings).items() if k not in ("output", "resume", "overwrite")
    }
    metadata = {
        "model": spec.name,
        "task": spec.task,
        "steps": str(best.step),
        "scores": json.dumps({k: v for k, v in asdict(best).items() if k != "step"}),
        "recipe": json.dumps(recipe),
    }
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in trainer.best_state.items()
    }
    part = output.with_name(output.name + ".part")
    try:
        safetensors.torch.save_file(_unshared(state), part, metadata)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{output} cannot be written ({error.strerror}).") from error


def _unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory, as float16 buffers kept by `half` would.
    return {name: tensor.clone() for name, tensor in state.items()}


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag for the end of the step at hand; a second one interrupts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def on_signal(number: int, _: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
