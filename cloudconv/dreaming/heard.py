"""Decide by a dream's origins which parts of the film's sound play with its frames."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from cloudconv.dreaming.methods.base import Filmed, Jump, Origin
from cloudconv.media.sound.edits import Edit, EditList


class Listener:
    """A writer of a dream's edit list, from the origins of the new frames in order.

    Frames that show the film in its own order belong to one edit, which keeps the offset
    between the film's time and the output's. A jump belongs to the edit that follows:
    the offset of that edit is known with the first frame after the jump.

    ``edit_list`` is the one that is written, ``times`` are those of the film's frames on
    the source's clock, and ``step`` is the duration of a new frame.
    """

    def __init__(
        self, edit_list: EditList, times: Sequence[Fraction], step: Fraction
    ) -> None:
        self.edit_list = edit_list
        self._times = times
        self._step = step
        self._count = 0
        # The offset of the edit that plays, and whether this is an edit of the film.
        self._offset: Fraction | None = Fraction(0)
        self._jump: Jump | None = None

    def push(self, origin: Origin) -> None:
        """Take the origin of the next frame."""
        time = self.edit_list.begins + self._count * self._step
        self._count += 1
        if isinstance(origin, Jump):
            if self._jump is not None and self._jump.start != origin.start:
                self._end_jump(time - self._step)
            self._jump = origin
        elif isinstance(origin, Filmed):
            offset = self._times[origin.number] - time
            if self._jump is not None:
                self._begin(self._jump, offset)
                self._jump = None
            elif self._offset is None or self._is_apart(
                origin.number, offset - self._offset
            ):
                self.edit_list.add(Edit(time, Fraction(0), offset))
                self._offset = offset
        else:
            self._end_jump(time - self._step)
            if self._offset is not None:
                self.edit_list.add(Edit(time, Fraction(0), None))
                self._offset = None
        if self._jump is None:
            self.edit_list.reach(time + self._step)
        else:
            self.edit_list.reach(self.edit_list.begins + self._jump.start * self._step)
        if time + self._step >= self.edit_list.ends:
            self._end_jump(time)
            self.edit_list.reach(self.edit_list.ends)

    def _is_apart(self, number: int, change: Fraction) -> bool:
        """Return whether a frame does not follow the one before in the film's order.

        ``change``: of the offset. At uneven times, the frame shown is the nearest one, less
        than a gap from the exact time.
        """
        beside = self._times[max(number - 1, 0) : number + 2]
        gaps = [later - earlier for earlier, later in pairwise(beside)]
        return abs(change) >= max(self._step, *gaps, Fraction(0))

    def _end_jump(self, last: Fraction) -> None:
        """Begin the edit of a jump, if there is one; its last picture is at ``last``."""
        jump = self._jump
        self._jump = None
        # Without a frame after, the jump leads to the source's start, as the mixer does.
        if jump is not None and jump.after is not None:
            self._begin(jump, self._times[jump.after] - last)

    def _begin(self, jump: Jump, offset: Fraction) -> None:
        begins = self.edit_list.begins + jump.start * self._step
        self.edit_list.add(Edit(begins, jump.length * self._step, offset))
        self._offset = offset
