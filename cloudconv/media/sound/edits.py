"""Define the edit list of a dream: the parts of the film's sound, and when they play."""

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

LOOK_AHEAD = Fraction(1, 2)
"""The seconds around the pictures of a jump within which the sound may change."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A part of the film that begins to play, until the next edit begins.

    ``begins`` is the time of the first picture between the edit before and this one, on
    the source's clock, and ``lasts`` is the length of such pictures in seconds: 0 for a
    change from one frame to the next. At the time ``t`` the sound of the film's time ``t +
    offset`` plays. With an offset of None the footage has no order, and the sound is an
    ambience.
    """

    begins: Fraction
    lasts: Fraction
    offset: Fraction | None


class EditList:
    """The edits of a dream, which become known while the dream is made.

    ``begins`` and ``ends`` are the times of the new frames, ``scene`` and ``until`` those
    of the sound that may play (None for ``begins``), all on the source's clock. ``loops``
    states whether the last sample leads into the first one of the output. ``seed`` is for
    random choices. Every edit that begins before ``known`` was added. ``encoded`` are
    the codecs with loss in which the film's sound is encoded again.
    """

    def __init__(
        self,
        begins: Fraction,
        ends: Fraction,
        scene: Fraction,
        until: Fraction | None = None,
        *,
        seed: int = 0,
        loops: bool = False,
    ) -> None:
        self.begins = begins
        self.ends = ends
        self.scene = scene
        self.until = until or begins
        self.seed = seed
        self.loops = loops
        self.known = begins
        self.encoded: list[str] = []
        self._followers: list[deque[Edit]] = []

    @property
    def is_complete(self) -> bool:
        """Return whether all edits are known."""
        return self.known >= self.ends

    def follow(self) -> deque[Edit]:
        """Return a queue that gets all later edits, in order.

        The caller empties the queue.
        """
        self._followers.append(deque())
        return self._followers[-1]

    def add(self, edit: Edit) -> None:
        """Add an edit that begins at or after ``known``."""
        for follower in self._followers:
            follower.append(edit)

    def reach(self, time: Fraction) -> None:
        """State that every edit that begins before ``time`` was added."""
        self.known = max(self.known, time)
