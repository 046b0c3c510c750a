"""Play the passages of a playlist, with the sound of one track of the film.

A *place* is a sample on the output's clock, and a *position* is one on the film's clock.
The *shift* of a part is the distance from each place to the position that plays there.
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from cloudconv.media.fades import (
    FilmSound,
    Positions,
    Sound,
    crossed,
    extension,
)
from cloudconv.media.playlist import LOOK_AHEAD, Passage, Playlist

_FADES = (0.3, 0.15, 0.08)  # lengths of a fade in seconds
# Costs in dB: of each shorter length, and of a place half a second from the middle of a
# jump.
_SHORTER = 0.5
_AWAY = 1.0
_LOOP = 0.08  # seconds at the end of a loop that lead into its start

# Least length of a piece of an ambience in seconds, and most beyond.
_PIECE = 2.0
_LONGER = 6.0
_PART = 0.6  # of a short sound that is the least length of a piece
_LEAST = 0.5  # seconds; a shorter sound makes no ambience
# Part of the sound, at most half a second, by which two joins in a row differ.
_APART = 0.125
_TRIALS = 400  # joins that are compared


class _Fade(NamedTuple):
    """The place and the length of a fade to the part with a shift."""

    place: int
    length: int
    shift: int


class Mixer:
    """A player of a playlist, from the place ``at`` to the end of the playlist.

    ``origin`` is the time of place 0 on the source's clock. Before ``at`` the output plays
    the film itself if ``lead`` is given: the sound at the start of the output, to which a
    loop leads. ``is_silent`` states whether an ambience was wanted, and the sound is too
    short for that.
    """

    def __init__(
        self,
        playlist: Playlist,
        passages: deque[Passage],
        film: FilmSound,
        at: int,
        origin: Fraction,
        lead: Sound | None,
    ) -> None:
        self.is_silent = False
        self._playlist = playlist
        self._passages = passages
        self._film = film
        self._rate = film.rate
        self._step = max(film.rate // 100, 1)  # samples between two places for a join
        self._origin = origin
        self._random = np.random.default_rng(playlist.seed)
        self._begin = at
        self._at = at
        self._end = self._place(playlist.ends)
        self._loop = round(_LOOP * self._rate) if playlist.loops else 0
        self._lead = None if lead is None else extension(lead[::-1], self._loop)[::-1]
        self._shift = 0  # of the part that plays
        self._first_shift = None if lead is None else 0  # of the first part of the output
        self._drifts = False  # whether an ambience plays
        self._since = at  # the place at which its piece began
        self._next: _Fade | None = None  # the end of the piece
        self._joined = -self._end, -self._end  # positions before and after the last join
        length = film.end - film.begin
        self._piece = round(min(_PIECE * self._rate, _PART * length))
        self._apart = round(min(self._rate / 2, _APART * length))

    def play(self) -> Iterator[Sound]:
        """Yield the next samples in blocks of a second, as far as the playlist is known."""
        is_complete = self._playlist.is_complete
        while self._passages:
            passage = self._passages[0]
            window = passage.begins + passage.lasts + LOOK_AHEAD
            if window > self._playlist.known and not is_complete:
                break  # the next passage may begin before this fade ends
            self._passages.popleft()
            following = (
                self._place(self._passages[0].begins) if self._passages else self._end
            )
            if following > self._at or not self._passages:
                yield from self._changed(passage, following)
        ends = self._end - self._loop
        if not is_complete:
            end = min(
                [self._playlist.known, *(passage.begins for passage in self._passages)]
            )
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
            fade = self._next
            self._next = None
            yield from self._faded(fade)
        yield from self._onwards(place)

    def _onwards(self, place: int) -> Iterator[Sound]:
        while self._at < min(place, self._end):
            length = min(place, self._end, self._at + self._rate) - self._at
            yield self._film.heard(self._at + self._shift, length)
            self._at += length

    def _faded(self, fade: _Fade) -> Iterator[Sound]:
        yield from self._onwards(fade.place)
        length = min(fade.length, self._end - self._at)
        if length > 0:
            old, new = (
                self._film.heard(self._at + shift, length)
                for shift in (self._shift, fade.shift)
            )
            yield crossed(old, new)
            self._at += length
        if self._first_shift is None:
            self._first_shift = fade.shift
        self._shift = fade.shift
        self._since = self._at

    def _closed(self, length: int) -> Sound:
        """Return the last samples, which lead into the first ones of the output."""
        lead = self._lead
        if lead is None:
            lead = self._film.heard(self._begin + (self._first_shift or 0) - length, length)
        sound = crossed(self._film.heard(self._at + self._shift, length), lead[-length:])
        self._at += length
        return sound

    def _changed(self, passage: Passage, following: int) -> Iterator[Sound]:
        """Play up to a passage, and the fade to it, which ends before ``following``."""
        begins = self._place(passage.begins)
        ends = self._place(passage.begins + passage.lasts)
        around = round(LOOK_AHEAD * self._rate)
        least = begins - around
        most = min(ends + around, max(following, ends))
        if self._first_shift is None:
            least = most = self._at
        elif self._drifts:
            yield from self._until(least)
        least = max(least, self._at)
        self._next = None
        if passage.offset is None:
            self._drifts = True
            yield from self._faded(self._join(least, max(most, least)))
            return
        self._drifts = False
        shift = round(passage.offset * self._rate)
        if self._first_shift is None:
            yield from self._faded(_Fade(self._at, 0, shift))
        elif shift != self._shift:
            yield from self._faded(self._crossing(least, most, (begins, ends), shift))

    def _crossing(self, least: int, most: int, jump: tuple[int, int], shift: int) -> _Fade:
        """Return the fade to a shift for a jump from one place to another."""
        begins, ends = jump
        rate = self._rate
        usual = [round(seconds * rate) for seconds in _FADES]
        # A slow jump fades as long as it lasts.
        slow = [ends - begins] if ends - begins > usual[0] and begins >= least else []
        for lengths in (slow, usual):
            fades, costs = [], []
            for number, length in enumerate(lengths):
                places = np.arange(least, max(most - length, least) + 1, self._step)
                away = np.abs(places + length / 2 - (begins + ends) / 2) / (
                    rate * float(LOOK_AHEAD)
                )
                cost = self._film.costs(places + self._shift, places + shift, length)
                fades += [_Fade(place, length, shift) for place in places.tolist()]
                costs += (cost + _SHORTER * number + _AWAY * away).tolist()
            if np.isfinite(costs).any():
                return self._fitted(fades[int(np.argmin(costs))])
        # One of the two is silent everywhere.
        length = usual[-1]
        return _Fade(max(min(begins, most - length), least), length, shift)

    def _fitted(self, fade: _Fade) -> _Fade:
        after = fade.place + fade.shift
        fitting = self._film.fitting(fade.place + self._shift, after, fade.length)
        return fade._replace(shift=fade.shift + fitting - after)

    def _ending(self) -> _Fade:
        stops = self._film.end - self._shift
        fade = round(_FADES[0] * self._rate)
        longest = self._since + self._piece + round(_LONGER * self._rate)
        if self.is_silent or (self._end <= stops and self._end <= longest):
            return _Fade(self._end, 0, self._shift)
        least = max(self._at, self._since + self._piece)
        most = min(stops - fade, longest)
        # The last piece should not be too short either.
        if least <= self._end - self._piece:
            most = min(most, self._end - self._piece)
        elif self._end <= stops:
            return _Fade(self._end, 0, self._shift)
        return self._join(least, max(least, most))

    def _join(self, least: int, most: int) -> _Fade:
        """Return a fade between two places to another piece of an ambience."""
        film = self._film
        rate = self._rate
        length = film.end - film.begin
        if length < _LEAST * rate:
            self.is_silent = True
            return _Fade(least, round(_FADES[-1] * rate), film.end + 2 * rate - least)
        trials: list[tuple[float, int, int, int, int]] = []
        for shortened, seconds in enumerate(_FADES):
            fade = round(seconds * rate)
            last = max(film.end - self._piece - fade, film.begin)
            positions = self._drawn(film.begin, last, 0, fade)
            places = self._drawn(least, most, self._shift, fade)
            before = places + self._shift
            if self._first_shift is None:
                before = positions
                fade = round(_FADES[-1] * rate)
            costs = film.costs(before, positions, fade)
            old, new = self._joined
            again = np.maximum(np.abs(before - old), np.abs(positions - new)) < self._apart
            onwards = np.abs(before - positions) < 2 * self._apart
            costs[again | (onwards & (self._first_shift is not None))] = np.inf
            number = int(costs.argmin())
            ends = int(places[number]), int(before[number]), int(positions[number])
            trials.append((float(costs[number]) + _SHORTER * shortened, fade, *ends))
        _, fade, place, old_position, position = min(trials)
        if self._first_shift is None:
            return _Fade(place, 0, position - place)
        self._joined = old_position, position
        return self._fitted(_Fade(place, fade, position - place))

    def _drawn(self, first: int, last: int, shift: int, length: int) -> Positions:
        """Return random places at which a fade of the part with a shift may begin.

        Its ends are outside of attacks, if that is possible.
        """
        places = np.arange(first, last + 1, self._step)
        free = places[self._film.is_free(places + shift, length)]
        places = free if len(free) else places
        return places[self._random.integers(len(places), size=_TRIALS)]
