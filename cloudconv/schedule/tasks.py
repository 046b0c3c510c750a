"""Plan every output frame: its source frames, its position between them, and its time."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from typing import Literal, Self

import torch
from torch import Tensor

from cloudconv.errors import InputError, SettingsError
from cloudconv.events import Warned, Warnings
from cloudconv.media.colour.color import cell_means, thumbnail
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.messages import counted, plural
from cloudconv.models.catalogue import FOUR
from cloudconv.schedule.cadence import UNKNOWN, Cadence, Change
from cloudconv.schedule.cuts import CutDetector, FlashDetector, RepeatDetector, cuts_in
from cloudconv.schedule.tracker import FastTracker
from cloudconv.settings.framelist import NO_FRAMES, FrameList, check_row
from cloudconv.settings.groups import SceneCut
from cloudconv.timeline import (
    EVEN,
    Gap,
    Multiply,
    OuterFrame,
    Resample,
    Timeline,
    alone,
)
from cloudconv.timemap import TimeMap

_MOST_UNEVEN = 2
_MOST_CAPTIONS = 3 * 31  # bytes that a frame can hold
_BESIDE_SEAM = 12  # frames on each side of a loop's seam that are compared
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class AnalysedFrame:
    """A source frame with the results of the detectors of cuts and repeats.

    ``shows`` is the frame's own time, or an evenly spaced time where regular repeats are
    left out. None marks a frame that is left out: a repeat, or one that is ``replaced``,
    which no detector sees. ``flashes``: no frame before shows a part of this one, see
    :class:`~cloudconv.schedule.cuts.FlashDetector`. ``change`` is unknown for a frame
    that is replaced.
    """

    frame: Frame
    cut: bool
    repeats: bool
    shows: Fraction | None
    flashes: bool = False
    replaced: bool = False
    change: Change = UNKNOWN

    def at(self, shows: Fraction | None) -> Self:
        """Return the frame at another time, unless it is replaced."""
        return self if self.replaced else replace(self, shows=shows)


@dataclass(frozen=True, slots=True)
class Request:
    """The requested output of the source called ``name``; see ``InterpSettings``.

    ``shows`` is the map from output time to source time, which counts from ``zero`` on the
    source's clock; None is the first frame. ``context`` is the number of source frames from
    which the model makes a new frame. A source frame at ``end`` (on the source's clock) or
    later is not shown. Such a frame is only the right neighbour of the last frame before
    ``end``. ``tick`` is that of the source's clock in seconds, if the source has a variable
    rate. ``replaced`` are the source frames that new ones replace; source frames before
    ``start`` are not shown: they count for numbers, and for what is decided about the first
    frames of the part. ``shutter`` is the part of an output frame's duration for which the
    shutter is open. ``tracks``: whether fast objects are looked for, on the
    ``device`` of the render.
    """

    name: str
    rate: Multiply | Resample
    scene_cut: SceneCut
    duplicates: Literal["keep", "refill"]
    loop: bool
    shows: TimeMap = EVEN
    zero: Fraction | None = None
    context: int = 2
    end: Fraction | None = None
    tick: Fraction | None = None
    replaced: FrameList = NO_FRAMES
    start: Fraction | None = None
    shutter: Fraction = Fraction(0)
    tracks: bool = False
    device: torch.device = _CPU

    def replaces(self, number: int, frame: Frame) -> bool:
        """Return whether a new frame replaces a frame of the part, by its number from 0."""
        is_early = self.start is not None and frame.time < self.start
        ends = frame.time + frame.duration
        return not is_early and self.replaced.has(number, frame.time, ends)

    @property
    def ahead(self) -> int:
        """Return how many output frames wait, each with its decoded source frames."""
        return 2 if self.shutter else 8

    def shows_from(self, first: Fraction) -> TimeMap:
        """Return the map from a source frame on, the first of the output."""
        return self.shows if self.zero is None else self.shows.after(first - self.zero)


@dataclass(slots=True)
class Counts:
    """The counts of a schedule.

    ``first`` is the time of the first source frame, and ``cuts`` are those of each new
    scene's first frame, on the source's clock. ``replaced`` frames count as source frames,
    too. ``duration`` is the output's, in seconds. ``steps`` are the first two different
    durations of output frames. ``ticks`` are the times of the source frames, at a variable
    rate. ``warnings`` get those of the schedule.
    """

    first: Fraction | None = None
    source_frames: int = 0
    replaced: int = 0
    output_frames: int = 0
    new_frames: int = 0
    held_frames: int = 0
    cuts: list[Fraction] = field(default_factory=list)
    duration: Fraction = Fraction(0)
    steps: set[Fraction] = field(default_factory=set)
    ticks: array[int] = field(default_factory=lambda: array("q"))
    warnings: Warnings = field(default_factory=Warnings)

    def add(self, item: AnalysedFrame, tick: Fraction | None) -> None:
        """Count a source frame."""
        if self.first is None:
            self.first = item.frame.time
        self.source_frames += 1
        self.replaced += item.replaced
        if item.cut:
            self.cuts.append(item.frame.time)
        if tick is not None:
            self.ticks.append(int(item.frame.time / tick))

    def counted(self, task: FrameTask) -> FrameTask:
        """Count an output frame, and return it."""
        self.output_frames += 1
        self.new_frames += task.is_new
        self.duration = task.time + task.duration
        if len(self.steps) < 2:
            self.steps.add(task.duration)
        return task

    @property
    def rate(self) -> Fraction | None:
        """Return the rate if all output frames last equally long, otherwise None."""
        return 1 / min(self.steps) if len(self.steps) == 1 else None


def analyse(
    frames: Iterable[Frame],
    scene_cut: SceneCut,
    replaces: Callable[[int, Frame], bool] | None = None,
) -> Iterator[AnalysedFrame]:
    """Find cuts, flashes and repeats; yield each frame when all detectors have decided.

    ``replaces`` returns whether a new frame replaces a frame, by its number from 0 and the
    frame. No detector sees a frame that is replaced.
    """
    is_on = scene_cut != "off"
    cuts = CutDetector(scene_cut)
    flashes = FlashDetector()
    repetition = RepeatDetector()
    undecided: deque[AnalysedFrame] = deque()
    marks: deque[tuple[bool, bool]] = deque()  # of cuts and flashes
    changes: deque[tuple[bool, Change]] = deque()
    for number, frame in enumerate(chain(frames, [None])):
        if frame is None:
            changes.extend(repetition.finish())
            if is_on:
                marks.extend(zip(cuts.finish(), flashes.finish(), strict=True))
        elif replaces is not None and replaces(number, frame):
            undecided.append(AnalysedFrame(frame, False, False, None, replaced=True))
        else:
            changes.extend(repetition.push(cell_means(frame.planes()[0])))
            if is_on:
                luma = thumbnail(frame, *CutDetector.THUMBNAIL).cpu()
                frame = replace(frame, luma=luma)
                marks.extend(zip(cuts.push(luma), flashes.push(luma), strict=True))
            else:
                marks.append((False, False))
            undecided.append(AnalysedFrame(frame, False, False, frame.time))
        while marks and changes:
            while undecided[0].replaced:
                yield undecided.popleft()
            cut, flash = marks.popleft()
            repeats, change = changes.popleft()
            yield replace(
                undecided.popleft(),
                cut=cut,
                flashes=flash and not cut,
                repeats=repeats and not cut,
                change=change,
            )
    yield from undecided  # replaced frames at the end


def _part(
    frames: Iterator[AnalysedFrame], request: Request
) -> tuple[AnalysedFrame | None, Iterator[AnalysedFrame]]:
    """Return the frame before the part, if it shows motion, and the frames of the part.

    The first frame of the part begins no scene and repeats nothing.
    """
    start = request.start
    if start is None:
        return None, frames
    earlier = None
    for item in frames:
        if item.frame.time >= start:
            if item.cut or item.flashes or item.repeats:
                earlier = None
            first = replace(item, cut=False, flashes=False, repeats=False)
            return earlier, chain([first], frames)
        earlier = None if item.replaced else item
    return None, frames


def evened(
    frames: Iterable[AnalysedFrame], cadence: Cadence, *, refill: bool = True
) -> Iterator[AnalysedFrame]:
    """Push each frame to a cadence, and yield the frames.

    With ``refill`` each frame gets its even time from the cadence, and a repeat None. A
    frame that is replaced counts for the cadence as a different one. Without ``refill`` the
    frames stay as they are, and none waits for later ones.
    """
    waiting: deque[AnalysedFrame] = deque()
    end = Fraction(0)
    for item in frames:
        end = item.frame.time + item.frame.duration
        placed = cadence.push(item.frame.time, item.repeats, item.cut, item.change)
        if not refill:
            yield item
            continue
        waiting.append(item)
        for shows in placed:
            yield waiting.popleft().at(shows)
    for shows, item in zip(cadence.finish(end), waiting, strict=refill):
        yield item.at(shows)


def cadence_of(frames: Iterable[AnalysedFrame]) -> tuple[Cadence, list[AnalysedFrame]]:
    """Return the cadence of a few frames, and the frames with its even times."""
    cadence = Cadence(fills=False)
    return cadence, list(evened(frames, cadence))


def schedule(
    frames: Iterable[Frame], request: Request, counts: Counts | None = None
) -> Iterator[FrameTask]:
    """Plan all output frames in order of time on the schedule's clock, which starts at 0.

    ``counts`` are complete at the end, and get a warning as soon as regular repeats are
    found that the output keeps. Raises InputError if there are fewer than two frames.
    """
    timeline: Timeline[Frame] = Timeline(
        request.rate, request.shows, zero=request.zero, shutter=request.shutter
    )
    counts = Counts() if counts is None else counts
    cadence = Cadence()
    is_reported = refill = request.duplicates == "refill"
    finds_none = refill
    marks = _Marks(timeline.shown)
    held: list[FrameTask] = []  # at most one, whose captions are not all known
    end = Fraction(0)
    replacing = _Replacing(counts.warnings)
    analysed = analyse(frames, request.scene_cut, request.replaces)
    earlier, part = _part(analysed, request)
    gaps = _Gaps(request, None if refill else earlier, counts.warnings)
    analysed = evened(part, cadence, refill=refill)
    for item in chain(analysed, [None]):
        if item is not None:
            marks.add(item)
            timeline.add(gaps.push(item))
            is_shown = request.end is None or item.frame.time < request.end
            replacing.add(item, is_shown=is_shown)
            if not is_shown:
                continue
            counts.add(item, request.tick)
            finds_none &= item.replaced or item.shows == item.frame.time
            timeline.push(item.frame.time)
            end = item.frame.time + item.frame.duration
        elif counts.source_frames > 1:
            replacing.finish(request, counts.replaced)
            if finds_none:
                counts.warnings.add(
                    Warned(
                        "refill-none: --refill changes nothing: no frame of "
                        f"{request.name}, or of the part, is found to repeat another."
                    )
                )
            timeline.add(gaps.finish(end))
            timeline.finish(end)
        else:
            has = "a single frame" if counts.source_frames else "no frame"
            raise InputError(
                f"too-few-frames: {request.name} has {has} to use, and interpolation needs "
                "two or more: give a longer video or part."
            )
        if not is_reported and (item is None or cadence.certain) and cadence.advice:
            counts.warnings.add(Warned(f"cadence-kept: {cadence.advice}"))
            is_reported = True
        decided = chain(held, timeline.decided())
        held = []
        for task in decided:
            if item is not None and not marks.are_known(task):
                held.append(task)  # the timeline keeps those after it
                break
            yield counts.counted(marks.on(task))
        counts.held_frames = timeline.held


def outer_frame(
    frame: Frame, distance: Fraction, gap: Fraction
) -> OuterFrame[Frame] | None:
    """Return a frame beside a pair with its distance, as a multiple of the pair's ``gap``.

    Return None if the distance is less than half or more than twice the gap, because the
    networks were trained on frames at even times.
    """
    reach = distance / gap
    return (frame, reach) if 1 / _MOST_UNEVEN <= reach <= _MOST_UNEVEN else None


class _Replacing:
    """A check of replaced frames: few in a row; a warning if a neighbour stands for one."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings
        self._row: list[Fraction] = []  # the times of replaced frames in a row
        self._repeated = 0  # replaced frames for which a neighbour is repeated
        self._used = 0  # frames that are not replaced

    def add(self, item: AnalysedFrame, *, is_shown: bool) -> None:
        """Add the next frame; the one after the part is not shown."""
        frame = item.frame
        if item.replaced:
            if is_shown:
                self._row.append(frame.time)
                check_row(frame.time + frame.duration - self._row[0])
            return
        if not self._used or item.cut or item.flashes:
            self._repeated += len(self._row)
        self._row.clear()
        self._used += is_shown

    def finish(self, request: Request, replaced: int) -> None:
        if not self._used:
            raise SettingsError(
                f"all-replaced: --replace names all frames of {request.name}, or of the "
                "part: name fewer frames."
            )
        if request.replaced.spans and not replaced:
            self._warnings.add(
                Warned(
                    f"replaced-none: --replace names no frame of {request.name}, or of the "
                    "part: numbers and times count from the first frame of the input."
                )
            )
        if not request.loop:
            self._repeated += len(self._row)
        if self._repeated:
            frames = counted(self._repeated, "frame")
            self._warnings.add(
                Warned(
                    f"replaced-by-neighbour: {frames} of --replace "
                    f"{plural(self._repeated, 'is', 'are')} the first or the last, or "
                    "beside a cut or a flash: a neighbour is repeated there."
                )
            )


class _Gaps:
    """The gaps between content frames, each as soon as it is known what is around it.

    A new frame may also need the source frames before and after its pair, and what flies
    between the frames. ``before``: the frame before the first one, which is not shown.
    ``warnings`` get those about the seam of a loop.
    """

    def __init__(
        self, request: Request, before: AnalysedFrame | None, warnings: Warnings
    ) -> None:
        self._request = request
        self._warnings = warnings
        self._beside = request.context >= FOUR
        self._tracker = FastTracker(request.device, tracks=request.tracks)
        self._first: AnalysedFrame | None = None
        self._start: Fraction | None = None  # the time of the first source frame
        self._before = before
        self._items: deque[AnalysedFrame] = deque()  # from the left frame of a gap on
        self._number = 0  # of the left frame
        self._is_same = False  # whether the left frame shows the picture before
        # Thumbnails of the first and the last frames.
        self._opening: list[Tensor] = []
        self._closing: deque[Tensor] = deque(maxlen=_BESIDE_SEAM)

    def push(self, item: AnalysedFrame) -> list[Gap[Frame]]:
        """Add the next frame, and return the gaps that are now known."""
        if self._start is None:
            self._start = item.frame.time
        if item.frame.luma is not None:
            self._opening = [*self._opening, item.frame.luma][:_BESIDE_SEAM]
            self._closing.append(item.frame.luma)
        if item.shows is None:
            return []
        self._first = self._first or item
        self._items.append(item)
        begins = item.cut or item.flashes
        self._tracker.push(item.frame, begins=begins, repeats=item.repeats)
        return self._known(1 + self._beside)

    def finish(self, end: Fraction) -> list[Gap[Frame]]:
        """Return all other gaps. The last one leads to the end, or in a loop back."""
        assert self._first is not None
        self._tracker.finish()
        known = self._known(1)
        self._beside = False
        last = self._items[0]
        if self._request.loop:
            again = self._again(last.frame, end)
            if _shows(again) > _shows(last):
                self._items.append(again)
                return [*known, self._gap()]
        held = Gap(alone(last.frame), _shows(last), end, None, last.cut, self._is_same)
        return [*known, held]

    def _again(self, last: Frame, end: Fraction) -> AnalysedFrame:
        """Return the first frame as it follows the last one in a loop, at the end.

        Warn if both show one picture, or are of two scenes.
        """
        assert self._first is not None
        assert self._start is not None
        ends = f"The last frame of {self._request.name}, or of the part,"
        beside = [*self._closing, *self._opening]
        cuts = cuts_in(beside, self._request.scene_cut) if beside else []
        is_cut = bool(cuts) and cuts[-len(self._opening)]
        if is_cut:
            self._warnings.add(
                Warned(
                    f"loop-at-cut: {ends} and the first are of two scenes, so no new "
                    "frames lead from one to the other: --scene-cut=off makes them."
                )
            )
        elif self._first.frame.same_picture(last):
            self._warnings.add(
                Warned(
                    f"loop-stands-still: {ends} equals the first, so the loop stands still "
                    "there: leave the last one out with --end."
                )
            )
        return replace(
            self._first,
            cut=is_cut,
            flashes=False,
            repeats=True,
            shows=end + _shows(self._first) - self._start,
        )

    def _known(self, after: int) -> list[Gap[Frame]]:
        gaps = []
        while len(self._items) > after and self._tracker.knows(self._number + 1):
            gaps.append(self._gap())
        return gaps

    def _gap(self) -> Gap[Frame]:
        """Return the gap between the next two frames."""
        left = self._items.popleft()
        right = self._items[0]
        was_same = self._is_same
        self._is_same = right.repeats and left.frame.same_picture(right.frame)
        self._number += 1
        task = alone(left.frame)
        objects = self._tracker.objects(self._number)
        if not (right.cut or right.flashes or self._is_same):
            before, after = self._outer(left, right)
            task = replace(
                task, right=right.frame, before=before, after=after, objects=objects
            )
        self._before = left
        spans = _shows(left), _shows(right)
        return Gap(task, *spans, right.frame, left.cut, was_same)

    def _outer(
        self, left: AnalysedFrame, right: AnalysedFrame
    ) -> tuple[OuterFrame[Frame] | None, OuterFrame[Frame] | None]:
        """Return the frames before and after a pair.

        None stands for a missing frame, a frame of another scene, a repeat (which shows no
        motion), and a frame that :func:`outer_frame` excludes.
        """
        earlier = None
        later = None
        if not self._beside:
            return None, None
        gap = _shows(right) - _shows(left)
        before = self._before
        after = self._items[1] if len(self._items) > 1 else None
        if before is not None and not (left.cut or left.repeats):
            earlier = outer_frame(before.frame, _shows(left) - _shows(before), gap)
        if after is not None and not (after.cut or after.repeats):
            later = outer_frame(after.frame, _shows(after) - _shows(right), gap)
        return earlier, later


class _Marks:
    """The starts of scenes and the captions, for the output frames that show them.

    ``shown`` returns the source's time that the output shows at a time.
    """

    def __init__(self, shown: Callable[[Fraction], Fraction]) -> None:
        # Frames whose captions no output frame has yet.
        self._captioned: deque[Frame] = deque()
        self._due = b""
        self._has_captions = False
        self._end = Fraction(0)
        self._shown = shown
        # Starts of scenes that no output frame has shown yet.
        self._opened: deque[Fraction] = deque()

    def add(self, item: AnalysedFrame) -> None:
        self._end = item.frame.time + item.frame.duration
        if item.frame.captions:
            self._has_captions = True
            self._captioned.append(item.frame)
        if item.cut:
            self._opened.append(item.frame.time)

    def are_known(self, task: FrameTask) -> bool:
        return not self._has_captions or self._end >= self._end_of(task)

    def on(self, task: FrameTask) -> FrameTask:
        """Return the task with its marks."""
        opens_scene = self._opens_scene(task.left)
        return replace(task, opens_scene=opens_scene, captions=self._captions(task))

    def _end_of(self, task: FrameTask) -> Fraction:
        return self._shown(task.time + task.duration)

    def _opens_scene(self, left: Frame) -> bool:
        is_first = any(time <= left.time for time in self._opened)
        while self._opened and self._opened[0] <= left.time:
            self._opened.popleft()
        return is_first

    def _captions(self, task: FrameTask) -> bytes:
        """Return the captions of the frames that the output has shown by now, each once."""
        while self._captioned:
            frame = self._captioned[0]
            is_later = frame.time + frame.duration > self._end_of(task)
            if frame.time > task.left.time and is_later:
                break
            self._due += self._captioned.popleft().captions
        now = self._due[:_MOST_CAPTIONS]
        self._due = self._due[_MOST_CAPTIONS:]
        return now


def _shows(item: AnalysedFrame) -> Fraction:
    assert item.shows is not None, "frames that are left out are in no gap"
    return item.shows
