"""Train a model on clips, from random or existing weights, and write a weights file."""

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from math import fsum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cloudconv import errors, files, interrupts
from cloudconv.events import (
    Event,
    Finished,
    Job,
    Measured,
    Progress,
    Warned,
    Warnings,
    reporting,
)
from cloudconv.jobs.compare import run as compare
from cloudconv.jobs.compare.plan import CompareResult
from cloudconv.jobs.compare.score import EQUAL
from cloudconv.jobs.madeof import Made, describe
from cloudconv.jobs.train.plan import TrainPlan, TrainResult, decide, foresee
from cloudconv.jobs.train.results import Results, stored
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.identity import has_changed
from cloudconv.media.writing.output import writing
from cloudconv.models import registry
from cloudconv.models.base import Model
from cloudconv.models.registry import weights_fingerprint
from cloudconv.pipeline import prefetch
from cloudconv.render import device as devices
from cloudconv.settings import CompareSettings, TrainSettings, values
from cloudconv.training import clips, loop

_MOST_COMPARED = 60  # frames of the held-back parts that compare scores
_COMPARED_SHARE = 0.1  # of the minutes of a training, at most, for compare before and after
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
    started = stored(model.state_dict(), plan.spec, {})
    _check_frozen(model, settings)
    warnings.add(*plan.warnings)
    complete = initialised == len(model.state_dict())
    rate = settings.learning_rate or (_FINE_RATE if complete else _RATE)
    trainer = loop.Trainer(model, goal, settings, plan.device, plan.precision, rate)
    read: Made = {f"content of {path}": info.fingerprint for path, info in infos.items()}
    if settings.init is not None:
        read[f"content of {settings.init}"] = sha256
    made = describe(settings, read)
    results = Results(plan.output, checkpoint, trainer, made)
    if plan.resumes:
        results.resume()
    steps_before = trainer.step
    windows = yield from plan.held_back.chosen()
    seen_windows = yield from plan.train.chosen()
    trainer.checks += len(seen_windows) / len(windows)
    film: _FilmScores | None = None  # of the initial weights
    frames = 0
    if plan.spec.task == "interpolate":
        film, frames, trainer.reserve = yield from _compared_before(plan, started)
    best = yield from _trained(plan, trainer, results, windows, stop, began)
    interrupted = stop.is_set()
    seen = None
    initial = trainer.history[0]
    if not interrupted:
        trainer.shown.load_state_dict(trainer.best_state)
        seen = yield from trainer.validate(trainer.shown, seen_windows)
        seen = replace(seen, step=best.step)
        if film is not None:
            scores = yield from _compared(plan, plan.output, frames)
            initial = _with_scores(initial, film)
            best = best if scores is None else _with_scores(best, scores)
        results.write(initial, best)
        checkpoint.unlink(missing_ok=True)
        if (lost := initial.gain - best.gain) >= EQUAL:
            is_worse = Warned(
                f"training-lost: On the held-back part {plan.output} is {lost:.2f} dB "
                f"worse than {settings.init or 'its initial weights'}: do not use the new "
                "weights."
            )
            warnings.add(is_worse)
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
        initial=initial,
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


_FilmScores = tuple[float, float]
"""The PSNR by compare on held-back parts: of the weights, and of the naive method."""


def _with_scores(validation: loop.Validation, scores: _FilmScores) -> loop.Validation:
    psnr, naive = scores
    return replace(validation, psnr={"1": psnr}, naive_psnr={"1": naive}, gain=psnr - naive)


def _compared_before(
    plan: TrainPlan, started: bytes
) -> Generator[Event, None, tuple[_FilmScores | None, int, float]]:
    """Score the initial weights, on fewer frames if these take long for the minutes.

    Return the scores, None if no frame can be scored; the number of the frames, and the
    seconds.
    """
    frames = _MOST_COMPARED
    with TemporaryDirectory(prefix="cloudconv-") as folder:
        weights = Path(folder, "initial.safetensors")
        weights.write_bytes(started)
        if plan.settings.minutes is not None:
            began = time.monotonic()
            yield from _compared(plan, weights, 1)
            most = 60 * plan.settings.minutes * _COMPARED_SHARE
            frames = min(max(int(most / (time.monotonic() - began)), 1), frames)
        began = time.monotonic()
        scores = yield from _compared(plan, weights, frames)
        return scores, frames, time.monotonic() - began


def _compared(
    plan: TrainPlan, weights: Path, frames: int
) -> Generator[Event, None, _FilmScores | None]:
    """Score weights on some ``frames`` of the held-back parts, as compare does."""
    settings = plan.settings
    every = plan.held_back_parts
    count = min(frames, len(every))
    spans = [every[k * len(every) // count] for k in range(count)]
    scores: list[CompareResult] = []
    same = ("deinterlace", "device", "precision", "threads")
    shared: dict[str, Any] = {
        **{name: getattr(settings, name) for name in same},
        "model": [str(weights)],
        "metrics": "psnr",
        "frames": frames // count,
    }
    for clip, start, end in spans:
        wanted = CompareSettings(clip.info.path, start=start, end=end, **shared)
        # No frame of a short part, or beside a cut, can be scored. Weights that are not
        # finite numbers cannot either, and the training says so.
        try:
            with closing(compare.run(wanted)) as job:
                for event in job:
                    if isinstance(event, Finished):
                        scores.append(event.result)
                    elif isinstance(event, Progress):
                        yield replace(event, stage="checking")
        except (errors.ReadError, errors.UnfitInputError):
            raise
        except (errors.InputError, errors.WeightsError):
            continue
    scored = sum(score.scored_frames for score in scores)
    if not scored:
        return None
    psnr, naive = (
        fsum(score.methods[method]["psnr"] * score.scored_frames for score in scores)
        / scored
        for method in (str(weights), plan.goal.naive)
    )
    return psnr, naive


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
