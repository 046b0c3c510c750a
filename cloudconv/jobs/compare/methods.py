"""Make frames by each compared method: models, and FFmpeg's ``minterpolate``."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.events import Warnings
from cloudconv.jobs.compare.plan import ComparedClip, ComparePlan, Excerpt
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame
from cloudconv.media.writing.meters import minterpolate
from cloudconv.models import registry
from cloudconv.models.base import Predictor
from cloudconv.render.device import choose_device, choose_precision
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.tasks import outer_frame
from cloudconv.settings.compare import MINTERPOLATE
from cloudconv.timeline import Task
from cloudconv.transfer import download, upload


def as_rgb(frame: Frame) -> Tensor:
    """Return a frame for scoring: (3, H, W) float32 RGB, rounded to 8 bits, in [0, 1]."""
    return metrics.eight_bit(rgb_of(frame))


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A kept source frame, or a frame that a method made.

    ``frame`` is None for a forecast.
    """

    rgb: Tensor
    frame: Frame | None = None


TimedFrame = tuple[ShownFrame | None, float, int]
"""A frame that a method made, or None; the seconds of some frames, and their number."""

Make = Callable[[Excerpt, Tensor], Iterator[TimedFrame]]
"""A function that yields a frame for each scored frame of an excerpt; the tensor has the
kept frames before as RGB."""


def method(model: str, plan: ComparePlan, warnings: Warnings) -> Make:
    """Load the model of a method: a name, a file, or ``minterpolate``."""
    if model == MINTERPOLATE:
        return _Minterpolate(plan).make
    device = choose_device(str(plan.device))
    model, settings = plan.settings.of_method(model)
    spec = registry.spec(model, plan.settings.models_task)
    dtype = choose_precision(settings.precision, device, spec)
    if plan.forecasts:
        return partial(_predicted, registry.load_predictor(model, device, dtype), device)
    # Options that the model does not support are left out.
    renderer = renderer_for(model, settings, device, dtype, lenient=True, warnings=warnings)
    return partial(_interpolated, renderer)


def _interpolated(
    renderer: Renderer, excerpt: Excerpt, context: Tensor
) -> Iterator[TimedFrame]:
    began = time.perf_counter()
    left, right = excerpt.frames[0], excerpt.frames[-1]
    span = right.time - left.time
    # No model makes a frame between two equal frames, as in ``interp``.
    other_side = None if left.same_picture(right) else right
    before, after = (
        None
        if other is None
        else outer_frame(other.frame, abs(other.frame.time - near.time), span)
        for other, near in ((excerpt.before, left), (excerpt.after, right))
    )
    tasks = []
    for true in (excerpt.frames[k] for k in excerpt.scored):
        times = (true.time - left.time) / span, true.time, true.duration
        tasks.append(Task(left, other_side, *times, before=before, after=after))
    frames = list(renderer.frames(tasks))
    seconds = (time.perf_counter() - began) / len(frames)
    for frame in frames:
        yield ShownFrame(as_rgb(frame), frame), seconds, 1


def _predicted(
    model: Predictor, device: torch.device, excerpt: Excerpt, context: Tensor
) -> Iterator[TimedFrame]:
    """Yield forecasts; the predictor sees RGB rounded to 8 bits, like all scored frames."""
    (sent,) = upload([context[None]], device)
    forecasts = model.forecast(sent, len(excerpt.scored), checks=False)
    for _ in excerpt.scored:
        began = time.perf_counter()
        (rgb,) = download([next(forecasts)[0]]).planes()
        yield ShownFrame(metrics.eight_bit(rgb)), time.perf_counter() - began, 1


class _Minterpolate:
    """FFmpeg's ``minterpolate`` filter over the kept frames of the clip, read again.

    The filter makes frames at the clip's constant rate, or else at that of the most common
    gap. A scored frame farther than an eighth of a gap from the filter's frames gets none.
    """

    def __init__(self, plan: ComparePlan) -> None:
        clip = ComparedClip(plan)
        rate = plan.info.timing.gap_rate
        if rate is None or clip.has_cadence:
            rate = _usual_rate(clip)
        self._seconds = 0.0
        self._made = 0
        self._frames = minterpolate(self._kept(clip, plan.drop), rate)
        self._near = 1 / (8 * rate)
        self._next: Frame | None = None

    def _kept(self, clip: ComparedClip, drop: int) -> Iterator[Frame]:
        with clip.source() as source:
            kept = islice(clip.frames(source), None, None, drop)
            while True:
                # The time for reading the clip does not count.
                began = time.perf_counter()
                item = next(kept, None)
                self._seconds -= time.perf_counter() - began
                if item is None:
                    return
                # A kept frame passes the filter in almost no time, so this frame does not
                # count.
                self._made -= 1
                yield item.frame

    def make(self, excerpt: Excerpt, context: Tensor) -> Iterator[TimedFrame]:
        for k in excerpt.scored:
            seconds = self._seconds
            count = self._made
            frame = self._at(excerpt.frames[k])
            picture = None if frame is None else ShownFrame(as_rgb(frame), frame)
            yield picture, self._seconds - seconds, self._made - count

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
    """Return the rate of the most common of the first 100 gaps, in frames a second."""
    with clip.source() as source:
        times = [item.frame.time for item in islice(clip.frames(source), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]
