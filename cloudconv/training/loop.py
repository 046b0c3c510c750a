"""Run the training loop: steps, validation and checkpoints."""

import copy
import hashlib
import io
import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from pathlib import Path
from pickle import UnpicklingError
from statistics import fmean
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from cloudconv import metrics
from cloudconv.errors import DeviceError, InputError, ModelError, SettingsError
from cloudconv.events import Event, Measured, Progress
from cloudconv.files import reading, sealed, unsealed, write_whole
from cloudconv.models.base import Model
from cloudconv.models.ops import shrunk_like
from cloudconv.render.memory import within_memory
from cloudconv.settings import TrainSettings, values
from cloudconv.training.clips import Batch
from cloudconv.training.goals import Goal, Prediction, padded
from cloudconv.training.losses import Adversary, parse_loss
from cloudconv.transfer import upload

# A checkpoint is this line, a sealed line that can be read without the tensors, and the
# state.
_KIND = b"cloudconv checkpoint 9\n"
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UnpicklingError)

_WARM_UP = 50  # steps over which the learning rate rises
_LAST_RATE = 0.02  # the final learning rate, relative to the highest one


@dataclass(frozen=True, slots=True)
class Validation:
    """Scores on ``windows`` held-back windows.

    The keys of dictionaries are the frames ahead. ``gain`` is over the naive baseline's
    PSNR, in dB. ``sharpness`` is relative to the true pictures'.
    """

    step: int
    windows: int
    loss: float
    naive_loss: float
    psnr: dict[str, float]
    naive_psnr: dict[str, float]
    sharpness: dict[str, float]
    gain: float


@dataclass(frozen=True, slots=True)
class Losses:
    """The mean losses since the last validation, None before the first step.

    ``validation`` are the new scores. ``best``: whether they are the best so far.
    """

    step: int
    done: float
    seconds: float
    loss: float | None
    naive_loss: float | None
    validation: Validation
    best: bool


@dataclass
class Trainer:
    """A model in training, and the state that is needed to resume.

    Validation and the result use ``shown``, the moving average of the model, mixed with the
    initial weights: such a mix generalises better (Wortsman et al. 2022, arXiv 2109.01903).
    ``rate`` is the highest learning rate. Of the ``minutes`` of the settings, the time of
    ``checks`` validations is for what follows the last step.
    """

    model: Model
    goal: Goal[Any]
    settings: TrainSettings
    device: torch.device
    precision: torch.dtype
    rate: float
    step: int = 0
    seconds: float = 0.0  # of all runs, from their start to the last step
    checks: float = 1.0
    best: Validation | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    history: list[Validation] = field(default_factory=list)
    adversary: Adversary | None = field(init=False, default=None)
    _losses: list[list[float]] = field(init=False, default_factory=list)
    # The seconds of the last step, and of the last validation.
    _stepping: float = field(init=False, default=0.0)
    _checking: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        settings = self.settings
        self._loss = parse_loss(settings.loss, relative=settings.relative)
        self.model.requires_grad_(True).train()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(values.files(settings.frozen)))
        self.model.to(  # type: ignore[call-overload]
            device=self.device, memory_format=torch.channels_last
        )
        self._start = [
            p.detach().clone() for p in self.model.parameters() if settings.anchor
        ]
        self.shown = copy.deepcopy(self.model)
        self._optimiser = torch.optim.AdamW(
            (p for p in self.model.parameters() if p.requires_grad),
            self.rate,
            weight_decay=settings.weight_decay,
        )
        if self._loss.adversarial:
            build = self.model.discriminators
            if build is None:
                raise SettingsError(
                    f"no-discriminators: {self.model.spec.name} has no discriminators, so "
                    "the adversarial loss cannot train it: leave that loss out, or choose "
                    "multiscale-gan."
                )
            self.adversary = Adversary(build(self.model.spec).to(self.device), self.rate)

    @property
    def done(self) -> float:
        """Return the finished part of the training, from 0 to 1."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        ends = self.seconds + self._stepping  # that of the next step
        return 1.0 if ends >= self._available else ends / self._available

    @property
    def _available(self) -> float:
        """Return the seconds of the minutes until the end of the last step."""
        assert self.settings.minutes is not None
        return 60 * self.settings.minutes - self.checks * self._checking

    def train(
        self, batches: Iterator[Batch], windows: list[Tensor], began: float
    ) -> Generator[Event, None, None]:
        """Train until the end or until ``batches`` end; validate the last state.

        ``batches`` begin with number ``step``. ``windows`` are held back, (L, 3, H, W)
        uint8 each. The run ``began`` at that time of the monotonic clock.
        """
        resumed = self.step
        began -= self.seconds
        settings = self.settings
        # A validation is repeated if the earlier run was stopped during that validation.
        missed = self.step % settings.validate_every == 0
        if not self.history or (missed and self.history[-1].step != self.step):
            yield from self._score(windows)
        self.seconds = time.monotonic() - began
        while self.done < 1:
            starts = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self._advance(batch)
            now = time.monotonic()
            self._stepping = now - starts
            self.seconds = now - began
            left = None
            if settings.minutes is not None:
                left = max(self._available - self.seconds, 0.0)
            yield Progress("training", self.step, settings.steps, resumed, left, "steps")
            if self.step % settings.validate_every == 0:
                yield from self._score(windows)
                self.seconds = time.monotonic() - began
        if self.history[-1].step != self.step:
            yield from self._score(windows)

    def validate(
        self, model: Model, windows: list[Tensor]
    ) -> Generator[Progress, None, Validation]:
        """Score a model on windows."""
        model.eval()
        scores: dict[str, list[dict[str, float]]] = {}
        for number, window in enumerate(windows):
            yield Progress("checking", number, len(windows), unit="windows")
            for label, row in self._scores(model, window):
                scores.setdefault(label, []).append(row)

        def means(name: str) -> dict[str, float]:
            return {label: fmean(map(itemgetter(name), scores[label])) for label in scores}

        # Each window gives one picture of each label, so means of means are means of all
        # pictures.
        psnr, naive = means("psnr"), means("naive_psnr")
        return Validation(
            step=self.step,
            windows=len(windows),
            loss=fmean(means("loss").values()),
            naive_loss=fmean(means("naive_loss").values()),
            psnr=psnr,
            naive_psnr=naive,
            sharpness=means("sharpness"),
            gain=fmean([psnr[label] - naive[label] for label in psnr]),
        )

    def state(self) -> dict[str, Any]:
        """Return the state from which :meth:`restore` continues exactly."""
        parts = {name: module.state_dict() for name, module in self._stateful().items()}
        return {
            "parts": {**parts, "best": self.best_state},
            "step": self.step,
            "seconds": self.seconds,
            "checking": self._checking,
            "best": None if self.best is None else asdict(self.best),
            "history": [asdict(v) for v in self.history],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of :meth:`state`, which must have the same settings."""
        parts = state["parts"]
        for name, module in self._stateful().items():
            module.load_state_dict(parts[name])
        self.step = int(state["step"])
        self.seconds = float(state["seconds"])
        self._checking = float(state.get("checking", 0.0))
        self.best_state = parts["best"]
        self.best = None if state["best"] is None else Validation(**state["best"])
        self.history = [Validation(**entry) for entry in state["history"]]

    def _not_finite(self) -> ModelError:
        return ModelError(
            f"loss-not-finite: The loss is not a number any more at step {self.step}: use "
            "--precision=fp32, or for train a lower --learning-rate. The best weights so "
            "far are kept."
        )

    def _stateful(self) -> dict[str, Any]:
        parts = {"model": self.model, "shown": self.shown, "optimiser": self._optimiser}
        if (adversary := self.adversary) is not None:
            parts |= {
                "adversary": adversary.network,
                "adversary_optimiser": adversary.optimiser,
            }
        return parts

    def _advance(self, batch: Batch) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate * _rate(self.step, self.done)
        frames, indices = upload(batch, self.device)
        frames = padded(frames.float().div_(255), self.model.spec.multiple)
        predictions = within_memory(
            lambda: self._gradients(frames, indices), self.precision
        )
        if predictions is None:
            raise DeviceError(
                f"batch-fills-memory: {self.device} ran out of memory: close other "
                "programs, or give train a smaller --batch or --crop."
            )
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_gradient)
        self._optimiser.step()
        if self.adversary is not None:
            for prediction in predictions:
                picture = prediction.picture.float()
                self.adversary.learn(prediction.context, picture, prediction.truth)
        self._average()
        self.step += 1

    @torch.no_grad()
    def _average(self) -> None:
        decay = (
            min(self.settings.ema, (1 + self.step) / (10 + self.step)) if self.step else 0.0
        )
        both = zip(
            self.shown.state_dict().values(), self.model.state_dict().values(), strict=True
        )
        for mean, value in both:
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def _gradients(self, frames: Tensor, indices: Tensor) -> list[Prediction]:
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        self._optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            predictions = self.goal.make(self.model, frames, indices, self.settings.noise)
        total, plain, naive = self._total(predictions)
        # On a GPU the check below suffices.
        if self.device.type == "cpu" and not total.isfinite():
            raise self._not_finite()
        total.backward()  # type: ignore[no-untyped-call]
        # One list: the CPU waits for the device only once, when all work is queued.
        *losses, loss = torch.stack((plain, naive, total)).tolist()
        if not math.isfinite(loss):
            raise self._not_finite()
        self._losses.append(losses)
        return predictions

    def _total(self, predictions: list[Prediction]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss to minimise, and mean losses of prediction and naive picture."""
        total = plain = naive = predictions[0].truth.new_zeros(())
        count = len(predictions)
        for prediction in predictions:
            picture = prediction.picture.float()
            fine = self._loss(picture, prediction.truth, prediction.naive)
            plain = plain + fine / count
            total = total + fine
            for level in prediction.levels:
                truth = shrunk_like(prediction.truth, level)
                small_naive = shrunk_like(prediction.naive, level)
                total = total + self._loss(level.float(), truth, small_naive)
            if self.adversary is not None:
                fooled = self.adversary.loss(prediction.context, picture)
                total = total + self._loss.adversarial * fooled
            with torch.no_grad():
                loss = self._loss(prediction.naive, prediction.truth, prediction.naive)
                naive = naive + loss / count
        return total / count, plain, naive

    def _autocast(self) -> torch.autocast:
        enabled = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision, enabled=enabled)

    @torch.no_grad()
    def _scores(
        self, model: Model, window: Tensor
    ) -> Iterator[tuple[str, dict[str, float]]]:
        height, width = window.shape[2:]
        for picks, labels in self.goal.validation():
            frames = window[picks][None].to(self.device).float().div_(255)
            indices = torch.tensor([picks], device=self.device)
            with self._autocast():
                frames = padded(frames, self.model.spec.multiple)
                predictions = self.goal.make(model, frames, indices, 0.0)
            for label, prediction in zip(labels, predictions, strict=True):
                # Scores are float64, which not every device has.
                picture = prediction.picture.float().clamp(0, 1)[..., :height, :width].cpu()
                truth = prediction.truth[..., :height, :width].cpu()
                naive = prediction.naive[..., :height, :width].cpu()
                scores = {
                    "loss": float(self._loss(picture, truth, naive)),
                    "naive_loss": float(self._loss(naive, truth, naive)),
                    "psnr": float(metrics.psnr(picture, truth)),
                    "naive_psnr": float(metrics.psnr(naive, truth)),
                    "sharpness": _gradient(picture) / max(_gradient(truth), 1e-6),
                }
                yield label, scores

    def _score(self, windows: list[Tensor]) -> Generator[Event, None, None]:
        model = copy.deepcopy(self.shown)
        with torch.no_grad():
            for parameter, start in zip(model.parameters(), self._start, strict=False):
                parameter.lerp_(start, self.settings.anchor)
        began = time.monotonic()
        validation = yield from self.validate(model, windows)
        self._checking = time.monotonic() - began
        if not math.isfinite(validation.loss):
            raise self._not_finite()
        self.history.append(validation)
        best = self.best is None or validation.gain > self.best.gain
        if best:
            self.best = validation
            self.best_state = model.state_dict()
        loss = naive = None
        if self._losses:
            loss, naive = map(fmean, zip(*self._losses, strict=True))
        self._losses.clear()
        losses = Losses(self.step, self.done, self.seconds, loss, naive, validation, best)
        yield Measured("losses", losses)


def save_checkpoint(path: Path, state: Mapping[str, Any], *, of: Path) -> None:
    """Write a state and its checksum as a whole.

    ``of`` is the output that the file belongs to.
    """
    packed = io.BytesIO()
    torch.save(dict(state), packed)
    data = packed.getvalue()
    head = {"written": state.get("written"), "state": hashlib.sha256(data).hexdigest()}
    write_whole(path, _KIND + sealed(head) + b"\n" + data, of=of)


def is_checkpoint(path: Path) -> bool:
    """Return whether the file starts as a checkpoint.

    The rest of the file may be damaged.
    """
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_KIND)) == _KIND


@contextmanager
def load_checkpoint(path: Path, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield a state with its tensors on ``device``."""
    with reading(path), path.open("rb") as file:
        head = _head(path, file)
        data = file.read()
    if head.get("state") != hashlib.sha256(data).hexdigest():
        raise _damaged(path)
    try:
        yield torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except _DAMAGE as error:
        raise _damaged(path) from error


def written_outputs(path: Path) -> list[str]:
    """Return the hashes of the outputs that the training of a checkpoint has written."""
    with reading(path), path.open("rb") as file:
        written = _head(path, file).get("written")
    if not isinstance(written, list):
        raise _damaged(path)
    return written


def _head(path: Path, file: BinaryIO) -> dict[str, Any]:
    if file.read(len(_KIND)) != _KIND:
        raise _damaged(path)
    head = unsealed(file.readline())
    if head is None:
        raise _damaged(path)
    return head


def _damaged(path: Path) -> InputError:
    return InputError(
        f"checkpoint-damaged: The checkpoint {path} is damaged: delete it, or start again "
        "with --no-resume."
    )


def _rate(step: int, done: float) -> float:
    """Return the factor of the learning rate: a short rise, then half a cosine down."""
    cosine = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
    return cosine * min(1.0, (step + 1) / _WARM_UP)


def _gradient(picture: Tensor) -> float:
    return float(picture.diff(dim=-1).abs().mean() + picture.diff(dim=-2).abs().mean())
