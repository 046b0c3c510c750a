"""Make frames by each compared method, and score them against the source frames."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv import metrics
from cloudconv.events import Warned
from cloudconv.jobs.compare.plan import ComparePlan
from cloudconv.jobs.compare.results import MINTERPOLATE
from cloudconv.jobs.compare.samples import ComparedClip, Sample, SampleImages, SampleScores
from cloudconv.jobs.compare.scores import (
    SequenceMeter,
    SequenceScores,
    ShownFrame,
    StepScores,
    as_rgb,
    frame_scores,
    texture_between,
    texture_scores,
)
from cloudconv.media.filters import minterpolate
from cloudconv.media.frame import Frame
from cloudconv.media.task import task_of
from cloudconv.models import registry
from cloudconv.render.device import choose_device, choose_precision
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.frames import beside
from cloudconv.transfer import download, upload


@dataclass(frozen=True, slots=True)
class MethodOutput:
    """A frame that a method made, and the cost of making frames.

    ``shown`` is None if the method made no frame. The method made ``count`` frames in ``seconds``;
    a filter also makes frames that are not scored.
    """

    shown: ShownFrame | None
    seconds: float
    count: int = 1


class ScoredMethod(Protocol):
    """A method that makes the scored frames of samples."""

    def make(self, sample: Sample, context: Tensor) -> Iterator[MethodOutput]:
        """Yield one frame for the time of each scored frame.

        Args:
            sample: the sample with its frames.
            context: the kept frames before the first scored frame, (T, 3, H, W) RGB in [0, 1].
        """


class _Interpolator:
    """A registered interpolator in the same renderer as ``interp`` uses."""

    def __init__(self, model: str, plan: ComparePlan) -> None:
        self._renderer = renderer_of(model, plan)
        self.new_warnings = self._renderer.new_warnings

    def make(self, sample: Sample, context: Tensor) -> Iterator[MethodOutput]:
        began = time.perf_counter()
        left, right = sample.frames[0], sample.frames[-1]
        span = right.time - left.time
        # As in ``interp``, no model makes a frame between two equal frames.
        is_still = left.same_picture(right)
        before, after = (
            None if other is None else beside(other.frame, abs(other.shows - near.time), span)
            for other, near in ((sample.before, left), (sample.after, right))
        )
        tasks = [
            task_of(
                left,
                None if is_still else right,
                (true.time - left.time) / span,
                true.time,
                true.duration,
                outer=(before, after),
            )
            for true in (sample.frames[k] for k in sample.scored)
        ]
        made = list(self._renderer.render(tasks))
        seconds = (time.perf_counter() - began) / len(made)
        for frame in made:
            yield MethodOutput(ShownFrame(as_rgb(frame), frame), seconds)


class _Predictor:
    """A registered predictor. The predictor sees RGB rounded to 8 bits, like all scored frames."""

    def __init__(self, model: str, plan: ComparePlan) -> None:
        self._device = choose_device(str(plan.device))
        spec = registry.spec(model, "predict")
        dtype = choose_precision(plan.settings.precision, self._device, spec)
        self._model = registry.load_predictor(model, self._device, dtype)

    def make(self, sample: Sample, context: Tensor) -> Iterator[MethodOutput]:
        (sent,) = upload([context[None]], self._device)
        made = self._model.forecast_checked(sent, len(sample.scored))
        for _ in sample.scored:
            began = time.perf_counter()
            (rgb,) = download([next(made)[0]]).planes()
            yield MethodOutput(ShownFrame(metrics.eight_bit(rgb)), time.perf_counter() - began)


class _Minterpolate:
    """FFmpeg's ``minterpolate`` filter over all kept frames of the clip, which is read once more.

    The filter makes frames at a constant rate only. In a clip with a variable rate or with regular
    repeats, the rate is that of the most common gap between frames. A scored frame gets no frame if
    the filter makes none within an eighth of a gap from the scored frame's time.
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

    def make(self, sample: Sample, context: Tensor) -> Iterator[MethodOutput]:
        for k in sample.scored:
            seconds, made = self._seconds, self._made
            frame = self._at(sample.frames[k])
            shown = None if frame is None else ShownFrame(as_rgb(frame), frame)
            yield MethodOutput(shown, self._seconds - seconds, self._made - made)

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
    times = [item.shows for item in islice(clip.frames(clip.source()), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]


def renderer_of(model: str, plan: ComparePlan) -> Renderer:
    """Load an interpolator; leave out the options that the model does not support."""
    settings, spec = plan.settings, registry.spec(model, "interpolate")
    device = choose_device(str(plan.device))
    dtype = choose_precision(settings.precision, device, spec)
    return renderer_for(model, settings, device, dtype, lenient=True)


def _method(model: str, plan: ComparePlan) -> ScoredMethod:
    if plan.forecasts:
        return _Predictor(model, plan)
    return _Minterpolate(plan) if model == MINTERPOLATE else _Interpolator(model, plan)


class Scorer:
    """A set of methods, and the metrics of the frames that they make."""

    def __init__(self, models: Mapping[str, str], plan: ComparePlan) -> None:
        """Load the models.

        Args:
            models: the model of each method, by the method's name: the model's name or file, or
                ``minterpolate``.
            plan: the plan of the comparison.
        """
        self._ahead = plan.forecasts
        self._with_images = plan.settings.report is not None
        self._wanted = plan.metrics
        self._methods = {name: _method(model, plan) for name, model in models.items()}
        rate = plan.info.timing.rate
        self._meters = {name: SequenceMeter(plan.metrics, rate) for name in models}

    def new_warnings(self) -> list[Warned]:
        """Return the new warnings of the renderers."""
        renderers = (each for each in self._methods.values() if isinstance(each, _Interpolator))
        return [warned for each in renderers for warned in each.new_warnings()]

    def score(self, sample: Sample) -> SampleScores:
        """Make and score the frames of the next sample.

        A sample without frames to score interrupts the metrics that need frames in order.
        """
        if not sample.scored:
            return self._measured(SequenceMeter.interrupt)
        last = sample.scored[0] - 1 if self._ahead else 0
        context = torch.stack([as_rgb(frame) for frame in sample.frames[: last + 1]])
        kept = ShownFrame(context[-1], sample.frames[last])
        neighbours = [kept.rgb, *([] if self._ahead else [as_rgb(sample.frames[-1])])]
        kept_texture = texture_between(self._wanted, neighbours)
        before = kept.rgb, kept_texture
        result = self._measured(lambda meter: meter.follow(kept, kept))
        if self._ahead:  # each horizon adds a step; no report shows the kept frame
            result = SampleScores({name: [] for name in self._methods})
        else:
            self._show(result, sample.frames[0], kept, dict.fromkeys(self._methods, kept), None)
        frames = {name: method.make(sample, context) for name, method in self._methods.items()}
        for number, k in enumerate(sample.scored):
            truth = ShownFrame(as_rgb(sample.frames[k]), sample.frames[k])
            if kept_texture is not None and not self._ahead:
                result.filmed.append(texture_scores(truth, kept_texture))
            made = {name: next(each) for name, each in frames.items()}
            for name, meter in self._meters.items():
                steps, shown = result.methods[name], made[name].shown
                if self._ahead:
                    steps.append(StepScores())
                if k != last + 1:
                    steps[0].sequence += meter.interrupt()
                steps[-1].sequence += meter.follow(truth, shown)
                steps[-1].frames.append(frame_scores(truth, shown, before, self._wanted))
                steps[-1].seconds += made[name].seconds
                steps[-1].made += made[name].count
            shown_frames = {name: each.shown for name, each in made.items()}
            self._show(result, sample.frames[k], truth, shown_frames, number)
            last = k
        if not self._ahead:
            complete = last == len(sample.items) - 2
            for name, meter in self._meters.items():
                more = meter.flicker() if complete else meter.interrupt()
                result.methods[name][0].sequence += more
        return result

    def _measured(self, step: Callable[[SequenceMeter], SequenceScores]) -> SampleScores:
        return SampleScores(
            {name: [StepScores(sequence=step(m))] for name, m in self._meters.items()}
        )

    def _show(
        self,
        result: SampleScores,
        true: Frame,
        truth: ShownFrame,
        shown: Mapping[str, ShownFrame | None],
        number: int | None,
    ) -> None:
        if self._with_images:
            made = {name: None if each is None else _bytes(each) for name, each in shown.items()}
            result.images.append(SampleImages(true.duration, _bytes(truth), made, number))


def _bytes(shown: ShownFrame) -> NDArray[np.uint8]:
    return shown.rgb.mul(255).round_().byte().cpu().numpy()
