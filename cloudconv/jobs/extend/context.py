"""What a forecast starts from: the frames that differ, since the last cut, and their rhythm."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from cloudconv.media.frame import Frame
from cloudconv.schedule.cadence import MAX_REPEATS, Cadence
from cloudconv.schedule.frames import AnalysedFrame

WINDOW = 64
"""Frames before the forecast that are looked at: enough for a cadence to show."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known when a forecast begins.

    ``frames`` are those whose content differs, oldest first; ``last`` is the last one shown,
    which may repeat the last of them. ``cut`` is the time, on the source's clock, of the cut that
    the frames begin with, if they do. ``cadence`` says how frames repeat, if they do so
    regularly, and ``beat`` then tells for each frame to come whether it repeats the one before.
    ``gap`` is the usual one between frames, None where there is a single frame.
    """

    frames: tuple[Frame, ...]
    last: Frame
    cut: Fraction | None
    cadence: str | None
    pattern: tuple[bool, ...]
    gap: Fraction | None

    def beat(self) -> Iterator[bool]:
        """Without an end; never True where there is no cadence."""
        if self.cadence is None:
            while True:
                yield False
        yield from carried_on(self.pattern)


def gather(seen: Iterable[AnalysedFrame], size: int) -> Context | None:
    """The context that a row of frames leaves behind; None if there are no frames.

    Args:
        seen: in order of time, up to where the forecast begins.
        size: how many frames that differ are kept at most.
    """
    frames: deque[Frame] = deque(maxlen=size)
    rhythm: deque[AnalysedFrame] = deque(maxlen=WINDOW)
    cut: Fraction | None = None
    standing = 0
    last: Frame | None = None
    for item in seen:
        if item.cut:
            frames.clear()
            rhythm.clear()
            cut = item.frame.time
        last = item.frame
        rhythm.append(item)
        standing = standing + 1 if item.repeats else 0
        if standing > MAX_REPEATS:
            # The picture really stands still: what moved before it stopped moves no more.
            frames.extend([last] * size)
        elif not item.repeats:
            frames.append(last)
    if last is None:
        return None
    gaps = sorted(b.frame.time - a.frame.time for a, b in pairwise(rhythm))
    return Context(
        frames=tuple(frames),
        last=last,
        cut=cut if len(frames) < size else None,
        cadence=_cadence(rhythm),
        pattern=tuple(item.repeats for item in rhythm),
        gap=gaps[len(gaps) // 2] if gaps else None,
    )


def carried_on(pattern: Sequence[bool]) -> Iterator[bool]:
    """How a rhythm goes on, without an end.

    After each cycle comes the one that most often came after its like; a cycle that is under way
    is finished first.

    Args:
        pattern: for each frame so far, whether it repeats the one before.
    """
    cycles: list[tuple[int, int]] = []
    distinct = repeats = 0
    for repeated in pattern:
        if not repeated and repeats:
            cycles.append((distinct, repeats))
            distinct = repeats = 0
        distinct += not repeated
        repeats += repeated
    # The first one began before the first frame that is known.
    whole = cycles[1:] or cycles
    if not whole:
        whole = [(distinct, repeats)] if repeats else [(1, 0)]
    usual = Counter(whole).most_common(1)[0][0]
    followers: defaultdict[tuple[int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
    for before, after in pairwise(whole):
        followers[before][after] += 1
    kind = whole[-1]
    while True:
        known = followers[kind].most_common(1)
        kind = known[0][0] if known else usual
        if not repeats:
            yield from [False] * (kind[0] - distinct)
        yield from [True] * (kind[1] - repeats)
        distinct = repeats = 0


def _cadence(rhythm: Iterable[AnalysedFrame]) -> str | None:
    cadence = Cadence()
    end = Fraction(0)
    for item in rhythm:
        cadence.push(item.frame.time, item.repeats, item.cut)
        end = item.frame.time + item.frame.duration
    cadence.finish(end)
    return cadence.description
