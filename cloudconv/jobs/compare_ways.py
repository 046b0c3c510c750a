"""Ways of making the frames between two kept ones, and what comes of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from typing import Protocol

from torch import Tensor

from cloudconv.engine.device import choose_device, choose_precision
from cloudconv.engine.runner import Renderer, Task
from cloudconv.jobs.compare_settings import MINTERPOLATE, CompareSettings
from cloudconv.jobs.examining import Found, Pictured, Place
from cloudconv.jobs.scoring import Meter, Note, as_rgb
from cloudconv.media.filters import minterpolate
from cloudconv.media.frame import Frame
from cloudconv.media.probe import MediaInfo
from cloudconv.media.source import Source
from cloudconv.models import registry


class _Way(Protocol):
    """A way of making frames between two kept ones."""

    seconds: float
    """What it has taken so far, all told."""
    made: int
    """How many frames it has made in them."""

    def make(self, place: Place, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        """One frame for each wanted true one, at its time; None where there is none."""


class _Model:
    """A registered interpolator, through the very renderer that ``interp`` uses."""

    def __init__(self, name: str, settings: CompareSettings, warn: Callable[[str], None]) -> None:
        spec = registry.spec(name, "interpolate")
        device = choose_device(settings.device)
        dtype = choose_precision(settings.precision, device, spec)
        self._renderer = Renderer(
            registry.load(name, device, dtype),
            device=device,
            dtype=dtype,
            batch=settings.batch,
            tile=settings.tile if spec.overlap else "auto",
            scale=settings.scale if spec.scale_option else 1.0,
            fallback=settings.fallback == "blend",
            on_warning=warn,
        )
        self.seconds = 0.0
        self.made = 0

    def make(self, place: Place, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        began = time.perf_counter()
        left, right = place.frames[0], place.frames[-1]
        span = right.time - left.time
        tasks = [
            Task(left, right, (true.time - left.time) / span, true.time, true.duration)
            for true in wanted
        ]
        made = list(self._renderer.render(tasks))
        self.seconds += time.perf_counter() - began
        self.made += len(made)
        return made


class _Minterpolate:
    """FFmpeg's filter over all kept frames of the clip, read along with the windows.

    It makes a constant rate only. On a variable one the frames that happen to lie on the grid of
    the most common gap, to within an eighth of it, are its answers; the others it has none for.
    """

    def __init__(self, info: MediaInfo, drop: int) -> None:
        rate = info.timing.rate or _usual_rate(info)
        self.seconds = 0.0
        self.made = 0
        self._frames = minterpolate(self._kept(Source(info), drop), rate)
        self._near = 1 / (8 * rate)
        self._next: Frame | None = None

    def _kept(self, source: Source, drop: int) -> Iterator[Frame]:
        frames = source.frames()
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

    def make(self, place: Place, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
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


def _usual_rate(info: MediaInfo) -> Fraction:
    """One over the most common gap between the first frames of a clip with a variable rate."""
    with Source(info) as source:
        times = [frame.time for frame in islice(source.frames(), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]


class Between:
    """Frames between two kept ones, by one method or several; an examiner.

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
        self._ways: dict[str, _Way] = {}
        for name, model in models.items():
            if model == MINTERPOLATE:
                self._ways[name] = _Minterpolate(info, settings.kept)
            else:
                self._ways[name] = _Model(model, settings, warn)
        self._meters = {name: Meter(settings.metrics, info.timing.rate) for name in models}

    def examine(self, place: Place) -> Found:
        """Make and measure what is scored there; see :class:`Examiner`."""
        if not place.scored:
            return self._notes(Meter.interrupt)
        wanted = [place.frames[k] for k in place.scored]
        before = {name: (way.seconds, way.made) for name, way in self._ways.items()}
        made = {name: way.make(place, wanted) for name, way in self._ways.items()}
        found = Found({name: [[]] for name in made})
        for name, way in self._ways.items():
            seconds, frames = before[name]
            found.seconds[name] = [(way.seconds - seconds, way.made - frames)]
        kept = place.frames[0]
        rgb = as_rgb(kept)
        self._follow(found, kept, rgb, {name: (kept, rgb) for name in made}, None)
        last = 0
        for number, (k, true) in enumerate(zip(place.scored, wanted, strict=True)):
            if k != last + 1:
                self._interrupt(found)
            last = k
            self._score(found, true, {name: made[name][number] for name in made}, number)
        if last != len(place.frames) - 2:
            self._interrupt(found)
        return found

    def finish(self) -> Found:
        """See :class:`Examiner`."""
        return self._notes(Meter.finish)

    def _notes(self, ask: Callable[[Meter], list[Note]]) -> Found:
        return Found({name: [ask(meter)] for name, meter in self._meters.items()})

    def _interrupt(self, found: Found) -> None:
        for name, meter in self._meters.items():
            found.notes[name][0] += meter.interrupt()

    def _score(
        self, found: Found, true: Frame, made: Mapping[str, Frame | None], number: int
    ) -> None:
        rgb = as_rgb(true)
        pictures = {name: None if frame is None else as_rgb(frame) for name, frame in made.items()}
        for name, picture in pictures.items():
            found.notes[name][0] += self._meters[name].add(picture, rgb)
        self._follow(
            found, true, rgb, {name: (made[name], pictures[name]) for name in made}, number
        )

    def _follow(
        self,
        found: Found,
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
            found.pictures.append(Pictured(truth.duration, rgb, pictures, number))
