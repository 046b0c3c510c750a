"""What is taken along of the file beside its video: which part of it, and its tags."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer

from cloudconv.errors import InputError
from cloudconv.media.carry.holder import Holder
from cloudconv.media.carry.muxer import can_hold
from cloudconv.media.input.demux import open_container
from cloudconv.media.input.info import MediaInfo

# Statements about the file that was, not about what it shows.
_STALE = frozenset(
    ("encoder", "duration", "bps", "major_brand", "minor_version", "compatible_brands")
)
_STALE_PREFIXES = ("number_of_", "_statistics_")
# Names that MP4 and MOV make up for every track.
_MP4_ONLY = frozenset(("handler_name", "vendor_id"))


@dataclass(frozen=True, slots=True)
class Carry:
    """What to take along from the source file.

    ``origin`` is the time on the source's clock that becomes the output's 0. ``start`` and ``end``
    bound the span to keep, on the source's clock; None keeps all. Without ``audio`` and ``stretch``
    nothing that runs in time (audio, subtitles, chapters, data) comes along, only tags, covers and
    attachments. With ``stretch``, the output runs that many times slower, and so do chapters and
    text subtitles; with ``audio`` the audio is slowed as well and encoded again. Nothing else that
    runs in time comes along then. With ``loop_until``, a time on
    the source's clock, the audio begins again where the kept span ends, until then; an ``origin``
    at that end is for an output that begins with the repeat. Audio that the container cannot hold
    is encoded again, unless ``copies_only``: then that is an error.
    """

    info: MediaInfo
    origin: Fraction
    start: Fraction | None = None
    end: Fraction | None = None
    audio: bool = True
    stretch: Fraction | None = None
    loop_until: Fraction | None = None
    copies_only: bool = False

    @property
    def copies_timed(self) -> bool:
        """Whether what runs in time comes along unchanged."""
        return self.audio and self.stretch is None and not self.only_repeats

    @property
    def keeps_chapters(self) -> bool:
        """Whether chapters come along, slowed or not."""
        return self.copies_timed or self.stretch is not None

    @property
    def begin(self) -> Fraction:
        """Where the part to keep begins, on the source's clock."""
        return self.origin if self.start is None else max(self.start, self.origin)

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """The part that ``loop_until`` repeats, on the source's clock."""
        timing = self.info.timing
        return min(self.origin, timing.start), timing.end if self.end is None else self.end

    @property
    def only_repeats(self) -> bool:
        """Whether the output begins where the audio begins again."""
        return self.loop_until is not None and self.origin >= self.span[1]


def fresh_tags(tags: dict[str, str], holder: Holder) -> dict[str, str]:
    """The metadata that still holds for a file that was encoded again."""
    dropped = _STALE if holder.keeps_handlers else _STALE | _MP4_ONLY
    return {
        key: value
        for key, value in tags.items()
        if key.lower().split("-")[0] not in dropped and not key.lower().startswith(_STALE_PREFIXES)
    }


def needs_unlisted(carry: Carry, holder: Holder) -> bool:
    """Whether the source holds what the muxer can write but does not list: see `open_muxer`."""
    source = open_again(carry) if carry.copies_timed and holder.takes_unlisted else None
    if source is None:
        return False
    with source:
        return any(
            not can_hold(holder.muxer, stream) and can_hold(holder.muxer, stream, unlisted=True)
            for stream in source.streams
            if stream.type in ("audio", "video") and stream.index != carry.info.video_index
        )


def open_again(carry: Carry) -> InputContainer | None:
    """The source once more, None where it is no file that could hold more than pictures."""
    info = carry.info
    if not info.path.is_file() or (info.reader.is_pictures and not info.reader.is_still):
        return None
    try:
        return open_container(info.path)
    except InputError:
        # Animated WebP, which is read by other means.
        if info.streams:
            raise
        return None
