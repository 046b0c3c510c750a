"""Compare the frames that several methods make with the filmed frames of the same times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.errors import InputError
from cloudconv.events import Finished, Job, Progress, Warned, each_once
from cloudconv.jobs.compare.plan import (
    RESULT,
    VIDEO,
    ComparedClip,
    ComparePlan,
    CompareResult,
    decide,
)
from cloudconv.jobs.compare.report import report_writer
from cloudconv.jobs.compare.score import Scorer, losses, verdict
from cloudconv.media.identity import check_unchanged
from cloudconv.messages import counted
from cloudconv.pipeline import prefetch
from cloudconv.render.device import set_threads
from cloudconv.report.data import ReportData, Row, frames_ahead
from cloudconv.settings import CompareSettings

__all__ = ["CompareResult", "CompareSettings", "decide", "run"]


@each_once
def run(reported: list[Warned], settings: CompareSettings) -> Job:
    """Score every method on ``settings.input``; the last event has a :class:`CompareResult`."""
    set_threads(settings.threads)
    plan = decide(settings)
    began = time.monotonic()
    yield from plan.warnings
    with ExitStack() as stack:
        clip = ComparedClip(plan)
        writer = None
        if settings.report is not None:
            writer = stack.enter_context(report_writer(Path(settings.report), plan))
            yield from plan.info.tags.flat_in("report")
        source = stack.enter_context(clip.source())
        scorer = Scorer(plan)
        rows: list[Row] = []
        skipped = 0
        for sample in stack.enter_context(prefetch(clip.samples(source), 2)):
            skipped += sample.skipped
            for scored in scorer.score(sample):
                rows += [] if scored.row is None else [scored.row]
                if writer is not None:
                    writer.add(scored)
            yield from scorer.new_warnings()
            total = clip.frames_expected
            yield Progress("scoring", min(sample.read, total), total)
        yield from (*source.warnings, *_warnings(plan, scorer, rows))
        check_unchanged(plan.info)
        if not rows:
            code, made = ("forecast", "forecast on") if plan.forecasts else ("frame", "frame of")
            raise InputError(
                f"no-{code}-scored: No {made} {plan.info.path} could be scored, because of its "
                "cuts: choose another part, or give --scene-cut=off."
            )
        start = plan.info.timing.start
        lost = sorted({row.index for row in losses(plan.judged, plan.naive, rows)})
        result = CompareResult(
            **plan.facts | {f"loses_to_{plan.naive}": lost, "methods": _means(plan, scorer, rows)},
            scored_frames=len(rows),
            skipped_frames=skipped + clip.left_out,
            cuts=[float(cut - start) for cut in clip.cuts],
            filmed={} if plan.forecasts else scorer.filmed.means(),
            per_frame=[row.as_json() for row in rows],
            verdict=verdict(plan.judged, plan.baseline, rows),
            wall_seconds=time.monotonic() - began,
            warnings=reported,
        )
        if writer is not None:
            cuts = tuple(cut - start for cut in clip.cuts)
            writer.finish(_report(plan, result, rows, cuts), result.as_json())
    yield Finished(result)


def _warnings(plan: ComparePlan, scorer: Scorer, rows: Sequence[Row]) -> Iterator[Warned]:
    horizon, reached = plan.settings.horizon, _reached(rows)
    if horizon is not None and 0 < reached < horizon:
        yield Warned(
            f"horizon-not-reached: No scene of the clip is long enough for {horizon} frames "
            f"ahead: the scores end at {reached}."
        )
    for name, scores in scorer.scores.items():
        if missing := sum(each.missing for each in scores):
            yield Warned(
                f"frames-not-made: {name} could not make {counted(missing, 'frame')}: their "
                "scores are null."
            )


def _reached(rows: Sequence[Row]) -> int:
    """Return the farthest horizon with a scored frame; 0 without forecasts."""
    return max((row.horizon or 0 for row in rows), default=0)


def _means(plan: ComparePlan, scorer: Scorer, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    means = {
        name: [each.means() for each in scores[: _reached(rows) or 1]]
        for name, scores in scorer.scores.items()
    }
    if not plan.forecasts:
        return {name: only for name, (only,) in means.items()}
    return {
        name: {str(step): each for step, each in enumerate(steps, 1)}
        for name, steps in means.items()
    }


def _report(
    plan: ComparePlan, result: CompareResult, rows: Sequence[Row], cuts: tuple[Fraction, ...]
) -> ReportData:
    info, horizon = plan.info, plan.settings.horizon
    size = f"{info.width}x{info.height}"
    task = f"one frame of every {plan.drop} kept" if horizon is None else frames_ahead(horizon)
    return ReportData(
        source=info.path.name,
        verdict=result.verdict,
        summary=f"{task}, {result.summary}",
        model=plan.judged,
        baseline=plan.baseline,
        metrics=plan.metrics,
        methods=result.methods,
        rows=tuple(rows),
        cuts=cuts,
        facts=(
            ("clip", f"{size}, {info.timing.frames} frames at {info.timing.in_words}"),
            *(("note", str(warned)) for warned in result.warnings),
        ),
        files=(VIDEO, RESULT),
    )
