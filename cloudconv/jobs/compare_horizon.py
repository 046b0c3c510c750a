"""Predictors forecast from many places of a clip and are scored on what really came."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.engine.device import choose_device, choose_precision, precision_name
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import InputError
from cloudconv.jobs.compare_drop import evenly
from cloudconv.jobs.compare_report import Reporter, Row
from cloudconv.jobs.compare_settings import CompareResult, CompareSettings, Watch
from cloudconv.jobs.schedule import Seen, look
from cloudconv.jobs.scoring import Scores, ahead, as_rgb, forecast_verdict, losses, overall
from cloudconv.media.frame import Frame
from cloudconv.media.probe import MediaInfo
from cloudconv.media.source import Source
from cloudconv.models import registry
from cloudconv.models.base import Predictor
from cloudconv.report import Method

EVERY = 6
"""A forecast begins at every so many frames, if nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Start:
    """A place to forecast from: ``context``, oldest first, and what came after it.

    ``index`` is the number of the first frame of ``truth`` in the clip. ``cut`` counts the frames
    within the horizon that a cut has taken away.
    """

    index: int
    context: tuple[Frame, ...]
    truth: tuple[Frame, ...]
    cut: int


def starts(seen: Iterable[Seen], context: int, horizon: int, every: int) -> Iterator[Start]:
    """Every ``every``-th place with ``context`` frames behind it and at least one before it.

    At most ``context + horizon`` frames are kept.
    """
    ring: deque[Seen] = deque(maxlen=context + horizon)
    read = 0
    for item in seen:
        ring.append(item)
        read += 1
        first = read - horizon - context
        if first >= 0 and first % every == 0:
            yield _start(list(ring), first, context)
    whole = max(read - horizon - context + 1, 0)
    begins = read - len(ring)
    for first in range(whole, read - context):
        if first % every == 0:
            yield _start(list(ring)[first - begins :], first, context)


def _start(items: list[Seen], first: int, context: int) -> Start:
    before, after = items[:context], items[context:]
    scenes = [k for k, item in enumerate(after) if item.cut]
    until = scenes[0] if scenes else len(after)
    if any(item.cut for item in before[1:]):
        until = 0
    frames = tuple(item.frame for item in before), tuple(item.frame for item in after[:until])
    return Start(first + context, *frames, len(after) - until)


class _Predictor:
    """A registered predictor and the time that each of its horizons took."""

    def __init__(self, name: str, settings: CompareSettings, horizon: int) -> None:
        self._device = choose_device(settings.device)
        spec = registry.spec(name, "predict")
        self.dtype = choose_precision(settings.precision, self._device, spec)
        self._model: Predictor = registry.load_predictor(name, self._device, self.dtype)
        self.seconds = [0.0] * horizon
        self.made = [0] * horizon

    def forecast(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """``steps`` frames, (3, H, W) RGB rounded to 8 bits, from (1, T, 3, H, W)."""
        made = self._model.forecast(context.to(self._device), steps)
        for step in range(steps):
            began = time.perf_counter()
            rgb = metrics.eight_bit(next(made)[0].cpu())
            self.seconds[step] += time.perf_counter() - began
            self.made[step] += 1
            yield rgb

    def seconds_at(self, step: int) -> float | None:
        return self.seconds[step] / self.made[step] if self.made[step] else None

    @property
    def seconds_per_frame(self) -> float | None:
        return sum(self.seconds) / sum(self.made) if sum(self.made) else None


def measure(settings: CompareSettings, info: MediaInfo, watch: Watch | None) -> CompareResult:
    """Score every predictor; see :func:`cloudconv.jobs.compare.run`."""
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
        frames = info.timing.frames
        if frames <= self._context:
            raise InputError(
                f"{info.path} has {frames} frames; a forecast from {self._context} of them takes "
                f"at least {self._context + 1}."
            )
        self._total = (frames - 1 - self._context) // self._every + 1
        self._predictors = {name: _Predictor(name, settings, self._horizon) for name in names}
        self._scores = {
            name: [Scores(settings.metrics) for _ in range(self._horizon)] for name in names
        }
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
        if count is not None and count < self._total:
            self._warnings.setdefault(
                f"{count} of {self._total} places to forecast from were chosen, "
                "spread evenly over the clip."
            )
        source = stack.enter_context(Source(self._info, threads=self._settings.threads))
        seen = self._note(look(source.frames(), self._settings.scene_cut))
        places = starts(seen, self._context, self._horizon, self._every)
        stream = stack.enter_context(prefetch(places, 2))
        for number, start in enumerate(stream):
            if chosen(number):
                self._skipped += start.cut
                if start.truth:
                    self._score(start)
            if watch is not None:
                read = start.index + self._horizon
                watch(min(read, self._info.timing.frames), self._info.timing.frames)
        self._warnings |= dict.fromkeys(source.warnings)
        if not self._order:
            raise InputError(
                f"No forecast on {self._info.path} could be scored: cuts are everywhere."
            )

    def _note(self, seen: Iterable[Seen]) -> Iterator[Seen]:
        for item in seen:
            if item.cut:
                self._cuts.append(item.frame.time - self._info.timing.start)
            yield item

    def _score(self, start: Start) -> None:
        self._started += 1
        # A predictor sees what is scored: 8-bit RGB.
        context = torch.stack([as_rgb(frame) for frame in start.context])[None]
        steps = len(start.truth)
        forecasts = {
            name: predictor.forecast(context, steps) for name, predictor in self._predictors.items()
        }
        shown = {name: context[0, -1] for name in forecasts}
        before = context[0, -1]
        for step, true in enumerate(start.truth):
            rgb = as_rgb(true)
            made = {name: next(frames) for name, frames in forecasts.items()}
            found = {}
            for name, picture in made.items():
                scores = self._scores[name][step]
                found[name] = scores.add(picture, rgb)
                scores.change((shown[name], before), (picture, rgb))
            self._note_frame(step, start.index + step, true, rgb, made, found)
            shown, before = made, rgb

    def _note_frame(
        self,
        step: int,
        index: int,
        true: Frame,
        rgb: Tensor,
        made: Mapping[str, Tensor],
        found: Mapping[str, Mapping[str, float]],
    ) -> None:
        since = true.time - self._info.timing.start
        self._order.append((step, len(self._indices[step])))
        self._indices[step].append(index)
        self._times[step].append(since)
        if self.reporter is not None:
            self.reporter.show(true.duration, rgb, made)
            self.reporter.add(Row(index, since, rgb, made, found, step + 1))

    def result(self, seconds: float) -> CompareResult:
        settings = self._settings
        own, other = self._scores[settings.model], self._scores[settings.baseline]
        lost = {
            self._indices[step][k]
            for step in range(self._horizon)
            for k in losses(own[step], other[step])
        }
        return CompareResult(
            input=str(settings.input),
            drop=None,
            horizon=self._horizon,
            device=str(choose_device(settings.device)),
            precision=precision_name(self._predictors[settings.model].dtype),
            scored_frames=len(self._order),
            skipped_frames=self._skipped,
            cuts=[float(cut) for cut in self._cuts],
            methods={
                name: {
                    str(step + 1): {
                        **scores.means(),
                        "seconds_per_frame": self._predictors[name].seconds_at(step),
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
                    self._predictors[name].seconds_per_frame,
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
                ("left out", f"{self._skipped} frames after a cut"),
                ("device", f"{result.device}, {result.precision}"),
                *(("note", warning) for warning in result.warnings),
            ),
        }
