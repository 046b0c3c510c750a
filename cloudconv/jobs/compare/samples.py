"""What is scored of a clip: samples of neighbouring frames, and the scores that come of each.

The scores of a sample depend on nothing but its own frames, or on those right before it where a
metric sees frames in order. They are added up in the order of the clip, whoever measured them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cloudconv.errors import InputError
from cloudconv.jobs.compare.scores import FrameScores, SequenceScores
from cloudconv.jobs.compare.settings import CompareJob
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.source import Source
from cloudconv.messages import Message
from cloudconv.models import registry
from cloudconv.schedule.cadence import Cadence
from cloudconv.schedule.frames import AnalysedFrame, Counts, look, retime
from cloudconv.settings import exact
from cloudconv.training.fine_tune import AdaptPlan

CADENCE_FRAMES = 300
"""Source frames in which a cadence shows, if there is one."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ClipFrame(AnalysedFrame):
    """A source frame that is compared; ``number`` is its own from the beginning of the part.

    ``shows`` is when its content belongs: its own time, or an even one in a clip with a cadence.
    """

    number: int
    shows: Fraction


class Clip:
    """The part that is compared, without frames that only repeat: those say nothing of a method.

    ``cadence`` says how frames repeat, if they do so regularly. ``frames_expected`` is about how
    many source frames the part has, ``share`` what is left of them. ``cuts`` (on the source's
    clock) and ``left_out``, the number of repeats, are whole once all frames have been read.
    """

    def __init__(self, settings: CompareJob, info: MediaInfo) -> None:
        self.info = info
        self._settings = settings
        self.cuts: list[Fraction] = []
        self.left_out = 0
        timing = info.timing
        length = timing.end - timing.start
        end = length if settings.end is None else min(exact(settings.end), length)
        part = max(end - (exact(settings.start) or 0), Fraction(0))
        self.frames_expected = round(timing.frames * part / length)
        cadence = Cadence()
        end = Fraction(0)
        # Not closed: that would end what comes from standard input.
        for item in islice(look(self.source().frames(), settings.scene_cut), CADENCE_FRAMES):
            cadence.push(item.frame.time, item.repeats, item.cut)
            end = item.frame.time + item.frame.duration
        cadence.finish(end)
        self.cadence = cadence.description
        self.share = cadence.share if self.cadence else Fraction(1)

    def source(self) -> Source:
        """The part that was asked for."""
        s = self._settings
        return Source(self.info, start=exact(s.start), end=exact(s.end), threads=s.threads)

    def frames(self, source: Source) -> Iterator[ClipFrame]:
        """What is compared, in order."""
        analysed = look(source.frames(), self._settings.scene_cut)
        duplicates = "refill" if self.cadence else "keep"
        for number, (item, shows) in enumerate(retime(analysed, duplicates, Counts())):
            if shows is None:
                self.left_out += 1
                continue
            if item.cut:
                self.cuts.append(item.frame.time)
            yield ClipFrame(item.frame, item.cut, item.repeats, number, shows)


@dataclass(frozen=True, slots=True)
class OuterSample:
    """A kept frame beside a sample; see :class:`Sample` for ``time`` and ``shows``."""

    time: Fraction
    shows: Fraction
    frame: Frame | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Neighbouring source frames of which some are made anew and scored.

    ``numbers`` are theirs from the beginning of what is compared, ``times`` are on the source's
    clock, ``shows`` says when their content belongs, and ``scored`` which of them are scored; where
    none is, the sample is only passed. ``read`` source frames are read when it is done, ``skipped``
    of them were left out for a cut. ``frames`` are there in the process that has decoded them, each
    at the time that it shows. ``outer``: with ``drop``, the kept frames before and after, if they
    are of the same scene.
    """

    numbers: tuple[int, ...]
    times: tuple[Fraction, ...]
    shows: tuple[Fraction, ...]
    scored: tuple[int, ...]
    read: int
    skipped: int = 0
    frames: tuple[Frame, ...] = ()
    outer: tuple[OuterSample | None, OuterSample | None] = (None, None)


class Sampler:
    """Where a clip is scored.

    With ``drop`` a sample is two kept frames and those between them, with ``horizon`` the frames
    that a predictor sees and those that follow, up to the next cut.

    Raises:
        InputError: the clip is too short.
    """

    def __init__(self, settings: CompareJob, clip: Clip) -> None:
        self._settings = settings
        self._is_held: Callable[[tuple[Fraction, ...]], bool] = lambda times: True
        if settings.horizon is None:
            self.context, self._inside, self._step = 1, settings.kept - 1, settings.kept
            self._most = self._least = settings.kept + 1
            task = Message("task-drop", kept=settings.kept)
        else:
            specs = [registry.spec(name, "predict") for name in settings.methods]
            self.context = max(spec.context for spec in specs)
            roomy = max(spec.context + spec.past for spec in specs)
            if clip.frames_expected * clip.share >= roomy + settings.horizon:
                self.context = roomy
            self._inside, self._step = settings.horizon, settings.step
            self._most, self._least = self.context + settings.horizon, self.context + 1
            task = Message("task-horizon", context=self.context)
        self._end = clip.info.timing.frames
        frames = clip.frames_expected
        self._total = (int(frames * clip.share) - self._least) // self._step + 1
        if self._total < 1:
            raise InputError(
                "too-few-to-score",
                path=clip.info.path,
                frames=frames,
                part=settings.start is not None or settings.end is not None,
                task=task,
                least=self._least,
            )

    def keep_to_held(self, plan: AdaptPlan) -> None:
        """Score only what was held back from the training."""
        self._is_held = plan.is_held
        self._total = max(1, int(self._total * sum(b - a for a, b in plan.held)))

    def samples(self, frames: Iterable[ClipFrame]) -> Iterator[Sample]:
        """All samples in order, with their frames; the last one is empty."""
        wanted = self._settings.frames
        inside = each = self._inside
        count = None
        if wanted is not None and wanted < self._total * inside:
            each = min(wanted, inside)
            count = wanted // each
        chosen, within = evenly(self._total, count), evenly(inside, each)
        number, first = 0, self.context
        last = int(self._settings.horizon is None)  # the kept frame at the end of a sample
        found = windows(frames, self._most, self._step, self._least)
        for before, items, after in beside(found):
            times = tuple(item.frame.time for item in items)
            is_held = self._is_held(times)
            end, skipped = self._until_cut(items)
            taken = is_held and chosen(number)
            number += is_held
            yield Sample(
                numbers=tuple(item.number for item in items[:end]),
                times=times[:end],
                shows=tuple(item.shows for item in items[:end]),
                scored=tuple(k for k in range(first, end - last) if taken and within(k - first)),
                read=items[-1].number + 1,
                skipped=skipped if taken or last else 0,
                frames=tuple(
                    item.frame.at(item.shows, item.frame.duration) for item in items[:end]
                ),
                outer=(_kept(before, 0), _kept(after, -1)) if last else (None, None),
            )
        yield Sample((), (), (), (), self._end)

    def _until_cut(self, items: Sequence[ClipFrame]) -> tuple[int, int]:
        """Where a sample ends, and how many frames a cut takes away from it."""
        cut = next((k for k, item in enumerate(items) if k and item.cut), None)
        if cut is None:
            return len(items), 0
        if self._settings.horizon is None:
            return self.context, self._inside
        end = max(cut, self.context)
        return end, len(items) - end


def _kept(items: Sequence[ClipFrame] | None, place: int) -> OuterSample | None:
    """The first or last frame of the sample before or after one, if no cut lies between."""
    if items is None or any(item.cut for item in items[1:]):
        return None
    item = items[place]
    return OuterSample(item.frame.time, item.shows, item.frame.at(item.shows, item.frame.duration))


def beside(items: Iterable[Item]) -> Iterator[tuple[Item | None, Item, Item | None]]:
    """Each item between the one before it and the one after it."""
    before: Item | None = None
    here: Item | None = None
    for after in items:
        if here is not None:
            yield before, here, after
        before, here = here, after
    if here is not None:
        yield before, here, None


def windows(items: Iterable[Item], most: int, step: int, least: int) -> Iterator[tuple[Item, ...]]:
    """Up to ``most`` neighbours from every ``step``-th item on, where there are ``least``."""
    ring: deque[Item] = deque(maxlen=most)
    read = 0
    for item in items:
        ring.append(item)
        read += 1
        if read >= most and (read - most) % step == 0:
            yield tuple(ring)
    for first in range(max(read - most + 1, 0), read - least + 1):
        if first % step == 0:
            yield tuple(ring)[first - read :]


def evenly(total: int, wanted: int | None) -> Callable[[int], bool]:
    """Which of ``total`` numbers to take when at most ``wanted`` may be: spread evenly."""
    if wanted is None or wanted >= total:
        return lambda number: True
    return {(2 * k + 1) * total // (2 * wanted) for k in range(wanted)}.__contains__


@dataclass(slots=True)
class MethodScores:
    """What a method has scored in a sample.

    ``frames`` has the metrics of each scored frame. ``sequence``, and ``spent`` with the seconds
    that the method took and the frames made in them, have an entry for each horizon, a single one
    for what lies between two frames.
    """

    frames: list[FrameScores] = field(default_factory=list)
    sequence: list[SequenceScores] = field(default_factory=list)
    spent: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SampleImages:
    """A frame of the output as a report needs it: 8-bit RGB, (3, H, W).

    ``made`` has what each method shows, None where it made none. ``number`` is that of the scored
    frame in its sample; None for a kept frame.
    """

    duration: Fraction
    truth: NDArray[np.uint8]
    made: dict[str, NDArray[np.uint8] | None]
    number: int | None


@dataclass(frozen=True, slots=True)
class SampleScores:
    """What came of a sample, by method; ``images`` are only there for a report.

    ``filmed``: of each true frame between others its texture, if that is wanted.
    """

    methods: dict[str, MethodScores]
    filmed: list[FrameScores] = field(default_factory=list)
    images: list[SampleImages] = field(default_factory=list)

    def merge(self, other: SampleScores) -> None:
        """Add what other methods have made of the same sample."""
        self.methods.update(other.methods)
        for one, two in zip(self.images, other.images, strict=True):
            one.made.update(two.made)
