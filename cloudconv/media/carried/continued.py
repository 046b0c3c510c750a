"""Continue the sound of a film with parts of itself, as the playlist of a dream says."""

from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from cloudconv.media.carried.audio import EncodedTrack, timed
from cloudconv.media.carried.carry import Carry
from cloudconv.media.carried.tracks import CarriedTrack, Timed
from cloudconv.media.sound.fades import FilmSound
from cloudconv.media.sound.mixing import Mixer
from cloudconv.media.sound.playlist import Playlist
from cloudconv.media.sound.stretch import Samples
from cloudconv.timeline import EVEN

# A sound that ends at most this many seconds before the picture is continued from its own
# end, and not after a silence. Packets of audio rarely end with a frame.
_ENDS_EARLY = Fraction(1, 10)
_LEAD = Fraction(1, 2)  # seconds at the start of the output that are kept for a loop
# Sample formats with more digits than a number of 32 bits has.
_DEEP_FORMATS = ("s32", "s64", "dbl")


class ContinuedAudio(EncodedTrack):
    """A track of audio that goes on after the film, up to the end of the playlist.

    The track is encoded again as a whole. The sound of the scene stays in memory. Before
    the playlist begins, the samples of a codec without loss keep their values.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        carry: Carry,
        others: Collection[CarriedTrack],
        playlist: Playlist,
    ) -> None:
        super().__init__(source, target, carry, others, EVEN)
        if source.codec_context.format.name.removesuffix("p") in _DEEP_FORMATS:
            self._format = "dbl"
            self._type = np.dtype(np.float64)
        self._playlist = playlist
        self._passages = playlist.follow()
        # Places in samples: of the first sample of the output, of the first and of the end
        # of those that may play, and of the first after the film.
        self._start = self._least
        self._scene = round((playlist.scene - carry.zero) * self._rate)
        self._end = round((playlist.until - carry.zero) * self._rate)
        self._begins = round((playlist.begins - carry.zero) * self._rate)
        self._least = min(self._start, self._scene)
        self.begin = min(self.begin, playlist.scene)
        self._leads = self._start < self._begins
        self._lead: list[Samples] = []
        self._heard: list[Samples] = []
        self._first_heard: int | None = None
        self._is_read = False
        self._mixer: Mixer | None = None

    def warnings(self, label: str) -> Iterator[str]:
        """Yield warnings about damaged and too short sound."""
        yield from super().warnings(label)
        if self._mixer is None or self._mixer.is_silent:
            yield (
                f"sound-too-short: {label} has less than half a second of sound in the "
                "scene that goes on: the new frames are silent."
            )

    def continued(self) -> Iterator[Timed]:
        """Yield packets as far as the playlist is known, after the last one of the film."""
        if not self._is_read:
            self._is_read = True
            yield from self._decoded(None)
            yield from self._resampled(None)
            if self._first is not None:
                yield from self._prepared()
        if self._mixer is not None:
            yield from self._encoded(self._mixer.play())

    def finish(self) -> Iterator[Timed]:
        """Yield the last packets; the playlist is complete."""
        yield from self.continued()
        if self._first is not None:
            yield from map(timed, self.target.encode(None))

    def _prepared(self) -> Iterator[Timed]:
        end = self._begins
        if not self._leads or end - self._next > _ENDS_EARLY * self._rate:
            while self._next < end:
                length = min(end - self._next, self._rate)
                yield from self._stretched(np.zeros((length, self._channels), self._type))
        silence = np.zeros((0, self._channels), self._type)
        sound = np.concatenate(self._heard or [silence])
        self._heard.clear()
        first = self._next if self._first_heard is None else self._first_heard
        film = FilmSound(sound, self._rate, first)
        lead = np.concatenate(self._lead or [silence]) if self._leads else None
        at = min(self._next, end)
        self._mixer = Mixer(
            self._playlist, self._passages, film, at, self._carry.zero, lead
        )
        if not self._leads:
            self._place = at

    def _stretched(self, samples: Samples) -> Iterator[Timed]:
        at = self._next
        self._next += len(samples)
        heard = samples[max(self._scene - at, 0) :]
        if len(heard):
            if self._first_heard is None:
                self._first_heard = max(at, self._scene)
            self._heard.append(heard)
        tail = samples[max(self._start - at, 0) : max(self._begins - at, 0)]
        if len(tail) and self._leads:
            begins = max(at, self._start)
            if self._playlist.loops and begins < self._start + _LEAD * self._rate:
                if not self._lead:
                    self._lead.append(
                        np.zeros((begins - self._start, self._channels), self._type)
                    )
                self._lead.append(tail)
            self._place = begins
            yield from self._encoded(iter([tail]))
