"""Write MP4 and MOV."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import lcm

from cloudconv.media.carry.carry import fresh_tags
from cloudconv.media.write.containers.base import Container
from cloudconv.media.write.encode import EncodingPlan

_MOST_TICKS = 2**31 - 1  # of a movie in a second, and of a video between two frames
_MOST_SCALE = 600_000  # of a movie in a second: 32 bits then suffice for two hours
_LEAST_SCALE = 10_000  # ticks of a video in a second
_NAMED_TAGS = frozenset(
    (
        *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "keywords", "episode_sort", "season_number", "media_type", "hd_video"),
        *("gapless_playback", "compilation", "track", "disc", "creation_time", "language"),
    )
)


class _Movie(Container):
    def options(self, plan: EncodingPlan) -> dict[str, str]:
        # Edit lists and durations count in movie ticks. A movie tick must divide a video tick, and
        # must be fine enough for the audio.
        scale = plan.tick.denominator
        for factor in (48000, 44100):
            finer = lcm(scale, factor)
            scale = finer if finer <= _MOST_SCALE else scale
        kept = {} if plan.carry is None else fresh_tags(plan.carry.info.metadata, self)
        # Without ``use_metadata_tags`` the muxer drops tags for which iTunes has no name.
        free = any(key.lower() not in _NAMED_TAGS for key in kept)
        flags = "+faststart" + ("+use_metadata_tags" if free else "")
        return {"movie_timescale": str(scale), "movflags": flags}

    def longest_frame(self, tick: Fraction) -> Fraction:
        scale = tick.denominator
        while scale < _LEAST_SCALE:  # as FFmpeg's muxer does
            scale *= 2
        return Fraction(_MOST_TICKS, scale)


MP4 = _Movie(
    name="MP4",
    muxer="mp4",
    suffixes=(".mp4", ".m4v"),
    encoders=("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1"),
    is_video=True,
    subtitles="mov_text",
    seldom_heard=("pcm_",),
    has_edit_list=True,
    keeps_handlers=True,
    # Only Matroska and WebM can store alpha beside the packets.
    refuses_alpha=("libvpx-vp9",),
    hevc_tag="hvc1",
    needs_plain=True,
    sums_gaps=True,
)
MOV = replace(
    MP4,
    name="MOV",
    muxer="mov",
    suffixes=(".mov",),
    encoders=("libx264", "libx264rgb", "libx265", "prores_ks"),
    seldom_heard=(),
    # The muxer lists these two encoders but refuses to write their header.
    refuses=("libvpx-vp9", "libsvtav1"),
    keeps_alpha=True,
)
