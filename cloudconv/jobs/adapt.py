"""Fine-tune a model on the video to interpolate, and use the result only if its PSNR is higher.

The model trains on most of the video; the rest is held back. The adapted weights are the mean of
the stock (original) and the trained weights (Wortsman et al. 2022, arXiv 2109.01903). Afterwards
some held-back frames are made from their neighbours, as ``interp`` makes frames, and compared with
the true frames. The working folder survives an interruption: a later run continues from the
checkpoint, or uses the finished weights.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from cloudconv import metrics
from cloudconv.errors import InputError, ModelError, OutputError, SettingsError
from cloudconv.events import Event, Finished, Progress, Warned
from cloudconv.files import write_whole
from cloudconv.jobs import train
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.input.fingerprint import check_unchanged
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.task import task_of
from cloudconv.media.write.target import writing
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.models.registry import weights_fingerprint
from cloudconv.render.device import machine_fingerprint
from cloudconv.render.renderer import Renderer
from cloudconv.settings import CompareSettings, InterpSettings, TrainSettings, exact
from cloudconv.settings.spans import HELD_LAST, Span
from cloudconv.training.clips import Sampling, TrainingClip, Windows, held_back_spans
from cloudconv.training.tasks import InterpolationGoal

WEIGHTS = "adapted.safetensors"
LEAST_GAIN = 0.05
"""The least gain in dB. With a smaller gain the stock model is used."""

_STATE = "adapted.json"
_MEASURED = 24  # the most held-back frames to make
_SIDE = 128  # side of a training sample, in pixels
_CROPS = (8, 64)
"""The fewest and the most samples of a decoded window."""
_PIXELS_A_CROP = 1280 * 720 // _CROPS[0]
"""Pixels of a picture for each sample: larger pictures, slower to decode, give more samples."""
_SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "anchor": 0.5,
    # Keep the last weights, whatever their validation scores: `_evaluate` scores them later.
    "last": True,
    "val_windows": 8,
    "val_crop": _SIDE,
    "validate_every": 1_000_000,
    "checkpoint_every": 50,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The result of fine-tuning; the fields are the keys of ``adapted`` in the command's JSON.

    ``gain``: the rise of PSNR on the held-back part, in dB. ``minutes``: the duration of the
    training. ``frames``: the number of held-back frames that were made and compared. ``kept``:
    whether the adapted model is used.
    """

    gain: float
    minutes: float
    frames: int
    kept: bool

    def __str__(self) -> str:
        """Return the result as a sentence."""
        return (
            f"adapted to the video in {self.minutes:.1f} min: {self.gain:+.2f} dB on "
            f"{counted(self.frames, 'held-back frame')}"
        )


@dataclass(frozen=True, slots=True)
class AdaptPlan:
    """A model, and the video to adapt the model to.

    ``renderer`` is a function that returns the job's renderer for a model.
    """

    settings: InterpSettings | CompareSettings
    info: MediaInfo
    model: str
    device: torch.device
    dtype: torch.dtype
    renderer: Callable[[str], Renderer]

    @property
    def minutes(self) -> float:
        """Return the time to train, in minutes."""
        return self.settings.adapt or 0.0

    @property
    def held_back(self) -> tuple[Span, ...]:
        """Return the held-back parts, as fractions of the video's length."""
        first, last = self._window
        part = last - first
        needed = InterpolationGoal(registry.spec(self.model, "interpolate"), self._gap).length
        return tuple(
            (first + a * part, first + b * part) for a, b in held_back_spans(self._frames, needed)
        )

    def is_held_back(self, times: tuple[Fraction, ...]) -> bool:
        """Return whether frames at these source times all lie in one held-back part."""
        timing = self.info.timing
        fractions = [(time - timing.start) / (timing.end - timing.start) for time in times]
        return any(a <= min(fractions) and max(fractions) < b for a, b in self.held_back)

    @property
    def training(self) -> dict[str, Any]:
        """Return the settings of the training, without the output."""
        spec = registry.spec(self.model, "interpolate")
        edges = [edge for span in self.held_back for edge in span]
        first, last = self._window
        rest = zip([first, *edges[1::2]], [*edges[::2], last], strict=True)
        # Networks without a weights file start untrained.
        ships = spec.weights is not None or registry.file_of(self.model) is not None
        half = "bf16" if self.device.type == "cpu" else "auto"
        size = self.info.width * self.info.height
        return {
            "crops": min(max(_CROPS[0], size // _PIXELS_A_CROP), _CROPS[1]),
            **_SETTINGS,
            "clips": (str(self.info.path),),
            "model": registry.network_of(self.model),
            "task": "interpolate",
            "init": self.model if ships else None,
            "minutes": self.minutes,
            "gap": self._gap,
            "crop": min(_SIDE, self.info.width, self.info.height),
            "train_part": ",".join(f"{a}:{b}" for a, b in rest if a < b),
            "val_part": ",".join(f"{a}:{b}" for a, b in self.held_back),
            "deinterlace": self.settings.deinterlace,
            "device": str(self.device),
            "precision": "fp32" if self.dtype == torch.float32 else half,
            "threads": self.settings.threads,
        }

    def identity(self) -> dict[str, Any]:
        """Return all that determines the trained weights and their scores, as JSON values."""
        renderer = {k: v for k, v in self.training.items() if k not in ("clips", "threads")}
        return json.loads(  # type: ignore[no-any-return]
            json.dumps(
                {
                    "input": self.info.fingerprint,
                    "weights": weights_fingerprint(self.model),
                    **renderer,
                    **machine_fingerprint(self.device),
                }
            )
        )

    @property
    def _gap(self) -> int:
        """Return 3 if the held-back part of a short video has room for such a window, else 2."""
        spec = registry.spec(self.model, "interpolate")
        if not spec.arbitrary_timestep:
            return 2
        ((begin, end),) = HELD_LAST
        return 3 if self._frames * (end - begin) >= InterpolationGoal(spec, 3).length else 2

    @property
    def _frames(self) -> int:
        first, last = self._window
        return math.floor(self.info.timing.frames * (last - first))

    @property
    def _window(self) -> Span:
        timing = self.info.timing
        length = timing.end - timing.start
        start, end = exact(self.settings.start) or Fraction(0), exact(self.settings.end)
        return start / length, Fraction(1) if end is None else min(Fraction(1), end / length)


def check_adapting(settings: InterpSettings | CompareSettings, model: str) -> None:
    """Raise SettingsError if ``model`` is to be adapted and has no weights."""
    if settings.adapt is not None and not registry.spec(model, "interpolate").parameters:
        raise SettingsError(
            f"nothing-to-train: {model} has no weights, so there is nothing to train: choose a "
            "network."
        )


def check_weights(folder: Path, plan: AdaptPlan | None) -> None:
    """Refuse a folder that holds weights of another video, model or setting.

    Weights that gained too little are deleted instead. ``plan`` is None for a job that does not use
    adapted weights.
    """
    if not any(folder.glob(f"{WEIGHTS}*")):
        return
    state = _read(folder)
    if state.get("result", {}).get("kept") is False:
        for left in (*folder.glob(f"{WEIGHTS}*"), folder / _STATE):
            left.unlink(missing_ok=True)
        return
    changed = ["adapt"]
    if plan is not None:
        identity = plan.identity()
        known = state.get("identity", {})
        names = identity.keys() | known.keys()
        changed = sorted(name for name in names if identity.get(name) != known.get(name))
    if changed:
        raise OutputError(
            f"weights-of-other-settings: {folder} holds weights that were adapted by a run that "
            f"differs in {', '.join(changed)}: finish that work first, name another output, or "
            "delete that work with --no-resume."
        )


def adapt(plan: AdaptPlan, folder: Path) -> Generator[Event, None, tuple[str, Adapted]]:
    """Adapt the model of the plan; continue or reuse the work of an earlier run in ``folder``.

    Returns:
        The file of the adapted weights, or the stock model if the gain is too small; and the
        result.

    Raises:
        KeyboardInterrupt: the user stopped the training; its state is kept in the folder.
        OutputError: the folder cannot be written.
        UnfitInputError: the video changed during the work.
    """
    identity = plan.identity()
    file = folder / WEIGHTS
    state = _read(folder)
    if state.get("identity") != identity:
        state = {"identity": identity}
        _write(folder, state)
    if state.get("digest", "") != train.digest(file):
        state = {"identity": identity}
    if "seconds" not in state:
        stop = threading.Event()
        state["seconds"] = yield from _train(plan, file, stop)
        state["digest"] = train.digest(file)
        _write(folder, state)
        if stop.is_set():  # set during the last step
            raise KeyboardInterrupt
    if "result" not in state:
        evaluated = yield from _evaluate(plan, file, state["seconds"])
        state["result"] = asdict(evaluated)
        state["digest"] = train.digest(file)
        _write(folder, state)
    check_unchanged(plan.info)
    result = Adapted(**state["result"])
    if not result.frames:
        yield Warned("not-adapted: The model is not adapted to the video but used as it is.")
    elif not result.kept:
        yield Warned(
            f"adapting-gained-little: Adapting to the video gained too little ({result.gain:+.2f} "
            f"dB on {counted(result.frames, 'held-back frame')}, {LEAST_GAIN} dB are needed): the "
            "model is used as it is."
        )
    return str(file) if result.kept else plan.model, result


def adapted_digest(folder: Path, model: str) -> str | None:
    """Return the SHA-256 of ``model`` if it is the file of the adapted weights, else None."""
    return None if Path(model) != folder / WEIGHTS else train.digest(Path(model))


def _train(plan: AdaptPlan, file: Path, stop: threading.Event) -> Generator[Event, None, float]:
    """Train for the planned time; return the seconds of training, 0 if training is impossible."""
    total = 60 * plan.minutes
    seconds = 0.0
    settings = TrainSettings(**plan.training, output=str(file), overwrite=True)
    try:
        with closing(train.run(settings, known=plan.info, stop=stop)) as events:
            for event in events:
                if isinstance(event, Finished):
                    interrupted = event.result.interrupted
                if not isinstance(event, Progress):
                    continue
                if event.seconds_left is not None:
                    seconds = total - event.seconds_left
                try:
                    yield Progress("adapting", round(seconds), round(total), unit="s")
                except KeyboardInterrupt:  # the current step still finishes
                    stop.set()
    except (InputError, ModelError) as error:
        yield Warned(f"adapting-failed: Adapting to the video failed: {error.text}")
        return 0.0
    if interrupted:
        raise KeyboardInterrupt
    return seconds


def _evaluate(plan: AdaptPlan, file: Path, seconds: float) -> Generator[Event, None, Adapted]:
    """Return the gain of the adapted weights on the held-back part.

    Without a held-back frame the adapted weights are deleted.
    """
    gains: list[float] = []
    if seconds:
        try:
            total = round(60 * plan.minutes)
            for gain in _gains(plan, file):
                gains.append(gain)
                yield Progress("adapting", total, total, unit="s")
        except InputError as error:
            yield Warned(
                "adapting-not-judged: The gain of adapting to the video cannot be measured: "
                f"{error.text}"
            )
    if not gains:
        for left in file.parent.glob(f"{WEIGHTS}*"):
            left.unlink()
        return Adapted(gain=0.0, minutes=seconds / 60, frames=0, kept=False)
    gain = sum(gains) / len(gains)
    return Adapted(gain=gain, minutes=seconds / 60, frames=len(gains), kept=gain >= LEAST_GAIN)


def _gains(plan: AdaptPlan, file: Path) -> Iterator[float]:
    """Yield the gain in PSNR of the weights in ``file`` for each measured frame, in dB."""
    clip = TrainingClip(plan.info, plan.held_back)
    goal = InterpolationGoal(registry.spec(plan.model, "interpolate"), 2)
    if all(end - begin < goal.length for begin, end in clip.parts()):
        goal.narrow()
    windows = Windows([[clip]], Sampling(goal.length, goal.picks, crop=1, batch=1))
    stock, adapted = plan.renderer(plan.model), plan.renderer(str(file))
    for _, frames in windows.spread_frames(_MEASURED):
        yield _psnr(adapted, frames) - _psnr(stock, frames)


def _psnr(renderer: Renderer, frames: Sequence[Frame]) -> float:
    """Return the PSNR of the middle frame, made from its neighbours."""
    middle = len(frames) // 2
    left, true, right = frames[middle - 1 : middle + 2]
    outer = (frames[0], Fraction(1)), (frames[-1], Fraction(1))
    task = task_of(
        left,
        right,
        Fraction(1, 2),
        true.time,
        true.duration,
        outer=outer if len(frames) > 3 else (None, None),
    )
    (made,) = renderer.render([task])
    shown = (metrics.eight_bit(rgb_of(frame)) for frame in (made, true))
    return float(metrics.psnr(*shown))


def _read(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        state = json.loads((folder / _STATE).read_bytes())
        return state if isinstance(state, dict) else {}
    return {}


def _write(folder: Path, state: dict[str, Any]) -> None:
    with writing(folder):
        write_whole(folder / _STATE, json.dumps(state).encode())
