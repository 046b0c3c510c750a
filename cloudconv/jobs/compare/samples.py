"""Places of a clip that are scored, one by one: in this process or in others, with one outcome.

What is found in a sample depends on nothing but its own frames, or on those right before it where a
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

from cloudconv.jobs.compare.scores import FrameScore
from cloudconv.media.frame import Frame
from cloudconv.media.read.probe import MediaInfo
from cloudconv.segments.reader import FramesByTime

_MOST = 64
"""About so many source frames are scored in a chunk, at most."""
_FIRST = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """Neighbouring source frames of which some are made anew and scored.

    ``numbers`` are theirs from the beginning of what is compared, ``times`` are on the source's
    clock, and ``scored`` says which of the frames are scored; where none is, the sample is only
    passed. ``read`` source frames are read when it is done, ``skipped`` of them were left out for a
    cut. ``shows``: when the frames' content belongs, where that is not at ``times``. ``frames`` are
    there in the process that has decoded them, each at the time that it shows.
    """

    numbers: tuple[int, ...]
    times: tuple[Fraction, ...]
    scored: tuple[int, ...]
    read: int
    skipped: int = 0
    frames: tuple[Frame, ...] = ()
    shows: tuple[Fraction, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleImages:
    """A frame of the output as a report needs it: RGB, (3, H, W), float32 in [0, 1].

    ``number`` is that of the scored frame in its sample; None for a kept frame.
    """

    duration: Fraction
    truth: Tensor
    made: dict[str, Tensor | None]
    number: int | None


@dataclass(slots=True)
class SampleScores:
    """What was found in a sample.

    ``notes`` has for each method a list for each horizon, a single one for what lies between two
    frames. ``seconds`` has for each method, again for each horizon, the time that it took and how
    many frames it has made in it. ``pictures`` are only there for a report.
    """

    notes: dict[str, list[list[FrameScore]]] = field(default_factory=dict)
    seconds: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    pictures: list[SampleImages] = field(default_factory=list)

    def merge(self, other: SampleScores, methods: Sequence[str]) -> None:
        """Add what other methods have made of the same sample; all of them are in ``methods``."""
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
    def unpacked(data: bytes) -> SampleScores:
        """What :meth:`packed` was made of."""
        found: SampleScores = pickle.loads(data)
        return replace(found, pictures=[_each(p, _floats) for p in found.pictures])


class Scorer(Protocol):
    """Makes frames by one method or several, and measures them."""

    def score(self, sample: Sample) -> SampleScores:
        """What comes of the next sample, with its frames."""

    def finish(self) -> SampleScores:
        """What is only known after the last sample."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples that follow each other, scored by one worker; chunks are numbered from 0."""

    number: int
    samples: tuple[Sample, ...]

    def at(self, number: int) -> Sample:
        """The sample of that number, or for scores that come after them all an empty one."""
        if number < len(self.samples):
            return self.samples[number]
        return Sample((), (), (), self.samples[-1].read)


def chunked(samples: Iterable[Sample], *, in_order: bool) -> Iterator[Chunk]:
    """Cut a clip into chunks that can be scored independently.

    The first few are shorter, so that soon there is something to do for everyone.

    Args:
        samples: all of them, in order; they leave without frames.
        in_order: a metric sees all frames in order, so only a sample where nothing is scored ends
            a chunk.
    """
    number, frames = 0, 0
    held: list[Sample] = []
    for sample in samples:
        most = min(_FIRST << min(number, 8), _MOST)
        if frames >= most and not (in_order and sample.scored):
            yield Chunk(number, tuple(held))
            held, frames, number = [], 0, number + 1
        held.append(replace(sample, frames=()))
        frames += len(sample.times) if sample.scored else 0
    if held:
        yield Chunk(number, tuple(held))


def decoded(chunk: Chunk, info: MediaInfo, threads: int | None) -> Iterator[Sample]:
    """The samples of a chunk with their frames.

    Raises:
        UnfitInputError: a frame is not where it was.
    """
    wanted = {time for sample in chunk.samples if sample.scored for time in sample.times}
    source: FramesByTime | None = None
    for sample in chunk.samples:
        if not sample.scored:
            source = None
            yield sample
            continue
        if source is None:
            source = FramesByTime(info, wanted, main=sample.times[0], threads=threads)
        frames = tuple(source.get(time) for time in sample.times)
        if sample.shows:
            frames = tuple(
                f.at(time, f.duration) for f, time in zip(frames, sample.shows, strict=True)
            )
        yield replace(sample, frames=frames)
        source.forget(sample.times[0])


def _each(shown: SampleImages, change: Callable[[Tensor], Tensor]) -> SampleImages:
    made = {name: None if rgb is None else change(rgb) for name, rgb in shown.made.items()}
    return replace(shown, truth=change(shown.truth), made=made)


def _bytes(rgb: Tensor) -> Tensor:
    return rgb.cpu().mul(255).round_().to(torch.uint8)


def _floats(rgb: Tensor) -> Tensor:
    return rgb.float().div_(255)
