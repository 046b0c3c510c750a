"""Samples scored by this process or by workers, with one outcome in one order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.jobs.compare.methods import Scorer
from cloudconv.jobs.compare.samples import Sample, SampleScores
from cloudconv.jobs.compare.settings import MINTERPOLATE, CompareJob
from cloudconv.media.input.info import MediaInfo
from cloudconv.render.device import set_threads
from cloudconv.render.pipeline import prefetch
from cloudconv.segments.reader import FramesByTime
from cloudconv.settings.compare import SEQUENCE_METRICS
from cloudconv.workers.events import Done, Event, Report, Tasks, Work
from cloudconv.workers.pool import WorkerConfig, ordered_map, parse_workers, settle

_FIRST, _MOST = 8, 64
"""About so many source frames are scored in the first chunk, and in any, at most."""


Scored = Warned | tuple[Sample, SampleScores]


def score_all(
    settings: CompareJob, info: MediaInfo, samples: Iterator[Sample]
) -> Generator[Scored, None, None]:
    """Score all samples by all methods; they come in order, whoever works, between warnings.

    Args:
        settings: of the comparison.
        info: of the clip.
        samples: with their frames; taken in a thread of its own.

    Raises:
        CloudconvError: what decoding or a method raise.
    """
    asked = parse_workers(settings.workers, settings.device)
    workers, device, remarks = settle(asked, settings.device, settings.threads)
    yield from remarks
    models = {name: settings.model_of(name) for name in settings.methods}
    if workers.kind == "inline":
        scorer = Scorer(models, settings, info)
        with prefetch(samples, 2) as ahead:
            for sample in ahead:
                scores = scorer.score(sample)
                yield from scorer.warnings()
                yield sample, scores
        return
    # It reads the clip from end to end by itself, so it is not shared out.
    own = {name: models.pop(name) for name in settings.methods if name == MINTERPOLATE}
    scorer = Scorer(own, settings, info)
    own_scores: deque[SampleScores] = deque()

    def passing() -> Iterator[Sample]:
        for sample in samples:
            if own:
                own_scores.append(scorer.score(sample))
            yield sample

    chunks = chunked(passing(), in_order=not set(settings.wanted).isdisjoint(SEQUENCE_METRICS))
    tasks = (ScoreTask(chunk, info, models) for chunk in chunks)
    shared = replace(settings, workers="local", device=device.type)
    work = ScoreWork(shared, workers.threads(settings.threads))
    with (
        prefetch(tasks, 2 * workers.count) as planned,
        closing(_score_shared(workers, work, planned.arriving())) as scored,
    ):
        for each in scored:
            if own and not isinstance(each, Warned):
                each[1].merge(own_scores.popleft())
            yield each


def _score_shared(
    workers: WorkerConfig, work: ScoreWork, tasks: Iterator[ScoreTask | None]
) -> Generator[Scored, None, None]:
    number = 0
    with closing(ordered_map(workers, work, tasks)) as events:
        for event in events:
            assert event.task is not None
            if isinstance(event, Done):
                number = 0
            elif isinstance(event.message, Warned):
                yield event.message
            elif event.message[0] == number:  # else a worker has died, and it was scored before
                yield event.task.samples[number], event.message[1]
                number += 1


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Samples that follow each other; ``models`` has for each method the model that it is."""

    samples: tuple[Sample, ...]
    info: MediaInfo
    models: Mapping[str, str]


class ScoreWork(Work[ScoreTask]):
    """Scores chunks. Reports the number of each sample with its scores, and warnings."""

    def __init__(self, settings: CompareJob, threads: int | None) -> None:
        self._settings = settings
        self._threads = threads
        self._scorer: Scorer | None = None

    def __call__(self, tasks: Tasks[ScoreTask]) -> Generator[Event[ScoreTask], None, None]:
        with prefetch(self._decoded(tasks), 4) as samples, closing(tasks):
            for task, number, sample in samples:
                if self._scorer is None:
                    set_threads(self._threads)
                    self._scorer = Scorer(task.models, self._settings, task.info)
                scores = self._scorer.score(sample)
                for warned in self._scorer.warnings():
                    yield Report(task, warned)
                yield Report(task, (number, scores))
                if number == len(task.samples) - 1:
                    yield Done(task, None)

    def _decoded(self, tasks: Tasks[ScoreTask]) -> Iterator[tuple[ScoreTask, int, Sample]]:
        for task in tasks:
            for number, sample in enumerate(decoded(task.samples, task.info, self._threads)):
                yield task, number, sample

    def files(self, task: ScoreTask) -> tuple[Path, ...]:
        models = map(Path, task.models.values())
        weights = dict.fromkeys(path for path in models if path.suffix == ".safetensors")
        return (task.info.path, *weights)

    def moved(self, task: ScoreTask, files: Mapping[Path, Path]) -> ScoreTask:
        models = {name: str(files.get(Path(model), model)) for name, model in task.models.items()}
        info = replace(task.info, path=files[task.info.path])
        return replace(task, info=info, models=models)


def chunked(samples: Iterable[Sample], *, in_order: bool) -> Iterator[tuple[Sample, ...]]:
    """Cut a clip into chunks that can be scored independently.

    The first few are shorter, so that soon there is something to do for everyone.

    Args:
        samples: all of them, in order; they leave without frames.
        in_order: a metric sees all frames in order, so a chunk ends where nothing is scored.
    """
    frames, most = 0, _FIRST
    chunk: list[Sample] = []
    for sample in samples:
        outer = [each and replace(each, frame=None) for each in sample.outer]
        chunk.append(replace(sample, frames=(), outer=(outer[0], outer[1])))
        frames += len(sample.times) if sample.scored else 0
        if frames >= most and not (in_order and sample.scored):
            yield tuple(chunk)
            chunk, frames, most = [], 0, min(2 * most, _MOST)
    if chunk:
        yield tuple(chunk)


def decoded(samples: Sequence[Sample], info: MediaInfo, threads: int | None) -> Iterator[Sample]:
    """The samples of a chunk with their frames.

    Raises:
        UnfitInputError: a frame is not where it was.
    """
    scored = [sample for sample in samples if sample.scored]
    wanted = {time for sample in scored for time in sample.times}
    wanted |= {each.time for sample in scored for each in sample.outer if each is not None}
    source: FramesByTime | None = None
    for sample in samples:
        if not sample.scored:
            source = None
            yield sample
            continue
        if source is None:
            main = sample.times[0] if sample.outer[0] is None else sample.outer[0].time
            source = FramesByTime(info, wanted, main=main, threads=threads)
        timed = [
            (source.get(time), shows)
            for time, shows in zip(sample.times, sample.shows, strict=True)
        ]
        outer = [
            each and replace(each, frame=source.get(each.time).at(each.shows, Fraction(0)))
            for each in sample.outer
        ]
        yield replace(
            sample,
            frames=tuple(f.at(shows, f.duration) for f, shows in timed),
            outer=(outer[0], outer[1]),
        )
        source.forget(sample.times[0])
