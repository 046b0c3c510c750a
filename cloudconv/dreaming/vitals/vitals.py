"""Find a dream's faults while it is made, by comparing its pictures with the clip.

The measured values are called vitals. docs/measurements/eyes.md says how many of the jumps
that an eye sees they name. A dream without a fault may still look wrong.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean, median
from typing import Any, NamedTuple

import cv2
import numpy as np

from cloudconv.doubts import LEAST, SPOILS, WHOLE, Box, Grade, grade_of, size_of
from cloudconv.dreaming.methods.base import Composed, DreamFrame, Filmed, Jump, Origin
from cloudconv.dreaming.vitals.features import (
    SPAN,
    WINDOW,
    Feature,
    FeatureMeter,
    Features,
    FilmFeatures,
)
from cloudconv.dreaming.vitals.residual import residual_of
from cloudconv.images import MIDDLE_SIDE, TINY, Bytes, Floats, reduced


class Vital(NamedTuple):
    """A vital: clauses about a dream above and below its limits, before these fit a clip.

    ``noise``: a ratio to the mean of the clip has no meaning if the mean is less; None for
    other values. ``lasts``: only the first moment outside is reported, because the fault
    goes on.
    """

    fault: str
    most: float
    least: float = 0.0
    below: str = ""
    noise: float | None = None
    lasts: bool = False


VITALS = {
    "plain": Vital("there is nothing in the picture", 1.0, lasts=True),
    "appears": Vital("something pops up or vanishes", 1.0),
    "residual": Vital("something becomes something else", 1.0),
    "ghost": Vital("two pictures show through each other", 1.0),
    "slides": Vital("parts that stood still slide", 0.06, lasts=True),
    "motion": Vital(
        "motion grows", 3.0, 0.5, "motion stops or slows", noise=0.01, lasts=True
    ),
    "change": Vital("", 100.0, 0.5, "the picture becomes hard", noise=0.05, lasts=True),
    "sharpness": Vital(
        "the picture becomes harsh",
        1.25,
        0.8,
        "the picture becomes soft",
        noise=TINY,
        lasts=True,
    ),
}
"""The vitals, in the order of every table."""

# Exponent by which limits exceed the clip's ratios: a factor lets smears pass.
_SLACK = 1.5
# A place shows two pictures if they differ by so many of its own changes, and levels more.
_OWN = 2
_FAINT = 6
_NONE = np.zeros((1, 1), np.float32)
_HISTORY = 900  # returns of a frame that count
_BESIDE = 5  # frames in a row that may show the same frame


class Fault(NamedTuple):
    """A fault: the frame of the dream, from 0, the vital, and a clause.

    ``size``: how much of the picture is wrong, see :mod:`cloudconv.doubts`; ``box``: where.
    """

    frame: int
    vital: str
    text: str
    size: float
    box: Box = WHOLE

    @property
    def grade(self) -> Grade:
        """Return how much of the fault a viewer sees; what lasts is seen."""
        grade = grade_of(self.size)
        lasts = VITALS[self.vital].lasts and grade is Grade.HARDLY
        return Grade.SEEN if lasts else grade


@dataclass(eq=False)
class Vitals:
    """The vitals of frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values``: of each of ``VITALS`` the greatest of a moment, or the mean of what lasts;
    None if nothing was measured. ``failed``: the vitals that were outside their limits so
    that a viewer sees it, each with a clause.
    """

    start: int
    end: int
    values: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(VITALS))
    failed: dict[str, str] = field(default_factory=dict)
    _measured: defaultdict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def alive(self) -> bool:
        """Return whether a viewer sees no fault."""
        return not self.failed

    def add(self, vital: str, value: float) -> None:
        """Count a value of a moment."""
        measured = self._measured[vital]
        measured.append(value)
        if VITALS[vital].lasts:
            self.values[vital] = fmean(measured)
        else:
            self.values[vital] = max(measured)

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``vitals`` in the JSON of the ``dream`` command."""
        values = {key: None if v is None else round(v, 4) for key, v in self.values.items()}
        return {"from": self.start, "to": self.end, **values, "alive": self.alive}


Judged = Iterator[tuple[DreamFrame, Bytes, Vitals | None]]
"""Frames of a dream, each with its picture for analysis, and the vitals of a window."""


class VitalsMeter:
    """A measurement of a dream's pictures, one after the other, in bounded memory.

    Only what a mode made is measured, because what was filmed is right. ``frames``: the
    number of pictures. ``last``: the film's picture that is shown directly before the
    dream, None for none. ``limits``: (least, most) of each vital. ``seen``: the number of
    pictures so far. ``rows``: the vitals of their windows.
    """

    def __init__(self, film: FilmFeatures, frames: int, last: int | None = -1) -> None:
        self._film = film
        self._meter = FeatureMeter(film)
        self._step = film.material.step
        self._span = max(1, round(SPAN / self._step))
        self._half = max(1, round(1 / (2 * self._step)))
        times = film.material.times
        # When each frame of the film was shown last, and after which times some came again.
        self._shown = [round((time - times[-1]) / self._step) - 1 for time in times]
        self._returns: deque[int] = deque(maxlen=_HISTORY)
        self._before = None if last is None else film.picture(last)
        self._composed: list[Bytes] = []
        self._doubled = _NONE  # the worst levels of two pictures that are mixed
        self._frames = frames
        self.seen = 0
        self._is_filmed = True  # whether the picture before is a frame of the film
        self._found: defaultdict[str, list[Fault]] = defaultdict(list)
        self._worst: list[float] = []
        self._means: dict[str, float | None] = {}
        self.limits = {key: (vital.least, vital.most) for key, vital in VITALS.items()}
        self.rows: list[Vitals] = []

    def judged(self, frames: Iterable[DreamFrame]) -> Judged:
        """Measure the frames of a dream as they are made.

        Yield each frame, its picture for analysis, and what :meth:`push` returns.
        """
        for frame in frames:
            small = frame.small(self._film.material)
            yield frame, small, self.push(small, frame.origin, frame.ghost)

    def push(
        self, small: Bytes, origin: Origin, ghost: Floats | None = None
    ) -> Vitals | None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``.

        ``ghost``: see :class:`DreamFrame`.

        Returns:
            The vitals of the window that ends here, if one does.
        """
        picture = reduced(small, MIDDLE_SIDE)
        if self.seen % WINDOW == 0:
            self.rows.append(Vitals(self.seen, self.seen))
        if not self.seen:
            self._judge({"plain": Feature(self._film.plain, SPOILS)}, range(1))
        is_filmed = isinstance(origin, Filmed)
        if isinstance(origin, Composed):
            self._compose(picture)
        else:
            self._meter.clear()
            self._composed.clear()
            self._show(origin.before if isinstance(origin, Jump) else origin.number)
        if isinstance(origin, Jump):
            self._jump(picture, origin, ghost)
        if self._before is not None and not (self._is_filmed and is_filmed):
            made = self.seen - is_filmed
            features = self._meter.appeared(self._before, picture)
            self._judge(features, range(made, made + 1))
        self._is_filmed = is_filmed
        self._before = picture
        self.seen += 1
        self.rows[-1].end = self.seen
        ends = self.seen % WINDOW == 0 or self.seen == self._frames
        return self.rows[-1] if ends else None

    def _show(self, number: int) -> None:
        """Count the time after which a frame of the film is shown again."""
        apart = self.seen - self._shown[number]
        self._shown[number] = self.seen
        if apart >= _BESIDE:
            self._returns.append(apart)

    def _jump(self, picture: Bytes, jump: Jump, ghost: Floats | None) -> None:
        """Judge two pictures that are mixed, or else the middle of a jump."""
        end = min(jump.start + jump.length, self._frames)
        if ghost is not None:
            own = self._film.stirs
            levels = cv2.resize(ghost, own.shape[::-1]) - _OWN * own - _FAINT
            self._doubled = max(self._doubled, levels.clip(0), key=size_of)
            if self.seen == end - 1:
                self._change("ghost", self._doubled, range(jump.start, end))
                self._doubled = _NONE
            return
        # A loop leads to the first frame of the source, which only its end shows.
        divisor = 1 if jump.after is None else 2
        if self.seen == min(jump.start + (jump.length - 1) // divisor, end - 1):
            last = picture if jump.after is None else self._film.filmed(jump.after)
            frames = range(jump.start, end)
            self._leave(self._film.filmed(jump.before), last, jump.length + 1, frames)

    def _compose(self, picture: Bytes) -> None:
        """Judge a composed picture, and a span that ends with it."""
        before = picture if self._before is None else self._before
        if self._before is not None:
            now = range(self.seen, self.seen + 1)
            self._judge(self._meter.composed(before, picture), now)
        if not self._film.moves:
            return
        self._composed.append(before)
        if len(self._composed) == self._span:
            frames = range(self.seen + 1 - self._span, self.seen + 1)
            self._leave(self._composed[0], picture, self._span, frames)
            self._composed.clear()

    def _leave(self, before: Bytes, after: Bytes, apart: int, frames: range) -> None:
        """Judge what no motion explains between the ends of a change in some frames.

        ``apart``: the distance of the pairs of the film with which the change is compared.
        """
        levels = residual_of(before, after) - self._film.usual_residual(apart)
        self._change("residual", levels.clip(0), frames)

    def _change(self, key: str, levels: Floats, frames: range) -> None:
        """Judge the levels by place of a change that is made in some frames."""
        # A viewer sees a change less that takes longer than a second.
        slow = np.float32(max(1.0, float(len(frames) * self._step)) ** 0.5)
        feature = Feature.of(0, levels / slow)
        self._judge({key: feature._replace(value=feature.size / LEAST)}, frames)

    def _judge(self, features: Features, frames: range) -> None:
        """Count values of some frames, and the faults where limits are exceeded."""
        frame = (frames.start + frames.stop - 1) // 2
        row = self.rows[frame // WINDOW]
        for key, feature in features.items():
            vital = VITALS[key]
            value = self._compared(key, feature.value)
            if value is None:
                continue
            row.add(key, value)
            low, high = self.limits[key]
            if low <= value <= high:
                continue
            text = vital.below if value < low else vital.fault
            fault = Fault(frame, key, text, feature.size, feature.box)
            self._find(fault)
            self._count(frames, feature.size)
            if fault.grade is not Grade.HARDLY:
                row.failed[key] = text

    def _compared(self, key: str, value: float) -> float | None:
        """Return a value, as a ratio to the clip's mean where the clip has one.

        The limits of a ratio are so wide that the clip itself is within.
        """
        vital = VITALS[key]
        if vital.noise is None:
            return value
        if key not in self._means:
            own: Floats = getattr(self._film, key)
            mean = float(own.mean())
            self._means[key] = mean if mean > vital.noise else None
            own = np.maximum(own / max(mean, TINY), TINY) ** _SLACK
            seen = 10 * vital.noise / max(mean, TINY)  # a viewer sees no growth up to there
            least = float(own.min(initial=vital.least))
            most = float(own.max(initial=max(vital.most, seen)))
            self.limits[key] = round(least, 4), round(most, 4)
        mean_or_none = self._means[key]
        return None if mean_or_none is None else value / mean_or_none

    def _find(self, fault: Fault) -> None:
        """Add a fault, or join it with one of about its time, or of what lasts."""
        lasts = VITALS[fault.vital].lasts
        faults = self._found[fault.vital if lasts else ""]
        if faults and (lasts or abs(fault.frame - faults[-1].frame) < self._half):
            other = faults.pop()
            box = other.box.around(fault.box)
            _, worst = max((other.size, other), (fault.size, fault))
            fault = worst._replace(box=box)
            if lasts:
                fault = fault._replace(frame=other.frame)
        faults.append(fault)

    def _count(self, frames: range, size: float) -> None:
        """Count what is wrong in each half second in which frames are made.

        The size is a root, whose square adds up.
        """
        halves = range(frames.start // self._half, (frames.stop - 1) // self._half + 1)
        self._worst += [0.0] * (halves.stop - len(self._worst))
        for half in halves:
            self._worst[half] = max(self._worst[half], size * size)

    @property
    def faults(self) -> list[Fault]:
        """Return the faults so far."""
        return sorted(chain.from_iterable(self._found.values()))

    @property
    def fails(self) -> bool:
        """Return whether a viewer sees a fault so far."""
        return any(row.failed for row in self.rows)

    @property
    def visible(self) -> float:
        """Return how visible the faults are: the mean square of half seconds' sizes."""
        return sum(self._worst) / max(1, -(-self.seen // self._half))

    @property
    def repeats_every(self) -> float | None:
        """Return the time in seconds after which most frames of the film come again.

        Return None if few do, or if the dream ends before. Composed pictures do not count.
        """
        if len(self._returns) < min(self.seen, _HISTORY) / 2:
            return None
        period = round(median(self._returns))
        return None if period >= self.seen else round(float(period * self._step), 3)
