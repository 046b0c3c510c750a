"""Read the last scene of a video before a time, also as material for a dream."""

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import cycle, pairwise, repeat
from statistics import fmean, median_high
from typing import Any

from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.errors import InputError
from cloudconv.events import Warned
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import Frame, MediaInfo
from cloudconv.media.reading.source import Source
from cloudconv.messages import counted, short
from cloudconv.schedule.cadence import MAX_REPEATS, Cadence
from cloudconv.schedule.cuts import CutDetector
from cloudconv.schedule.dissolves import dissolved
from cloudconv.schedule.tasks import AnalysedFrame, analyse, cadence_of
from cloudconv.settings.groups import SceneCut

MOST_FRAMES = 300  # the largest number of frames that become material
# So many frames are kept even if they need more bytes.
_LEAST_FRAMES = 64
_MEMORY_BYTES = 2**30
# Longest time between the first frame and the last, in steps of the output. An analysis
# looks at each step.
_MOST_STEPS = 2 * MOST_FRAMES
_FLASH = 1  # longest time in seconds until the picture is as before


def _has_detail(frame: Frame) -> bool:
    """Return whether a thumbnail has details of its own: it is no enlarged picture."""
    height, width = CutDetector.THUMBNAIL
    return frame.height >= height and frame.width >= width


class Ending:
    """The last frames since the last cut, or since the end of the last dissolve.

    ``items`` are the last ``count`` frames. ``frames`` are the last ``different`` frames
    with different content, oldest first; if the picture stands still, they are one frame
    several times. ``cut`` is the time of the cut on the source's clock, None without a cut.
    """

    def __init__(self, count: int, different: int) -> None:
        self.items: deque[AnalysedFrame] = deque(maxlen=count)
        self.frames: deque[Frame] = deque(maxlen=different)
        self.cut: Fraction | None = None
        self._different = different
        self._standing = 0
        # Those of the scenes before cuts are kept, too: a dissolve is found across a cut.
        self._thumbnails: deque[tuple[Fraction, Tensor]] = deque(maxlen=count)

    def push(self, item: AnalysedFrame) -> None:
        """Add the next frame."""
        if item.cut and not self._returns(item.frame):
            self.items.clear()
            self.frames.clear()
            self.cut = item.frame.time
        self.items.append(item)
        if item.frame.luma is not None and not item.repeats and _has_detail(item.frame):
            self._thumbnails.append((item.frame.time, item.frame.luma))
        self._standing = self._standing + 1 if item.repeats else 0
        if self._standing > MAX_REPEATS:
            # The picture stands still: the motion before the stop does not continue.
            self.frames.extend([item.frame] * self._different)
        elif not item.repeats:
            self.frames.append(item.frame)

    def _returns(self, frame: Frame) -> bool:
        """Return whether a cut ends a flash: the scene was like this shortly before."""
        apart = [
            float((item.frame.luma - frame.luma).abs().mean())
            for item in self.items
            if item.frame.luma is not None
            and frame.luma is not None
            and frame.time - item.frame.time <= _FLASH
        ]
        return bool(apart) and min(apart) < apart[-1] / 2

    def leave_out_dissolve(self) -> None:
        """Leave out frames of an earlier scene, which dissolves into the last one."""
        times = [time for time, _ in self._thumbnails]
        if len(times) < 2:
            return
        rate = (len(times) - 1) / float(times[-1] - times[0])
        number = dissolved([thumbnail for _, thumbnail in self._thumbnails], rate)
        if number is None or times[number] <= self.items[0].frame.time:
            return
        self.cut = times[number]
        while self.items[0].frame.time < self.cut:
            self.items.popleft()
        while self.frames and self.frames[0].time < self.cut:
            self.frames.popleft()

    @property
    def last(self) -> Frame:
        """Return the last frame, which may repeat the last of ``frames``."""
        return self.items[-1].frame

    @property
    def gap(self) -> Fraction | None:
        """Return the usual time between two frames; None for a single frame."""
        gaps = [b.frame.time - a.frame.time for a, b in pairwise(self.items)]
        return median_high(gaps) if gaps else None

    @property
    def cadence(self) -> str | None:
        """Return a description of regular repeats, or None."""
        return cadence_of(self.items)[0].description

    def repeats(self) -> Iterator[bool]:
        """Return for each new frame whether it repeats the one before.

        The iterator never ends.
        """
        pattern = [item.repeats for item in self.items]
        return repeat(False) if self.cadence is None else continued(pattern)


def read_ending(
    info: MediaInfo,
    count: int,
    *,
    at: Fraction | None,
    scene_cut: SceneCut,
    threads: int | None,
    needed: int = 0,
    different: int = 0,
) -> Ending:
    """Return the last scene before ``at``; see :class:`Ending`.

    With ``scene_cut`` "off" or 1, no cut and no dissolve ends a scene. Only the end of the
    video is decoded, and more of it while that part has no frame, or less than ``needed``
    different frames since a cut. ``count`` and ``different`` are the largest numbers of
    frames. ``at`` is the end of the scene, in seconds from the first frame, or None. Raises
    InputError if there is no frame before ``at``, or none can be decoded.
    """
    timing = info.timing
    begins, ends = timing.span(end=at)
    end = ends - begins
    length = timing.end - begins
    span = (count + Cadence.lookahead) * length / max(timing.frames, 1)
    while True:
        start = end - span
        span = 4 * span
        scene = Ending(count, different)
        whole = start <= 0
        try:
            with Source(
                info, start=None if whole else start, end=at, threads=threads
            ) as source:
                for item in analyse(source.frames(), scene_cut):
                    scene.push(item)
        except InputError:
            if whole or scene.items:
                raise
        if scene_cut not in ("off", 1):
            scene.leave_out_dissolve()
        enough = scene.items and (len(scene.frames) >= needed or scene.cut is not None)
        if enough or whole:
            return scene


def continued(pattern: Sequence[bool]) -> Iterator[bool]:
    """Continue a pattern of repeats without an end, by the period that fits it best.

    ``pattern`` states for each frame so far whether it repeats the one before; at least two
    periods.
    """

    def misfit(period: int) -> float:
        return fmean(
            one != other for one, other in zip(pattern, pattern[period:], strict=False)
        )

    period = min(range(1, len(pattern) // 2 + 1), key=misfit)
    return cycle(pattern[-period:])


def gather_material(
    info: MediaInfo,
    *,
    at: Fraction | None = None,
    scene_cut: SceneCut = "auto",
    threads: int | None = None,
) -> Material:
    """Return the last frames before ``at`` that belong to one scene.

    At most 300 frames are kept. Fewer frames are kept if 300 need more than 1 GiB, but at
    least 64. Frames before a very long gap are left out, as if the gap were a cut, so that
    all frames together last for at most 600 steps of the output. ``at`` is in seconds from
    the first frame; None for the end. Raises InputError as :func:`read_ending` does.
    """
    bytes_a_sample = 1 if layout(info.working_pix_fmt).depth <= 8 else 2
    size = 3 * info.width * info.height // 2 * bytes_a_sample
    kept = max(_LEAST_FRAMES, min(MOST_FRAMES, _MEMORY_BYTES // size))
    scene = read_ending(info, kept, at=at, scene_cut=scene_cut, threads=threads)
    step = scene.gap if info.timing.rate is None else 1 / info.timing.rate
    if step is not None:
        while scene.items[0].frame.time <= scene.last.time - _MOST_STEPS * step:
            scene.items.popleft()
            scene.cut = scene.items[0].frame.time
    frames, times, cadence = _placed(list(scene.items))
    facts: dict[str, Any] = {"last": scene.last, "cut": scene.cut, "cadence": cadence}
    return Material(frames, times=times, step=step, **facts)


def last_scene(material: Material, info: MediaInfo) -> tuple[float | None, list[Warned]]:
    """Return the cut before a material, in seconds from the first frame, and a warning.

    The time is None, and there is no warning, if nothing was left out.
    """
    if material.cut is None:
        return None, []
    start = float(material.cut - info.timing.start)
    frames = counted(len(material), "frame")
    said = (
        f"Only the last scene, from {short(start)} s on, is used for the dream: {frames}."
    )
    return start, [Warned(f"last-scene: {said}")]


def _placed(items: list[AnalysedFrame]) -> tuple[list[Frame], list[Fraction], str | None]:
    """Return the different frames, the time of the content of each, and the cadence.

    With a regular cadence the contents are spread evenly from the first to the last, so
    that an incomplete cycle at the end does not look faster than the others.
    """
    cadence, placed = cadence_of(items)
    kept = [(item.frame, item.shows) for item in placed if item.shows is not None]
    frames = [frame for frame, _ in kept]
    if cadence.description is None:
        return frames, [time for _, time in kept], None
    # Complete cycles last equally long. A cycle begins after a repeat.
    begins = [n for n, (a, b) in enumerate(pairwise(items), 1) if a.repeats > b.repeats]
    distinct = sum(not item.repeats for item in items[begins[0] : begins[-1]])
    gap = (items[begins[-1]].frame.time - items[begins[0]].frame.time) / distinct
    times = [frames[-1].time - (len(frames) - 1 - n) * gap for n in range(len(frames))]
    return frames, times, str(cadence.description)
