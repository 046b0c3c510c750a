"""Describe a container for the streams that are carried into it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The abilities of a container that matter for the streams that are carried into it.

    Attributes:
        name: the name in messages.
        muxer: FFmpeg's name of the muxer; empty if no muxer is needed.
        attachments: whether fonts and covers are attached as files.
        subtitles: the codec for text subtitles whose own codec is refused; None if there is none.
        seldom_heard: prefixes of audio codecs that few players support in this container.
        has_edit_list: whether an edit list can hide the samples before the first audible one, which
            a decoder needs.
        states_delay: whether the finished file can state that delay for each audio track instead.
        keeps_handlers: whether the tags ``handler_name`` and ``vendor_id``, which every track of
            MP4 and MOV has, are copied.
        takes_unlisted: whether the muxer writes more codecs than it lists.
    """

    name: str
    muxer: str = ""
    attachments: bool = False
    subtitles: str | None = None
    seldom_heard: tuple[str, ...] = ()
    has_edit_list: bool = False
    states_delay: bool = False
    keeps_handlers: bool = False
    takes_unlisted: bool = False
