"""Compare the frames that several methods make with the filmed frames of the same times.

A report has a page, a side-by-side video and the result.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudconv import interrupts, metrics
from cloudconv.errors import InputError
from cloudconv.events import Finished, Job, Progress, Warned, Warnings, reporting
from cloudconv.jobs.compare.plan import (
    RESULT,
    VIDEO,
    ComparedClip,
    ComparePlan,
    CompareResult,
    decide,
)
from cloudconv.jobs.compare.score import ScoredFrame, Scorer, losses, mean_scores, verdict
from cloudconv.jobs.drawn import as_shown, drawn_frame, drawn_video, even, label
from cloudconv.jobs.reports import PAGE, finish_report, opened_report
from cloudconv.media.reading.identity import check_unchanged
from cloudconv.media.writing.sink import Sink
from cloudconv.pipeline import prefetch
from cloudconv.render.device import set_threads
from cloudconv.report.data import Card, Row, ScorePage, frames_ahead
from cloudconv.report.page import frame_card, jpeg, render, shrunk
from cloudconv.settings import CompareSettings

__all__ = ["CompareResult", "CompareSettings", "decide", "run"]

SHOWN = 10  # the number of frames of the lowest PSNR on the page

_PANEL_WIDTH = 640
_VIDEO_WIDTH = 3840


@reporting
def run(warnings: Warnings, settings: CompareSettings) -> Job:
    """Score every method on ``settings.input``.

    The last event has a :class:`CompareResult`.
    """
    set_threads(settings.threads)
    plan = decide(settings)
    began = time.monotonic()
    warnings.add(*plan.warnings)
    with ExitStack() as stack:
        clip = ComparedClip(plan)
        writer = None
        folder = stack.enter_context(opened_report(settings))
        if folder is not None:
            writer = ReportWriter(folder, plan, stack.enter_context(ExitStack()))
            warnings.add(*plan.info.tags.flat_in("report"))
        source = stack.enter_context(clip.source(warnings))
        scorer = Scorer(plan, warnings)
        rows: list[Row] = []
        skipped = 0
        for excerpt in stack.enter_context(prefetch(clip.excerpts(source), 2, "decode")):
            skipped += excerpt.skipped
            for scored in scorer.score(excerpt):
                rows += [] if scored.row is None else [scored.row]
                if writer is not None:
                    writer.add(scored)
            total = clip.frames_expected
            yield Progress("scoring", min(excerpt.read, total), total)
            interrupts.check()
        horizon = plan.settings.horizon
        reached = _reached(rows)
        if horizon is not None and 0 < reached < horizon:
            not_reached = Warned(
                f"horizon-not-reached: No scene of the clip is long enough for {horizon} "
                f"frames ahead: the scores end at {reached}."
            )
            warnings.add(not_reached)
        check_unchanged(plan.info)
        if not rows:
            code, words = (
                ("forecast", "forecast on") if plan.forecasts else ("frame", "frame of")
            )
            raise InputError(
                f"no-{code}-scored: No {words} {plan.info.path} could be scored, because "
                "of its cuts: choose another part, or give --scene-cut=off."
            )
        start = plan.info.timing.start
        lost = sorted({row.index for row in losses(plan.judged, plan.naive, rows)})
        result = CompareResult(
            **plan.facts
            | {f"loses_to_{plan.naive}": lost, "methods": _means(plan, scorer, rows)},
            scored_frames=len(rows),
            skipped_frames=skipped + clip.left_out,
            cuts=[float(cut - start) for cut in clip.cuts],
            filmed={} if plan.forecasts else mean_scores(scorer.filmed),
            per_frame=[row.as_json() for row in rows],
            verdict=verdict(plan.judged, plan.baseline, rows),
            wall_seconds=time.monotonic() - began,
            warnings=warnings,
        )
        if writer is not None:
            cuts = tuple(cut - start for cut in clip.cuts)
            writer.finish(_report(plan, result, rows, cuts), result.as_json())
    yield Finished(result)


def _reached(rows: Sequence[Row]) -> int:
    """Return the farthest horizon with a scored frame; 0 without forecasts."""
    return max((row.horizon or 0 for row in rows), default=0)


def _means(
    plan: ComparePlan, scorer: Scorer, rows: Sequence[Row]
) -> dict[str, dict[str, Any]]:
    steps = range(1, (_reached(rows) or 1) + 1)
    result: dict[str, dict[str, Any]] = {}
    for name, scores in scorer.scores.items():
        means = {str(step): mean_scores(scores[step - 1]) for step in steps}
        result[name] = means if plan.forecasts else means["1"]
    return result


def _report(
    plan: ComparePlan,
    result: CompareResult,
    rows: Sequence[Row],
    cuts: tuple[Fraction, ...],
) -> ScorePage:
    info = plan.info
    horizon = plan.settings.horizon
    size = f"{info.width}x{info.height}"
    task = (
        f"one frame of every {plan.drop} kept" if horizon is None else frames_ahead(horizon)
    )
    return ScorePage(
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


@dataclass(slots=True)
class ReportWriter:
    """An unfinished report; ``_worst`` has at most ``SHOWN`` frames, the worst first."""

    _folder: Path
    _plan: ComparePlan
    _videos: ExitStack
    _worst: list[tuple[float, Card]] = field(default_factory=list)
    _video: Sink | None = None
    _clock: Fraction = Fraction(0)

    def add(self, scored: ScoredFrame) -> None:
        """Add a frame to the video, and to the page if the frame is one of the worst."""
        info = self._plan.info
        row = scored.row
        truth = as_shown(scored.truth, info)
        images = {name: scored.made[name] for name in self._plan.methods}
        # A frame that a method could not make is black.
        pictures = {
            name: truth * 0 if rgb is None else as_shown(rgb, info)
            for name, rgb in images.items()
        }
        self._show(scored.duration, truth, pictures)
        compared = (self._plan.judged, self._plan.baseline)
        if row is None or any(images[name] is None for name in compared):
            return
        psnr = row.scores[self._plan.judged]["psnr"]
        assert psnr is not None
        # Only pictures of the worst frames are encoded.
        if len(self._worst) == SHOWN and psnr >= self._worst[-1][0]:
            return
        error = metrics.error_map(pictures[compared[0]], truth)
        shown = [("truth", truth), *pictures.items(), (f"error of {compared[0]}", error)]
        views = [(name, jpeg(rgb, 960)) for name, rgb in shown]
        self._worst.append((psnr, frame_card(row, *compared, views)))
        self._worst.sort(key=lambda entry: entry[0])
        del self._worst[SHOWN:]

    def _show(
        self, duration: Fraction, truth: Tensor, images: Mapping[str, Tensor]
    ) -> None:
        row = {"truth": truth, **images}
        side = min(_PANEL_WIDTH, _VIDEO_WIDTH // len(row))
        panels = [shrunk(rgb, side) for rgb in row.values()]
        labels = [label([name], panels[0].shape[2]) for name in row]
        rgb = even(torch.cat([torch.cat(labels, 2), torch.cat(panels, 2)], 1))
        if self._video is None:
            info = self._plan.info
            video = drawn_video(self._folder / VIDEO, info, rgb, info.timing.rate)
            self._video = self._videos.enter_context(video)
        self._video.write(drawn_frame(rgb, self._clock, duration))
        self._clock += duration

    def finish(self, data: ScorePage, result: Mapping[str, Any]) -> None:
        """Write all files; ``data`` are the contents of the page except its pictures."""
        self._videos.close()
        cards = (replace(card, key=f"worst-{k}") for k, (_, card) in enumerate(self._worst))
        report = replace(data, cards=tuple(cards))
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        texts = {RESULT: text, PAGE: render(report)}
        finish_report(self._folder, self._plan.settings, texts)
