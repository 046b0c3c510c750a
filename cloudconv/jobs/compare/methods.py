"""Make frames by each compared method: models of the registry, and FFmpeg's ``minterpolate``."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise

from torch import Tensor

from cloudconv import metrics
from cloudconv.events import Warned
from cloudconv.jobs.compare.plan import MINTERPOLATE, ComparedClip, ComparePlan, Sample
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.meters import minterpolate
from cloudconv.models import registry
from cloudconv.render.device import choose_device, choose_precision
from cloudconv.render.renderer import renderer_for
from cloudconv.schedule.tasks import beside
from cloudconv.timeline import Task
from cloudconv.transfer import download, upload


def as_rgb(frame: Frame) -> Tensor:
    """Return a frame for scoring: (3, H, W) float32 RGB, rounded to 8 bits, in [0, 1]."""
    return metrics.eight_bit(rgb_of(frame))


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A kept source frame, or a frame that a method made; ``frame`` is None for a forecast."""

    rgb: Tensor
    frame: Frame | None = None


Made = tuple[ShownFrame | None, float, int]
"""A frame that a method made, or None, and the seconds that so many frames took."""


class Method(ABC):
    """A method that makes the scored frames of samples."""

    @abstractmethod
    def make(self, sample: Sample, context: Tensor) -> Iterator[Made]:
        """Yield one frame for each scored frame; ``context`` are the kept frames before, as RGB."""

    def new_warnings(self) -> list[Warned]:
        """Return the warnings since the last call."""
        return []


class _Interpolator(Method):
    def __init__(self, model: str, plan: ComparePlan) -> None:
        spec, device = registry.spec(model, "interpolate"), choose_device(str(plan.device))
        dtype = choose_precision(plan.settings.precision, device, spec)
        # Options that the model does not support are left out.
        self._renderer = renderer_for(model, plan.settings, device, dtype, lenient=True)

    def new_warnings(self) -> list[Warned]:
        return self._renderer.new_warnings()

    def make(self, sample: Sample, context: Tensor) -> Iterator[Made]:
        began = time.perf_counter()
        left, right = sample.frames[0], sample.frames[-1]
        span = right.time - left.time
        # As in ``interp``, no model makes a frame between two equal frames.
        is_still = left.same_picture(right)
        before, after = (
            None if other is None else beside(other.frame, abs(other.frame.time - near.time), span)
            for other, near in ((sample.before, left), (sample.after, right))
        )
        tasks = [
            Task(
                left,
                None if is_still else right,
                (true.time - left.time) / span,
                true.time,
                true.duration,
                before=before,
                after=after,
            )
            for true in (sample.frames[k] for k in sample.scored)
        ]
        made = list(self._renderer.render(tasks))
        seconds = (time.perf_counter() - began) / len(made)
        for frame in made:
            yield ShownFrame(as_rgb(frame), frame), seconds, 1


class _Predictor(Method):
    """A registered predictor. The predictor sees RGB rounded to 8 bits, like all scored frames."""

    def __init__(self, model: str, plan: ComparePlan) -> None:
        self._device = choose_device(str(plan.device))
        spec = registry.spec(model, "predict")
        dtype = choose_precision(plan.settings.precision, self._device, spec)
        self._model = registry.load_predictor(model, self._device, dtype)

    def make(self, sample: Sample, context: Tensor) -> Iterator[Made]:
        (sent,) = upload([context[None]], self._device)
        made = self._model.forecast(sent, len(sample.scored), checks=False)
        for _ in sample.scored:
            began = time.perf_counter()
            (rgb,) = download([next(made)[0]]).planes()
            yield ShownFrame(metrics.eight_bit(rgb)), time.perf_counter() - began, 1


class _Minterpolate(Method):
    """FFmpeg's ``minterpolate`` filter over all kept frames of the clip, which is read again.

    The filter makes frames at a constant rate, otherwise that of the most common gap. A scored
    frame farther than an eighth of a gap from the filter's frames gets none.
    """

    def __init__(self, plan: ComparePlan) -> None:
        clip = ComparedClip(plan)
        rate = plan.info.timing.gap_rate
        if rate is None or clip.has_cadence:
            rate = _usual_rate(clip)
        self._seconds, self._made = 0.0, 0
        self._frames = minterpolate(self._kept(clip, plan.drop), rate)
        self._near = 1 / (8 * rate)
        self._next: Frame | None = None

    def _kept(self, clip: ComparedClip, drop: int) -> Iterator[Frame]:
        frames = clip.frames(clip.source())
        while True:
            # The time for reading the clip does not count.
            began = time.perf_counter()
            item = next(frames, None)
            for _ in islice(frames, drop - 1):
                pass
            self._seconds -= time.perf_counter() - began
            if item is None:
                return
            # A kept frame passes the filter in almost no time, so this frame does not count.
            self._made -= 1
            yield item.frame

    def make(self, sample: Sample, context: Tensor) -> Iterator[Made]:
        for k in sample.scored:
            seconds, made = self._seconds, self._made
            frame = self._at(sample.frames[k])
            shown = None if frame is None else ShownFrame(as_rgb(frame), frame)
            yield shown, self._seconds - seconds, self._made - made

    def _at(self, true: Frame) -> Frame | None:
        began = time.perf_counter()
        while self._next is None or self._next.time < true.time - self._near:
            self._next = next(self._frames, None)
            if self._next is None:
                break
            self._made += 1
        self._seconds += time.perf_counter() - began
        if self._next is None or self._next.time > true.time + self._near:
            return None
        return self._next.at(true.time, true.duration)


def _usual_rate(clip: ComparedClip) -> Fraction:
    """Return the rate of the most common gap between the first 100 frames, in frames a second."""
    times = [item.frame.time for item in islice(clip.frames(clip.source()), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]


def method(model: str, plan: ComparePlan) -> Method:
    """Load the model of a method: a name, a file, or ``minterpolate``."""
    if plan.forecasts:
        return _Predictor(model, plan)
    return _Minterpolate(plan) if model == MINTERPOLATE else _Interpolator(model, plan)
