"""Compare the frames that several methods make with the filmed frames.

With ``drop`` each method reads the same source frames and makes the frames between them. With
``horizon`` each method forecasts from the same source frames. Each made frame is compared with the
filmed frame of the same time.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv.errors import InputError
from cloudconv.events import Event, Finished, Job, Progress, Warned, each_once
from cloudconv.jobs.adapt import WEIGHTS, AdaptPlan, adapt
from cloudconv.jobs.compare.methods import Scorer, renderer_of
from cloudconv.jobs.compare.plan import ADAPTED, RESULT, VIDEO, ComparePlan, decide
from cloudconv.jobs.compare.report import report_writer
from cloudconv.jobs.compare.results import CompareEstimate, CompareResult
from cloudconv.jobs.compare.samples import ComparedClip, Sample, Sampler, SampleScores
from cloudconv.jobs.compare.scores import CURVES, TIME, Scores, losses, verdict
from cloudconv.jobs.outcome import seconds_for
from cloudconv.media.input.fingerprint import check_unchanged
from cloudconv.media.write.target import raise_first
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.pipeline import prefetch
from cloudconv.render.device import choose_precision, set_threads
from cloudconv.report.columns import frames_ahead
from cloudconv.report.data import ReportData, Row
from cloudconv.settings import CompareSettings

_TRIED = 2  # samples that an estimate scores

__all__ = ["CompareEstimate", "CompareResult", "CompareSettings", "decide", "estimate", "run"]


@each_once
def run(reported: list[Warned], settings: CompareSettings) -> Job:
    """Score every method on ``settings.input``.

    Yields:
        Warnings, progress in source frames, and at the end a :class:`CompareResult`.

    Raises:
        CloudconvError: the job failed. No report is written, and an earlier report is unchanged.
    """
    set_threads(settings.threads)
    plan = decide(settings)
    raise_first(plan.refusals)
    began = time.monotonic()
    yield from plan.warnings
    with ExitStack() as stack:
        clip = ComparedClip(plan)
        sampler = Sampler(plan, clip)
        reporter = None
        if settings.report is not None:
            reporter = stack.enter_context(report_writer(Path(settings.report), plan))
            yield from plan.info.tags.flat_in("report")
        if settings.adapt is not None:
            folder = stack.enter_context(TemporaryDirectory(prefix="cloudconv-"))
            adapting = _adapt_plan(plan)
            plan = yield from _adapted(plan, adapting, Path(folder))
            sampler.only_held_back(adapting)
        table = _Table(plan, clip)
        source = stack.enter_context(clip.source())
        samples = sampler.samples(clip.frames(source))
        models = {name: registry.located(plan.model_of(name)) for name in plan.methods}
        scorer = Scorer(models, plan)
        for sample in stack.enter_context(prefetch(samples, 2)):
            scores = scorer.score(sample)
            yield from scorer.new_warnings()
            rows = table.add(sample, scores)
            if reporter is not None:
                for images in scores.images:
                    reporter.add(images, None if images.number is None else rows[images.number])
            total = clip.frames_expected
            yield Progress("scoring", min(sample.read, total), total)
        yield from (*source.warnings, *table.warnings)
        check_unchanged(plan.info)
        result = table.result(reported, began)
        if reporter is not None:
            result = replace(result, report_video=reporter.close_video())
            reporter.finish(table.report(result), result.as_json())
    yield Finished(result)


def _nothing_scored(path: Path, *, ahead: bool) -> InputError:
    code, made = ("forecast", "forecast on") if ahead else ("frame", "frame of")
    return InputError(
        f"no-{code}-scored: No {made} {path} could be scored, because of its cuts: choose another "
        "part, or give --scene-cut=off."
    )


def estimate(plan: ComparePlan) -> CompareEstimate:
    """Score two samples in this process, and return the expected outcome of a comparison.

    No file is written. The expected time includes the time for adapting.

    Raises:
        CloudconvError: the input cannot be read, a method cannot be used, or nothing can be scored.
    """
    settings = plan.settings
    set_threads(settings.threads)
    clip = ComparedClip(plan)
    sampler = Sampler(plan, clip)
    count, frames = sampler.expected
    with clip.source() as source:
        samples = (each for each in sampler.samples(clip.frames(source)) if each.scored)
        if (first := next(samples, None)) is None:
            raise _nothing_scored(plan.info.path, ahead=plan.forecasts)
        scorer = Scorer(
            {name: plan.model_of(name) for name in plan.methods if name != ADAPTED}, plan
        )
        seconds = seconds_for(map(scorer.score, chain([first], samples)), _TRIED, count)
    return CompareEstimate(
        **plan.facts,
        methods=list(plan.methods),
        source_frames=clip.frames_expected,
        scored_frames=frames,
        seconds=seconds + 60 * (settings.adapt or 0),
        warnings=list(dict.fromkeys([*plan.warnings, *scorer.new_warnings()])),
        refusals=list(plan.refusals),
    )


def _adapt_plan(plan: ComparePlan) -> AdaptPlan:
    """Return the plan for adapting the first model to the clip."""
    settings, spec = plan.settings, registry.spec(plan.judged, "interpolate")
    dtype = choose_precision(settings.precision, plan.device, spec)
    renderer = partial(renderer_of, plan=plan)
    return AdaptPlan(settings, plan.info, plan.judged, plan.device, dtype, renderer)


def _adapted(
    plan: ComparePlan, adapting: AdaptPlan, folder: Path
) -> Generator[Event, None, ComparePlan]:
    """Adapt the first model, and return the comparison's plan with the adapted weights."""
    _, result = yield from adapt(adapting, folder)
    yield Warned(
        "held-back-only: Only held-back frames are scored: the model was adapted to the others."
    )
    file = folder / WEIGHTS
    return replace(plan, adapted=result, weights=str(file) if file.exists() else plan.judged)


class _Table:
    """The scored frames in the order of the clip, and the scores of all methods."""

    def __init__(self, plan: ComparePlan, clip: ComparedClip) -> None:
        """Start an empty table."""
        self._plan, self._clip = plan, clip
        self._ahead = plan.forecasts
        self._rows: list[Row] = []
        steps = range(plan.settings.horizon or 1)
        wanted = (*plan.metrics, TIME)
        self._scores = {name: [Scores(wanted) for _ in steps] for name in plan.methods}
        self._filmed = Scores(["texture"] if "texture" in plan.metrics else [])
        self._curves = [name for name in CURVES if name in (*CURVES[:2], *plan.metrics)]
        self._skipped = 0

    def add(self, sample: Sample, result: SampleScores) -> list[Row]:
        """Add the scores of the next sample; return the rows of its scored frames."""
        self._skipped += sample.skipped
        for filmed in result.filmed:
            self._filmed.add_frame(filmed)
        frames = {}
        for name, steps in result.methods.items():
            frames[name] = [frame for step in steps for frame in step.frames]
            for scores, step in zip(self._scores[name], steps, strict=False):
                scores.add(step)
        rows = [
            Row(
                sample.items[k].number,
                sample.items[k].time - self._clip.info.timing.start,
                number + 1 if self._ahead else None,
                {
                    name: {key: (frames[name][number] or {}).get(key) for key in self._curves}
                    for name in self._scores
                },
            )
            for number, k in enumerate(sample.scored)
        ]
        self._rows += rows
        return rows

    @property
    def warnings(self) -> Iterator[Warned]:
        """Yield a warning for horizons without a frame, and for each method that lacks frames."""
        horizon = self._plan.settings.horizon
        if horizon is not None and 0 < self._reached < horizon:
            yield Warned(
                f"horizon-not-reached: No scene of the clip is long enough for {horizon} frames "
                f"ahead: the scores end at {self._reached}."
            )
        for name, scores in self._scores.items():
            if missing := sum(each.missing for each in scores):
                yield Warned(
                    f"frames-not-made: {name} could not make {counted(missing, 'frame')}: their "
                    "scores are null."
                )

    @property
    def _reached(self) -> int:
        """Return the farthest horizon with a scored frame."""
        return max((row.horizon or 0 for row in self._rows), default=0)

    def result(self, warnings: list[Warned], began: float) -> CompareResult:
        """Return the result.

        Args:
            warnings: the warnings of the job.
            began: the time in seconds, of ``time.monotonic``, at which the job started.

        Raises:
            InputError: no frame was scored.
        """
        plan, clip = self._plan, self._clip
        lost = sorted({row.index for row in losses(plan.judged, plan.naive, self._rows)})
        if not self._rows:
            raise _nothing_scored(clip.info.path, ahead=self._ahead)
        methods: dict[str, dict[str, Any]] = {}
        for name, scores in self._scores.items():
            means = [each.means() for each in scores[: self._reached or 1]]
            by_step = {str(step): each for step, each in enumerate(means, 1)}
            methods[name] = by_step if self._ahead else means[0]
        return CompareResult(
            **plan.facts | {f"loses_to_{plan.naive}": lost},
            scored_frames=len(self._rows),
            skipped_frames=self._skipped + clip.left_out,
            cuts=[float(cut - clip.info.timing.start) for cut in clip.cuts],
            adapted=plan.adapted,
            methods=methods,
            filmed={} if self._ahead else self._filmed.means(),
            per_frame=[row.as_json() for row in self._rows],
            baseline=plan.baseline,
            verdict=verdict(plan.judged, plan.baseline, self._rows),
            wall_seconds=time.monotonic() - began,
            warnings=warnings,
        )

    def report(self, result: CompareResult) -> ReportData:
        """Return the contents of the report except its pictures."""
        info, plan = self._clip.info, self._plan
        rate = "variable" if info.timing.rate is None else f"{float(info.timing.rate):g}"
        horizon = plan.settings.horizon
        task = f"one frame of every {plan.drop} kept" if horizon is None else frames_ahead(horizon)
        return ReportData(
            source=info.path.name,
            verdict=result.verdict,
            summary=f"{task}, {result.summary}",
            model=plan.judged,
            baseline=plan.baseline,
            metrics=plan.metrics,
            methods=result.methods,
            rows=tuple(self._rows),
            cuts=tuple(cut - info.timing.start for cut in self._clip.cuts),
            facts=(
                ("clip", f"{info.width}x{info.height}, {info.timing.frames} frames at {rate} fps"),
                *(("note", str(warned)) for warned in result.warnings),
            ),
            files=(VIDEO, RESULT),
        )
