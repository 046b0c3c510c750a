"""One frame of every N is kept, the others are made again and compared with the truth.

Every method sees the same kept frames, and what it made is found by its time, never by counting.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.errors import InputError
from cloudconv.jobs.compare.adapted import adapting
from cloudconv.jobs.compare.content import Content, ContentFrame
from cloudconv.jobs.compare.report import Reporter, Row
from cloudconv.jobs.compare.samples import Sample, SampleScores
from cloudconv.jobs.compare.scores import Scores, losses, verdict
from cloudconv.jobs.compare.settings import (
    MINTERPOLATE,
    CompareResult,
    CompareSettings,
    Watch,
    ran_on,
)
from cloudconv.jobs.compare.sharing import score
from cloudconv.jobs.interp.adapt import OnAdapting
from cloudconv.media.read.probe import MediaInfo
from cloudconv.media.read.source import Source
from cloudconv.report import Curves, Method


@dataclass(frozen=True, slots=True)
class Window:
    """Two kept frames and the true ones between them."""

    items: tuple[ContentFrame, ...]
    cut: bool


def windows(seen: Iterable[ContentFrame], drop: int) -> Iterator[Window]:
    """The clip in windows of ``drop + 1`` frames; each begins with the frame that ends the last."""
    items: list[ContentFrame] = []
    cut = False
    for item in seen:
        cut = cut or (item.cut and bool(items))
        items.append(item)
        if len(items) == drop + 1:
            yield Window(tuple(items), cut)
            items, cut = items[-1:], False


def evenly(total: int, wanted: int | None) -> Callable[[int], bool]:
    """Which of ``total`` numbers to take when at most ``wanted`` may be: spread evenly."""
    if wanted is None or wanted >= total:
        return lambda number: True
    return {(2 * k + 1) * total // (2 * wanted) for k in range(wanted)}.__contains__


def measure(
    settings: CompareSettings,
    info: MediaInfo,
    watch: Watch | None,
    on_adapting: OnAdapting | None,
) -> CompareResult:
    """Score every interpolator; see :func:`cloudconv.jobs.compare.run.run`."""
    began = time.monotonic()
    with ExitStack() as stack:
        comparison = _Comparison(settings, info, stack)
        comparison.adapt(stack, on_adapting)
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
        self._content = Content(settings, info)
        frames = self._content.frames_expected
        self._total = (int(frames * self._content.share) - 1) // drop
        if self._total < 1:
            raise InputError(
                f"{info.path} has {frames} frames{' in that part' * (settings.part is not None)}; "
                f"keeping one of every {drop} takes at least {drop + 1}."
            )
        self._scores = {name: Scores(settings.metrics) for name in settings.methods}
        self._seconds = {name: (0.0, 0) for name in settings.methods}
        self._indices = array("q")
        self._times: list[Fraction] = []
        self._cuts: list[Fraction] = []
        self._skipped = 0
        self._held: Callable[[tuple[Fraction, ...]], bool] = lambda _: True
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

    def adapt(self, stack: ExitStack, on_adapting: OnAdapting | None) -> None:
        """Adapt the first model to the clip, if that is asked for."""
        self._settings, plan = stack.enter_context(
            adapting(self._settings, self._info, on_adapting, self._warn)
        )
        if plan is not None:
            self._held = plan.is_held
            share = sum(b - a for a, b in plan.held)
            self._total = max(1, int(self._total * share))

    def measure(self, stack: ExitStack, watch: Watch | None) -> None:
        """Read the clip once, window by window."""
        source = stack.enter_context(self._content.source())
        frames = self._content.frames_expected

        samples = self._samples(source)
        scored = score(self._settings, self._info, samples, self._warn)
        with closing(scored):
            for sample, scores in scored:
                self._take(sample, scores)
                if watch is not None:
                    watch(min(sample.read, frames), frames)
        self._warnings |= dict.fromkeys(source.warnings)
        if not self._indices:
            raise InputError(f"No frame of {self._info.path} could be scored: cuts are everywhere.")

    def _samples(self, source: Source) -> Iterator[Sample]:
        drop = self._settings.kept
        chosen, within = self._sample()
        seen = self._note(self._content.frames(source))
        number = 0
        for window in windows(seen, drop):
            items = window.items
            times = tuple(item.frame.time for item in items)
            held = self._held(times)
            left_out = window.cut or not held or not chosen(number)
            number += held
            yield Sample(
                numbers=tuple(item.number for item in items),
                times=times,
                scored=() if left_out else tuple(k for k in range(1, drop) if within(k - 1)),
                read=items[-1].number + 1,
                skipped=drop - 1 if window.cut else 0,
                frames=tuple(item.frame.at(item.shows, item.frame.duration) for item in items),
                shows=tuple(item.shows for item in items),
            )

    def _sample(self) -> tuple[Callable[[int], bool], Callable[[int], bool]]:
        """Which windows to score, and which of the frames between two kept ones."""
        wanted, inside = self._settings.frames, self._settings.kept - 1
        if wanted is None or wanted >= self._total * inside:
            return evenly(1, None), evenly(1, None)
        each = min(wanted, inside)
        count = wanted // each
        return evenly(self._total, count), evenly(inside, each)

    def _note(self, seen: Iterable[ContentFrame]) -> Iterator[ContentFrame]:
        for item in seen:
            if item.cut:
                self._cuts.append(item.frame.time - self._info.timing.start)
            yield item

    def _take(self, sample: Sample, found: SampleScores) -> None:
        self._skipped += sample.skipped
        first = len(self._indices)
        for k in sample.scored:
            self._indices.append(sample.numbers[k])
            self._times.append(sample.times[k] - self._info.timing.start)
        for name, (notes,) in found.notes.items():
            self._scores[name].take(notes)
        for name, ((seconds, made),) in found.seconds.items():
            known = self._seconds[name]
            self._seconds[name] = known[0] + seconds, known[1] + made
        if self.reporter is None:
            return
        for shown in found.pictures:
            self.reporter.show(shown.duration, shown.truth, shown.made)
            if shown.number is not None:
                k = first + shown.number
                self.reporter.add(
                    Row(self._indices[k], self._times[k], shown.truth, shown.made, self._psnr(k))
                )

    def _psnr(self, number: int) -> dict[str, dict[str, float]]:
        return {
            name: {"psnr": scores.curves["psnr"][number]} for name, scores in self._scores.items()
        }

    def _seconds_per_frame(self, name: str) -> float | None:
        seconds, made = self._seconds[name]
        return seconds / made if made > 0 else None

    def result(self, seconds: float) -> CompareResult:
        settings = self._settings
        own, other = self._scores[settings.model], self._scores[settings.baseline]
        first = next((name for name in settings.methods if name != MINTERPOLATE), "blend")
        device, precision = ran_on(settings, first, "interpolate")
        for name, scores in self._scores.items():
            if scores.missing:
                self._warn(f"{name} made none of {scores.missing} frames: they score null.")
        return CompareResult(
            input=str(settings.input),
            drop=settings.kept,
            horizon=None,
            device=device,
            precision=precision,
            scored_frames=len(self._indices),
            skipped_frames=self._skipped + self._content.left_out,
            cuts=[float(cut) for cut in self._cuts],
            adapted=settings.adapted,
            methods={
                name: {**scores.means(), "seconds_per_frame": self._seconds_per_frame(name)}
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
            loses=[self._indices[k] for k in losses(own, self._scores[settings.naive])],
            verdict=verdict(settings.model, settings.baseline, own, other, self._times),
            wall_seconds=seconds,
            warnings=list(self._warnings),
        )

    def _left_out(self) -> str:
        repeats = self._content.left_out
        return f"{self._skipped} frames beside cuts" + (
            f", {repeats} that repeat the one before ({self._content.cadence})" if repeats else ""
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
                Method(name, scores.means(), self._seconds_per_frame(name), scores.missing)
                for name, scores in self._scores.items()
            ),
            "curves": Curves(
                frames=tuple(self._indices),
                times=tuple(self._times),
                psnr={name: scores.curve("psnr") for name, scores in self._scores.items()},
                ssim={name: scores.curve("ssim") for name, scores in self._scores.items()},
                cuts=tuple(self._cuts),
                texture={
                    name: curve
                    for name, scores in self._scores.items()
                    if (curve := scores.curve("texture"))
                },
            ),
            "facts": (
                ("clip", f"{info.width}x{info.height}, {info.timing.frames} frames at {rate} fps"),
                ("kept", f"one frame of every {settings.kept}; all methods saw the same"),
                ("scored", f"{result.scored_frames} frames as 8-bit RGB, found by their time"),
                ("left out", self._left_out()),
                ("device", f"{result.device}, {result.precision}"),
                *(("note", warning) for warning in result.warnings),
            ),
        }
