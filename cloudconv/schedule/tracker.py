"""Follow fast objects over the frames of a schedule, with a few frames in sight."""

from collections import deque
from fractions import Fraction

import torch

from cloudconv.fastobjects import FastObject
from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.detection import Search, SearchedFrame
from cloudconv.schedule.trajectories import Trajectories
from cloudconv.transfer import QUEUES

AHEAD = 4
"""The number of frames after a pair that are seen before its objects are known. All frames
of the scene before the pair count."""


class FastTracker:
    """A finder of fast objects between each two frames, which come in order.

    A frame that repeats the one before shows nothing new. No trajectory leads into another
    scene, or over a picture that is held for twice :data:`AHEAD` frames. The objects of a
    pair are known :data:`AHEAD` frames after it, or twice as many frames with repeats after
    it, or at that end. Unless it ``tracks``, it finds none. The search runs on ``device``,
    if that is a GPU, and else on the CPU. The blobs of a GPU are read a frame later, so
    that the CPU does not wait for them.
    """

    def __init__(self, device: torch.device, *, tracks: bool = True) -> None:
        self._tracks = tracks
        self._lag = device.type in QUEUES
        self._device = device
        if not self._lag:
            self._device = torch.device("cpu")
        # What is rendered waits in another queue, which may be long.
        self._queue = None
        if device.type == "cuda":
            self._queue = torch.cuda.Stream(device, -1)  # type: ignore[no-untyped-call]
        self._count = 0  # of frames
        self._views: deque[SearchedFrame] = deque(maxlen=3)  # of the scene, no repeats
        self._time = Fraction(0)  # of the last frame
        self._searches: deque[tuple[Search, float]] = deque()
        self._trajectories = Trajectories(0)
        # Pairs that are not known yet, by the number of the second frame.
        self._waiting: deque[int] = deque()
        self._objects: dict[int, tuple[FastObject, ...]] = {}

    def push(self, frame: Frame, *, begins: bool, repeats: bool) -> None:
        """Add the next frame; ``begins``: it is of another scene than the one before."""
        if not self._tracks:
            return
        if begins:
            self.finish()
        if not (repeats and self._views):
            gap = float(frame.time - self._time)
            if self._queue is not None and frame.planes()[0].is_cuda:
                self._queue.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._queue):
                self._add(SearchedFrame(frame, gap, self._device))
        self._time = frame.time
        self._count += 1
        late = self._count - 2 * AHEAD
        while len(self._waiting) > AHEAD + self._lag or (
            len(self._waiting) > 1 + self._lag and self._waiting[0] < late
        ):
            self._decide()
        if self._waiting and self._waiting[-1] < late:
            self.finish()

    def finish(self) -> None:
        """End the scene: all pairs are known."""
        with torch.cuda.stream(self._queue):
            self._link(0)
        self._trajectories.push([])
        while self._waiting:
            self._decide()
        self._views.clear()

    def knows(self, number: int) -> bool:
        """Return whether the objects before a frame are known, by its number from 0."""
        return not self._tracks or number < min([self._count, *self._waiting])

    def objects(self, number: int) -> tuple[FastObject, ...]:
        """Return the objects between a frame and the one before it, once."""
        return self._objects.pop(number, ())

    def _add(self, view: SearchedFrame) -> None:
        if self._views:
            self._waiting.append(self._count)
        else:
            self._trajectories = Trajectories(view.planes[0].shape[3])
        self._views.append(view)
        if len(self._views) == self._views.maxlen:
            self._searches.append((Search(*self._views), self._views[1].gap))
            self._link(self._lag)

    def _link(self, most: int) -> None:
        """Link blobs to those before, until at most so many searches are left to read."""
        while len(self._searches) > most:
            search, gap = self._searches.popleft()
            self._trajectories.push(search.blobs(), gap)

    def _decide(self) -> None:
        self._objects[self._waiting.popleft()] = tuple(self._trajectories.links())
