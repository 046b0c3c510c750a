"""Decide which streams besides the video, and which tags, the output takes from the source."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer
from av.stream import Disposition

from cloudconv.errors import InputError
from cloudconv.media.carry.muxer import can_hold
from cloudconv.media.containers import Container
from cloudconv.media.input.demux import open_container
from cloudconv.media.input.info import MediaInfo

# Tags that describe the old file, not its content.
_STALE = frozenset(
    ("encoder", "duration", "bps", "major_brand", "minor_version", "compatible_brands")
)
_STALE_PREFIXES = ("number_of_", "_statistics_")
# Tags that every track of MP4 and MOV has, also if nobody has chosen them.
_MP4_ONLY = frozenset(("handler_name", "vendor_id"))


@dataclass(frozen=True, slots=True)
class Carry:
    """A description of everything to carry over from the source file.

    Timed streams are audio, subtitles, chapters and data. All times are on the source's clock.

    Attributes:
        info: the description of the source file.
        origin: the time that becomes 0 in the output. If ``loop_until`` is set and ``origin`` is
            the end of the span, the output begins with the repeated audio.
        start: the start of the span to keep; None for no bound.
        end: the end of the span to keep; None for no bound.
        audio: whether timed streams are carried over. Tags, covers and attachments always are. With
            ``slowdown``, only audio depends on ``audio``.
        slowdown: the factor by which the output is slower. Chapters and text subtitles are slowed
            too, and with ``audio`` the audio, which is encoded again. No other timed stream is
            carried over with ``slowdown``.
        loop_until: the time up to which the audio repeats, from the end of the span on.
        copies_only: whether audio that the container cannot store is an error. Otherwise such audio
            is encoded again, or left out with ``loop_until``.
    """

    info: MediaInfo
    origin: Fraction
    start: Fraction | None = None
    end: Fraction | None = None
    audio: bool = True
    slowdown: Fraction | None = None
    loop_until: Fraction | None = None
    copies_only: bool = False

    @property
    def copies_timed(self) -> bool:
        """Return whether timed streams are copied unchanged."""
        return self.audio and self.slowdown is None and not self.only_repeats

    @property
    def keeps_chapters(self) -> bool:
        """Return whether chapters are carried over, at their own times or slowed."""
        return self.copies_timed or self.slowdown is not None

    @property
    def begin(self) -> Fraction:
        """Return the start of the part to keep, on the source's clock."""
        return self.origin if self.start is None else max(self.start, self.origin)

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """Return the part that ``loop_until`` repeats, on the source's clock."""
        timing = self.info.timing
        return min(self.origin, timing.start), timing.end if self.end is None else self.end

    @property
    def only_repeats(self) -> bool:
        """Return whether all audio of the output is repeated audio."""
        return self.loop_until is not None and self.origin >= self.span[1]


def fresh_tags(tags: dict[str, str], container: Container) -> dict[str, str]:
    """Return the tags that are still true for a file that was encoded again."""
    dropped = _STALE if container.keeps_handlers else _STALE | _MP4_ONLY
    return {
        key: value
        for key, value in tags.items()
        if key.lower().split("-")[0] not in dropped and not key.lower().startswith(_STALE_PREFIXES)
    }


def needs_unlisted(carry: Carry, container: Container) -> bool:
    """Return whether the source contains streams that the muxer can write but does not list.

    Such streams are called unlisted; see `open_muxer`. A cover becomes an attachment, not a stream.
    """
    source = open_again(carry) if carry.copies_timed and container.takes_unlisted else None
    if source is None:
        return False
    with source:
        return any(
            not can_hold(container.muxer, stream)
            and can_hold(container.muxer, stream, unlisted=True)
            for stream in source.streams
            if stream.type in ("audio", "video") and stream.index != carry.info.video_index
            if not stream.disposition & Disposition.attached_pic
        )


def open_again(carry: Carry) -> InputContainer | None:
    """Open the source again; return None if the source is not a container file.

    Several pictures, as in a folder or a pattern, and animated WebP have no container file.
    """
    info = carry.info
    if not info.path.is_file():
        return None
    try:
        return open_container(info.path)
    except InputError:
        # PyAV cannot open animated WebP; another library reads this format.
        if info.streams:
            raise
        return None
