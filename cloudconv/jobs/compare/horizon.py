"""Predictors forecast from many places of a clip and are scored on what really came."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.errors import InputError
from cloudconv.jobs.compare.content import Content, ContentFrame
from cloudconv.jobs.compare.drop import evenly
from cloudconv.jobs.compare.report import Reporter, Row
from cloudconv.jobs.compare.samples import Sample, SampleScores
from cloudconv.jobs.compare.scores import Scores, ahead, forecast_verdict, losses, overall
from cloudconv.jobs.compare.settings import CompareResult, CompareSettings, Watch, ran_on
from cloudconv.jobs.compare.sharing import score
from cloudconv.media.read.probe import MediaInfo
from cloudconv.media.read.source import Source
from cloudconv.models import registry
from cloudconv.report import Method

EVERY = 6
"""A forecast begins at every so many frames, if nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Start:
    """A place to forecast from: ``context``, oldest first, and what came after it.

    ``cut`` counts the frames within the horizon that a cut has taken away.
    """

    context: tuple[ContentFrame, ...]
    truth: tuple[ContentFrame, ...]
    cut: int


def starts(seen: Iterable[ContentFrame], context: int, horizon: int, every: int) -> Iterator[Start]:
    """Every ``every``-th place with ``context`` frames behind it and at least one before it.

    At most ``context + horizon`` frames are kept.
    """
    ring: deque[ContentFrame] = deque(maxlen=context + horizon)
    read = 0
    for item in seen:
        ring.append(item)
        read += 1
        first = read - horizon - context
        if first >= 0 and first % every == 0:
            yield _start(list(ring), context)
    whole = max(read - horizon - context + 1, 0)
    begins = read - len(ring)
    for first in range(whole, read - context):
        if first % every == 0:
            yield _start(list(ring)[first - begins :], context)


def _start(items: list[ContentFrame], context: int) -> Start:
    before, after = tuple(items[:context]), tuple(items[context:])
    scenes = [k for k, item in enumerate(after) if item.cut]
    until = scenes[0] if scenes else len(after)
    if any(item.cut for item in before[1:]):
        until = 0
    return Start(before, after[:until], len(after) - until)


def measure(settings: CompareSettings, info: MediaInfo, watch: Watch | None) -> CompareResult:
    """Score every predictor; see :func:`cloudconv.jobs.compare.run.run`."""
    began = time.monotonic()
    with ExitStack() as stack:
        forecasts = _Forecasts(settings, info, stack)
        forecasts.measure(stack, watch)
        result = forecasts.result(time.monotonic() - began)
        if forecasts.reporter is not None:
            forecasts.reporter.finish(forecasts.report(result), result.as_json())
    return result


class _Forecasts:
    def __init__(self, settings: CompareSettings, info: MediaInfo, stack: ExitStack) -> None:
        assert settings.horizon is not None
        self._settings, self._info, self._horizon = settings, info, settings.horizon
        self._every = settings.every or EVERY
        names = settings.methods
        self._context = max(registry.spec(name, "predict").context for name in names)
        self._warnings: dict[str, None] = dict.fromkeys(info.warnings)
        self._content = Content(settings, info)
        frames = int(self._content.frames_expected * self._content.share)
        if frames <= self._context:
            raise InputError(
                f"{info.path} has {frames} frames; a forecast from {self._context} of them takes "
                f"at least {self._context + 1}."
            )
        self._total = (frames - 1 - self._context) // self._every + 1
        self._scores = {
            name: [Scores(settings.metrics) for _ in range(self._horizon)] for name in names
        }
        self._seconds = {name: [(0.0, 0)] * self._horizon for name in names}
        self._indices: list[list[int]] = [[] for _ in range(self._horizon)]
        self._times: list[list[Fraction]] = [[] for _ in range(self._horizon)]
        # (horizon, number of the frame among those of that horizon), in the order of scoring.
        self._order: list[tuple[int, int]] = []
        self._cuts: list[Fraction] = []
        self._skipped = 0
        self._started = 0
        self.reporter: Reporter | None = None
        if settings.report is not None:
            folder = Path(settings.report)
            self.reporter = stack.enter_context(
                Reporter(
                    folder, info, settings.model, settings.baseline, overwrite=settings.overwrite
                )
            )

    def measure(self, stack: ExitStack, watch: Watch | None) -> None:
        """Read the clip once, start by start."""
        wanted = self._settings.frames
        count = None if wanted is None else max(1, wanted // self._horizon)
        chosen = evenly(self._total, count)
        source = stack.enter_context(self._content.source())
        frames = self._content.frames_expected

        samples = self._samples(source, chosen)
        scored = score(self._settings, self._info, samples, self._warn)
        with closing(scored):
            for sample, scores in scored:
                self._take(sample, scores)
                if watch is not None:
                    watch(min(sample.read, frames), frames)
        self._warnings |= dict.fromkeys(source.warnings)
        if not self._order:
            raise InputError(
                f"No forecast on {self._info.path} could be scored: cuts are everywhere."
            )

    def _samples(self, source: Source, chosen: Callable[[int], bool]) -> Iterator[Sample]:
        seen = self._note(self._content.frames(source))
        begins = starts(seen, self._context, self._horizon, self._every)
        for number, start in enumerate(begins):
            items = (*start.context, *start.truth)
            wanted = range(self._context, len(items)) if chosen(number) else ()
            yield Sample(
                numbers=tuple(item.number for item in items),
                times=tuple(item.frame.time for item in items),
                scored=tuple(wanted),
                read=items[-1].number + start.cut + 1,
                skipped=start.cut if chosen(number) else 0,
                frames=tuple(item.frame for item in items),
            )

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message)

    def _note(self, seen: Iterable[ContentFrame]) -> Iterator[ContentFrame]:
        for item in seen:
            if item.cut:
                self._cuts.append(item.frame.time - self._info.timing.start)
            yield item

    def _take(self, sample: Sample, found: SampleScores) -> None:
        self._skipped += sample.skipped
        self._started += bool(sample.scored)
        for step, k in enumerate(sample.scored):
            self._order.append((step, len(self._indices[step])))
            self._indices[step].append(sample.numbers[k])
            self._times[step].append(sample.times[k] - self._info.timing.start)
        for name, by_step in found.notes.items():
            for scores, notes in zip(self._scores[name], by_step, strict=False):
                scores.take(notes)
        for name, spent in found.seconds.items():
            for step, (seconds, made) in enumerate(spent):
                known = self._seconds[name][step]
                self._seconds[name][step] = known[0] + seconds, known[1] + made
        if self.reporter is None:
            return
        for step, shown in enumerate(found.pictures):
            self.reporter.show(shown.duration, shown.truth, shown.made)
            index, since = self._indices[step][-1], self._times[step][-1]
            psnr = {
                name: {"psnr": scores[step].curves["psnr"][-1]}
                for name, scores in self._scores.items()
            }
            self.reporter.add(Row(index, since, shown.truth, shown.made, psnr, step + 1))

    def _seconds_per_frame(self, name: str, steps: slice) -> float | None:
        spent = self._seconds[name][steps]
        made = sum(frames for _, frames in spent)
        return sum(seconds for seconds, _ in spent) / made if made else None

    def result(self, seconds: float) -> CompareResult:
        settings = self._settings
        own, other = self._scores[settings.model], self._scores[settings.baseline]
        device, precision = ran_on(settings, settings.model, "predict")
        lost = {
            self._indices[step][k]
            for step in range(self._horizon)
            for k in losses(own[step], self._scores[settings.naive][step])
        }
        return CompareResult(
            input=str(settings.input),
            drop=None,
            horizon=self._horizon,
            device=device,
            precision=precision,
            scored_frames=len(self._order),
            skipped_frames=self._skipped + self._content.left_out,
            cuts=[float(cut) for cut in self._cuts],
            methods={
                name: {
                    str(step + 1): {
                        **scores.means(),
                        "seconds_per_frame": self._seconds_per_frame(name, slice(step, step + 1)),
                    }
                    for step, scores in enumerate(by_step)
                }
                for name, by_step in self._scores.items()
            },
            per_frame=[
                {
                    "index": self._indices[step][k],
                    "pts_seconds": float(self._times[step][k]),
                    "horizon": step + 1,
                    **{name: scores[step].at(k) for name, scores in self._scores.items()},
                }
                for step, k in self._order
            ],
            baseline=settings.baseline,
            loses=sorted(lost),
            verdict=forecast_verdict(settings.model, settings.baseline, own, other, self._times),
            wall_seconds=seconds,
            warnings=list(self._warnings),
        )

    def report(self, result: CompareResult) -> dict[str, Any]:
        """What the report says beside its pictures."""
        info, settings = self._info, self._settings
        rate = "variable" if info.timing.rate is None else f"{float(info.timing.rate):g}"
        plural = "s" if self._started > 1 else ""
        return {
            "source": info.path.name,
            "verdict": result.verdict,
            "summary": f"{self._started} forecast{plural}, up to {ahead(self._horizon)}, "
            f"{result.scored_frames} frames scored",
            "model": settings.model,
            "baseline": settings.baseline,
            "metrics": settings.metrics,
            "methods": tuple(
                Method(
                    name,
                    overall(scores),
                    self._seconds_per_frame(name, slice(None)),
                    horizons={
                        step + 1: part.means() for step, part in enumerate(scores) if part.made
                    },
                )
                for name, scores in self._scores.items()
            ),
            "facts": (
                ("clip", f"{info.width}x{info.height}, {info.timing.frames} frames at {rate} fps"),
                (
                    "forecasts",
                    f"from {self._context} frame{'s' if self._context > 1 else ''} of context, "
                    f"beginning at every {self._every}th frame; all methods from the same places",
                ),
                ("scored", f"{result.scored_frames} frames as 8-bit RGB, on what really came"),
                (
                    "left out",
                    f"{self._skipped} frames after a cut, {self._content.left_out} repeated ones",
                ),
                ("device", f"{result.device}, {result.precision}"),
                *(("note", warning) for warning in result.warnings),
            ),
        }
