"""Follow fast objects over the frames of a schedule, with a few frames in sight."""

from collections import deque

from cloudconv.fastobjects import FastObject
from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.sightings import SearchedFrame, find
from cloudconv.schedule.trajectories import Trajectories

AHEAD = 4
"""The number of frames after a pair that are seen before its objects are known. All frames
of the scene before the pair count."""


class FastTracker:
    """A finder of fast objects between each two frames, which come in order.

    A frame that repeats the one before shows nothing new. No way leads into another scene.
    The objects of a pair are known :data:`AHEAD` frames after it, or twice as many frames
    with repeats after it, or at the end of the scene. Unless it ``tracks``, it
    finds none, and none in pictures on a device, which stay there.
    """

    def __init__(self, *, tracks: bool = True) -> None:
        self._tracks = tracks
        self._count = 0  # of frames
        self._views: deque[SearchedFrame] = deque(maxlen=3)  # of the scene, no repeats
        self._trajectories = Trajectories(0)
        # Pairs that are not known yet, by the number of the second frame.
        self._waiting: deque[int] = deque()
        self._objects: dict[int, tuple[FastObject, ...]] = {}

    def push(self, frame: Frame, *, begins: bool, repeats: bool) -> None:
        """Add the next frame; ``begins``: it is of another scene than the one before."""
        self._tracks = self._tracks and frame.planes()[0].device.type == "cpu"
        if not self._tracks:
            return
        if begins:
            self.finish()
        if not (repeats and self._views):
            self._add(SearchedFrame(frame))
        self._count += 1
        while self._waiting and (
            len(self._waiting) > AHEAD or self._count > self._waiting[0] + 2 * AHEAD
        ):
            self._decide()

    def finish(self) -> None:
        """End the scene: all pairs are known."""
        self._trajectories.push([])
        while self._waiting:
            self._decide()
        self._views.clear()

    def knows(self, number: int) -> bool:
        """Return whether the objects before a frame are known, by its number from 0."""
        is_waiting = bool(self._waiting) and self._waiting[0] <= number
        return not self._tracks or (number < self._count and not is_waiting)

    def objects(self, number: int) -> tuple[FastObject, ...]:
        """Return the objects between a frame and the one before it, once."""
        return self._objects.pop(number, ())

    def _add(self, view: SearchedFrame) -> None:
        if self._views:
            self._waiting.append(self._count)
        else:
            self._trajectories = Trajectories(view.luma.shape[1])
        self._views.append(view)
        if len(self._views) == self._views.maxlen:
            self._trajectories.push(find(*self._views))

    def _decide(self) -> None:
        number = self._waiting.popleft()
        found = self._trajectories.links()
        if found:
            self._objects[number] = tuple(found)
