"""Decide which streams besides the video, and which tags, the output takes over."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from cloudconv.media.containers.containers import Container
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.sound.edits import EditList
from cloudconv.timemap import TimeMap

# Tags that describe the old file, not its content.
_STALE = {"encoder", "duration", "bps", "major_brand", "minor_version", "compatible_brands"}
_STALE_PREFIXES = ("number_of_", "_statistics_")
# A first chapter that begins at most so many seconds late may begin at 0: a chapter before
# it would only be in the way of whoever goes from one chapter to the next.
_LATE = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Carry:
    """A description of everything to carry over from the source file ``info``.

    Timed streams are audio, subtitles, chapters and data. All times are on the source's
    clock.
    """

    info: MediaInfo
    zero: Fraction  # the time that becomes 0 in the output
    start: Fraction | None = None  # of the span to keep; None for no bound
    end: Fraction | None = None  # the same
    # Whether timed streams are carried over. Tags, covers and attachments always are. With
    # ``shows``, only audio depends on ``audio``.
    audio: bool = True
    # The map from output time to source time, from ``zero`` on; None at the source's
    # speed. Chapters and text subtitles are moved too, and with ``audio`` the audio, which
    # is encoded again. No other timed stream is carried over then.
    shows: TimeMap | None = None
    # Whether audio that the container cannot store is an error. Otherwise it is encoded
    # again.
    copies_only: bool = False
    # The edits by which all audio goes on after the film, also without ``audio``; None
    # if the audio ends with the film.
    edit_list: EditList | None = None
    is_mute: bool = False  # whether audio is left out, and nothing else

    def on_output(self, time: Fraction) -> Fraction:
        """Return the output time that shows a time on the source's clock."""
        since = time - self.zero
        return since if self.shows is None else self.shows.output(since)

    @property
    def begin(self) -> Fraction:
        """Return the start of the part to keep, on the source's clock."""
        return self.zero if self.start is None else max(self.start, self.zero)

    def change_of(self, number: int) -> Fraction | None:
        """Return when the format of audio stream ``number`` first changes in the part.

        The time is on the output's clock in seconds; None if it does not change.
        """
        times = (time for stream, time in self.info.sound_changes if stream == number)
        inside = (time for time in times if self.begin < time and not self.is_over(time))
        return next((time - self.zero for time in inside), None)

    def is_over(self, time: Fraction) -> bool:
        """Return whether a time on the source's clock is after the part."""
        return self.end is not None and time >= self.end


def kept_chapters(chapters: Sequence[Any], carry: Carry) -> tuple[list[Any], int]:
    """Return the chapters of the kept part on the output's clock, and the number of others.

    All containers get what MP4 can store: each chapter has a title, the first begins at 0,
    and one is stored at a time. Of several that begin together, the one that ends first
    stays. A chapter without a length lasts until the next one begins.
    """
    kept: dict[int, Any] = {}
    count = 0
    starts = sorted({_span_of(chapter)[0] for chapter in chapters})
    for chapter in sorted(chapters, key=lambda one: _span_of(one)[1], reverse=True):
        begin, end = _span_of(chapter)
        if end <= begin:
            later = (other for other in starts if other > begin)
            end = next(later, carry.info.timing.end)
        end = end if carry.end is None else min(end, carry.end)
        start = max(begin, carry.begin)
        if start < end:
            place = round(carry.on_output(start) * 1000)
            kept[place] = {
                "id": chapter["id"],
                "start": round(carry.on_output(start) * 10**6),
                "end": round(carry.on_output(end) * 10**6),
                "time_base": Fraction(1, 10**6),
                "metadata": {"title": "", **chapter["metadata"]},
            }
            count += 1
    stored = [kept[start] for start in sorted(kept)]
    for one, after in pairwise(stored):
        one["end"] = min(one["end"], after["start"])
    if stored and stored[0]["start"] > _LATE * 10**6:
        untitled = {"metadata": {"title": ""}}
        stored.insert(0, stored[0] | untitled | {"start": 0, "end": stored[0]["start"]})
    elif stored:
        stored[0]["start"] = 0
    return stored, count - len(kept)


def _span_of(chapter: Any) -> tuple[Fraction, Fraction]:
    tick = Fraction(chapter["time_base"] or Fraction(1, 1000))
    return chapter["start"] * tick, chapter["end"] * tick


def fresh_tags(tags: dict[str, str], container: Container) -> dict[str, str]:
    """Return the tags that are still true for a file that was encoded again."""
    # FFmpeg's MP4 reader calls a track's title so, and its writer does not.
    if "name" in tags:
        tags = {"title": tags["name"]} | tags
    return container.tags(
        {
            key: value
            for key, value in tags.items()
            if key.lower().split("-")[0] not in _STALE
            and not key.lower().startswith(_STALE_PREFIXES)
        }
    )
