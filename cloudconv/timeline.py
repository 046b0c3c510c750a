"""Compute when each output frame is shown and which source frames it is made from.

All times are Fractions of a second, never floats. This module handles no pixels and no
codec. A *source time* is when the source shows a frame. A *content time* is when the
frame's content belongs in the motion. Both are equal unless repeated frames are refilled
(:attr:`Gap.begins`). The output clock is 0 at the first source frame. A map
(:mod:`cloudconv.timemap`) says which source time an output frame shows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Generic, TypeVar

from cloudconv.fastobjects import FastObject
from cloudconv.timemap import TimeMap

SourceFrame = TypeVar("SourceFrame")
Other = TypeVar("Other")

OuterFrame = tuple[SourceFrame, Fraction]
"""A source frame before or after a pair of source frames, and its distance from the pair as
a multiple of the time between the two frames of the pair."""


@dataclass(frozen=True, slots=True)
class Task(Generic[SourceFrame]):
    """An output frame to make: the picture at ``t``, 0 to 1, between two source frames.

    A source frame is a decoded ``Frame``, or only its time on the source's clock: a task of
    times can be sent to other processes. ``time`` and ``duration`` are in seconds on the
    schedule's clock, which begins at 0; the output adds an offset. If ``right`` is None,
    the output frame is the unchanged source frame ``left``. ``opens_scene`` marks the first
    output frame of a scene. ``before`` and ``after`` are the frames beside the pair, for
    models that read four frames. They are None if they are not needed, or if the scene has
    no suitable frame there. ``captions`` are the closed captions of the output frame.
    ``seen``: what an open shutter sees, in parts between two source frames each. The output
    frame is then the mean of these parts by their ``duration``. A part goes from the place
    ``t`` between its source frames to the place ``until``. ``objects``: those that fly
    between both source frames, as the frames around them show; the source determines them.
    ``segment`` is the number of the segment that the frame belongs to: that of its first
    output frame, counted from 0.
    """

    left: SourceFrame
    right: SourceFrame | None
    t: Fraction
    time: Fraction
    duration: Fraction
    opens_scene: bool = False
    before: OuterFrame[SourceFrame] | None = None
    after: OuterFrame[SourceFrame] | None = None
    captions: bytes = b""
    seen: "tuple[Task[SourceFrame], ...]" = ()
    until: Fraction = Fraction(0)
    segment: int = field(default=0, compare=False, repr=False)
    objects: tuple[FastObject, ...] = field(default=(), compare=False, repr=False)

    @property
    def is_new(self) -> bool:
        """Return whether the frame is a new one, and not a frame of the source."""
        return bool(self.seen) or (self.right is not None and self.t != 0)

    @property
    def sources(self) -> list[SourceFrame]:
        """Return all source frames of the task."""
        sources = [self.left]
        if self.right is not None:
            sources.append(self.right)
        for beside in (self.before, self.after):
            if beside is not None:
                sources.append(beside[0])
        for part in self.seen:
            sources += part.sources
        return sources

    def of(self, other: Callable[[SourceFrame], Other]) -> "Task[Other]":
        """Return the task with other source frames, such as the decoded frames of times."""

        def of_beside(beside: OuterFrame[SourceFrame] | None) -> OuterFrame[Other] | None:
            return None if beside is None else (other(beside[0]), beside[1])

        return Task(
            left=other(self.left),
            right=None if self.right is None else other(self.right),
            t=self.t,
            time=self.time,
            duration=self.duration,
            opens_scene=self.opens_scene,
            before=of_beside(self.before),
            after=of_beside(self.after),
            captions=self.captions,
            seen=tuple(part.of(other) for part in self.seen),
            until=self.until,
            segment=self.segment,
            objects=self.objects,
        )


@dataclass(frozen=True, slots=True)
class Gap(Generic[SourceFrame]):
    """The source from one content frame to the next, in seconds on the source's clock.

    ``task``: what all tasks between both have in common, without ``right`` if no new frame
    leads from one to the other, as at a cut. ``following`` is the next content frame, None
    after the last. ``begins_scene``: the left frame is the first one of a scene.
    ``repeats``: the left frame shows the picture before.
    """

    task: Task[SourceFrame]
    begins: Fraction
    ends: Fraction
    following: SourceFrame | None
    begins_scene: bool = False
    repeats: bool = False

    def place(self, source: Fraction) -> Fraction:
        """Return the place of a source time, 0 to 1; 0 if the left frame is held there."""
        if self.following is None or source < self.begins:
            return Fraction(0)
        return (source - self.begins) / (self.ends - self.begins)

    def at(self, place: Fraction, until: Fraction = Fraction(0)) -> Task[SourceFrame]:
        """Return the task at a place, or that of what is seen from there to another."""
        if self.task.right is None or not (place or until):
            return alone(self.task.left)
        return replace(self.task, t=place, until=until)


@dataclass(frozen=True, slots=True)
class Multiply:
    """Divide each gap between source frames, and the last duration, by ``factor``."""

    factor: int


@dataclass(frozen=True, slots=True)
class Resample:
    """Show frame ``k`` at exactly ``k / rate`` seconds on the schedule's clock.

    The output lasts as long as the source on that clock, rounded up to a whole frame.
    """

    rate: Fraction


EVEN = TimeMap.even()
"""The map of a source at its own speed."""


class Timeline(Generic[SourceFrame]):
    """A converter from source times to tasks, both in order of time.

    A task is returned as soon as the gaps are known that it shows. Until then the timeline
    stores the output times between two source frames. This storage does not grow with the
    length of the source. ``request`` is the rule for the output times, and ``shows`` the
    map from these to source times, which count from ``zero`` on the source's clock, by
    default from the first source frame. Where the source plays faster than it was filmed,
    the nearest content frame is shown. ``shutter`` is the part of an output frame's
    duration for which a shutter is open, from the frame's time on; 0 is an instant.
    ``held`` is the number of source frames that are shown at another time than their own.
    """

    def __init__(
        self,
        request: Multiply | Resample,
        shows: TimeMap = EVEN,
        *,
        zero: Fraction | None = None,
        shutter: Fraction = Fraction(0),
    ) -> None:
        self._request = request
        self._shutter = shutter
        self._end: Fraction | None = None  # of the source, when it is known
        self._map = shows
        self._zero = zero
        self._has_begun = False
        # The first source time, and the last one so far, on the source's clock.
        self._first = Fraction(0)
        self._latest = Fraction(0)
        self._count = 0  # output times so far (Resample)
        self._nearest: SourceFrame | None = None  # the last one that is shown as nearest
        self._gaps: deque[Gap[SourceFrame]] = deque()  # those that later tasks may need
        self.held = 0
        # Undecided output times: the first of some, the step to the next one, and their
        # number.
        self._waiting: deque[tuple[Fraction, Fraction, int]] = deque()

    def push(self, time: Fraction) -> None:
        """Add the time of the next source frame, on the source's clock."""
        if self._has_begun:
            self._divide(time)
            return
        self._has_begun = True
        self._first = self._latest = time
        if self._zero is not None:
            self._map = self._map.after(time - self._zero)

    def add(self, gaps: Iterable[Gap[SourceFrame]]) -> None:
        """Add the next gaps between content frames, which follow each other."""
        self._gaps.extend(gaps)

    def finish(self, end: Fraction) -> None:
        """Set the end of the source, on its clock. All gaps before it are known."""
        self._end = end
        self._divide(end)

    def decided(self) -> Iterator[Task[SourceFrame]]:
        """Yield the tasks that are now decided.

        A gap of hours has millions of tasks, and none is stored. Tasks that are not taken
        come with the next call.
        """
        while self._waiting:
            time, duration, count = self._waiting[0]
            opens = self.shown(time)
            closes = self.shown(time + duration * self._shutter)
            if self._end is not None:
                closes = min(closes, self._end)
            self._drop_before(opens)
            if not self._gaps or self._gaps[-1].ends < closes:
                return
            self._waiting.popleft()
            if count > 1:
                self._waiting.appendleft((time + duration, duration, count - 1))
            task = self._exposed(opens, closes) if self._shutter else self._instant(opens)
            self.held += opens != self._gaps[0].begins and not task.is_new
            yield replace(task, time=time, duration=duration)
        by = self._request
        self._drop_before(
            self._latest if isinstance(by, Multiply) else self.shown(self._count / by.rate)
        )

    def shown(self, time: Fraction) -> Fraction:
        """Return the time on the source's clock that the output shows at a time."""
        return self._first + self._map.source(time)

    def _divide(self, source: Fraction) -> None:
        begins, ends = (self._map.output(x - self._first) for x in (self._latest, source))
        if isinstance(self._request, Multiply):
            step = (ends - begins) / self._request.factor
            self._waiting.append((begins, step, self._request.factor))
        else:
            rate = self._request.rate
            count = self._map.frames(source - self._first, rate)
            if count > self._count:
                self._waiting.append((self._count / rate, 1 / rate, count - self._count))
            self._count = count
        self._latest = source

    def _instant(self, opens: Fraction) -> Task[SourceFrame]:
        gap = self._gaps[0]
        place = gap.place(opens)
        is_fast = self._map.speed_at(opens - self._first) > 1
        if is_fast:
            self._nearest = gap.following if round(place) else gap.task.left
        # Where fast motion ends, no earlier picture follows the nearest one.
        is_near = is_fast or self._nearest is gap.following
        if place and is_near and self._nearest is not None:
            return alone(self._nearest)
        return gap.at(place)

    def _exposed(self, opens: Fraction, closes: Fraction) -> Task[SourceFrame]:
        """Return the task of what a shutter sees, without other scenes.

        Equal pictures are one part. The task has no parts if all of it is still.
        """
        first = self._gaps[0]
        parts: list[Task[SourceFrame]] = []
        begins = opens
        if opens < first.begins:
            begins = min(closes, first.begins)
            parts.append(replace(alone(first.task.left), duration=begins - opens))
        for gap in self._gaps:
            ends = min(closes, gap.ends)
            if begins >= ends or (gap is not first and gap.begins_scene):
                break
            part = gap.at(gap.place(begins), gap.place(ends))
            lasts = ends - begins
            is_same = gap is first or gap.repeats
            if parts and is_same and parts[-1].right is part.right is None:
                part = parts.pop()
                lasts += part.duration
            parts.append(replace(part, time=begins, duration=lasts))
            begins = ends
        is_still = len(parts) == 1 and parts[0].right is None
        return replace(first.at(first.place(opens)), seen=() if is_still else tuple(parts))

    def _drop_before(self, time: Fraction) -> None:
        while self._gaps and self._gaps[0].ends <= time:
            self._gaps.popleft()


def alone(frame: SourceFrame) -> Task[SourceFrame]:
    """Return the task of a source frame; its times are set later."""
    zero = Fraction(0)
    return Task(frame, None, zero, zero, zero)


def output_rate(
    request: Multiply | Resample, source_rate: Fraction | None, shows: TimeMap = EVEN
) -> Fraction | None:
    """Return the constant frame rate of the output in frames per second.

    None means that the output follows a source that has no constant rate.
    """
    if isinstance(request, Resample):
        return request.rate
    if source_rate is None or shows.speed is None:
        return None
    return source_rate * request.factor * shows.speed


def expected_frames(
    request: Multiply | Resample,
    frames: int,
    duration: Fraction,
    shows: TimeMap = EVEN,
) -> int:
    """Return the number of tasks for ``frames`` source frames of ``duration`` seconds."""
    if isinstance(request, Multiply):
        return frames * request.factor
    return shows.frames(duration, request.rate)
