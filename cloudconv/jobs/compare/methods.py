"""Methods that make the frames that are scored, and the scorer that measures what they make."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv import metrics
from cloudconv.events import Warned
from cloudconv.jobs.compare.samples import Clip, MethodScores, Sample, SampleImages, SampleScores
from cloudconv.jobs.compare.scores import (
    Meter,
    SequenceScores,
    ShownFrame,
    as_rgb,
    frame_scores,
    texture_around,
    texture_scores,
)
from cloudconv.jobs.compare.settings import MINTERPOLATE, CompareJob
from cloudconv.media.filters import minterpolate
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.pictures import Pictures
from cloudconv.models import registry
from cloudconv.render.device import choose_device, choose_precision
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import beside


class Method(Protocol):
    """Makes the scored frames of samples.

    ``spent`` is what the last sample took: for each horizon, or all in one, seconds and the frames
    made in them.
    """

    spent: list[tuple[float, int]]

    def make(self, sample: Sample, context: Tensor) -> Iterator[ShownFrame | None]:
        """A frame for each scored one, at its time; None where there is none.

        Args:
            sample: with its frames.
            context: its frames before the first that may be scored, (T, 3, H, W) RGB in [0, 1].
        """


class _Interpolator:
    """A registered interpolator, through the very renderer that ``interp`` uses."""

    def __init__(self, model: str, settings: CompareJob) -> None:
        self._renderer = renderer_of(model, settings)
        self.warnings = self._renderer.warnings
        self.spent: list[tuple[float, int]] = []

    def make(self, sample: Sample, context: Tensor) -> Iterator[ShownFrame]:
        began = time.perf_counter()
        left, right = sample.frames[0], sample.frames[-1]
        span = right.time - left.time
        before, after = (
            None
            if other is None or other.frame is None
            else beside(other.frame, abs(other.shows - near.time), span)
            for other, near in zip(sample.outer, (left, right), strict=True)
        )
        pictures = Pictures()
        plans = [
            pictures.plan(
                left,
                right,
                (true.time - left.time) / span,
                true.time,
                true.duration,
                before=before,
                after=after,
            )
            for true in (sample.frames[k] for k in sample.scored)
        ]
        made = list(self._renderer.render(plans, pictures))
        self.spent = [(time.perf_counter() - began, len(made))]
        for frame in made:
            yield ShownFrame(as_rgb(frame), frame)


class _Predictor:
    """A registered predictor; it sees what is scored, 8-bit RGB."""

    def __init__(self, model: str, settings: CompareJob) -> None:
        self._device = choose_device(settings.device)
        spec = registry.spec(model, "predict")
        dtype = choose_precision(settings.precision, self._device, spec)
        self._model = registry.load_predictor(model, self._device, dtype)
        self.spent: list[tuple[float, int]] = []

    def make(self, sample: Sample, context: Tensor) -> Iterator[ShownFrame]:
        self.spent = []
        made = self._model.forecast(context[None].to(self._device), len(sample.scored))
        for _ in sample.scored:
            began = time.perf_counter()
            rgb = metrics.eight_bit(next(made)[0].cpu())
            self.spent.append((time.perf_counter() - began, 1))
            yield ShownFrame(rgb)


class _Minterpolate:
    """FFmpeg's filter over all kept frames of the clip, read along with the samples.

    It makes a constant rate only. On a variable one the frames that happen to lie on the grid of
    the most common gap, to within an eighth of it, are its answers; the others it has none for.
    """

    def __init__(self, settings: CompareJob, info: MediaInfo) -> None:
        clip = Clip(settings, info)
        rate = info.timing.pace
        if rate is None or clip.cadence:
            rate = _usual_rate(clip)
        self.spent: list[tuple[float, int]] = []
        self._seconds, self._made = 0.0, 0
        self._frames = minterpolate(self._kept(clip, settings.kept), rate)
        self._near = 1 / (8 * rate)
        self._next: Frame | None = None

    def _kept(self, clip: Clip, drop: int) -> Iterator[Frame]:
        frames = _retimed(clip)
        while True:
            # Reading the clip is no work of the method's.
            began = time.perf_counter()
            frame = next(frames, None)
            for _ in islice(frames, drop - 1):
                pass
            self._seconds -= time.perf_counter() - began
            if frame is None:
                return
            # It passes the frames that it is given on, at no cost to speak of.
            self._made -= 1
            yield frame

    def make(self, sample: Sample, context: Tensor) -> Iterator[ShownFrame | None]:
        seconds, made = self._seconds, self._made
        frames = [self._at(sample.frames[k]) for k in sample.scored]
        self.spent = [(self._seconds - seconds, self._made - made)]
        for frame in frames:
            yield None if frame is None else ShownFrame(as_rgb(frame), frame)

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


def _retimed(clip: Clip) -> Iterator[Frame]:
    for item in clip.frames(clip.source()):
        yield item.frame.at(item.shows, item.frame.duration)


def _usual_rate(clip: Clip) -> Fraction:
    """One over the most common gap between the first frames."""
    times = [frame.time for frame in islice(_retimed(clip), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]


def renderer_of(model: str, settings: CompareJob) -> Renderer:
    """An interpolator as the settings want it."""
    spec = registry.spec(model, "interpolate")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    return Renderer(
        registry.load(model, device, dtype),
        device=device,
        dtype=dtype,
        batch=settings.batch,
        tile=settings.tile if spec.overlap else "auto",
        scale=(spec.scale_option and settings.scale) or 1.0,
        fallback=settings.fallback == "blend",
        exact=partial(registry.load, model, device) if settings.precision == "auto" else None,
    )


def _method(model: str, settings: CompareJob, info: MediaInfo) -> Method:
    if settings.horizon is not None:
        return _Predictor(model, settings)
    if model == MINTERPOLATE:
        return _Minterpolate(settings, info)
    return _Interpolator(model, settings)


class Scorer:
    """Makes the scored frames of samples by one method or several, and measures them.

    Args:
        models: for each method's name the model that it is, or ``minterpolate``.
        settings: of the comparison.
        info: of the clip.
    """

    def __init__(self, models: Mapping[str, str], settings: CompareJob, info: MediaInfo) -> None:
        self._ahead = settings.horizon is not None
        self._with_images = settings.report is not None
        self._wanted = settings.wanted
        self._methods = {name: _method(m, settings, info) for name, m in models.items()}
        self._meters = {name: Meter(settings.wanted, info.timing.rate) for name in models}

    def warnings(self) -> list[Warned]:
        """Return what is new of what the renderers warn of."""
        made = (each for each in self._methods.values() if isinstance(each, _Interpolator))
        return [warned for method in made for warned in method.warnings()]

    def score(self, sample: Sample) -> SampleScores:
        """What comes of the next sample, with its frames; none is scored in the last one."""
        if not sample.scored:
            return self._ask(Meter.interrupt)
        last = sample.scored[0] - 1 if self._ahead else 0
        context = torch.stack([as_rgb(frame) for frame in sample.frames[: last + 1]])
        kept = ShownFrame(context[-1], sample.frames[last])
        neighbours = [kept.rgb, *([] if self._ahead else [as_rgb(sample.frames[-1])])]
        around = texture_around(self._wanted, neighbours)
        result = self._ask(lambda meter: meter.follow(kept, kept))
        if self._ahead:  # it comes again with each horizon, and a report doesn't show it
            result = SampleScores({name: MethodScores() for name in self._methods})
        else:
            self._show(result, sample.frames[0], kept, dict.fromkeys(self._methods, kept), None)
        frames = {name: method.make(sample, context) for name, method in self._methods.items()}
        for number, k in enumerate(sample.scored):
            truth = ShownFrame(as_rgb(sample.frames[k]), sample.frames[k])
            if around is not None and not self._ahead:
                result.filmed.append(texture_scores(truth, around))
            made = {name: next(each) for name, each in frames.items()}
            for name, meter in self._meters.items():
                scores, shown = result.methods[name], made[name]
                if self._ahead:
                    scores.sequence.append(meter.repeat())
                elif k != last + 1:
                    scores.sequence[0] += meter.interrupt()
                scores.sequence[-1] += meter.follow(truth, shown)
                scores.frames.append(frame_scores(truth, shown, around, self._wanted))
            self._show(result, sample.frames[k], truth, made, number)
            last = k
        for name, method in self._methods.items():
            result.methods[name].spent = method.spent
            if not self._ahead and last != len(sample.frames) - 2:
                result.methods[name].sequence[0] += self._meters[name].interrupt()
        return result

    def _ask(self, question: Callable[[Meter], SequenceScores]) -> SampleScores:
        return SampleScores(
            {name: MethodScores(sequence=[question(m)]) for name, m in self._meters.items()}
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
