"""What every output frame is made of: cuts held, repeats retimed, each gap divided."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from cloudconv.cadence import Cadence
from cloudconv.engine.runner import Task
from cloudconv.errors import InputError
from cloudconv.media.color import thumbnail
from cloudconv.media.frame import Frame
from cloudconv.scene import CutDetector, RepeatDetector
from cloudconv.timeline import Multiply, Resample, Timeline

SceneCut = Literal["auto", "off"] | float
"""``auto``, ``off``, or a threshold from 0 (cut everywhere) to 1 (never)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A source frame with what was found out about it."""

    frame: Frame
    cut: bool
    repeats: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of the source called ``name``; see ``InterpSettings`` of the interp job."""

    name: str
    rate: Multiply | Resample
    stretch: Fraction
    scene_cut: SceneCut
    duplicates: Literal["keep", "refill"]
    loop: bool


@dataclass(slots=True)
class Counts:
    """What was planned so far; whole once the tasks are all taken.

    ``cuts`` are the times of each new scene's first frame, on the source's clock; ``duration`` is
    the output's; ``cadence`` says how frames repeat, if they do so regularly.
    """

    source_frames: int = 0
    output_frames: int = 0
    new_frames: int = 0
    held_frames: int = 0
    cuts: list[Fraction] = field(default_factory=list)
    duration: Fraction = Fraction(0)
    cadence: str | None = None


def look(frames: Iterable[Frame], scene_cut: SceneCut) -> Iterator[Seen]:
    """Mark cuts and repeats; delayed by the detectors' lookahead."""
    detector = None
    if scene_cut != "off":
        detector = CutDetector(None if isinstance(scene_cut, str) else scene_cut)
    repetition = RepeatDetector()
    waiting: deque[tuple[Frame, bool]] = deque()

    def release(decisions: Sequence[bool]) -> Iterator[Seen]:
        for cut in decisions:
            frame, repeats = waiting.popleft()
            yield Seen(frame, cut, repeats and not cut)

    for frame in frames:
        waiting.append((frame, repetition.push(frame)))
        if detector is None:
            yield from release([False])
        else:
            yield from release(detector.push(thumbnail(frame, *CutDetector.THUMBNAIL)))
    if detector is not None:
        yield from release(detector.finish())


def _retime(
    seen: Iterable[Seen], duplicates: str, counts: Counts
) -> Iterator[tuple[Seen, Fraction | None]]:
    """Say when each frame's content belongs: at its own time, or with refill at an even one."""
    cadence = Cadence()
    waiting: deque[Seen] = deque()
    end = Fraction(0)
    for item in seen:
        end = item.frame.time + item.frame.duration
        placed = cadence.push(item.frame.time, item.repeats, item.cut)
        if duplicates == "keep":
            yield item, item.frame.time
            continue
        waiting.append(item)
        for _, shows in placed:
            yield waiting.popleft(), shows
    for _, shows in cadence.finish(end):
        if waiting:
            yield waiting.popleft(), shows
    counts.cadence = cadence.description


def schedule(frames: Iterable[Frame], request: Request, counts: Counts) -> Iterator[Task]:
    """One task for every output frame, in order of time; the output's clock starts at 0.

    Raises:
        InputError: there are fewer than two frames.
    """
    timeline = Timeline(request.rate, stretch=request.stretch, loop=request.loop)
    contents: dict[int, Frame] = {}
    cuts: set[int] = set()
    alike: dict[int, bool] = {}
    first: Frame | None = None
    last: Frame | None = None
    pushed = 0

    def right_of(index: int) -> Frame | None:
        """What a new frame leads on to; None where the left one is held instead."""
        if index + 1 in cuts:
            return None
        right = contents.get(index + 1, first)
        if right is not None and index not in alike:
            alike[index] = contents[index].same_picture(right)
        return None if alike.get(index, True) else right

    def task(index: int, timestep: Fraction, time: Fraction, lasts: Fraction, held: bool) -> Task:
        right = right_of(index) if timestep and not held else None
        counts.output_frames += 1
        counts.new_frames += right is not None
        counts.held_frames += right is None and (held or timestep > 0)
        counts.duration = time + lasts
        return Task(contents[index], right, timestep if right else Fraction(0), time, lasts)

    for item, shows in _retime(look(frames, request.scene_cut), request.duplicates, counts):
        first, last = first or item.frame, item.frame
        counts.source_frames += 1
        if item.cut:
            counts.cuts.append(item.frame.time)
        if shows is not None:
            contents[pushed] = item.frame
            if item.cut:
                cuts.add(pushed)
            pushed += 1
        for slot in timeline.push(item.frame.time, shows):
            yield task(slot.left, slot.timestep, slot.time, slot.duration, slot.held)
        for done in [index for index in contents if index < timeline.oldest]:
            del contents[done]
            alike.pop(done, None)
            cuts.discard(done)
    if last is None:
        raise InputError(f"{request.name} has no frame in the part that was asked for.")
    if counts.source_frames == 1:
        raise InputError(
            f"{request.name} has a single frame in the part that was asked for, and interpolation "
            "needs two or more."
        )
    for slot in timeline.finish(last.time + last.duration):
        yield task(slot.left, slot.timestep, slot.time, slot.duration, slot.held)
