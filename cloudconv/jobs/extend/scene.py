"""Read the last scene of a video before a time, and continue the repeats of its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import cycle, pairwise, repeat
from statistics import fmean

from cloudconv.errors import InputError
from cloudconv.media.frame import Frame
from cloudconv.media.info import MediaInfo
from cloudconv.media.source import Source
from cloudconv.schedule.cadence import MAX_REPEATS, Cadence
from cloudconv.schedule.frames import AnalysedFrame, analyse, cadence_of
from cloudconv.settings.groups import SceneCut


class Scene:
    """The last frames since the last cut.

    ``items`` are the last ``count`` frames. ``frames`` are the last ``different`` frames with
    different content, oldest first; if the picture stands still, they are one frame several times.
    ``cut`` is the time of the cut on the source's clock, None without a cut.
    """

    def __init__(self, count: int, different: int) -> None:
        """Start without frames."""
        self.items: deque[AnalysedFrame] = deque(maxlen=count)
        self.frames: deque[Frame] = deque(maxlen=different)
        self.cut: Fraction | None = None
        self._different = different
        self._standing = 0

    def push(self, item: AnalysedFrame) -> None:
        """Add the next frame."""
        if item.cut:
            self.items.clear()
            self.frames.clear()
            self.cut = item.frame.time
        self.items.append(item)
        self._standing = self._standing + 1 if item.repeats else 0
        if self._standing > MAX_REPEATS:
            # The picture stands still: the motion before the stop does not continue.
            self.frames.extend([item.frame] * self._different)
        elif not item.repeats:
            self.frames.append(item.frame)

    def begin_after(self, time: Fraction) -> None:
        """Drop all of ``items`` up to ``time``; the first frame that is kept becomes the cut."""
        while self.items[0].frame.time <= time:
            self.items.popleft()
            self.cut = self.items[0].frame.time

    @property
    def last(self) -> Frame:
        """Return the last frame, which may repeat the last of ``frames``."""
        return self.items[-1].frame

    @property
    def gap(self) -> Fraction | None:
        """Return the usual time between two frames; None for a single frame."""
        gaps = sorted(b.frame.time - a.frame.time for a, b in pairwise(self.items))
        return gaps[len(gaps) // 2] if gaps else None

    @property
    def cadence(self) -> str | None:
        """Return a description of regular repeats, or None."""
        return cadence_of(self.items)[0].description

    def repeats(self) -> Iterator[bool]:
        """Return for each new frame whether it repeats the one before; the iterator never ends."""
        pattern = [item.repeats for item in self.items]
        return repeat(False) if self.cadence is None else continued(pattern)


def read_scene(
    info: MediaInfo,
    count: int,
    *,
    at: Fraction | None,
    scene_cut: SceneCut,
    threads: int | None,
    needed: int = 0,
    different: int = 0,
) -> Scene:
    """Return the last scene before ``at``; see :class:`Scene`.

    Only the end of the video is decoded, and more of it while that part has no frame, or less than
    ``needed`` different frames since a cut.

    Args:
        info: the video.
        count: the largest number of frames.
        at: the end of the scene, in seconds from the first frame; None for the video's end.
        scene_cut: the detection of cuts.
        threads: the number of threads of the decoder.
        needed: see above.
        different: the largest number of different frames.

    Raises:
        InputError: there is no frame before ``at``, or none can be decoded.
    """
    length = info.timing.end - info.timing.start
    end = length if at is None else min(at, length)
    span = (count + Cadence.lookahead) * length / max(info.timing.frames, 1)
    while True:
        start, span, scene = end - span, 4 * span, Scene(count, different)
        for item in analyse(_frames_between(info, start, at, threads), scene_cut):
            scene.push(item)
        enough = scene.items and (len(scene.frames) >= needed or scene.cut is not None)
        if enough or start <= 0:
            return scene


def _frames_between(
    info: MediaInfo, start: Fraction, end: Fraction | None, threads: int | None
) -> Iterator[Frame]:
    """Yield the frames of a part; if ``start`` is after 0, a part without frames is no error."""
    source = Source(info, start=start if start > 0 else None, end=end, threads=threads)
    empty = True
    try:
        for frame in source.frames():
            empty = False
            yield frame
    except InputError:
        if not empty or start <= 0:
            raise


def continued(pattern: Sequence[bool]) -> Iterator[bool]:
    """Continue a pattern of repeats without an end, by the period that fits it best.

    Args:
        pattern: a value for each frame so far, which states whether it repeats the one before; at
            least two periods.
    """

    def misfit(period: int) -> float:
        return fmean(one != other for one, other in zip(pattern, pattern[period:], strict=False))

    period = min(range(1, len(pattern) // 2 + 1), key=misfit)
    return cycle(pattern[-period:])
