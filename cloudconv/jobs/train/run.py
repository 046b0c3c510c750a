"""Train a model on clips, from random or existing weights, and write a weights file."""

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cloudconv import errors, files, interrupts
from cloudconv.events import (
    Event,
    Finished,
    Job,
    Measured,
    Warned,
    Warnings,
    reporting,
)
from cloudconv.jobs.madeof import Made, describe
from cloudconv.jobs.train.plan import TrainPlan, TrainResult, decide, foresee
from cloudconv.jobs.train.results import Results
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.identity import has_changed
from cloudconv.media.writing.output import writing
from cloudconv.models import registry
from cloudconv.models.base import Model
from cloudconv.models.registry import weights_fingerprint
from cloudconv.pipeline import prefetch
from cloudconv.render import device as devices
from cloudconv.settings import TrainSettings, values
from cloudconv.training import clips, loop

_RATE = 5e-4  # learning rate if some or all weights start as random numbers
_FINE_RATE = 1e-4  # learning rate from existing weights of the whole model


__all__ = ["decide", "foresee", "run"]


@reporting
def run(warnings: Warnings, requested: TrainSettings) -> Job:
    """Train a model, and write the weights with the best scores on the held-back windows.

    A checkpoint beside the output, ``….checkpoint``, lets a later run with the same
    settings continue exactly where this run stopped. Ctrl-C ends the training after the
    current step, and writes the best weights so far and a checkpoint.

    Yields:
        Warnings, the progress of every step and window, ``losses`` at intervals and after
        each validation, ``stopping`` after Ctrl-C, and at the end a :class:`TrainResult`.
    """
    began = time.monotonic()
    plan = decide(requested)
    settings, checkpoint = plan.settings, plan.checkpoint
    with ExitStack() as stack:
        with writing(plan.output):
            stack.enter_context(files.claim(plan.output))
        # Without a list, PyTorch would initialise every GPU.
        gpus = [] if settings.device in ("cpu", "mps") else range(torch.cuda.device_count())
        stack.enter_context(torch.random.fork_rng(list(gpus)))
        try:
            yield Finished((yield from _run(plan, warnings, began)))
        except KeyboardInterrupt as error:
            if not loop.is_checkpoint(checkpoint):
                raise
            raise errors.Interrupted(f"{checkpoint} keeps the training so far") from error


def _run(
    plan: TrainPlan, warnings: Warnings, began: float
) -> Generator[Event, None, TrainResult]:
    stop = threading.Event()
    settings, checkpoint = plan.settings, plan.checkpoint
    devices.set_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model = plan.spec.build()
    goal = plan.goal
    infos = plan.infos
    sha256 = None if settings.init is None else weights_fingerprint(str(settings.init))
    initialised = _initialise(model, settings, sha256)
    _check_frozen(model, settings)
    warnings.add(*plan.warnings)
    complete = initialised == len(model.state_dict())
    rate = settings.learning_rate or (_FINE_RATE if complete else _RATE)
    trainer = loop.Trainer(model, goal, settings, plan.device, plan.precision, rate)
    read: Made = {f"content of {path}": info.fingerprint for path, info in infos.items()}
    if settings.init is not None:
        read[f"content of {settings.init}"] = sha256
    results = Results(plan.output, checkpoint, trainer, describe(settings, read))
    if plan.resumes:
        results.resume()
    steps_before = trainer.step
    windows = yield from plan.held_back.chosen()
    seen_windows = yield from plan.train.chosen()
    trainer.checks += len(seen_windows) / len(windows)
    best = yield from _trained(plan, trainer, results, windows, stop, began)
    interrupted = stop.is_set()
    seen = None
    if not interrupted:
        trainer.shown.load_state_dict(trainer.best_state)
        seen = yield from trainer.validate(trainer.shown, seen_windows)
        seen = replace(seen, step=best.step)
        checkpoint.unlink(missing_ok=True)
    warnings.add(*_changed(infos))
    return TrainResult(
        **plan.facts | {"steps": trainer.step},
        naive=goal.naive,
        steps_before=steps_before,
        wall_seconds=time.monotonic() - began,
        interrupted=interrupted,
        improved=best.step > 0,
        initialised=initialised,
        held_back=[(float(a), float(b)) for _, a, b in plan.held_back_parts],
        initial=trainer.history[0],
        best=best,
        seen=seen,
        history=trainer.history,
        warnings=warnings,
    )


def _trained(
    plan: TrainPlan,
    trainer: loop.Trainer,
    results: Results,
    windows: list[Tensor],
    stop: threading.Event,
    began: float,
) -> Generator[Event, None, loop.Validation]:
    """Train until the last step or Ctrl-C; return the scores of the weights on disk.

    The run ``began`` at that time.
    """

    def save(kind: type[BaseException] | None, *_: object) -> None:
        if kind is GeneratorExit and trainer.best:
            results.save()

    with interrupts.deferred(stop), ExitStack() as stack:
        stack.push(save)
        batches = clips.batches(plan.train, trainer.step, stop.is_set)
        ready = stack.enter_context(prefetch(batches, 2, "clips"))
        for event in stack.enter_context(closing(trainer.train(ready, windows, began))):
            if isinstance(event, Measured) and event.values.best:
                results.write(trainer.history[0], event.values.validation)
            elif isinstance(event, Measured):
                results.save()
            yield event
            interrupts.check()
            if stop.is_set():
                yield Measured("stopping", None)
                break
        if trainer.best is None:
            raise KeyboardInterrupt
        results.write(trainer.history[0], trainer.best)
        return trainer.best


def _initialise(model: Model, settings: TrainSettings, sha256: str | None) -> int:
    """Load the weights of ``init``, which have that hash.

    Return the number of loaded tensors. All weights of the same model must fit; of another
    model's, those of the same name and shape.
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
    all_used = all(any(name.startswith(prefix) for name in names) for prefix in frozen)
    if frozen and (not all_used or all(name.startswith(frozen) for name in names)):
        raise errors.SettingsError(
            f"unknown-tensor: {', '.join(frozen)} do not name some of the tensors of "
            f"{model.spec.name} to freeze: its tensors are {names[0]}, … {names[-1]}."
        )


def _changed(infos: Mapping[Path, MediaInfo]) -> Iterator[Warned]:
    for path, info in infos.items():
        with suppress(errors.InputError):
            if has_changed(info):
                yield Warned(
                    f"clip-changed: {path} was changed while it was trained on: train "
                    "again."
                )
