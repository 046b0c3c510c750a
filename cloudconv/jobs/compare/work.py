"""Score the samples of a comparison in this process or in worker processes.

Both kinds of processes give the same scores in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cloudconv.checkpoints import is_file_name
from cloudconv.events import Finished, TaskEvent, Warned
from cloudconv.jobs.compare.methods import Scorer
from cloudconv.jobs.compare.plan import ComparePlan
from cloudconv.jobs.compare.results import MINTERPOLATE
from cloudconv.jobs.compare.samples import ClipFrame, Sample, SampleScores
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.decode import DecoderCache
from cloudconv.models import registry
from cloudconv.pipeline import prefetch
from cloudconv.render.device import set_threads
from cloudconv.segments.reader import FramesByTime
from cloudconv.settings.compare import SEQUENCE_METRICS
from cloudconv.workers.events import Tasks, Work
from cloudconv.workers.pool import ordered_map

_FIRST, _MOST = 8, 64
"""The numbers of source frames that end the first chunk and the longest chunks."""


Scored = Warned | tuple[Sample, SampleScores]


def score_all(plan: ComparePlan, samples: Iterator[Sample]) -> Generator[Scored, None, None]:
    """Score all samples by all methods; yield the scores in order, and warnings.

    Args:
        plan: the plan of the comparison.
        samples: the samples with their frames, which another thread decodes.

    Raises:
        CloudconvError: an error of decoding or of a method.
    """
    workers = plan.workers
    models = {name: registry.located(plan.model_of(name)) for name in plan.methods}
    if workers.kind == "inline":
        scorer = Scorer(models, plan)
        with prefetch(samples, 2) as ahead:
            for sample in ahead:
                scores = scorer.score(sample)
                yield from scorer.new_warnings()
                yield sample, scores
        return
    # FFmpeg's minterpolate reads the clip from end to end, so workers cannot divide the clip. This
    # process runs the filter.
    own = {name: models.pop(name) for name in plan.methods if name == MINTERPOLATE}
    scorer = Scorer(own, plan)
    own_scores: deque[SampleScores] = deque()

    def scored_here() -> Iterator[Sample]:
        for sample in samples:
            if own:
                own_scores.append(scorer.score(sample))
            yield sample

    chunks = chunked(scored_here(), in_order=not set(plan.metrics).isdisjoint(SEQUENCE_METRICS))
    tasks = (ScoreTask(chunk, plan.info, models) for chunk in chunks)
    with (
        TemporaryDirectory(prefix="cloudconv-", ignore_cleanup_errors=True) as folder,
        prefetch(tasks, 2 * workers.count) as planned,
        closing(_by_workers(plan, Path(folder), planned.arriving())) as scored,
    ):
        for each in scored:
            if own and not isinstance(each, Warned):
                each[1].merge(own_scores.popleft())
            yield each


def _by_workers(
    plan: ComparePlan, folder: Path, tasks: Iterator[ScoreTask | None]
) -> Generator[Scored, None, None]:
    workers = plan.workers
    # Workers end without any cleanup, so their temporary files are in a folder of this process.
    workers_plan = replace(plan, device=torch.device(workers.device_type), folder=folder)
    work = ScoreWork(workers_plan, workers.threads(plan.settings.threads))
    number = 0
    with closing(ordered_map(workers, work, tasks)) as events:
        for event in events:
            if isinstance(event.content, Finished):
                number = 0
            elif isinstance(event.content, Warned):
                yield event.content
            # After the loss of a worker, another worker scores all samples of the chunk again.
            elif event.content[0] == number:
                yield event.task.samples[number], event.content[1]
                number += 1


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Consecutive samples for one worker; ``models`` maps a method to its model's name or file."""

    samples: tuple[Sample, ...]
    info: MediaInfo
    models: Mapping[str, str]


class ScoreWork(Work[ScoreTask]):
    """The work of one worker: score chunks of samples.

    The worker reports the scores of each sample with the sample's number in the chunk. The worker
    also reports warnings.
    """

    def __init__(self, plan: ComparePlan, threads: int | None) -> None:
        """Create the work; each process has ``threads`` threads, or PyTorch's number if None."""
        self._plan = plan
        self._threads = threads
        self._scorer: Scorer | None = None

    def __call__(self, tasks: Tasks[ScoreTask]) -> Generator[TaskEvent[ScoreTask], None, None]:
        """Score the samples of all tasks."""
        with prefetch(self._decoded(tasks), 4) as samples, closing(tasks):
            for task, number, sample in samples:
                if self._scorer is None:
                    set_threads(self._threads)
                    self._scorer = Scorer(task.models, replace(self._plan, info=task.info))
                scores = self._scorer.score(sample)
                for warned in self._scorer.new_warnings():
                    yield TaskEvent(task, warned)
                yield TaskEvent(task, (number, scores))
                if number == len(task.samples) - 1:
                    yield TaskEvent(task, Finished(None))

    def _decoded(self, tasks: Tasks[ScoreTask]) -> Iterator[tuple[ScoreTask, int, Sample]]:
        with closing(DecoderCache()) as cache:
            for task in tasks:
                samples = decoded(task.samples, task.info, self._threads, cache)
                for number, sample in enumerate(samples):
                    yield task, number, sample

    def files(self, task: ScoreTask) -> tuple[Path, ...]:
        """Return the clip and the weights files."""
        models = map(Path, task.models.values())
        weights = dict.fromkeys(filter(is_file_name, models))
        return (task.info.path, *weights)

    def moved(self, task: ScoreTask, files: Mapping[Path, Path]) -> ScoreTask:
        """Return the task with the paths that its files have on another machine."""
        models = {name: str(files.get(Path(model), model)) for name, model in task.models.items()}
        info = replace(task.info, path=files[task.info.path])
        return replace(task, info=info, models=models)


def chunked(samples: Iterable[Sample], *, in_order: bool) -> Iterator[tuple[Sample, ...]]:
    """Divide samples into chunks that workers can score independently; drop the samples' frames.

    The first chunks are shorter, so that all workers start soon.

    Args:
        samples: all samples in order.
        in_order: end chunks only at samples that are not scored. Some metrics need this, because
            they compare each frame with the one before.
    """
    frames, most = 0, _FIRST
    chunk: list[Sample] = []
    for sample in samples:
        chunk.append(sample.changed(partial(replace, frame=None)))
        frames += len(sample.items) if sample.scored else 0
        if frames >= most and not (in_order and sample.scored):
            yield tuple(chunk)
            chunk, frames, most = [], 0, min(2 * most, _MOST)
    if chunk:
        yield tuple(chunk)


def decoded(
    samples: Sequence[Sample], info: MediaInfo, threads: int | None, cache: DecoderCache
) -> Iterator[Sample]:
    """Yield the samples of a chunk with their frames; take the decoder from the cache if possible.

    Raises:
        UnfitInputError: the input has changed and has no frame at a planned time.
    """
    wanted = {each.time for sample in samples if sample.scored for each in sample.named}
    source: FramesByTime | None = None
    for sample in samples:
        if not sample.scored:
            source = None
            yield sample
            continue
        if source is None:
            main = sample.named[0].time
            source = FramesByTime(info, wanted, main=main, threads=threads, cache=cache)
        yield sample.changed(partial(_with_frame, source))
        source.forget(sample.items[0].time)


def _with_frame(source: FramesByTime, item: ClipFrame) -> ClipFrame:
    frame = source.get(item.time)
    return replace(item, frame=frame.at(item.shows, frame.duration))
