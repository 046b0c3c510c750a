"""One frame of every N is kept, the others are made again and compared with the truth.

Every method sees the same kept frames, and what it made is found by its time, never by counting.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from cloudconv.engine.device import choose_device, choose_precision, precision_name
from cloudconv.engine.pipeline import prefetch
from cloudconv.engine.runner import Renderer, Task
from cloudconv.errors import InputError
from cloudconv.jobs.compare_report import Reporter, Row
from cloudconv.jobs.compare_settings import MINTERPOLATE, CompareResult, CompareSettings, Watch
from cloudconv.jobs.schedule import Seen, look
from cloudconv.jobs.scoring import Scores, as_rgb, losses, verdict
from cloudconv.media.filters import minterpolate
from cloudconv.media.frame import Frame
from cloudconv.media.probe import MediaInfo
from cloudconv.media.source import Source
from cloudconv.models import registry
from cloudconv.report import Curves, Method


@dataclass(frozen=True, slots=True)
class Window:
    """Two kept frames and the true ones between them; ``index`` is the first one's, from 0."""

    index: int
    frames: tuple[Frame, ...]
    cut: bool


class _Way(Protocol):
    """A way of making frames between two kept ones; ``seconds`` is its own time for a frame."""

    def make(self, window: Window, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        """One frame for each wanted true one, at its time; None where there is none."""

    @property
    def seconds(self) -> float | None: ...


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
        self._seconds = 0.0
        self._made = 0

    def make(self, window: Window, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        began = time.perf_counter()
        left, right = window.frames[0], window.frames[-1]
        span = right.time - left.time
        tasks = [
            Task(left, right, (true.time - left.time) / span, true.time, true.duration)
            for true in wanted
        ]
        made = list(self._renderer.render(tasks))
        self._seconds += time.perf_counter() - began
        self._made += len(made)
        return made

    @property
    def seconds(self) -> float | None:
        return self._seconds / self._made if self._made else None


class _Minterpolate:
    """FFmpeg's filter over all kept frames of the clip, read along with the windows.

    It makes a constant rate only. On a variable one the frames that happen to lie on the grid of
    the most common gap, to within an eighth of it, are its answers; the others it has none for.
    """

    def __init__(self, info: MediaInfo, drop: int, stack: ExitStack) -> None:
        rate = info.timing.rate or _usual_rate(info)
        source = stack.enter_context(Source(info))
        self._made = minterpolate(self._kept(source, drop), rate)
        self._near = 1 / (8 * rate)
        self._next: Frame | None = None
        self._seconds = 0.0
        self._outputs = 0
        self._inputs = 0

    def _kept(self, source: Source, drop: int) -> Iterator[Frame]:
        frames = source.frames()
        while True:
            # Reading the clip is no work of the method's.
            began = time.perf_counter()
            frame = next(frames, None)
            for _ in islice(frames, drop - 1):
                pass
            self._seconds -= time.perf_counter() - began
            if frame is None:
                return
            self._inputs += 1
            yield frame

    def make(self, window: Window, wanted: Sequence[Frame]) -> Sequence[Frame | None]:
        return [self._at(true) for true in wanted]

    def _at(self, true: Frame) -> Frame | None:
        began = time.perf_counter()
        while self._next is None or self._next.time < true.time - self._near:
            self._next = next(self._made, None)
            if self._next is None:
                break
            self._outputs += 1
        self._seconds += time.perf_counter() - began
        if self._next is None or self._next.time > true.time + self._near:
            return None
        return self._next.at(true.time, true.duration)

    @property
    def seconds(self) -> float | None:
        """It passes the frames that it was given on, at no cost to speak of."""
        new = self._outputs - self._inputs
        return self._seconds / new if new > 0 else None


def _usual_rate(info: MediaInfo) -> Fraction:
    """One over the most common gap between the first frames of a clip with a variable rate."""
    with Source(info) as source:
        times = [frame.time for frame in islice(source.frames(), 100)]
    gaps = Counter(b - a for a, b in pairwise(times))
    return 1 / gaps.most_common(1)[0][0]


def windows(seen: Iterable[Seen], drop: int) -> Iterator[Window]:
    """The clip in windows of ``drop + 1`` frames; each begins with the frame that ends the last."""
    frames: list[Frame] = []
    cut = False
    index = 0
    for item in seen:
        cut = cut or (item.cut and bool(frames))
        frames.append(item.frame)
        if len(frames) == drop + 1:
            yield Window(index, tuple(frames), cut)
            index += drop
            frames, cut = frames[-1:], False


def evenly(total: int, wanted: int | None) -> Callable[[int], bool]:
    """Which of ``total`` numbers to take when at most ``wanted`` may be: spread evenly."""
    if wanted is None or wanted >= total:
        return lambda number: True
    return {(2 * k + 1) * total // (2 * wanted) for k in range(wanted)}.__contains__


def measure(settings: CompareSettings, info: MediaInfo, watch: Watch | None) -> CompareResult:
    """Score every interpolator; see :func:`cloudconv.jobs.compare.run`."""
    began = time.monotonic()
    with ExitStack() as stack:
        comparison = _Comparison(settings, info, stack)
        comparison.measure(stack, watch)
        result = comparison.result(time.monotonic() - began)
        if comparison.reporter is not None:
            comparison.reporter.finish(comparison.report(result), result.as_json())
    return result


class _Comparison:
    def __init__(self, settings: CompareSettings, info: MediaInfo, stack: ExitStack) -> None:
        self._settings, self._info = settings, info
        self._warnings: dict[str, None] = dict.fromkeys(info.warnings)
        drop = settings.kept
        self._total = (info.timing.frames - 1) // drop
        if self._total < 1:
            raise InputError(
                f"{info.path} has {info.timing.frames} frames; keeping one of every {drop} takes "
                f"at least {drop + 1}."
            )
        self._scores = {
            name: Scores(settings.metrics, info.timing.rate) for name in settings.methods
        }
        self._ways: dict[str, _Way] = {
            name: _Minterpolate(info, drop, stack)
            if name == MINTERPOLATE
            else _Model(name, settings, self._warn)
            for name in settings.methods
        }
        self._indices = array("q")
        self._times: list[Fraction] = []
        self._cuts: list[Fraction] = []
        self._skipped = 0
        self.reporter: Reporter | None = None
        if settings.report is not None:
            folder = Path(settings.report)
            self.reporter = stack.enter_context(
                Reporter(
                    folder, info, settings.model, settings.baseline, overwrite=settings.overwrite
                )
            )

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message)

    def measure(self, stack: ExitStack, watch: Watch | None) -> None:
        """Read the clip once, window by window."""
        drop = self._settings.kept
        chosen, within = self._sample()
        source = stack.enter_context(Source(self._info, threads=self._settings.threads))
        seen = self._note(look(source.frames(), self._settings.scene_cut))
        stream = stack.enter_context(prefetch(windows(seen, drop), 2))
        for number, window in enumerate(stream):
            if window.cut:
                self._skipped += drop - 1
            if window.cut or not chosen(number):
                for scores in self._scores.values():
                    scores.interrupt()
            else:
                self._score(window, within)
            if watch is not None:
                watch(window.index + drop + 1, self._info.timing.frames)
        for scores in self._scores.values():
            scores.finish()
        self._warnings |= dict.fromkeys(source.warnings)
        if not self._indices:
            raise InputError(f"No frame of {self._info.path} could be scored: cuts are everywhere.")

    def _sample(self) -> tuple[Callable[[int], bool], Callable[[int], bool]]:
        """Which windows to score, and which of the frames between two kept ones."""
        wanted, inside = self._settings.frames, self._settings.kept - 1
        if wanted is None or wanted >= self._total * inside:
            return evenly(1, None), evenly(1, None)
        each = min(wanted, inside)
        count = wanted // each
        self._warn(
            f"{count * each} of {self._total * inside} frames were chosen to be scored, "
            "spread evenly over the clip."
        )
        return evenly(self._total, count), evenly(inside, each)

    def _note(self, seen: Iterable[Seen]) -> Iterator[Seen]:
        for item in seen:
            if item.cut:
                self._cuts.append(item.frame.time - self._info.timing.start)
            yield item

    def _score(self, window: Window, within: Callable[[int], bool]) -> None:
        truth = window.frames[1:-1]
        places = [k for k in range(len(truth)) if within(k)]
        wanted = [truth[k] for k in places]
        made = {name: way.make(window, wanted) for name, way in self._ways.items()}
        kept = window.frames[0]
        kept_rgb = as_rgb(kept)
        self._follow(kept, kept_rgb, {name: (kept, kept_rgb) for name in made})
        last = -1
        for number, (k, true) in enumerate(zip(places, wanted, strict=True)):
            if k != last + 1:
                self._interrupt()
            last = k
            self._score_frame(
                window.index + 1 + k, true, {name: made[name][number] for name in made}
            )
        if last != len(truth) - 1:
            self._interrupt()

    def _interrupt(self) -> None:
        for scores in self._scores.values():
            scores.interrupt()

    def _score_frame(self, index: int, true: Frame, made: Mapping[str, Frame | None]) -> None:
        rgb = as_rgb(true)
        since = true.time - self._info.timing.start
        pictures = {name: None if frame is None else as_rgb(frame) for name, frame in made.items()}
        found = {name: self._scores[name].add(picture, rgb) for name, picture in pictures.items()}
        self._indices.append(index)
        self._times.append(since)
        self._follow(true, rgb, {name: (made[name], pictures[name]) for name in made})
        if self.reporter is not None:
            self.reporter.add(Row(index, since, rgb, pictures, found))

    def _follow(
        self, truth: Frame, rgb: Tensor, shown: Mapping[str, tuple[Frame | None, Tensor | None]]
    ) -> None:
        """Every frame of the output, kept or made, in order."""
        for name, (frame, picture) in shown.items():
            self._scores[name].follow(truth, rgb, frame, picture)
        if self.reporter is not None:
            pictures = {name: picture for name, (_, picture) in shown.items()}
            self.reporter.show(truth.duration, rgb, pictures)

    def result(self, seconds: float) -> CompareResult:
        settings = self._settings
        own, other = self._scores[settings.model], self._scores[settings.baseline]
        device = choose_device(settings.device)
        first = next((name for name in settings.methods if name != MINTERPOLATE), "blend")
        spec = registry.spec(first, "interpolate")
        for name, scores in self._scores.items():
            if scores.missing:
                self._warn(f"{name} made none of {scores.missing} frames: they score null.")
        return CompareResult(
            input=str(settings.input),
            drop=settings.kept,
            horizon=None,
            device=str(device),
            precision=precision_name(choose_precision(settings.precision, device, spec)),
            scored_frames=len(self._indices),
            skipped_frames=self._skipped,
            cuts=[float(cut) for cut in self._cuts],
            methods={
                name: {**scores.means(), "seconds_per_frame": self._ways[name].seconds}
                for name, scores in self._scores.items()
            },
            per_frame=[
                {
                    "index": index,
                    "pts_seconds": float(moment),
                    **{name: scores.at(k) for name, scores in self._scores.items()},
                }
                for k, (index, moment) in enumerate(zip(self._indices, self._times, strict=True))
            ],
            baseline=settings.baseline,
            loses=[self._indices[k] for k in losses(own, other)],
            verdict=verdict(settings.model, settings.baseline, own, other, self._times),
            wall_seconds=seconds,
            warnings=list(self._warnings),
        )

    def report(self, result: CompareResult) -> dict[str, Any]:
        """What the report says beside its pictures."""
        info, settings = self._info, self._settings
        rate = "variable" if info.timing.rate is None else f"{float(info.timing.rate):g}"
        cuts = len(result.cuts)
        summary = (
            f"one frame of every {settings.kept} kept, {result.scored_frames} frames scored"
            + (f", {cuts} cut{'s' if cuts > 1 else ''} left out" if cuts else "")
        )
        return {
            "source": info.path.name,
            "verdict": result.verdict,
            "summary": summary,
            "model": settings.model,
            "baseline": settings.baseline,
            "metrics": settings.metrics,
            "methods": tuple(
                Method(name, scores.means(), self._ways[name].seconds, scores.missing)
                for name, scores in self._scores.items()
            ),
            "curves": Curves(
                frames=tuple(self._indices),
                times=tuple(self._times),
                psnr={name: scores.curve("psnr") for name, scores in self._scores.items()},
                ssim={name: scores.curve("ssim") for name, scores in self._scores.items()},
                cuts=tuple(self._cuts),
            ),
            "facts": (
                ("clip", f"{info.width}x{info.height}, {info.timing.frames} frames at {rate} fps"),
                ("kept", f"one frame of every {settings.kept}; all methods saw the same"),
                ("scored", f"{result.scored_frames} frames as 8-bit RGB, found by their time"),
                ("left out", f"{self._skipped} frames beside cuts"),
                ("device", f"{result.device}, {result.precision}"),
                *(("note", warning) for warning in result.warnings),
            ),
        }
