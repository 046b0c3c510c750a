"""Methods that make the frames between two kept ones, and what comes of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from typing import Protocol

from torch import Tensor

from cloudconv.engine.device import choose_device, choose_precision
from cloudconv.engine.renderer import FrameTask, Renderer
from cloudconv.jobs.compare.content import Content
from cloudconv.jobs.compare.samples import Sample, SampleImages, SampleScores
from cloudconv.jobs.compare.scores import FrameScore, Meter, as_rgb, texture_around
from cloudconv.jobs.compare.settings import MINTERPOLATE, CompareSettings
from cloudconv.media.filters import minterpolate
from cloudconv.media.frame import Frame
from cloudconv.media.read.probe import MediaInfo
from cloudconv.models import registry


class Method(Protocol):
    """Makes frames between two kept ones."""

    seconds: float
    """What it has taken so far, all in all."""
    made: int
    """How many frames it has made in them."""

    def make(self, sample: Sample, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        """One frame for each wanted true one, at its time; None where there is none."""


class _Model:
    """A registered interpolator, through the very renderer that ``interp`` uses."""

    def __init__(self, name: str, settings: CompareSettings, warn: Callable[[str], None]) -> None:
        self._renderer = renderer_of(name, settings, warn)
        self.seconds = 0.0
        self.made = 0

    def make(self, sample: Sample, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        began = time.perf_counter()
        left, right = sample.frames[0], sample.frames[-1]
        span = right.time - left.time
        tasks = [
            FrameTask(left, right, (true.time - left.time) / span, true.time, true.duration)
            for true in wanted
        ]
        made = list(self._renderer.render(tasks))
        self.seconds += time.perf_counter() - began
        self.made += len(made)
        return made


def renderer_of(name: str, settings: CompareSettings, warn: Callable[[str], None]) -> Renderer:
    """A model as the settings want it."""
    spec = registry.spec(name, "interpolate")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    return Renderer(
        registry.load(name, device, dtype),
        device=device,
        dtype=dtype,
        batch=settings.batch,
        tile=settings.tile if spec.overlap else "auto",
        scale=settings.scale if spec.scale_option else 1.0,
        fallback=settings.fallback == "blend",
        on_warning=warn,
    )


class _Minterpolate:
    """FFmpeg's filter over all kept frames of the clip, read along with the windows.

    It makes a constant rate only. On a variable one the frames that happen to lie on the grid of
    the most common gap, to within an eighth of it, are its answers; the others it has none for.
    """

    def __init__(self, settings: CompareSettings, info: MediaInfo) -> None:
        content = Content(settings, info)
        rate = info.timing.pace
        if rate is None or content.cadence:
            rate = _usual_rate(content)
        self.seconds = 0.0
        self.made = 0
        self._frames = minterpolate(self._kept(content, settings.kept), rate)
        self._near = 1 / (8 * rate)
        self._next: Frame | None = None

    def _kept(self, content: Content, drop: int) -> Iterator[Frame]:
        frames = _shown(content)
        while True:
            # Reading the clip is no work of the method's.
            began = time.perf_counter()
            frame = next(frames, None)
            for _ in islice(frames, drop - 1):
                pass
            self.seconds -= time.perf_counter() - began
            if frame is None:
                return
            # It passes the frames that it is given on, at no cost to speak of.
            self.made -= 1
            yield frame

    def make(self, sample: Sample, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        return [self._at(true) for true in wanted]

    def _at(self, true: Frame) -> Frame | None:
        began = time.perf_counter()
        while self._next is None or self._next.time < true.time - self._near:
            self._next = next(self._frames, None)
            if self._next is None:
                break
            self.made += 1
        self.seconds += time.perf_counter() - began
        if self._next is None or self._next.time > true.time + self._near:
            return None
        return self._next.at(true.time, true.duration)


def _shown(content: Content) -> Iterator[Frame]:
    for item in content.frames(content.source()):
        yield item.frame.at(item.shows, item.frame.duration)


def _usual_rate(content: Content) -> Fraction:
    """One over the most common gap between the first frames."""
    times = [frame.time for frame in islice(_shown(content), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]


class InterpolationScorer:
    """Frames between two kept ones, by one method or several; a scorer.

    Args:
        models: for each method's name the model that it is, or ``minterpolate``.
        settings: of the comparison.
        info: of the clip.
        warn: told in sentences.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        settings: CompareSettings,
        info: MediaInfo,
        warn: Callable[[str], None],
    ) -> None:
        self._pictured = settings.report is not None
        self._wanted = settings.metrics
        self._methods: dict[str, Method] = {}
        for name, model in models.items():
            if model == MINTERPOLATE:
                self._methods[name] = _Minterpolate(settings, info)
            else:
                self._methods[name] = _Model(model, settings, warn)
        self._meters = {name: Meter(settings.metrics, info.timing.rate) for name in models}

    def score(self, sample: Sample) -> SampleScores:
        """Make and measure what is scored there; see :class:`Scorer`."""
        if not sample.scored:
            return self._notes(Meter.interrupt)
        wanted = [sample.frames[k] for k in sample.scored]
        before = {name: (method.seconds, method.made) for name, method in self._methods.items()}
        made = {name: method.make(sample, wanted) for name, method in self._methods.items()}
        found = SampleScores({name: [[]] for name in made})
        for name, method in self._methods.items():
            seconds, frames = before[name]
            found.seconds[name] = [(method.seconds - seconds, method.made - frames)]
        kept = sample.frames[0]
        rgb = as_rgb(kept)
        self._follow(found, kept, rgb, {name: (kept, rgb) for name in made}, None)
        around = texture_around(self._wanted, (rgb, as_rgb(sample.frames[-1])))
        last = 0
        for number, (k, true) in enumerate(zip(sample.scored, wanted, strict=True)):
            if k != last + 1:
                self._interrupt(found)
            last = k
            self._score(found, true, {name: made[name][number] for name in made}, around, number)
        if last != len(sample.frames) - 2:
            self._interrupt(found)
        return found

    def finish(self) -> SampleScores:
        """See :class:`Scorer`."""
        return self._notes(Meter.finish)

    def _notes(self, ask: Callable[[Meter], list[FrameScore]]) -> SampleScores:
        return SampleScores({name: [ask(meter)] for name, meter in self._meters.items()})

    def _interrupt(self, found: SampleScores) -> None:
        for name, meter in self._meters.items():
            found.notes[name][0] += meter.interrupt()

    def _score(
        self,
        found: SampleScores,
        true: Frame,
        made: Mapping[str, Frame | None],
        around: Tensor | None,
        number: int,
    ) -> None:
        rgb = as_rgb(true)
        pictures = {name: None if frame is None else as_rgb(frame) for name, frame in made.items()}
        for name, picture in pictures.items():
            found.notes[name][0] += self._meters[name].add(picture, rgb, around)
        self._follow(
            found, true, rgb, {name: (made[name], pictures[name]) for name in made}, number
        )

    def _follow(
        self,
        found: SampleScores,
        truth: Frame,
        rgb: Tensor,
        shown: Mapping[str, tuple[Frame | None, Tensor | None]],
        number: int | None,
    ) -> None:
        """Every frame of the output, kept or made, in order."""
        for name, (frame, picture) in shown.items():
            found.notes[name][0] += self._meters[name].follow(truth, rgb, frame, picture)
        if self._pictured:
            pictures = {name: picture for name, (_, picture) in shown.items()}
            found.pictures.append(SampleImages(truth.duration, rgb, pictures, number))
