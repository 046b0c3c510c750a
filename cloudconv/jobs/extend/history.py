"""Read what a dream is made of: the end of a video's last scene, and no more than is needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.errors import InputError
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.source import Source
from cloudconv.schedule.cadence import Cadence
from cloudconv.schedule.frames import AnalysedFrame, look
from cloudconv.settings.groups import SceneCut

MOST_FRAMES = 300
LEAST_FRAMES = 64
MEMORY_BYTES = 2**30
"""For the decoded frames; a larger picture means fewer of them, but not below ``LEAST_FRAMES``."""


def gather_material(
    info: MediaInfo,
    *,
    at: Fraction | None = None,
    scene_cut: SceneCut = "auto",
    device: torch.device | str = "cpu",
    threads: int | None = None,
    tell: Callable[[float], None] = lambda _: None,
) -> Material:
    """The last frames before ``at``, as far as they belong to one scene.

    Only the end of the video is decoded: at most 300 frames, fewer where they would take more than
    1 GiB, but 64 at least.

    Args:
        at: where the dream begins, in seconds from the first frame; None for the end.
        scene_cut: how cuts are found; the material begins after the last of them.
        device: where its pictures are made.
        threads: of the decoder.
        tell: gets the share of the frames that is read, from 0 to 1, after each of them.

    Raises:
        InputError: there is no frame before ``at``, or none can be decoded.
    """
    timing = info.timing
    length = timing.end - timing.start
    end = length if at is None else min(at, length)
    count = frames_kept(info)
    frame = length / max(timing.frames, 1)
    start = end - (count + Cadence.lookahead) * frame
    wanted = max(1, int((end - max(start, Fraction(0))) / frame))
    source = Source(info, start=start if start > 0 else None, end=at, threads=threads)
    scene = _Scene(count)
    try:
        for number, seen in enumerate(look(source.frames(), scene_cut), 1):
            scene.push(seen)
            tell(min(number / wanted, 1.0))
    except InputError:
        # A sparse video may have no frame in that part, though there is one before it.
        if scene.last is not None or start <= 0:
            raise
        for seen in look(Source(info, end=at, threads=threads).frames(), scene_cut):
            scene.push(seen)
    return scene.material(device, None if timing.rate is None else 1 / timing.rate)


def frames_kept(info: MediaInfo) -> int:
    """How many frames of a video are kept as material at most."""
    samples = (
        3 * info.width * info.height // 2 * (1 if layout(info.working_pix_fmt).depth <= 8 else 2)
    )
    return max(LEAST_FRAMES, min(MOST_FRAMES, MEMORY_BYTES // max(samples, 1)))


@dataclass(slots=True)
class _Scene:
    """The frames since the last cut, as they pass by."""

    count: int
    seen: deque[AnalysedFrame] = field(default_factory=deque)
    cut: Fraction | None = None
    last: Frame | None = None

    def push(self, item: AnalysedFrame) -> None:
        if item.cut:
            self.seen.clear()
            self.cut = item.frame.time
        self.seen.append(item)
        self.last = item.frame
        if len(self.seen) > self.count:
            self.seen.popleft()

    def material(self, device: torch.device | str, step: Fraction | None) -> Material:
        assert self.last is not None
        frames, times, cadence = placed(self.seen)
        gaps = sorted(b.frame.time - a.frame.time for a, b in pairwise(self.seen))
        step = step or (gaps[len(gaps) // 2] if gaps else None)
        return Material(
            frames,
            device=device,
            times=times,
            step=step,
            last=self.last,
            cut=self.cut,
            cadence=cadence,
        )


def placed(seen: Iterable[AnalysedFrame]) -> tuple[list[Frame], list[Fraction], str | None]:
    """The frames that differ, when the content of each belongs, and the cadence in words.

    Where frames repeat regularly their content is spread evenly from the first to the last, so
    that a cycle that the end cuts off does not look faster than the others.
    """
    items = list(seen)
    cadence = Cadence()
    shows: list[Fraction | None] = []
    for number, item in enumerate(items):
        shows += [s for _, s in cadence.push(item.frame.time, item.repeats and number > 0, False)]
    end = items[-1].frame.time + items[-1].frame.duration
    shows += [s for _, s in cadence.finish(end)]
    kept = [(item.frame, time) for item, time in zip(items, shows, strict=True) if time is not None]
    frames = [frame for frame, _ in kept]
    times = [time for _, time in kept]
    if cadence.description is not None and len(frames) > 1:
        # By their own times, which every cycle shares, and not by where the spread put them.
        pace = _pace(items)
        times = [frames[-1].time - (len(frames) - 1 - n) * pace for n in range(len(frames))]
    return frames, times, cadence.description


def _pace(items: list[AnalysedFrame]) -> Fraction:
    """The time between two frames whose content differs: the mean over whole cycles."""
    fresh = [n for n, item in enumerate(items) if n == 0 or not item.repeats]
    # The first of each cycle: what comes after a repeat.
    firsts = [n for n in fresh if n and items[n - 1].repeats]
    begin, end = (firsts[0], firsts[-1]) if len(firsts) > 1 else (fresh[0], fresh[-1])
    inside = sum(begin <= n < end for n in fresh)
    return (items[end].frame.time - items[begin].frame.time) / inside
