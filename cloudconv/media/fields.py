"""Make two frames of each interlaced picture, and measure whether and how pictures are interlaced.

An interlaced picture has two fields, which were filmed one after the other: the even lines and the
odd lines. A progressive picture in an interlaced stream was filmed at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Literal

import av
import av.error
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cloudconv.errors import InputError
from cloudconv.media.filters import Chain

Order = Literal["tff", "bff", "auto"]
"""The earlier field: ``tff`` the even lines, ``bff`` the odd lines, ``auto`` as pictures state."""

MEASURED_PICTURES = 25
"""The number of first pictures that show whether and how a video is interlaced."""

# The measure of combs; see `Lines`.
_COLUMNS = 4  # one of so many columns is measured
# Least difference of moving samples, in levels of 255; the second where too few exceed the first.
_MOVED = (8, 3)
_LEAST_MOVING = 1 / 2000  # least fraction of moving samples for a decision
_CLEAR = 1.5  # combs are clearly stronger if they are stronger by this factor
_CLEAR_ORDER = 1.2  # the same for the sums over all measured pictures

Timed = tuple[av.VideoFrame, Fraction]
SecondTime = Callable[[Fraction, Fraction | None], Fraction]


@dataclass(frozen=True, slots=True)
class FieldKind:
    """The fields of an interlaced video.

    Attributes:
        order: the earlier field.
        marked: whether each picture states if the picture is interlaced. Otherwise all pictures
            count as interlaced.
    """

    order: Order = "auto"
    marked: bool = True


class FieldMeter:
    """A measurement of the first pictures of a video: whether and how they are interlaced."""

    def __init__(self) -> None:
        """Start without pictures."""
        self.pictures = 0
        self._marked = False
        self._lines: deque[Lines] = deque(maxlen=3)
        self._top = self._bottom = 0.0
        self._progressive = self._unclear = 0

    def push(self, picture: av.VideoFrame) -> None:
        """Add the next picture, in a planar pixel format."""
        self.pictures += 1
        self._marked |= bool(picture.interlaced_frame)
        self._lines.append(Lines.of(picture))
        if len(self._lines) > 1:
            top, bottom = self._lines[-2].mixed(self._lines[-1])
            self._top, self._bottom = self._top + top, self._bottom + bottom
        if len(self._lines) == 3:
            before, lines, after = self._lines
            self._progressive += lines.is_progressive([before, after])
            self._unclear += not lines.moves([before, after])

    @property
    def kind(self) -> FieldKind | None:
        """Return the kind of the fields; None if the pictures are clearly progressive.

        Pictures that state to be interlaced are interlaced. So are pictures in which nothing moves.
        """
        order: Order = "auto"
        if self._bottom > _CLEAR_ORDER * self._top:
            order = "tff"
        elif self._top > _CLEAR_ORDER * self._bottom:
            order = "bff"
        decided = self.pictures - 2 - self._unclear
        if not self._marked and order == "auto" and 2 * self._progressive > max(decided, 0):
            return None
        return FieldKind(order, self._marked)


def frames_of_fields(
    pictures: Iterable[Timed], kind: FieldKind, second: SecondTime
) -> Iterator[Timed]:
    """Yield two whole frames for each picture, one for each field, by ``bwdif``.

    A frame has the lines of its field. The other lines are computed from the fields before and
    after. A progressive picture is yielded twice.

    Args:
        pictures: decoded pictures of one size and planar pixel format, with their times, in order.
        kind: the relation of the fields.
        second: a function that returns the time of a picture's second frame, from the time of the
            picture and that of the next one (None after the last one).

    Raises:
        InputError: a plane of the pictures is smaller than 3x4 samples.
    """
    source = iter(pictures)
    first = next(source, None)
    if first is None:
        return
    like, step = first[0], f"mode=send_field:parity={kind.order}:deint=all"
    try:
        filters = Chain(like, ("bwdif", step), ("format", like.format.name))
    except av.error.FFmpegError as error:
        raise InputError("not-deinterlaced", width=like.width, height=like.height) from error
    unmarked = Chain(like, ("setfield", "mode=prog"))
    # Damaged files repeat and omit time stamps. The filter needs no time stamps. It returns both
    # frames of a picture when the next picture arrives.
    made = [*filters.push(like, None)]
    before: Lines | None = None
    (picture, time), lines = first, Lines.of(like)
    for timed in chain(source, [None]):
        made += filters.finish() if timed is None else filters.push(timed[0], None)
        after = None if timed is None else Lines.of(timed[0])
        beside = [each for each in (before, after) if each is not None]
        if (kind.marked and not picture.interlaced_frame) or lines.is_progressive(beside):
            made = [*unmarked.push(picture, None)] * 2
        times = time, second(time, None if timed is None else timed[1])
        yield from zip(made, times, strict=True)
        if timed is None or after is None:
            return
        made, before, lines, (picture, time) = [], lines, after, timed


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The even and the odd lines of a picture's luma: (lines, columns) int32 each, in 256 levels.

    One of ``_COLUMNS`` columns is kept.
    """

    even: Tensor
    odd: Tensor

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Lines:
        """Return the lines of a planar picture."""
        luma: Tensor = from_dlpack(picture.planes[0])
        height = luma.shape[0] // 2 * 2
        samples = luma[:height, ::_COLUMNS].to(torch.int32)
        samples >>= picture.format.components[0].bits - 8
        return cls(samples[0::2], samples[1::2])

    def moves(self, others: Iterable[Lines]) -> bool:
        """Return whether the picture differs from any of the others."""
        return any(self._moving(other) is not None for other in others)

    def is_progressive(self, others: Iterable[Lines]) -> bool:
        """Return whether both fields of the picture were clearly filmed at once.

        Then each field fits the other field of the picture better than any field of the pictures
        before and after, at samples that move.

        Args:
            others: the pictures before and after.
        """
        decided = False
        for other in others:
            moving = self._moving(other)
            if moving is None:
                continue
            own = _combs(self.even, self.odd, moving)
            if (
                min(_combs(self.even, other.odd, moving), _combs(other.even, self.odd, moving))
                <= _CLEAR * own
            ):
                return False
            decided = True
        return decided

    def mixed(self, following: Lines) -> tuple[float, float]:
        """Return the strength of combs where fields of this and the next picture are mixed.

        The first value is about the odd lines of this picture with the next even lines: weak combs
        show that the even lines were filmed first. The second value is the opposite. Both are 0 if
        nothing moves.
        """
        moving = self._moving(following)
        if moving is None:
            return 0.0, 0.0
        return _combs(following.even, self.odd, moving), _combs(self.even, following.odd, moving)

    def _moving(self, other: Lines) -> Tensor | None:
        """Return which samples differ from another picture; None if too few do."""
        difference = torch.maximum((self.even - other.even).abs_(), (self.odd - other.odd).abs_())[
            :-1
        ]
        for least in _MOVED:
            moving = difference > least
            if moving.sum() > _LEAST_MOVING * moving.numel():
                return moving
        return None


def _combs(even: Tensor, odd: Tensor, where: Tensor) -> float:
    """Return the mean difference of odd lines from the lines above and below, at some samples."""
    combs = (even[:-1] + even[1:] - 2 * odd[:-1]).abs_()
    return float(combs[where].sum() / where.sum())
