"""The training loop: steps, validation and checkpoints."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cloudconv import metrics
from cloudconv.errors import DeviceError, InputError, ModelError
from cloudconv.events import Progress, Warned
from cloudconv.files import write_whole
from cloudconv.models.base import Model
from cloudconv.render.memory import empty_cache, within_memory
from cloudconv.training.clips import Batch
from cloudconv.training.losses import Adversary, Loss
from cloudconv.training.tasks import Goal, Made, padded, shrunk_like

State = dict[str, Any]

_KIND = b"cloudconv checkpoint 1\n"

_WARM_UP = 50  # steps over which the learning rate rises
_LAST_RATE = 0.02  # of the learning rate, at the end
_REPORT_EVERY = 20  # steps
_MOST_OVERFLOWS = 50  # in a row; each halves the loss scale of fp16


@dataclass(frozen=True, slots=True)
class Schedule:
    """The length and rhythm of a training; one of ``steps`` and ``minutes`` is not None."""

    steps: int | None
    minutes: float | None
    validate_every: int
    checkpoint_every: int

    def progress(self, step: int, seconds: float) -> float:
        """Return the finished part of the training, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))

    def event(self, step: int, seconds: float, resumed: int) -> Progress:
        """Return the progress; earlier runs made ``resumed`` of the steps."""
        left = None if self.minutes is None else max(60 * self.minutes - seconds, 0.0)
        return Progress("training", step, self.steps, resumed, left, "steps")


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a training step.

    ``frozen``: prefixes of the names of tensors that are not trained. ``anchor``: weight of the
    initial tensors in the weights that are validated and delivered, from 0 to 1. ``last``: whether
    the last weights are delivered in place of those with the best validation.
    """

    learning_rate: float
    weight_decay: float
    ema: float
    clip_gradient: float
    noise: float
    seed: int
    precision: torch.dtype
    frozen: tuple[str, ...] = ()
    anchor: float = 0.0
    last: bool = False


@dataclass(frozen=True, slots=True)
class Validation:
    """Scores on held-out windows; dictionaries go by the number of frames ahead.

    ``gain``: mean PSNR less that of the naive baseline, in dB. ``sharpness``: mean gradient of the
    made pictures relative to that of the true ones.
    """

    step: int
    loss: float
    naive_loss: float
    psnr: dict[str, float]
    naive_psnr: dict[str, float]
    sharpness: dict[str, float]
    gain: float


class Stopped(Exception):  # noqa: N818 - not an error
    """The end of a validation that the user stopped."""


@dataclass(frozen=True, slots=True)
class Losses:
    """A report: mean losses since the last report, None without a step.

    ``validation``: scores on the held-back windows, if they were measured now. ``best``: whether
    these are the best so far.
    """

    step: int
    done: float
    seconds: float
    loss: float | None
    naive_loss: float | None
    validation: Validation | None = None
    best: bool = False


TrainerEvent = Progress | Losses | Warned


@dataclass(slots=True)
class Trainer:
    """A model in training, and the state that is needed to resume.

    ``shown`` is the moving average of the model, which is validated and delivered, mixed with the
    initial weights by ``rules.anchor``: a mix of initial and fine-tuned weights generalises better
    than the fine-tuned ones (Wortsman et al. 2022, arXiv 2109.01903).
    """

    model: Model
    goal: Goal
    loss: Loss
    rules: Rules
    device: torch.device
    adversary: Adversary | None = None
    step: int = 0
    seconds: float = 0.0
    best: Validation | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    history: list[Validation] = field(default_factory=list)
    shown: AveragedModel = field(init=False)
    _optimiser: torch.optim.Optimizer = field(init=False)
    _scaler: torch.amp.GradScaler = field(init=False)
    _overflows: int = field(init=False, default=0)
    _parts: int = field(init=False, default=1)
    _reduced: bool = field(init=False, default=False)
    _losses: list[tuple[float, float]] = field(init=False, default_factory=list)
    _latest: tuple[float | None, float | None] = field(init=False, default=(None, None))
    _start: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Freeze tensors, move the model to the device and make the optimiser."""
        rules = self.rules
        self.model.requires_grad_(True).train()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(rules.frozen))
        self.model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._start = [p.detach().clone() for p in self.model.parameters() if rules.anchor]
        self.shown = AveragedModel(self.model, multi_avg_fn=_averaging(rules.ema), use_buffers=True)
        self._optimiser = torch.optim.AdamW(
            (p for p in self.model.parameters() if p.requires_grad),
            rules.learning_rate,
            weight_decay=rules.weight_decay,
        )
        # Only fp16 has a range too small for gradients.
        half = rules.precision == torch.float16
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=half)

    def run(
        self,
        batches: Iterator[Batch],
        windows: list[Tensor],
        schedule: Schedule,
        stop: Callable[[], bool],
    ) -> Generator[TrainerEvent, None, None]:
        """Train until the schedule ends or ``stop`` returns true; validate the last state.

        Args:
            batches: from number ``step`` on; they may end when ``stop`` returns true.
            windows: held-out ones, (L, 3, H, W) uint8.
            schedule: the number of steps and of validations.
            stop: returns whether to end after the step at hand.

        Yields:
            The progress after each step and each validated window, losses and warnings.

        Raises:
            ModelError: the loss is no longer a number.
        """
        began, resumed = time.monotonic() - self.seconds, self.step
        try:
            # The earlier run may have been stopped during a validation.
            if not self.history:
                yield from self._score(windows, 0.0, stop)
            elif self.step % schedule.validate_every == 0 and self.history[-1].step != self.step:
                yield from self._score(windows, schedule.progress(self.step, self.seconds), stop)
            while (done := schedule.progress(self.step, self.seconds)) < 1 and not stop():
                batch = next(batches, None)
                if batch is None:
                    return
                self._advance(batch, done)
                if self._reduced:
                    self._reduced = False
                    reduced = {
                        "device": str(self.device),
                        "samples": -(-len(batch.frames) // self._parts),
                    }
                    yield Warned("training-in-parts", reduced)
                self.seconds = time.monotonic() - began
                done = schedule.progress(self.step, self.seconds)
                yield schedule.event(self.step, self.seconds, resumed)
                if self.step % schedule.validate_every == 0:
                    yield from self._score(windows, done, stop)
                elif self.step % _REPORT_EVERY == 0:
                    yield self._losses_since(done)
            if self.history[-1].step != self.step and not stop():
                yield from self._score(windows, 1.0, stop)
        except Stopped:
            return

    def validate(
        self,
        windows: list[Tensor],
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[Progress, None, Validation]:
        """Score the moving average on ``windows``, (L, 3, H, W) uint8 each.

        Raises:
            InputError: there is no window.
            Stopped: ``stop`` returned true.
        """
        if not windows:
            raise InputError("no-validation")
        shown = self.shown.module
        assert isinstance(shown, Model)
        trained, self.goal.model = self.goal.model, shown  # type: ignore[attr-defined]
        shown.eval()
        tally = _Tally()
        try:
            for number, window in enumerate(windows):
                yield Progress("checking", number, len(windows), unit="windows")
                if stop():
                    raise Stopped
                self._tally(tally, window)
        finally:
            self.goal.model = trained  # type: ignore[attr-defined]
        return tally.result(self.step)

    def state(self) -> State:
        """Return the state from which :meth:`restore` continues exactly."""
        adversary = self.adversary
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "shown": self.shown.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "adversary": None if adversary is None else adversary.network.state_dict(),
            "adversary_optimiser": None if adversary is None else adversary.optimiser.state_dict(),
            "best_state": self.best_state,
            "best": None if self.best is None else _as_dict(self.best),
            "history": [_as_dict(v) for v in self.history],
        }

    def restore(self, state: State) -> None:
        """Continue from a result of :meth:`state`; one of other settings raises an error."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.shown.load_state_dict(state["shown"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self.adversary is not None:
            self.adversary.network.load_state_dict(state["adversary"])
            self.adversary.optimiser.load_state_dict(state["adversary_optimiser"])
        self.best_state = state["best_state"]
        self.best = None if state["best"] is None else Validation(**state["best"])
        self.history = [Validation(**entry) for entry in state["history"]]

    def _advance(self, batch: Batch, done: float) -> None:
        """Make one step; its random numbers depend on the seed and the step alone."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.rules.learning_rate * _rate(self.step, done)
        frames = batch.frames.to(self.device).float().div_(255)
        frames = padded(frames, self.model.spec.multiple)
        made, loss = self._gradients_within_memory(frames, batch.places.to(self.device))
        overflows = not math.isfinite(loss)
        self._overflows = self._overflows + 1 if overflows else 0
        if overflows and not (self._scaler.is_enabled() and self._overflows <= _MOST_OVERFLOWS):
            raise ModelError("loss-not-finite", step=self.step)
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.rules.clip_gradient)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if overflows:
            self._losses.pop()  # the scaler skipped the step
        elif self.adversary is not None:
            for pictures in made:
                self.adversary.learn(pictures.context, pictures.picture.float(), pictures.truth)
        self.shown.update_parameters(self.model)
        self.step += 1

    def _gradients_within_memory(self, frames: Tensor, places: Tensor) -> tuple[list[Made], float]:
        """Compute the gradients of a batch, in as few parts as memory allows.

        Raises:
            DeviceError: the memory is too small for a single sample.
        """
        precision = self.rules.precision
        while (done := within_memory(self._gradients, precision, frames, places)) is None:
            self._optimiser.zero_grad(set_to_none=True)
            empty_cache(self.device)
            if self._parts >= len(frames):
                raise DeviceError("sample-fills-memory", device=self.device)
            self._parts = min(2 * self._parts, len(frames))
            self._reduced = True
        return done

    def _gradients(self, frames: Tensor, places: Tensor) -> tuple[list[Made], float]:
        """Add up the gradients over the parts of a batch; return all pictures and the loss.

        Losses are means over samples, so the weighted sum has the gradients of the whole batch.
        """
        torch.manual_seed(self.rules.seed * 1_000_003 + self.step)
        self._optimiser.zero_grad(set_to_none=True)
        pictures: list[Made] = []
        losses: list[tuple[float, ...]] = []
        parts = zip(frames.chunk(self._parts), places.chunk(self._parts), strict=True)
        for some, where in parts:
            with self._autocast():
                made = self.goal.make(some, where, self.rules.noise)
            weight = len(some) / len(frames)
            total, plain, naive = self._total(made)
            losses.append((plain * weight, naive * weight, float(total.detach()) * weight))
            self._scaler.scale(total * weight).backward()  # type: ignore[no-untyped-call]
            pictures += made
        plain, naive, loss = (sum(column) for column in zip(*losses, strict=True))
        self._losses.append((plain, naive))
        return pictures, loss

    def _total(self, made: list[Made]) -> tuple[Tensor, float, float]:
        """Return the loss to minimise, the loss of the final pictures, and the baseline's."""
        total = made[0].truth.new_zeros(())
        plain, naive = total, total
        for pictures in made:
            fine = self.loss(pictures.picture.float(), pictures.truth, pictures.naive)
            plain = plain + fine / len(made)
            total = total + fine
            for level in pictures.levels:
                truth, usual = (shrunk_like(p, level) for p in (pictures.truth, pictures.naive))
                total = total + self.loss(level.float(), truth, usual)
            if self.adversary is not None:
                opinion = self.adversary.opinion(pictures.context, pictures.picture.float())
                total = total + self.loss.adversarial * opinion
            with torch.no_grad():
                loss = self.loss(pictures.naive, pictures.truth, pictures.naive)
                naive = naive + loss / len(made)
        return total / len(made), float(plain.detach()), float(naive)

    def _autocast(self) -> torch.autocast:
        dtype = self.rules.precision
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def _validation_pictures(self, window: Tensor, picks: list[int]) -> list[Made]:
        height, width = window.shape[2:]
        frames = window[picks][None].to(self.device).float().div_(255)
        places = torch.tensor([picks], device=self.device)
        with self._autocast():
            made = self.goal.make(padded(frames, self.model.spec.multiple), places, 0.0)
        crop = (..., slice(height), slice(width))
        return [
            Made(m.picture.float()[crop], m.truth[crop], m.naive[crop], m.context) for m in made
        ]

    @torch.no_grad()
    def _tally(self, tally: _Tally, window: Tensor) -> None:
        for picks in self.goal.validation_picks():
            made = self._validation_pictures(window, picks)
            for label, pictures in zip(self.goal.labels(picks), made, strict=True):
                tally.add(label, pictures, self.loss)

    def _score(
        self, windows: list[Tensor], done: float, stop: Callable[[], bool]
    ) -> Generator[Progress | Losses, None, None]:
        with self._anchored():
            validation = yield from self.validate(windows, stop)
            self.history.append(validation)
            best = self.best is None or self.rules.last or validation.gain > self.best.gain
            if best:
                self.best = validation
                shown = self.shown.module.state_dict()
                self.best_state = {name: tensor.detach().clone() for name, tensor in shown.items()}
        yield self._losses_since(done, validation, best)

    @contextmanager
    def _anchored(self) -> Iterator[None]:
        """Mix the initial weights into ``shown`` within the context."""
        parameters = list(self.shown.module.parameters())
        kept = [p.detach().clone() for p in parameters if self._start]
        with torch.no_grad():
            for parameter, start in zip(parameters, self._start, strict=False):
                parameter.lerp_(start, self.rules.anchor)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, average in zip(parameters, kept, strict=False):
                    parameter.copy_(average)

    def _losses_since(
        self, done: float, validation: Validation | None = None, best: bool = False
    ) -> Losses:
        if self._losses:
            count = len(self._losses)
            loss, naive = (sum(pair[k] for pair in self._losses) / count for k in (0, 1))
            self._latest, self._losses = (loss, naive), []
        return Losses(self.step, done, self.seconds, *self._latest, validation, best)


class _Tally:
    """Scores of validation windows so far."""

    def __init__(self) -> None:
        """Start without any score."""
        self._loss: list[tuple[float, float]] = []
        self._scores: dict[str, list[tuple[float, float, float]]] = {}

    def add(self, label: str, made: Made, loss: Loss) -> None:
        picture = made.picture.clamp(0, 1)
        self._loss.append(
            (
                float(loss(picture, made.truth, made.naive)),
                float(loss(made.naive, made.truth, made.naive)),
            )
        )
        self._scores.setdefault(label, []).append(
            (
                float(metrics.psnr(picture, made.truth)),
                float(metrics.psnr(made.naive, made.truth)),
                _gradient(picture) / max(_gradient(made.truth), 1e-6),
            )
        )

    def result(self, step: int) -> Validation:
        loss, naive_loss = (_mean([pair[k] for pair in self._loss]) for k in (0, 1))
        psnr, naive, sharpness = (
            {label: _mean([score[k] for score in scores]) for label, scores in self._scores.items()}
            for k in (0, 1, 2)
        )
        gain = _mean([psnr[label] - naive[label] for label in psnr])
        return Validation(step, loss, naive_loss, psnr, naive, sharpness, gain)


def save_checkpoint(path: Path, state: State, *, of: Path) -> None:
    """Write a state and its checksum; an existing file is replaced as a whole.

    Args:
        path: the file to write.
        state: what :func:`load_checkpoint` returns later.
        of: the output that the checkpoint belongs to.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    saved = io.BytesIO()
    torch.save(state, saved)
    data = saved.getvalue()
    write_whole(path, _KIND + hashlib.sha256(data).digest() + data, of=of)


def is_checkpoint(path: Path) -> bool:
    """Return whether the file starts as a checkpoint; the rest may be damaged."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_KIND)) == _KIND


def load_checkpoint(path: Path, device: torch.device) -> State:
    """Read a state, with its tensors on ``device``.

    Raises:
        InputError: the file cannot be read or does not match its checksum.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("unreadable-checkpoint", path=path, why=error.strerror) from error
    body = len(_KIND) + hashlib.sha256().digest_size
    if data[:body] != _KIND + hashlib.sha256(data[body:]).digest():
        raise InputError("checkpoint-damaged", path=path)
    state: State = torch.load(io.BytesIO(data[body:]), weights_only=True, map_location=device)
    return state


def _rate(step: int, done: float) -> float:
    """Return the factor of the learning rate: a short rise, then half a cosine down."""
    cosine = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
    return cosine * min(1.0, (step + 1) / _WARM_UP)


def _averaging(most: float) -> Callable[[Any, Any, Any], None]:
    """Return an update of a moving average whose decay rises from 0.1 to ``most``."""

    @torch.no_grad()
    def average(averaged: Any, current: Any, count: Any) -> None:
        steps = int(count)
        decay = min(most, (1 + steps) / (10 + steps))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    return average


def _gradient(picture: Tensor) -> float:
    return float(picture.diff(dim=-1).abs().mean() + picture.diff(dim=-2).abs().mean())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _as_dict(validation: Validation) -> dict[str, Any]:
    return {name: getattr(validation, name) for name in Validation.__slots__}
