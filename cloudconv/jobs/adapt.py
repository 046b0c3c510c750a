"""Fine-tune a model on the video to interpolate, and use the result only if its PSNR is higher.

The model trains on most of the video, and is validated on the rest. The adapted weights are the
mean of the original and the trained weights (Wortsman et al. 2022, arXiv 2109.01903). A later run
continues in the same working folder.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch

from cloudconv.errors import InputError, ModelError, SettingsError
from cloudconv.events import Event, Finished, Progress, Warned
from cloudconv.files import write_whole
from cloudconv.jobs import train
from cloudconv.media.identity import check_unchanged
from cloudconv.media.info import MediaInfo
from cloudconv.media.output import writing
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.settings import CompareSettings, InterpSettings, TrainSettings, exact
from cloudconv.settings.values import HELD_LAST, Span
from cloudconv.training.clips import held_back_spans
from cloudconv.training.tasks import InterpolationGoal

WEIGHTS = "adapted.safetensors"
LEAST_GAIN = 0.05
"""The least gain in dB. With a smaller gain the stock model is used."""

_STATE = "adapted.json"
_SIDE = 128  # side of a training sample, in pixels
_CROPS = (8, 64)
"""The fewest and the most samples of a decoded window."""
_PIXELS_A_CROP = 1280 * 720 // _CROPS[0]
"""Pixels of a picture for each sample: larger pictures, slower to decode, give more samples."""
_SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "anchor": 0.5,
    "last": True,  # so that the last validation decides, and not the best of several
    "val_windows": 24,
    "val_crop": 1024,
    "validate_every": 1_000_000,
    "checkpoint_every": 50,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The result of fine-tuning; the fields are the keys of ``adapted`` in the command's JSON.

    ``gain`` is the rise of PSNR in dB on the ``frames`` that were held back and made again.
    """

    gain: float
    minutes: float
    frames: int
    kept: bool

    def __str__(self) -> str:
        return (
            f"adapted to the video in {self.minutes:.1f} min: {self.gain:+.2f} dB on "
            f"{counted(self.frames, 'held-back frame')}"
        )


@dataclass(frozen=True, slots=True)
class AdaptPlan:
    """A model, the video to adapt it to, the settings of the training, and the held-back parts."""

    info: MediaInfo
    model: str
    training: TrainSettings
    held_back: tuple[Span, ...]

    def is_held_back(self, times: tuple[Fraction, ...]) -> bool:
        """Return whether frames at these source times all lie in one held-back part."""
        timing = self.info.timing
        fractions = [(time - timing.start) / (timing.end - timing.start) for time in times]
        return any(a <= min(fractions) and max(fractions) < b for a, b in self.held_back)


def adapt_plan(
    settings: InterpSettings | CompareSettings,
    info: MediaInfo,
    model: str,
    device: torch.device,
    dtype: torch.dtype,
) -> AdaptPlan:
    """Return the plan to adapt a model to the used part of a video."""
    spec, timing = registry.spec(model, "interpolate"), info.timing
    length = timing.end - timing.start
    start, end = exact(settings.start) or Fraction(0), exact(settings.end) or length
    first, part = start / length, (min(end, length) - start) / length
    frames = math.floor(timing.frames * part)
    # The gap is 3 if the held-back part of a short video has room for such a window.
    ((begin, stop),) = HELD_LAST
    is_long = (
        spec.arbitrary_timestep and frames * (stop - begin) >= InterpolationGoal(spec, 3).length
    )
    gap = 3 if is_long else 2
    spans = held_back_spans(frames, InterpolationGoal(spec, gap).length)
    held_back = tuple((first + a * part, first + b * part) for a, b in spans)
    edges = [first, *(edge for span in held_back for edge in span), first + part]
    rest = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
    # Networks without a weights file start untrained.
    ships = spec.weights is not None or registry.file_of(model) is not None
    precision: Literal["fp32", "bf16", "auto"] = "bf16" if device.type == "cpu" else "auto"
    training = TrainSettings(
        str(info.path),
        **{"crops": min(max(_CROPS[0], info.width * info.height // _PIXELS_A_CROP), _CROPS[1])}
        | _SETTINGS,
        model=registry.network_of(model),
        task="interpolate",
        init=model if ships else None,
        minutes=settings.adapt,
        gap=gap,
        crop=min(_SIDE, info.width, info.height),
        train_part=_text(rest),
        val_part=_text(held_back),
        deinterlace=settings.deinterlace,
        device=str(device),
        precision="fp32" if dtype == torch.float32 else precision,
        threads=settings.threads,
        overwrite=True,
    )
    return AdaptPlan(info, model, training, held_back)


def _text(spans: list[Span] | tuple[Span, ...]) -> str:
    return ",".join(f"{a}:{b}" for a, b in spans)


def check_adapting(settings: InterpSettings | CompareSettings, model: str) -> None:
    """Raise SettingsError if ``model`` is to be adapted and has no weights."""
    if settings.adapt is not None and not registry.spec(model, "interpolate").parameters:
        raise SettingsError(
            f"nothing-to-train: {model} has no weights, so there is nothing to train: choose a "
            "network."
        )


def adapt(plan: AdaptPlan, folder: Path) -> Generator[Event, None, tuple[str, Adapted]]:
    """Adapt the model of the plan; continue or reuse the work of an earlier run in ``folder``.

    Returns the file of the adapted weights, or the model as it was if the gain is too small; and
    the result. Ctrl-C keeps the state of the training in the folder.
    """
    file, state = folder / WEIGHTS, _read(folder / _STATE)
    if state.get("digest", "") == train.digest(file):
        result = Adapted(**state["result"])
    else:
        stop = threading.Event()
        result = yield from _train(plan, file, stop)
        digest = train.digest(file) if result.kept else None  # other weights are not used again
        state = {"digest": digest, "result": asdict(result)}
        with writing(folder):
            write_whole(folder / _STATE, json.dumps(state).encode())
        if stop.is_set():  # after the last step
            raise KeyboardInterrupt
    check_unchanged(plan.info)
    if not result.frames:
        yield Warned("not-adapted: The model is not adapted to the video but used as it is.")
    elif not result.kept:
        yield Warned(
            f"adapting-gained-little: Adapting to the video gained too little ({result.gain:+.2f} "
            f"dB on {counted(result.frames, 'held-back frame')}, {LEAST_GAIN} dB are needed): the "
            "model is used as it is."
        )
    return str(file) if result.kept else plan.model, result


def _train(plan: AdaptPlan, file: Path, stop: threading.Event) -> Generator[Event, None, Adapted]:
    """Train for the planned time; set ``stop`` on Ctrl-C."""
    assert plan.training.minutes is not None
    total = 60 * plan.training.minutes
    left: float | None = None
    try:
        job = train.run(plan.training.changed(output=str(file)), known=plan.info, stop=stop)
        with closing(job) as events:
            for event in events:
                if isinstance(event, Finished):
                    result: train.TrainResult = event.result
                if not isinstance(event, Progress):
                    continue
                left = event.seconds_left if event.stage == "training" else left
                done = 0 if left is None else round(total - left)
                try:
                    yield Progress("adapting", done, round(total), unit="s")
                except KeyboardInterrupt:  # the current step still finishes
                    stop.set()
    except (InputError, ModelError) as error:
        yield Warned(f"adapting-failed: Adapting to the video failed: {error.text}")
        return Adapted(gain=0.0, minutes=0.0, frames=0, kept=False)
    if result.interrupted:
        raise KeyboardInterrupt
    gain = sum(result.best.psnr.values()) - sum(result.initial.psnr.values())
    return Adapted(
        gain=gain,
        minutes=(total - (left or 0.0)) / 60,
        frames=result.best.windows,
        kept=gain >= LEAST_GAIN,
    )


def _read(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        state = json.loads(file.read_bytes())
        return state if isinstance(state, dict) else {}
    return {}
