"""Describe a container for the streams that are carried into it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A container as seen by the streams that are carried into it.

    Attributes:
        name: the name in messages.
        muxer: FFmpeg's name; empty if no muxer is needed.
        attachments: whether fonts and covers are attached as files.
        subtitles: the codec for text subtitles whose own codec is refused.
        seldom_heard: prefixes of audio codecs that few players support in this container.
        has_edit_list: whether a list hides the samples that a decoder needs before the first one.
        keeps_handlers: whether the track names that MP4 invents stay true.
        takes_unlisted: whether the muxer writes more codecs than it lists.
    """

    name: str
    muxer: str = ""
    attachments: bool = False
    subtitles: str | None = None
    seldom_heard: tuple[str, ...] = ()
    has_edit_list: bool = False
    keeps_handlers: bool = False
    takes_unlisted: bool = False
