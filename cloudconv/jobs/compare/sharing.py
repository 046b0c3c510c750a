"""Samples scored by this process or by workers, with one outcome in one order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from cloudconv.engine.device import set_threads
from cloudconv.engine.pipeline import prefetch
from cloudconv.jobs.compare.forecasts import ForecastScorer
from cloudconv.jobs.compare.methods import InterpolationScorer
from cloudconv.jobs.compare.samples import Chunk, Sample, SampleScores, Scorer, chunked, decoded
from cloudconv.jobs.compare.scores import SEQUENCE_METRICS
from cloudconv.jobs.compare.settings import MINTERPOLATE, CompareSettings
from cloudconv.media.read.probe import MediaInfo
from cloudconv.workers.events import Done, Event, Report, Tasks, Work
from cloudconv.workers.pool import WorkerConfig, ordered_map, parse_workers, settle

Scored = tuple[Sample, SampleScores]


def score(
    settings: CompareSettings,
    info: MediaInfo,
    samples: Iterator[Sample],
    warn: Callable[[str], None],
) -> Generator[Scored, None, None]:
    """Score all samples by all methods; they come in order, whoever works.

    Where a metric sees several frames, some scores come with an empty sample after the last one.

    Args:
        settings: of the comparison.
        info: of the clip.
        samples: with their frames; taken in a thread of its own.
        warn: told in sentences.

    Raises:
        CloudconvError: what decoding or a method raise.
    """
    asked = parse_workers(settings.workers, settings.device)
    workers, device, remarks = settle(asked, settings.device, settings.threads)
    for remark in remarks:
        warn(remark)
    models = {name: settings.model_of(name) for name in settings.methods}
    if workers.kind == "inline":
        scorer = _scorer(models, settings, info, warn)
        with prefetch(samples, 2) as ahead:
            for sample in ahead:
                yield sample, scorer.score(sample)
    else:
        # It reads the clip from end to end by itself, so it cannot be shared out.
        own = {name: models.pop(name) for name in settings.methods if name == MINTERPOLATE}
        scorer = _scorer(own, settings, info, warn)
        shared = replace(settings, workers="local", device=device.type)
        work = ScoreWork(shared, workers.threads(settings.threads))
        tasks = _Tasks(samples, scorer if own else None, models, info, settings)
        for sample, scores in _shared(workers, work, tasks, warn):
            if own and sample.numbers:
                scores.merge(tasks.own.popleft(), settings.methods)
            yield sample, scores
    yield Sample((), (), (), info.timing.frames), scorer.finish()


def _scorer(
    models: Mapping[str, str],
    settings: CompareSettings,
    info: MediaInfo,
    warn: Callable[[str], None],
) -> Scorer:
    if settings.horizon is None:
        return InterpolationScorer(models, settings, info, warn)
    return ForecastScorer(models, settings)


def _shared(
    workers: WorkerConfig, work: ScoreWork, tasks: _Tasks, warn: Callable[[str], None]
) -> Generator[Scored, None, None]:
    with (
        prefetch(iter(tasks), 2 * workers.count) as ahead,
        closing(ordered_map(workers, work, ahead.arriving())) as events,
    ):
        number = 0
        for event in events:
            assert event.task is not None
            if isinstance(event, Done):
                number = 0
            elif isinstance(event.message, str):
                warn(event.message)
            elif event.message[0] == number:  # else a worker has died, and it was scored before
                yield event.task.chunk.at(number), SampleScores.unpacked(event.message[1])
                number += 1


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """A part of a clip to score. ``models``: for each method the model that it is."""

    chunk: Chunk
    info: MediaInfo
    models: Mapping[str, str]


class _Tasks:
    """The clip in chunks; each sample is scored by a scorer of this process as it passes."""

    def __init__(
        self,
        samples: Iterator[Sample],
        scorer: Scorer | None,
        models: Mapping[str, str],
        info: MediaInfo,
        settings: CompareSettings,
    ) -> None:
        self.own: deque[SampleScores] = deque()
        self._samples = samples
        self._scorer = scorer
        self._of = info, models
        self._in_order = any(name in SEQUENCE_METRICS for name in settings.metrics)

    def __iter__(self) -> Iterator[ScoreTask]:
        for chunk in chunked(self._passing(), in_order=self._in_order):
            yield ScoreTask(chunk, *self._of)

    def _passing(self) -> Iterator[Sample]:
        for sample in self._samples:
            if self._scorer is not None:
                self.own.append(self._scorer.score(sample))
            yield sample


class ScoreWork(Work[ScoreTask]):
    """Scores chunks. Reports the number of each sample with its scores, and warnings (str)."""

    def __init__(self, settings: CompareSettings, threads: int | None) -> None:
        self._settings = settings
        self._threads = threads
        self._scorer: Scorer | None = None
        self._warnings: list[str] = []

    def __call__(self, tasks: Tasks[ScoreTask]) -> Generator[Event[ScoreTask], None, None]:
        with prefetch(self._decoded(tasks), 4) as samples, closing(tasks):
            for task, number, sample in samples:
                if self._scorer is None:
                    set_threads(self._threads)
                    warn = self._warnings.append
                    self._scorer = _scorer(task.models, self._settings, task.info, warn)
                ends = number == len(task.chunk.samples)
                scores = self._scorer.finish() if ends else self._scorer.score(sample)
                for message in self._warnings:
                    yield Report(task, message)
                self._warnings.clear()
                yield Report(task, (number, scores.packed()))
                if ends:
                    yield Done(task, None)

    def _decoded(
        self, tasks: Tasks[ScoreTask]
    ) -> Generator[tuple[ScoreTask, int, Sample], None, None]:
        for task in tasks:
            number = 0
            for number, sample in enumerate(decoded(task.chunk, task.info, self._threads)):
                yield task, number, sample
            yield task, number + 1, task.chunk.at(number + 1)

    def files(self, task: ScoreTask) -> tuple[Path, ...]:
        models = map(Path, task.models.values())
        weights = dict.fromkeys(path for path in models if path.suffix == ".safetensors")
        return (task.info.path, *weights)

    def moved(self, task: ScoreTask, files: Mapping[Path, Path]) -> ScoreTask:
        models = {name: str(files.get(Path(model), model)) for name, model in task.models.items()}
        return ScoreTask(task.chunk, replace(task.info, path=files[task.info.path]), models)
