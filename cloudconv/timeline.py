"""Compute when each output frame is shown and which source frames it is made from.

All times are Fractions of a second, never floats. This module handles no pixels and no
codec. A *source time* is when the source shows a frame. A *content time* is when the
frame's content belongs in the motion. Both are equal unless repeated frames are refilled
(``shows`` in :meth:`Timeline.push`). The output clock is 0 at the first source frame. A map
(:mod:`cloudconv.timemap`) says which source time an output frame shows.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
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
class Slot:
    """One interval on the schedule's clock, before its picture is decided.

    ``left`` is the index of a content frame, in the order of pushing. ``timestep``, in [0,
    1), is the position between ``left`` and ``left + 1``; 0 shows ``left`` itself. ``held``
    means that ``left`` is shown at another time than its own, because there is no content
    frame on the other side. ``time`` and ``duration`` are seconds on the schedule's clock.
    ``seen``: what an open shutter sees, a slot for each pair of content frames, from
    ``timestep`` to ``until``; their times and durations are seconds of the source.
    """

    left: int
    timestep: Fraction
    time: Fraction
    duration: Fraction
    held: bool
    seen: "tuple[Slot, ...]" = ()
    until: Fraction = Fraction(0)

    @property
    def is_content(self) -> bool:
        """Return whether the slot shows nothing but ``left``."""
        return self.held or not (self.timestep or self.until)


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


class Timeline:
    """A converter from source times to output slots, both in order of time.

    A slot is returned as soon as no later source time can change it. Until then the
    timeline stores the output times between two content frames. This storage does not grow
    with the length of the source. ``request`` is the rule for the output times, and
    ``shows`` the map from these to source times, which count from ``zero`` on the source's
    clock, by default from the first source frame. Where the source plays faster than it was
    filmed, the nearest content frame is shown. ``shutter`` is the part of an output frame's
    duration for which a shutter is open, from the frame's time on; 0 is an instant. With
    ``loop`` the last content frame leads back to the first one. ``oldest`` is the index of
    the first content frame that later slots may need; when looping, content frame 0 is
    needed, too.
    """

    def __init__(
        self,
        request: Multiply | Resample,
        shows: TimeMap = EVEN,
        *,
        zero: Fraction | None = None,
        loop: bool = False,
        shutter: Fraction = Fraction(0),
    ) -> None:
        self._request = request
        self._shutter = shutter
        self._end: Fraction | None = None  # of the source, when it is known
        self._map = shows
        self._zero = zero
        self._loop = loop
        # The first source time, on the source's clock. The other times count from there.
        self._first: Fraction | None = None
        self._latest = Fraction(0)  # the last source time
        self._count = 0  # output times so far (Resample)
        self._nearest = -1  # the index of the last content frame that is shown as nearest
        self._first_content = Fraction(0)
        self._contents: deque[Fraction] = deque()  # content times that later slots may need
        self.oldest = 0  # index of the first entry of _contents
        # Undecided output times: the first of some, the step to the next one, and their
        # number.
        self._waiting: deque[tuple[Fraction, Fraction, int]] = deque()

    def push(self, time: Fraction, shows: Fraction | None) -> Iterator[Slot]:
        """Add the next source frame and return the slots that are now decided.

        A gap of hours has millions of slots, and none is stored. Slots that are not taken
        come with the next call.

        The source shows the frame at ``time``, on the source's clock. The frame becomes the
        next content frame, whose content belongs to the time ``shows``. None means that the
        frame is left out, as a repeat of the content before it; then only ``time`` counts.
        Source times and content times increase.
        """
        if self._first is None:
            self._first = time
            if self._zero is not None:
                self._map = self._map.after(time - self._zero)
        else:
            self._divide(self._since(time))
        if shows is not None:
            content = self._since(shows)
            if not self._contents:
                self._first_content = content
            self._contents.append(content)
        return self._decided()

    def finish(self, end: Fraction, following: Fraction | None = None) -> Iterator[Slot]:
        """Return all remaining slots, up to ``end`` on the source's clock.

        The slots after the last content frame lead to the content of the frame that follows
        the end, at the time ``following``. Without such a frame they hold the last content
        frame. When looping, they instead lead to content frame 0, which is shown again at
        ``end``. There is a content frame, and ``end`` is after the last one.
        """
        self._end = self._since(end)
        self._divide(self._end)
        if self._loop:
            again = self._latest + self._first_content
            if again > self._contents[-1]:
                self._contents.append(again)
        elif following is not None and self._since(following) > self._contents[-1]:
            self._contents.append(self._since(following))
        return self._decided()

    def shown(self, time: Fraction) -> Fraction:
        """Return the time on the source's clock that the output shows at a time."""
        assert self._first is not None
        return self._first + self._map.source(time)

    def _since(self, time: Fraction) -> Fraction:
        assert self._first is not None
        return time - self._first

    def _divide(self, time: Fraction) -> None:
        if isinstance(self._request, Multiply):
            begins = self._map.output(self._latest)
            step = (self._map.output(time) - begins) / self._request.factor
            self._waiting.append((begins, step, self._request.factor))
        else:
            rate = self._request.rate
            count = self._map.frames(time, rate)
            if count > self._count:
                self._waiting.append((self._count / rate, 1 / rate, count - self._count))
            self._count = count
        self._latest = time

    def _decided(self) -> Iterator[Slot]:
        while self._waiting and self._contents:
            time, duration, count = self._waiting[0]
            opens = self._map.source(time)
            closes = self._map.source(time + duration * self._shutter)
            if self._end is not None:
                closes = min(closes, self._end)
            elif closes > self._contents[-1]:
                return
            self._drop_before(opens)
            self._waiting.popleft()
            if count > 1:
                self._waiting.appendleft((time + duration, duration, count - 1))
            yield self._slot(time, duration, opens, closes)
        by = self._request
        self._drop_before(
            self._latest
            if isinstance(by, Multiply)
            else self._map.source(self._count / by.rate)
        )

    def _slot(
        self, time: Fraction, duration: Fraction, opens: Fraction, closes: Fraction
    ) -> Slot:
        left = self._contents[0]
        # Before ``left`` only if content frame 0 was moved to a later time.
        held = opens < left or (opens > left and len(self._contents) == 1)
        timestep = Fraction(0)
        if opens > left and not held:
            timestep = (opens - left) / (self._contents[1] - left)
        if self._shutter:
            seen = tuple(self._seen(opens, closes))
            return Slot(self.oldest, timestep, time, duration, held, seen)
        is_fast = self._map.speed_at(opens) > 1
        if is_fast:
            self._nearest = self.oldest + round(timestep)
        # Where fast motion ends, no earlier picture follows the nearest one.
        if timestep and (is_fast or self._nearest > self.oldest):
            return Slot(self._nearest, Fraction(0), time, duration, held=True)
        return Slot(self.oldest, timestep, time, duration, held)

    def _seen(self, opens: Fraction, closes: Fraction) -> Iterator[Slot]:
        """Yield what a shutter sees between each two content frames, and outside of all."""
        zero = Fraction(0)
        first, last = self._contents[0], self._contents[-1]
        if opens < first:
            yield Slot(self.oldest, zero, opens, min(closes, first) - opens, held=True)
        for number, (left, right) in enumerate(pairwise(self._contents), self.oldest):
            begins, ends = max(opens, left), min(closes, right)
            if begins < ends:
                timestep, until = (
                    (time - left) / (right - left) for time in (begins, ends)
                )
                lasts = ends - begins
                yield Slot(number, timestep, begins, lasts, held=False, until=until)
        if closes > last:
            number = self.oldest + len(self._contents) - 1
            begins = max(opens, last)
            yield Slot(number, zero, begins, closes - begins, held=True)

    def _drop_before(self, time: Fraction) -> None:
        while len(self._contents) > 1 and self._contents[1] <= time:
            self._contents.popleft()
            self.oldest += 1


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
    """Return the number of slots for ``frames`` source frames of ``duration`` seconds."""
    if isinstance(request, Multiply):
        return frames * request.factor
    return shows.frames(duration, request.rate)
