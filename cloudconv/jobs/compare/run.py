"""Score methods that make frames against frames that really are there.

With ``drop`` every method sees the same kept frames and makes those between them, with ``horizon``
it forecasts from the same frames; what it made is found by its time, never by counting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv import metrics
from cloudconv.errors import InputError
from cloudconv.events import Event, Finished, Job, Progress, Warned, Warnings
from cloudconv.jobs.compare.methods import renderer_of
from cloudconv.jobs.compare.report import Reporter, pages_in
from cloudconv.jobs.compare.samples import Clip, Sample, Sampler, SampleScores
from cloudconv.jobs.compare.scores import (
    CURVES,
    FrameScores,
    Row,
    Scores,
    frames_ahead,
    losses,
    overall,
    seconds_per_frame,
    verdict,
    verdict_by,
)
from cloudconv.jobs.compare.settings import (
    MINTERPOLATE,
    CompareJob,
    CompareResult,
)
from cloudconv.jobs.compare.work import score_all
from cloudconv.media.input.fingerprint import check_unchanged
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.probe import probe
from cloudconv.models import registry
from cloudconv.models.baselines import BLEND
from cloudconv.models.reads import check_outputs
from cloudconv.render.device import choose_precision, precision_name, set_threads
from cloudconv.report import Curves, Method
from cloudconv.settings import CompareSettings, exact
from cloudconv.training.fine_tune import WEIGHTS, AdaptPlan, adapt, check, save
from cloudconv.workers.pool import parse_workers, settle

__all__ = ["CompareResult", "CompareSettings", "run"]


def run(asked: CompareSettings) -> Job:
    """Score every method on ``asked.input``.

    Yields:
        Warnings and progress, in source frames, and in the end a :class:`CompareResult`.

    Raises:
        CloudconvError: then there is no report, or the one that was there is as it was.
    """
    settings = CompareJob.of(asked)
    set_threads(settings.threads)
    info = probe(settings.input, exact(settings.input_fps))
    pages = [] if settings.report is None else pages_in(Path(settings.report))
    check_outputs(settings, [*pages, settings.saved_model], [info.path])
    began, warnings = time.monotonic(), Warnings()
    yield from warnings.new(info.warnings)
    with ExitStack() as stack:
        clip = Clip(settings, info)
        sampler = Sampler(settings, clip)
        reporter = None
        if settings.report is not None:
            reporter = stack.enter_context(Reporter(Path(settings.report), info, settings))
        if settings.adapt is not None:
            folder = stack.enter_context(TemporaryDirectory(prefix="cloudconv-"))
            plan = _adapt_plan(settings, info)
            settings = yield from _adapted(settings, plan, Path(folder), warnings)
            sampler.keep_to_held(plan)
        table = _Table(settings, clip, sampler.context)
        source = stack.enter_context(clip.source())
        samples = sampler.samples(clip.frames(source))
        for each in stack.enter_context(closing(score_all(settings, info, samples))):
            if isinstance(each, Warned):
                yield from warnings.new([each])
                continue
            sample, scores = each
            rows = table.add(sample, scores)
            for images in scores.images if reporter is not None else ():
                assert reporter is not None
                reporter.add(images, None if images.number is None else rows[images.number])
            total = clip.frames_expected
            yield Progress("scoring", min(sample.read, total), total)
        yield from warnings.new([*source.warnings, *table.warnings()])
        check_unchanged(info)
        result = table.result(warnings.said, began)
        if reporter is not None:
            reporter.finish(table.report(result), result.as_json())
    yield Finished(result)


def _adapt_plan(settings: CompareJob, info: MediaInfo) -> AdaptPlan:
    """Return how the first model is adapted, and what is held back."""
    minutes, model = settings.adapt, settings.judged
    assert minutes is not None
    check(minutes, model, settings.saved_model, overwrite=settings.overwrite)
    _, device, _ = settle(parse_workers(settings.workers, settings.device), settings.device)
    own = replace(settings, device=str(device))
    return AdaptPlan(
        info=info,
        model=model,
        minutes=minutes,
        start=exact(settings.start),
        end=exact(settings.end),
        device=device,
        dtype=choose_precision(settings.precision, device, registry.spec(model, "interpolate")),
        threads=settings.threads,
        renderer=lambda name: renderer_of(name, own),
    )


def _adapted(
    settings: CompareJob, plan: AdaptPlan, folder: Path, warnings: Warnings
) -> Generator[Event, None, CompareJob]:
    """Adapt the first model; return the settings with those weights."""
    _, result = yield from adapt(plan, folder, warnings)
    yield from warnings.new(save(folder, settings.saved_model, overwrite=settings.overwrite))
    yield from warnings.new([Warned("held-back-only")])
    file = folder / WEIGHTS
    weights = str(file) if file.exists() else settings.judged
    return replace(settings, adapted=result, adapted_weights=weights)


class _Table:
    """The scored frames in the order of the clip, and the scores of all methods."""

    def __init__(self, settings: CompareJob, clip: Clip, context: int) -> None:
        self._settings, self._clip, self._context = settings, clip, context
        self._ahead = settings.horizon is not None
        self._rows: list[Row] = []
        # For each method those of every horizon, or one for all frames between others.
        self._scores = {
            name: [Scores(settings.wanted) for _ in range(settings.horizon or 1)]
            for name in settings.methods
        }
        self._filmed = Scores([name for name in metrics.TEXTURE if name in settings.wanted])
        self._kept = [name for name in CURVES if name in (*CURVES[:2], *settings.wanted)]
        self._skipped = self._samples = 0

    def add(self, sample: Sample, result: SampleScores) -> list[Row]:
        """Add up what came of the next sample; its scored frames."""
        self._skipped += sample.skipped
        self._samples += bool(sample.scored)
        for filmed in result.filmed:
            self._filmed.add_frame(filmed)
        for name, each in result.methods.items():
            by_step = self._scores[name]
            for number, frame in enumerate(each.frames):
                by_step[number if self._ahead else 0].add_frame(frame)
            for scores, sequence in zip(by_step, each.sequence, strict=False):
                scores.add_sequence(sequence)
            for scores, spent in zip(by_step, each.spent, strict=False):
                scores.spend(*spent)
        rows = [
            Row(
                sample.numbers[k],
                sample.times[k] - self._clip.info.timing.start,
                number + 1 if self._ahead else None,
                {name: self._kept_of(result.methods[name].frames[number]) for name in self._scores},
            )
            for number, k in enumerate(sample.scored)
        ]
        self._rows += rows
        return rows

    def _kept_of(self, scores: FrameScores) -> dict[str, float | None]:
        values = ((name, (scores or {}).get(name, math.nan)) for name in self._kept)
        return {name: None if math.isnan(value) else value for name, value in values}

    def warnings(self) -> Iterator[Warned]:
        """The methods that have made nothing of some frames."""
        for name, scores in self._scores.items():
            if missing := sum(each.missing for each in scores):
                yield Warned("frames-not-made", {"method": name, "count": missing})

    def result(self, warnings: list[Warned], began: float) -> CompareResult:
        """Raises InputError: no frame was scored."""
        settings, clip = self._settings, self._clip
        if not self._rows:
            raise InputError("nothing-scored", path=clip.info.path, ahead=self._ahead)
        methods = {
            name: {
                str(step): {**each.means(), "seconds_per_frame": seconds_per_frame([each])}
                for step, each in enumerate(scores, 1)
            }
            for name, scores in self._scores.items()
        }
        device, precision = _ran_on(settings)
        return CompareResult(
            input=str(settings.input),
            drop=None if self._ahead else settings.kept,
            horizon=settings.horizon,
            device=device,
            precision=precision,
            scored_frames=len(self._rows),
            skipped_frames=self._skipped + clip.left_out,
            cuts=[float(cut - clip.info.timing.start) for cut in clip.cuts],
            adapted=settings.adapted,
            methods=methods if self._ahead else {name: each["1"] for name, each in methods.items()},
            filmed={} if self._ahead else self._filmed.means(),
            per_frame=[row.as_json() for row in self._rows],
            baseline=settings.baseline,
            loses=sorted(
                {row.index for row in losses(settings.judged, settings.naive, self._rows)}
            ),
            verdict=self._verdict({name: each["1"] for name, each in methods.items()}),
            wall_seconds=time.monotonic() - began,
            warnings=warnings,
        )

    def _verdict(self, scores: dict[str, dict[str, float | None]]) -> str:
        settings = self._settings
        judged, baseline, asked = settings.judged, settings.baseline, settings.wanted
        if "psnr" in asked:
            return verdict(judged, baseline, self._rows)
        return verdict_by(asked[0], judged, baseline, scores, 1 if self._ahead else None)

    def report(self, result: CompareResult) -> dict[str, Any]:
        """What the report says beside its pictures."""
        info, settings = self._clip.info, self._settings
        rate = "variable" if info.timing.rate is None else f"{float(info.timing.rate):g}"
        facts = self._facts(result)
        return {
            "source": info.path.name,
            "verdict": result.verdict,
            "summary": facts.pop("summary"),
            "model": settings.judged,
            "baseline": settings.baseline,
            "metrics": settings.wanted,
            "methods": tuple(
                Method(
                    name,
                    overall(scores),
                    seconds_per_frame(scores),
                    sum(each.missing for each in scores),
                    {
                        k: each.means()
                        for k, each in enumerate(scores, 1)
                        if self._ahead and each.made
                    },
                )
                for name, scores in self._scores.items()
            ),
            "curves": None if self._ahead else self._curves(),
            "facts": (
                ("clip", f"{info.width}x{info.height}, {info.timing.frames} frames at {rate} fps"),
                *facts.items(),
                ("device", f"{result.device}, {result.precision}"),
                *(("note", str(warned)) for warned in result.warnings),
            ),
        }

    def _facts(self, result: CompareResult) -> dict[str, str]:
        """The summary, and what else differs between frames in between and forecasts."""
        settings, clip, context = self._settings, self._clip, self._context
        scored = f"{result.scored_frames} frames"
        if settings.horizon is not None:
            begun = f"{self._samples} forecast{'s' if self._samples > 1 else ''}"
            return {
                "summary": f"{begun}, up to {frames_ahead(settings.horizon)}, {scored} scored",
                "forecasts": f"from {context} frame{'s' if context > 1 else ''} of context, "
                f"beginning at every {settings.step}th frame; all methods from the same places",
                "scored": f"{scored} as 8-bit RGB, on what really came",
                "left out": f"{self._skipped} frames after a cut, {clip.left_out} repeated ones",
            }
        cuts = f", {len(clip.cuts)} cut{'s' if len(clip.cuts) > 1 else ''} left out"
        repeats = f", {clip.left_out} that repeat the one before ({clip.cadence})"
        filmed = result.filmed.get("texture")
        texture = {} if filmed is None else {"filmed": f"frames have a texture of {filmed:+.2f} dB"}
        return {
            "summary": f"one frame of every {settings.kept} kept, {scored} scored"
            + (cuts if clip.cuts else ""),
            "kept": f"one frame of every {settings.kept}; all methods saw the same",
            "scored": f"{scored} as 8-bit RGB, found by their time",
            "left out": f"{self._skipped} frames beside cuts" + (repeats if clip.left_out else ""),
            **texture,
        }

    def _curves(self) -> Curves:
        psnr, ssim, texture = (
            {name: tuple(row.scores[name][key] for row in self._rows) for name in self._scores}
            if key in self._kept
            else {}
            for key in CURVES
        )
        start = self._clip.info.timing.start
        return Curves(
            tuple(row.index for row in self._rows),
            tuple(row.time for row in self._rows),
            psnr,
            ssim,
            tuple(cut - start for cut in self._clip.cuts),
            texture,
        )


def _ran_on(settings: CompareJob) -> tuple[str, str]:
    """The device and the precision of the first model, in words."""
    workers, device, _ = settle(parse_workers(settings.workers, settings.device), settings.device)
    models = (name for name in settings.methods if name != MINTERPOLATE)
    spec = registry.spec(next(models, BLEND.name), settings.task)
    precision = precision_name(choose_precision(settings.precision, device, spec))
    return settings.device if workers.each_gpu else str(device), precision
