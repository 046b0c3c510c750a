"""Gather the frames for a forecast: the different frames since the last cut, and their cadence."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, repeat

from cloudconv.errors import InputError
from cloudconv.media.frame import Frame
from cloudconv.media.info import MediaInfo
from cloudconv.media.source import Source
from cloudconv.schedule.cadence import MAX_REPEATS
from cloudconv.schedule.frames import AnalysedFrame, cadence_of

WINDOW = 64
"""The number of frames before the forecast that show its cadence."""


@dataclass(frozen=True, slots=True)
class Context:
    """The facts about a source at the start of a forecast.

    ``frames`` are the last frames with different content, oldest first. If the picture stands
    still, they are one frame several times. ``earlier`` are such frames before ``frames``, for a
    trial. ``last`` is the source's last frame before the
    forecast, which may repeat the last of ``frames``. ``cut`` is the time of the last
    cut on the source's clock, None without a cut or if enough frames follow. ``cadence`` describes
    regular repeats, or is None. ``pattern`` states for each of the last frames whether it repeats
    the one before. ``gap`` is the usual time between two frames, None for a single frame.
    """

    frames: tuple[Frame, ...]
    earlier: tuple[Frame, ...]
    last: Frame
    cut: Fraction | None
    cadence: str | None
    pattern: tuple[bool, ...]
    gap: Fraction | None

    def repeats(self) -> Iterator[bool]:
        """Return for each new frame whether it repeats the one before; the iterator never ends."""
        return repeat(False) if self.cadence is None else continued(self.pattern)


class LastScene:
    """The last frames since the last cut, at most ``count``; ``cut`` is the cut's time or None."""

    def __init__(self, count: int) -> None:
        """Start without frames."""
        self.items: deque[AnalysedFrame] = deque(maxlen=count)
        self.cut: Fraction | None = None

    def push(self, item: AnalysedFrame) -> None:
        """Add the next frame."""
        if item.cut:
            self.items.clear()
            self.cut = item.frame.time
        self.items.append(item)

    def begin_after(self, time: Fraction) -> None:
        """Drop all frames up to ``time``; the first frame that is kept becomes the cut."""
        while self.items[0].frame.time <= time:
            self.items.popleft()
            self.cut = self.items[0].frame.time

    @property
    def gap(self) -> Fraction | None:
        """Return the usual time between two frames; None for a single frame."""
        gaps = sorted(b.frame.time - a.frame.time for a, b in pairwise(self.items))
        return gaps[len(gaps) // 2] if gaps else None


def frames_between(
    info: MediaInfo, start: Fraction, end: Fraction | None, threads: int | None
) -> Iterator[Frame]:
    """Yield the frames from ``start`` to ``end``, in seconds from the first frame.

    Raises:
        InputError: the video cannot be decoded. If ``start`` is after 0, a part without frames is
            no error, because a sparse video may have earlier frames.
    """
    source = Source(info, start=start if start > 0 else None, end=end, threads=threads)
    empty = True
    try:
        for frame in source.frames():
            empty = False
            yield frame
    except InputError:
        if not empty or start <= 0:
            raise


def gather(analysed: Iterable[AnalysedFrame], size: int, more: int = 0) -> Context | None:
    """Return the context at the end of a sequence of frames; None for an empty sequence.

    Args:
        analysed: the frames in order of time, up to the start of the forecast.
        size: the largest number of different frames to keep.
        more: the number of earlier frames to keep in addition.
    """
    frames: deque[Frame] = deque(maxlen=size + more)
    scene = LastScene(WINDOW)
    standing = 0
    for item in analysed:
        if item.cut:
            frames.clear()
        scene.push(item)
        standing = standing + 1 if item.repeats else 0
        if standing > MAX_REPEATS:
            # The picture stands still: the motion before the stop does not continue.
            frames.extend([item.frame] * (size + more))
        elif not item.repeats:
            frames.append(item.frame)
    if not scene.items:
        return None
    cadence = cadence_of(scene.items)[0].description
    return Context(
        frames=tuple(frames)[-size:],
        earlier=tuple(frames)[:-size],
        last=scene.items[-1].frame,
        cut=scene.cut if len(frames) < size else None,
        cadence=None if cadence is None else str(cadence),
        pattern=tuple(item.repeats for item in scene.items),
        gap=scene.gap,
    )


def continued(pattern: Sequence[bool]) -> Iterator[bool]:
    """Continue a pattern of repeats without an end.

    A cycle is some different frames and the repeats after them. An incomplete cycle at the end
    of the pattern is completed first. The next cycle is always the one that most often follows such
    a cycle in the pattern.

    Args:
        pattern: a value for each frame so far, which states whether it repeats the one before; at
            least three cycles.
    """
    # A cycle starts with the first different frame after a repeat.
    starts = [n for n, (before, repeats) in enumerate(pairwise(pattern), 1) if before > repeats]
    cycles = [pattern[start:end] for start, end in pairwise(starts)]
    # The kind of a cycle is its numbers of different frames and of repeats.
    kinds = [(cycle.count(False), cycle.count(True)) for cycle in cycles]
    kind, begun = kinds[-1], pattern[starts[-1] :]
    pairs = [pair for pair, _ in Counter(pairwise(kinds)).most_common()] or [(kind, kind)]
    while True:
        kind = next((after for before, after in pairs if before == kind), pairs[0][1])
        different, repeated = kind
        if True not in begun:
            yield from [False] * (different - len(begun))
        yield from [True] * (repeated - begun.count(True))
        begun = ()
