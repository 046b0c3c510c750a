"""What a clip shows, without the frames that only repeat: those say nothing of a method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

from cloudconv.cadence import Cadence
from cloudconv.jobs.compare.settings import CompareSettings
from cloudconv.jobs.schedule import AnalysedFrame, Counts, look, retime
from cloudconv.media.read.probe import MediaInfo
from cloudconv.media.read.source import Source

_LOOKED_AT = 300
"""Source frames in which a cadence shows, if there is one."""


@dataclass(frozen=True, slots=True)
class ContentFrame(AnalysedFrame):
    """A source frame that is compared; ``number`` is its own from the beginning of the part.

    ``shows`` is when its content belongs: its own time, or an even one in a clip with a cadence.
    """

    number: int
    shows: Fraction


class Content:
    """The frames of the part that is compared.

    ``cadence`` says how frames repeat, if they do so regularly; then the repeats are left out, and
    counted in ``left_out`` as they pass. ``share`` is what is left of the frames then.
    """

    def __init__(self, settings: CompareSettings, info: MediaInfo) -> None:
        self._settings, self._info = settings, info
        self.left_out = 0
        cadence = Cadence()
        end = Fraction(0)
        # Not closed: that would end what comes from standard input.
        for item in islice(look(self.source().frames(), settings.scene_cut), _LOOKED_AT):
            cadence.push(item.frame.time, item.repeats, item.cut)
            end = item.frame.time + item.frame.duration
        cadence.finish(end)
        self.cadence = cadence.description
        self.share = cadence.share if self.cadence else Fraction(1)

    def source(self) -> Source:
        """The part of the clip that was asked for."""
        s = self._settings
        return Source(self._info, start=s.start, end=s.end, threads=s.threads)

    @property
    def frames_expected(self) -> int:
        """About how many source frames the part has."""
        timing, s = self._info.timing, self._settings
        whole = timing.end - timing.start
        end = whole if s.end is None else min(s.end, whole)
        return round(timing.frames * max(end - (s.start or 0), Fraction(0)) / whole)

    def frames(self, source: Source) -> Iterator[ContentFrame]:
        """What is compared, in order."""
        seen = look(source.frames(), self._settings.scene_cut)
        duplicates = "refill" if self.cadence else "keep"
        for number, (item, shows) in enumerate(retime(seen, duplicates, Counts())):
            if shows is None:
                self.left_out += 1
            else:
                yield ContentFrame(item.frame, item.cut, item.repeats, number, shows)
