"""Play the edits of an edit list, with the sound of one track of the film.

A *place* is a sample on the output's clock, and a *position* is one on the film's clock.
The *shift* of a part is the distance from each place to the position that plays there.
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from cloudconv.media.sound.edits import LOOK_AHEAD, Edit, EditList
from cloudconv.media.sound.fades import (
    FilmSound,
    Positions,
    Sound,
    crossed,
    extension,
)

_FADE = 0.3  # length in seconds
_LOOP = 0.08  # seconds at the end of a loop that lead into its start
_PIECE = 2.0  # least length of a piece of an ambience in seconds
_PART = 0.6  # of a short sound that is the least length of a piece
_LEAST = 0.5  # seconds; a shorter sound makes no ambience
_TRIALS = 400  # positions that are compared


class _Fade(NamedTuple):
    """The place and the length of a fade to the part with a shift."""

    place: int
    length: int
    shift: int


class Mixer:
    """A player of an edit list, from the place ``at`` to the end of the edit list.

    ``origin`` is the time of place 0 on the source's clock. Before ``at`` the output plays
    the film itself if ``lead`` is given: the sound at the start of the output, to which a
    loop leads. ``is_silent`` states whether an ambience was wanted, and the sound is too
    short for that.
    """

    def __init__(
        self,
        edit_list: EditList,
        edits: deque[Edit],
        film: FilmSound,
        at: int,
        origin: Fraction,
        lead: Sound | None,
    ) -> None:
        self.is_silent = False
        self._edit_list = edit_list
        self._edits = edits
        self._film = film
        self._rate = film.rate
        self._origin = origin
        self._random = np.random.default_rng(edit_list.seed)
        self._begin = at
        self._at = at
        self._end = self._place(edit_list.ends)
        self._fade = round(_FADE * self._rate)
        self._around = round(LOOK_AHEAD * self._rate)
        self._loop = round(_LOOP * self._rate) if edit_list.loops else 0
        self._lead = lead
        self._shift = 0  # of the part that plays
        self._first_shift = None if lead is None else 0  # of the first part of the output
        self._drifts = False  # whether an ambience plays
        self._since = at  # the place at which its piece began
        self._next: _Fade | None = None  # the end of the piece
        self._joined = -self._end  # the position after the last join
        self._piece = round(min(_PIECE * self._rate, _PART * (film.end - film.begin)))

    def play(self) -> Iterator[Sound]:
        """Yield the next samples in blocks of a second, as far as the edits are known."""
        is_complete = self._edit_list.is_complete
        while self._edits:
            edit = self._edits[0]
            window = edit.begins + edit.lasts + LOOK_AHEAD
            if window > self._edit_list.known and not is_complete:
                break  # the next edit may begin before this fade ends
            self._edits.popleft()
            following = self._place(self._edits[0].begins) if self._edits else self._end
            if following > self._at or not self._edits:
                yield from self._changed(edit, following)
        ends = self._end - self._loop
        if not is_complete:
            end = min([self._edit_list.known, *(edit.begins for edit in self._edits)])
            ends = min(self._place(end - LOOK_AHEAD), ends)
        yield from self._until(ends)
        if is_complete and self._at < self._end:
            yield self._closed(self._end - self._at)

    def _place(self, time: Fraction) -> int:
        return round((time - self._origin) * self._rate)

    def _until(self, place: int) -> Iterator[Sound]:
        """Play up to a place; a fade may end later."""
        while self._drifts:
            self._next = self._next or self._ending()
            if self._next.place >= place:
                break
            yield from self._faded(self._next)
        yield from self._onwards(place)

    def _onwards(self, place: int) -> Iterator[Sound]:
        while self._at < min(place, self._end):
            length = min(place, self._end, self._at + self._rate) - self._at
            yield self._film.heard(self._at + self._shift, length)
            self._at += length

    def _faded(self, fade: _Fade) -> Iterator[Sound]:
        yield from self._onwards(fade.place)
        length = min(fade.length, self._end - self._at)
        if self._first_shift is None:
            self._first_shift = fade.shift
        elif length > 0:
            old, new = (
                self._film.heard(self._at + shift, length)
                for shift in (self._shift, fade.shift)
            )
            yield crossed(old, new)
            self._at += length
        self._shift = fade.shift
        self._since = self._at
        self._next = None

    def _closed(self, length: int) -> Sound:
        """Return the last samples, which lead into the first ones of the output."""
        first = self._lead
        if first is None:
            first = self._film.heard(self._begin + (self._first_shift or 0), self._rate)
        lead = extension(first[::-1], length)[::-1]
        sound = crossed(self._film.heard(self._at + self._shift, length), lead)
        self._at += length
        return sound

    def _changed(self, edit: Edit, following: int) -> Iterator[Sound]:
        """Play up to an edit, and the fade to it, which ends before ``following``."""
        begins = self._place(edit.begins)
        ends = self._place(edit.begins + edit.lasts)
        yield from self._until(begins - self._around)
        least = max(begins - self._around, self._at)
        places = self._places(least, min(ends + self._around, max(following, ends)))
        self._drifts = edit.offset is None
        if self._at == self._begin:
            places = places[:1]  # the film has ended
        if edit.offset is None:
            yield from self._faded(self._join(places))
            return
        length = self._fade
        if ends - begins > length and begins >= least:
            places = np.array([begins])  # a slow jump fades as long as it lasts
            length = ends - begins
        shift = round(edit.offset * self._rate)
        yield from self._faded(self._crossing(places, places + shift, length))

    def _places(self, least: int, most: int) -> Positions:
        """Return the places at which a fade may begin that ends before ``most``."""
        step = max(self._rate // 100, 1)
        return np.arange(least, max(most - self._fade, least) + 1, step)

    def _crossing(self, places: Positions, positions: Positions, length: int) -> _Fade:
        """Return the least heard fade at one of some places to the position for it."""
        film = self._film
        best = int(film.costs(places + self._shift, positions, length).argmin())
        place, position = int(places[best]), int(positions[best])
        position = film.fitting(place + self._shift, position, length)
        return _Fade(place, length, position - place)

    def _ending(self) -> _Fade:
        """Return the fade at the end of a piece of an ambience."""
        stops = self._film.end - self._shift
        least = self._since + self._piece
        most = min(stops, self._since + 4 * self._piece, self._end - self._piece)
        # The last piece should not be too short either.
        if self.is_silent or (most < least and self._end <= stops):
            return _Fade(self._end, 0, self._shift)
        return self._join(self._places(least, most))

    def _join(self, places: Positions) -> _Fade:
        """Return a fade at one of some places to another piece of an ambience."""
        film = self._film
        if film.end - film.begin < _LEAST * self._rate:
            self.is_silent = True
            place = int(places[0])
            return _Fade(place, self._fade, film.end + 2 * self._rate - place)
        last = max(film.end - self._piece - 2 * self._fade, film.begin)
        positions = np.linspace(film.begin, last, _TRIALS).astype(int)
        places = self._random.choice(places, _TRIALS)
        apart = self._piece // 4
        onwards = np.abs(places + self._shift - positions) < 2 * apart
        again = np.abs(positions - self._joined) < apart
        if not np.all(onwards | again):
            places, positions = (one[~onwards & ~again] for one in (places, positions))
        fade = self._crossing(places, positions, self._fade)
        self._joined = fade.place + fade.shift
        return fade
