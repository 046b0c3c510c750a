"""Places of a clip that are scored, one by one: in this process or in others, with one outcome.

What is found at a place depends on nothing but its own frames, or on those right before it where a
metric sees frames in order. It is added up in the order of the clip, wherever it was found.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from cloudconv.jobs.frames import FramesByTime
from cloudconv.jobs.scoring import Note
from cloudconv.media.frame import Frame
from cloudconv.media.probe import MediaInfo

_MOST = 64
"""About so many source frames are scored in a stretch, at most."""
_FIRST = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Neighbouring source frames of which some are made anew and scored.

    ``index`` is the number of the first one in the clip, ``times`` are on the source's clock, and
    ``scored`` says which of the frames are scored; where none is, the place is only passed.
    ``read`` source frames are read when it is done, ``skipped`` of them were left out for a cut.
    ``frames`` are there in the process that has decoded them.
    """

    index: int
    times: tuple[Fraction, ...]
    scored: tuple[int, ...]
    read: int
    skipped: int = 0
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Pictured:
    """A frame of the output as a report needs it: RGB, (3, H, W), float32 in [0, 1].

    ``number`` is that of the scored frame in its place; None for a kept frame.
    """

    duration: Fraction
    truth: Tensor
    made: dict[str, Tensor | None]
    number: int | None


@dataclass(slots=True)
class Found:
    """What was found at a place.

    ``notes`` has for each method a list for each horizon, a single one for what lies between two
    frames. ``seconds`` has for each method, again for each horizon, the time that it took and how
    many frames it has made in it. ``pictures`` are only there for a report.
    """

    notes: dict[str, list[list[Note]]] = field(default_factory=dict)
    seconds: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    pictures: list[Pictured] = field(default_factory=list)

    def merge(self, other: Found, methods: Sequence[str]) -> None:
        """Add what other methods have made of the same place; all of them are in ``methods``."""
        self.notes |= other.notes
        self.seconds |= other.seconds
        self.pictures = [
            replace(one, made={name: (one.made | two.made)[name] for name in methods})
            for one, two in zip(self.pictures, other.pictures, strict=True)
        ]

    def packed(self) -> bytes:
        """The same to be sent; pictures are 8-bit RGB, so nothing is lost."""
        return pickle.dumps(replace(self, pictures=[_each(p, _bytes) for p in self.pictures]))

    @staticmethod
    def unpacked(data: bytes) -> Found:
        """What :meth:`packed` was made of."""
        found: Found = pickle.loads(data)
        return replace(found, pictures=[_each(p, _floats) for p in found.pictures])


class Examiner(Protocol):
    """Makes frames by one method or several, and measures them."""

    def examine(self, place: Place) -> Found:
        """What comes of the next place, with its frames."""

    def finish(self) -> Found:
        """What is only known after the last place."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Places that follow each other, examined by one process; stretches are numbered from 0."""

    number: int
    places: tuple[Place, ...]


def stretches(places: Iterable[Place], *, in_order: bool) -> Iterator[Stretch]:
    """Cut a clip into stretches that can be examined independently.

    The first few are shorter, so that soon there is something to do for everyone.

    Args:
        places: all of them, in order; they leave without frames.
        in_order: a metric sees all frames in order, so only a place where nothing is scored ends
            a stretch.
    """
    number, frames = 0, 0
    held: list[Place] = []
    for place in places:
        most = min(_FIRST << min(number, 8), _MOST)
        if frames >= most and not (in_order and place.scored):
            yield Stretch(number, tuple(held))
            held, frames, number = [], 0, number + 1
        held.append(replace(place, frames=()))
        frames += len(place.times) if place.scored else 0
    if held:
        yield Stretch(number, tuple(held))


def decoded(stretch: Stretch, info: MediaInfo, threads: int | None) -> Iterator[Place]:
    """The places of a stretch with their frames.

    Raises:
        UnfitInputError: a frame is not where it was.
    """
    wanted = {time for place in stretch.places if place.scored for time in place.times}
    frames: FramesByTime | None = None
    for place in stretch.places:
        if not place.scored:
            frames = None
            yield place
            continue
        if frames is None:
            frames = FramesByTime(info, wanted, main=place.times[0], threads=threads)
        found = tuple(frames.get(time) for time in place.times)
        yield replace(place, frames=found)
        frames.forget(place.times[0])


def _each(shown: Pictured, change: Callable[[Tensor], Tensor]) -> Pictured:
    made = {name: None if rgb is None else change(rgb) for name, rgb in shown.made.items()}
    return replace(shown, truth=change(shown.truth), made=made)


def _bytes(rgb: Tensor) -> Tensor:
    return rgb.cpu().mul(255).round_().to(torch.uint8)


def _floats(rgb: Tensor) -> Tensor:
    return rgb.float().div_(255)
