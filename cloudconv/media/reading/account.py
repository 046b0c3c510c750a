"""Find the pictures that a decoder should have returned, and has not.

A decoder may leave out pictures without an error: those that refer to a lost one. Only the
times of the packets show them.
"""

from collections import deque
from fractions import Fraction

from cloudconv.events import Warnings

_MOST_REORDERED = 16  # pictures that a codec may store before an earlier one: H.264, HEVC
# The part of the time between two pictures after which a packet has no second field: a
# second field comes after a half, also where some pictures last three fields, and the next
# picture after the whole.
_SECOND_FIELD = Fraction(3, 4)


class Account:
    """The part to decode, on the source's clock, and the pictures that it lacks.

    Pictures come in the order of their times. A packet in the part therefore lacks its
    picture if a later picture comes, or if the file ends. It is no loss if the time of the
    packet is repeated or steps back, or if the packet has the second field of the picture
    before: it then comes before the next picture is due. ``lost`` is the number of the
    others, and ``first_lost`` the time of the first.
    """

    def __init__(self, begin: Fraction, end: Fraction | None, warnings: Warnings) -> None:
        self.begin = begin
        self.end = end  # None for no bound
        self.warnings = warnings
        self.restart()

    def restart(self, *, reorders: bool = False, is_timed: bool = True) -> None:
        """Forget all packets and pictures: the part is decoded from its beginning.

        ``reorders``: whether the codec stores pictures in another order than it shows them.
        ``is_timed``: whether the times are known.
        """
        self._is_timed = is_timed
        self.lost = 0
        self.first_lost: Fraction | None = None
        self._depth = _MOST_REORDERED if reorders else 0
        self._due = set[Fraction]()  # the times of packets that still lack their picture
        self._newest = deque[Fraction]()  # the times of the last ``_depth`` packets
        self._passed: Fraction | None = None  # the latest time of all packets before these
        self._latest: Fraction | None = None  # the time of the latest picture
        self._has_fields = False  # of that picture
        self._least: Fraction | None = None  # the shortest time between two pictures
        # What may be second fields: the time after a picture, and the loss if it is none.
        self._seconds: list[tuple[Fraction, Fraction]] = []
        self.missed = deque[Fraction](maxlen=_MOST_REORDERED)  # the latest lost times
        self._untimed = 0  # packets without a time, less the pictures of such
        self.has_errors = False  # of the decoder; without times, only these show a loss

    def wants(self, time: Fraction) -> bool:
        """Return whether a time is in the part."""
        return self.begin <= time and (self.end is None or time < self.end)

    def expect(self, time: Fraction | None) -> None:
        """Take the time of the file's next packet with a visible frame."""
        if time is None or not self._is_timed:
            self._untimed += 1
            return
        if self.wants(time) and (self._passed is None or time > self._passed):
            self._due.add(time)
        self._newest.append(time)
        if len(self._newest) > self._depth:
            oldest = self._newest.popleft()
            self._passed = oldest if self._passed is None else max(self._passed, oldest)

    def show(self, time: Fraction | None, *, has_fields: bool = False) -> None:
        """Take the time of the next picture."""
        if time is None or not self._is_timed:
            self._untimed -= 1
        elif self._latest is None or time > self._latest:
            self._due.discard(time)
            self._settle(time)
            self._latest = time
            self._has_fields = has_fields

    @property
    def lacks_last(self) -> bool:
        """Return whether packets of the part are later than the last picture."""
        return bool(self._due)

    def finish(self, end: Fraction) -> None:
        """Count the pictures that lack at the end of the file, where the last one ends."""
        self._settle(max([end, *self._due]) + 1, end)
        if self.has_errors:
            self.lost += max(self._untimed, 0)

    def _settle(self, time: Fraction, shown: Fraction | None = None) -> None:
        """Count the packets before a picture, which the output has from ``shown`` on."""
        lost = sorted(due for due in self._due if due < time)
        self._due.difference_update(lost)
        before = self.begin if self._latest is None else self._latest
        if self._latest is not None:
            lasts = (time if shown is None else shown) - before
            self._least = min(lasts, self._least or lasts)
        if lost and self._has_fields:
            self._seconds.append((lost[0] - before, lost.pop(0)))
        least = self._least or 0
        others = [one for one in self._seconds if one[0] > _SECOND_FIELD * least]
        self._seconds = [one for one in self._seconds if one not in others][
            -_MOST_REORDERED:
        ]
        lost = [time for _, time in others] + lost
        self.lost += len(lost)
        self.missed += lost
        before_these = [] if self.first_lost is None else [self.first_lost]
        self.first_lost = min([*before_these, *lost], default=None)
