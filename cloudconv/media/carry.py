"""Decide which streams besides the video, and which tags, the output takes over."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer

from cloudconv.media.containers import Container
from cloudconv.media.frame import MediaInfo
from cloudconv.media.playlist import Playlist

# Tags that describe the old file, not its content.
_STALE = {"encoder", "duration", "bps", "major_brand", "minor_version", "compatible_brands"}
_STALE_PREFIXES = ("number_of_", "_statistics_")
# Tags that every track of MP4 and MOV has, also if nobody has chosen them.
_MP4_ONLY = {"handler_name", "vendor_id"}

_CHAPTER_TICKS = 1000  # of MP4's chapters, a second
# A first chapter that begins at most so many seconds late may begin at 0 in MP4: a chapter
# before it would only be in the way of whoever goes from one chapter to the next.
_LATE = Fraction(1, 2)

# Codecs that FFmpeg writes to Matroska as in an AVI, and does not list for Matroska.
_ACM = ("wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice", "pcm_alaw", "pcm_mulaw",
        "adpcm_ms", "adpcm_ima_wav")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Carry:
    """A description of everything to carry over from the source file ``info``.

    Timed streams are audio, subtitles, chapters and data. All times are on the source's
    clock.
    """

    info: MediaInfo
    origin: Fraction  # the time that becomes 0 in the output
    start: Fraction | None = None  # of the span to keep; None for no bound
    end: Fraction | None = None  # the same
    # Whether timed streams are carried over. Tags, covers and attachments always are. With
    # ``slowdown``, only audio depends on ``audio``.
    audio: bool = True
    # The factor by which the output is slower. Chapters and text subtitles are slowed too,
    # and with ``audio`` the audio, which is encoded again. No other timed stream is carried
    # over then.
    slowdown: Fraction | None = None
    # Whether audio that the container cannot store is an error. Otherwise it is encoded
    # again.
    copies_only: bool = False
    # The passages by which all audio goes on after the film, also without ``audio``; None
    # if the audio ends with the film.
    playlist: Playlist | None = None
    is_mute: bool = False  # whether audio is left out, and nothing else

    @property
    def begin(self) -> Fraction:
        """Return the start of the part to keep, on the source's clock."""
        return self.origin if self.start is None else max(self.start, self.origin)

    def change_of(self, number: int) -> Fraction | None:
        """Return when the format of audio stream ``number`` first changes in the part.

        The time is on the output's clock in seconds; None if it does not change.
        """
        times = (time for stream, time in self.info.sound_changes if stream == number)
        inside = (time for time in times if self.begin < time and not self.is_over(time))
        return next((time - self.origin for time in inside), None)

    def is_over(self, time: Fraction) -> bool:
        """Return whether a time on the source's clock is after the part."""
        return self.end is not None and time >= self.end


def kept_chapters(chapters: Sequence[Any], carry: Carry) -> list[Any]:
    """Return the chapters of the kept part, on the output's clock.

    A chapter without a length lasts until the next one begins.
    """
    kept = []
    starts = sorted({_start_of(chapter) for chapter in chapters})
    for chapter in chapters:
        begin = _start_of(chapter)
        start = max(begin, carry.begin)
        end = chapter["end"] * _tick_of(chapter)
        if end <= begin:
            later = (other for other in starts if other > begin)
            end = next(later, carry.info.timing.end)
        if carry.end is not None:
            end = min(end, carry.end)
        if start < end:
            tick = Fraction(1, 1_000_000)
            seconds_to_ticks = (carry.slowdown or 1) / tick
            times = {
                "start": round((start - carry.origin) * seconds_to_ticks),
                "end": round((end - carry.origin) * seconds_to_ticks),
                "time_base": tick,
            }
            kept.append({**chapter, **times})
    return kept


def _tick_of(chapter: Any) -> Fraction:
    return Fraction(chapter["time_base"] or Fraction(1, 1000))


def _start_of(chapter: Any) -> Fraction:
    return Fraction(chapter["start"] * _tick_of(chapter))


def one_at_a_time(chapters: Iterable[Any]) -> list[Any]:
    """Return the chapters without those that MP4 would store with a length of 0.

    In MP4 a chapter lasts until the next one begins. Of several that begin together, the
    one that ends first stays.
    """
    by_start: dict[int, Any] = {}
    for chapter in sorted(chapters, key=lambda one: one["end"], reverse=True):
        by_start[round(_start_of(chapter) * _CHAPTER_TICKS)] = chapter
    return [by_start[start] for start in sorted(by_start)]


def with_titles(chapters: Sequence[Any]) -> list[Any]:
    """Return the chapters as MP4 can store them: each with a title, and one from 0 on.

    FFmpeg writes no chapter without a title, and the first one that it writes begins at 0.
    """
    titled = [
        {**chapter, "metadata": {"title": "", **chapter["metadata"]}}
        for chapter in chapters
    ]
    if titled and _start_of(titled[0]) > _LATE:
        before = {"start": 0, "end": titled[0]["start"], "metadata": {"title": ""}}
        titled.insert(0, {**titled[0], **before})
    elif titled:
        titled[0]["start"] = 0
    return titled


def fresh_tags(tags: dict[str, str], container: Container) -> dict[str, str]:
    """Return the tags that are still true for a file that was encoded again."""
    # FFmpeg's MP4 reader calls a track's title so, and its writer does not.
    if "name" in tags:
        tags = {"title": tags["name"]} | tags
    if container.is_mp4 and "language" in tags:
        tags = tags | {"language": _three_letters(tags["language"])}
    dropped = _STALE if container.is_mp4 else _STALE | _MP4_ONLY
    return {
        key: value
        for key, value in tags.items()
        if key.lower().split("-")[0] not in dropped
        and not key.lower().startswith(_STALE_PREFIXES)
    }


def header_of(muxer: str, add: Callable[[OutputContainer], Any]) -> bytes | None:
    """Return the muxer's header for the stream that ``add`` adds.

    The result is None if it refuses the stream.

    If the stream has an encoder, the encoder must open, too.
    """
    header = io.BytesIO()
    plain = {"write_crc32": "0"} if muxer == "matroska" else {}
    try:
        with av.open(header, "w", format=muxer, container_options=plain) as out:
            add(out)
            out.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return None
    return header.getvalue()


def _three_letters(language: str) -> str:
    """Return a language tag, such as ``pt-BR``, as the three letters that MP4 stores."""
    if len(language) == 3:
        return language

    def add(out: OutputContainer) -> None:
        out.add_stream("pcm_s16le", rate=8000).metadata["language"] = language.split("-")[0]

    # FFmpeg converts languages in its reader of ASF, and has no function for that.
    with av.open(io.BytesIO(header_of("asf", add) or b""), format="asf") as container:
        return container.streams[0].metadata.get("language", language)


def add_copy(out: OutputContainer, stream: Any) -> Any:
    """Add a stream for copied packets of ``stream`` to a muxer that has no header yet."""
    # Without ``opaque``, PyAV requires an encoder of the video's codec
    # (PyAV-Org/PyAV#1780).
    opaque = {"opaque": True} if stream.type == "video" else {}
    if out.format.name != "matroska" or codec_name(stream) not in _ACM:
        target = out.add_stream_from_template(stream, **opaque)
        if stream.type == "video" and not stream.codec_context.width:
            # A cover that was not decoded has no size. Muxers want one, and MP4 does not
            # store it.
            target.width = target.height = 1
        return target
    # PyAV refuses these codecs: ``add_stream_from_template`` of an AVI's WMA is a
    # ValueError. A filter of packets copies all parameters of its input stream.
    target = out.add_mux_stream("pcm_s16le")
    BitStreamFilterContext("null", stream, target)
    return target


def codec_name(stream: Any) -> str:
    """Return FFmpeg's short name of the codec."""
    context = stream.codec_context
    return str(
        context.name if context is not None else getattr(stream, "name", None) or "unknown"
    )
