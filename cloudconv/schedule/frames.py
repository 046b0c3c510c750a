"""Plan every output frame: hold frames at cuts, retime repeats, divide the gaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from queue import SimpleQueue
from typing import Literal

from cloudconv.errors import InputError
from cloudconv.events import Warned
from cloudconv.media.color import thumbnail
from cloudconv.media.frame import Frame
from cloudconv.media.pictures import Beside, Pictures
from cloudconv.models.base import FOUR
from cloudconv.schedule.cadence import MAX_DISTINCT, Cadence
from cloudconv.schedule.scene import CutDetector, RepeatDetector
from cloudconv.settings.groups import SceneCut
from cloudconv.timeline import FramePlan, Multiply, Resample, Slot, Timeline

_UNEVEN = 2
_EARLY = 200


@dataclass(frozen=True, slots=True)
class AnalysedFrame:
    """A source frame with the results of the detectors of cuts and repeats."""

    frame: Frame
    cut: bool
    repeats: bool


@dataclass(frozen=True, slots=True)
class Request:
    """The wishes for the source called ``name``; see ``InterpSettings`` of the interp job."""

    name: str
    rate: Multiply | Resample
    stretch: Fraction
    scene_cut: SceneCut
    duplicates: Literal["keep", "refill"]
    loop: bool
    context: int = 2


@dataclass(slots=True)
class Counts:
    """The counts of a schedule.

    ``cuts`` are the times of each new scene's first frame, on the source's clock. ``duration`` is
    the output's, in seconds. ``cadence`` describes regular repeats, or is None.
    """

    source_frames: int = 0
    output_frames: int = 0
    new_frames: int = 0
    held_frames: int = 0
    cuts: list[Fraction] = field(default_factory=list)
    duration: Fraction = Fraction(0)
    cadence: str | None = None


def look(frames: Iterable[Frame], scene_cut: SceneCut) -> Iterator[AnalysedFrame]:
    """Yield the frames marked as cuts or repeats, delayed by the lookahead of the detectors."""
    detector = None
    if scene_cut != "off":
        detector = CutDetector(None if isinstance(scene_cut, str) else scene_cut)
    repetition = RepeatDetector()
    waiting: deque[tuple[Frame, bool]] = deque()

    def release(decisions: Sequence[bool]) -> Iterator[AnalysedFrame]:
        for cut in decisions:
            frame, repeats = waiting.popleft()
            yield AnalysedFrame(frame, cut, repeats and not cut)

    for frame in frames:
        waiting.append((frame, repetition.push(frame)))
        if detector is None:
            yield from release([False])
        else:
            yield from release(detector.push(thumbnail(frame, *CutDetector.THUMBNAIL)))
    if detector is not None:
        yield from release(detector.finish())


def retime(
    seen: Iterable[AnalysedFrame], duplicates: str, counts: Counts
) -> Iterator[tuple[AnalysedFrame, Fraction | None]]:
    """Yield each frame with the time to which its content belongs.

    That time is the frame's own, or with ``duplicates="refill"`` an even one; None marks a repeat.
    """
    cadence = Cadence()
    waiting: deque[AnalysedFrame] = deque()
    end = Fraction(0)
    for item in seen:
        end = item.frame.time + item.frame.duration
        placed = cadence.push(item.frame.time, item.repeats, item.cut)
        if counts.cadence is None and cadence.certain:
            counts.cadence = cadence.description
        if duplicates == "keep":
            yield item, item.frame.time
            continue
        waiting.append(item)
        for _, shows in placed:
            yield waiting.popleft(), shows
    for _, shows in cadence.finish(end):
        if waiting:
            yield waiting.popleft(), shows
    counts.cadence = counts.cadence or cadence.description


def cadence_of(frames: Iterable[AnalysedFrame]) -> tuple[Cadence, list[Fraction | None]]:
    """Return the cadence of a few frames, and the time to which the content of each belongs."""
    cadence = Cadence()
    shows: list[Fraction | None] = []
    end = Fraction(0)
    for item in frames:
        end = item.frame.time + item.frame.duration
        shows += [time for _, time in cadence.push(item.frame.time, item.repeats, item.cut)]
    shows += [time for _, time in cadence.finish(end)]
    return cadence, shows


def early_cadence(frames: Iterable[Frame]) -> str | None:
    """Return the cadence of the first frames, or None if 200 frames are not enough to be certain.

    Without any repeat only about a dozen frames are read.
    """
    cadence, repetition = Cadence(), RepeatDetector()
    since = 0
    for number, frame in enumerate(frames):
        repeats = repetition.push(frame)
        cadence.push(frame.time, repeats)
        since = 0 if repeats else since + 1
        if cadence.certain or since > MAX_DISTINCT or number == _EARLY:
            break
    return cadence.description if cadence.certain else None


News = SimpleQueue[Warned | Counts]
"""The messages of the thread that plans."""


def schedule(
    frames: Iterable[Frame], request: Request, pictures: Pictures, news: News | None = None
) -> Iterator[FramePlan]:
    """Plan every output frame, in order of time; the output's clock starts at 0.

    Args:
        frames: the frames of the source.
        request: the wishes for the output.
        pictures: receives the source frames of each plan before the plan is yielded.
        news: receives a warning as soon as repeats that are kept are found, and the counts before
            the last plan.

    Raises:
        InputError: there are fewer than two frames.
    """
    timeline = Timeline(request.rate, stretch=request.stretch, loop=request.loop)
    news = SimpleQueue() if news is None else news
    counts = Counts()
    contents = _Contents(counts, pictures, around=request.context >= FOUR)
    kept = request.duplicates == "keep"
    waiting: deque[Slot] = deque()
    last: Frame | None = None
    for item, shows in retime(look(frames, request.scene_cut), request.duplicates, counts):
        last = item.frame
        if kept and counts.cadence is not None:
            news.put(Warned("cadence-kept", {"cadence": counts.cadence}))
            kept = False
        contents.add(item, shows)
        waiting += timeline.push(item.frame.time, shows)
        while waiting and contents.knows(waiting[0]):
            yield contents.plan(waiting.popleft())
        contents.forget(waiting[0].left if waiting else timeline.oldest)
    if last is None:
        raise InputError("empty-part", path=request.name)
    if counts.source_frames == 1:
        raise InputError("single-frame-part", path=request.name)
    if kept and counts.cadence is not None:
        news.put(Warned("cadence-kept", {"cadence": counts.cadence}))
    slots = deque([*waiting, *timeline.finish(last.time + last.duration)])
    while slots:
        plan = contents.plan(slots.popleft())
        if not slots:
            news.put(counts)
        yield plan


def beside(frame: Frame, distance: Fraction, gap: Fraction) -> Beside | None:
    """Return a frame beside a pair with its distance, as a multiple of the pair's ``gap``.

    None means that the distance is much shorter or longer than the gap: the networks were trained
    on frames at even times.
    """
    reach = distance / gap
    return (frame, reach) if 1 / _UNEVEN <= reach <= _UNEVEN else None


class _Contents:
    """The numbered content frames that later slots may need, and the plans made from them.

    ``around``: whether a plan also names the frames before and after its pair.
    """

    def __init__(self, counts: Counts, pictures: Pictures, *, around: bool) -> None:
        self._counts = counts
        self._pictures = pictures
        self._around = around
        self._frames: dict[int, Frame] = {}
        self._shows: dict[int, Fraction] = {}
        self._cuts: set[int] = set()
        self._repeats: set[int] = set()
        self._alike: dict[int, bool] = {}
        self._first: Frame | None = None
        self._pushed = 0
        self._opened: deque[Fraction] = deque()  # starts of scenes that no plan has shown yet

    def add(self, item: AnalysedFrame, shows: Fraction | None) -> None:
        self._first = self._first or item.frame
        self._counts.source_frames += 1
        if item.cut:
            self._counts.cuts.append(item.frame.time)
            self._opened.append(item.frame.time)
        if shows is not None:
            self._frames[self._pushed] = item.frame
            self._shows[self._pushed] = shows
            if item.cut:
                self._cuts.add(self._pushed)
            if item.repeats:
                self._repeats.add(self._pushed)
            self._pushed += 1

    def knows(self, slot: Slot) -> bool:
        """Return whether all frames that a plan of the slot may name have been added."""
        return not self._around or slot.timestep == 0 or slot.left + 2 < self._pushed

    def plan(self, slot: Slot) -> FramePlan:
        left = self._frames[slot.left]
        right = self._right_of(slot.left) if slot.timestep and not slot.held else None
        opens = False
        while self._opened and self._opened[0] <= left.time:
            self._opened.popleft()
            opens = True
        counts = self._counts
        counts.output_frames += 1
        counts.new_frames += right is not None
        counts.held_frames += right is None and (slot.held or slot.timestep > 0)
        counts.duration = slot.time + slot.duration
        before, after = self._outer(slot.left) if right and self._around else (None, None)
        return self._pictures.plan(
            left,
            right,
            slot.timestep if right else Fraction(0),
            slot.time,
            slot.duration,
            opens_scene=opens,
            before=before,
            after=after,
        )

    def forget(self, before: int) -> None:
        """Drop the frames that no pair from index ``before`` on needs."""
        for done in [index for index in self._frames if index < before - self._around]:
            del self._frames[done], self._shows[done]
            self._alike.pop(done, None)
            self._cuts.discard(done)
            self._repeats.discard(done)

    def _outer(self, index: int) -> list[Beside | None]:
        """Return the frames before and after the pair that begins at ``index``.

        None stands for a frame of another scene, and for a repeat, which shows no motion.
        """
        gap = self._shows.get(index + 1, self._shows[index]) - self._shows[index]
        found: list[Beside | None] = []
        for far, near, later in ((index - 1, index, index), (index + 2, index + 1, index + 2)):
            other = self._frames.get(far)
            if other is None or later in self._cuts or later in self._repeats or not gap:
                found.append(None)
                continue
            found.append(beside(other, abs(self._shows[far] - self._shows[near]), gap))
        return found

    def _right_of(self, index: int) -> Frame | None:
        """Return the right frame of the pair at ``index``; None if the left frame is held."""
        if index + 1 in self._cuts:
            return None
        right = self._frames.get(index + 1, self._first)
        if right is not None and index not in self._alike:
            self._alike[index] = self._frames[index].same_picture(right)
        return None if self._alike.get(index, True) else right
