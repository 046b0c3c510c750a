"""Videos that workers render: the segments of all of them in one queue.

A video is planned while the segments of those before it are rendered, and joined as soon as all of
its own are there; the workers stay the same from the first video to the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloudconv.errors import CloudconvError, Interrupted
from cloudconv.events import Warned
from cloudconv.jobs.interp.video import VideoRender
from cloudconv.render.pipeline import prefetch
from cloudconv.segments.plan import SegmentTask
from cloudconv.workers.events import Done, Event, Failed, Report
from cloudconv.workers.pool import WorkerConfig, run
from cloudconv.workers.segments import SegmentWork

_PLANNED = 8
"""So many segments more than there are workers are planned ahead: times without pictures."""

Open = Callable[[], VideoRender]
"""Makes a video ready to be planned; it may raise a CloudconvError."""


@dataclass(frozen=True, slots=True)
class FramesMade:
    """So many more frames are made."""

    more: int


@dataclass(frozen=True, slots=True)
class VideoEnded:
    """A video, by its number from 0, that is there, or has failed with an error."""

    number: int
    outcome: VideoRender | CloudconvError


VideoEvent = FramesMade | VideoEnded


@contextmanager
def rendering(videos: Sequence[Open], workers: WorkerConfig) -> Iterator[Iterator[VideoEvent]]:
    """Render videos by workers; all events are to be taken. One that fails doesn't stop the others.

    Args:
        videos: opened one after the other, each when the one before it is planned.
        workers: of :func:`~cloudconv.workers.pool.settle`.

    Raises:
        DeviceError: there is no such cluster.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    queue = _Queue(videos)
    try:
        with prefetch(queue.planned(), workers.count + _PLANNED) as ahead:
            events = run(workers, SegmentWork(), queue.tasks(ahead.arriving()))
            with closing(events), closing(queue.video_events(events)) as ended:
                yield ended
    except KeyboardInterrupt as error:
        kept = queue.release()
        if not kept:
            raise
        raise Interrupted(*kept) from error
    finally:
        queue.release()


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A video between the first look at it and its end; ``segments`` of it are with workers."""

    number: int
    video: VideoRender | None = None
    planned: bool = False
    segments: int = 0
    error: CloudconvError | None = None


_Item = tuple[_UnderWay, SegmentTask | CloudconvError | None]
"""A segment of a video; then None when it is planned to its end, or what has ended its planning."""


class _Queue:
    """Knows which videos are under way, and how far they are."""

    def __init__(self, videos: Sequence[Open]) -> None:
        self._videos = videos
        self._under_way: dict[Path, _UnderWay] = {}
        self._ended: deque[VideoEnded] = deque()
        self._frames = _FrameCount()

    def planned(self) -> Iterator[_Item]:
        """The segments of all videos, one after the other; runs in a thread of its own."""
        for number, open_video in enumerate(self._videos):
            current = _UnderWay(number)
            try:
                video = current.video = open_video()
                self._under_way[video.job.output] = current
                with closing(video.segments()) as tasks:
                    for task in tasks:
                        yield current, task
                        if current.error is not None:
                            break
            except CloudconvError as error:
                yield current, error
            else:
                yield current, None

    def tasks(self, items: Iterator[_Item | None]) -> Iterator[SegmentTask | None]:
        """Those of the videos that have not failed; None where the next is not planned yet."""
        for planned in items:
            if planned is None:
                yield None
                continue
            current, item = planned
            if isinstance(item, SegmentTask):
                if current.error is None:
                    current.segments += 1
                    yield item
                continue
            current.planned = True
            current.error = current.error or item
            self._settle(current)

    def video_events(
        self, events: Iterator[Event[SegmentTask]]
    ) -> Generator[VideoEvent, None, None]:
        """What the workers' events mean for the videos."""
        for event in events:
            if isinstance(event, Report):
                self._warn(event)
            more = self._frames.more(event)
            if more:
                yield FramesMade(more)
            if not isinstance(event, Report):
                self._note(event)
            while self._ended:
                yield self._ended.popleft()
        while self._ended:
            yield self._ended.popleft()

    def release(self) -> list[str]:
        """Leave all videos as they are; says what is kept of each."""
        videos = [each.video for each in self._under_way.values() if each.video is not None]
        self._under_way.clear()
        return [kept for video in videos if (kept := video.interrupt()) is not None]

    def _warn(self, event: Report[SegmentTask]) -> None:
        if event.task is None or not isinstance(event.message, Warned):
            return
        current = self._under_way.get(event.task.plan.output)
        if current is not None and current.video is not None:
            current.video.warn(event.message)

    def _note(self, event: Done[SegmentTask] | Failed[SegmentTask]) -> None:
        task = event.task
        current = self._under_way[task.plan.output]
        current.segments -= 1
        assert current.video is not None
        try:
            if isinstance(event, Failed):
                raise event.error
            file = event.result.file_in(task.plan.folder)
            current.video.record(task.segment, file, event.result.summary)
        except CloudconvError as error:
            current.error = current.error or error
        self._settle(current)

    def _settle(self, current: _UnderWay) -> None:
        """End a video of which nothing is under way any more."""
        video, error = current.video, current.error
        if current.segments or not current.planned:
            return
        if video is not None:
            try:
                if error is None:
                    video.finish()
            except CloudconvError as raised:
                error = raised
            del self._under_way[video.job.output]
            if error is not None:
                error = video.give_up(error)
        outcome = error or video
        assert outcome is not None
        self._ended.append(VideoEnded(current.number, outcome))


class _FrameCount:
    """How many frames there are; those of a segment that is begun anew count once."""

    def __init__(self) -> None:
        self._finished = 0
        self._partial: dict[tuple[Path, int], int] = {}
        self._counted = 0

    def more(self, event: Event[SegmentTask]) -> int:
        """How many more than ever before, after an event."""
        task = event.task
        if task is None:
            return 0
        key = task.plan.output, task.segment.number
        if isinstance(event, Report):
            if isinstance(event.message, int):
                self._partial[key] = event.message
        else:
            self._partial.pop(key, None)
            self._finished += len(task.segment.frames) * isinstance(event, Done)
        total = self._finished + sum(self._partial.values())
        more = max(total - self._counted, 0)
        self._counted += more
        return more
