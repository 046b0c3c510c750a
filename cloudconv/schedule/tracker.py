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
        self._pictures = 0  # of the scene, without repeats
        self._views: deque[SearchedFrame] = deque(maxlen=3)
        self._trajectories = Trajectories(0)
        # The pairs that are not known yet: the number of the first picture in the scene,
        # and that of the second one's frame.
        self._waiting: deque[tuple[int, int]] = deque()
        self._objects: dict[int, tuple[FastObject, ...]] = {}

    def push(self, frame: Frame, *, begins: bool, repeats: bool) -> None:
        """Add the next frame; ``begins``: it is of another scene than the one before."""
        self._tracks = self._tracks and frame.planes()[0].device.type == "cpu"
        if not self._tracks:
            return
        if begins:
            self.finish()
        if begins or not repeats or not self._pictures:
            self._add(SearchedFrame(frame))
        self._count += 1
        while self._waiting:
            first, second = self._waiting[0]
            is_seen = self._pictures >= first + 2 + AHEAD
            if not is_seen and self._count <= second + 2 * AHEAD:
                break
            self._decide()

    def finish(self) -> None:
        """End the scene: all pairs are known."""
        if self._pictures > 1:
            self._trajectories.push([])
        while self._waiting:
            self._decide()
        self._pictures = 0
        self._views.clear()

    def knows(self, number: int) -> bool:
        """Return whether the objects before a frame are known, by its number from 0."""
        is_waiting = bool(self._waiting) and self._waiting[0][1] <= number
        return not self._tracks or (number < self._count and not is_waiting)

    def objects(self, number: int) -> tuple[FastObject, ...]:
        """Return the objects between a frame and the one before it, which is not equal."""
        return self._objects.get(number, ())

    def forget(self, before: int) -> None:
        """Drop the objects of pairs that end before a frame."""
        for number in [number for number in self._objects if number < before]:
            del self._objects[number]

    def _add(self, view: SearchedFrame) -> None:
        self._views.append(view)
        if self._pictures:
            self._waiting.append((self._pictures - 1, self._count))
        else:
            self._trajectories = Trajectories(view.luma.shape[1])
            self._trajectories.push([])
        self._pictures += 1
        if self._pictures > 2:
            self._trajectories.push(find(*self._views))

    def _decide(self) -> None:
        first, second = self._waiting.popleft()
        found = tuple(self._trajectories.links(first))
        if found:
            self._objects[second] = found
