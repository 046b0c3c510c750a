"""What carried streams must know of the container that they go into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A container as carried streams meet it.

    Attributes:
        name: the name for people.
        muxer: FFmpeg's name; empty where no muxer is needed.
        attachments: whether fonts and covers are attached as files.
        subtitles: the codec that text subtitles become where theirs is refused.
        seldom_heard: how names of audio codecs begin that few players read in this container.
        has_edit_list: whether a list hides what a decoder needs before the first sample.
        keeps_handlers: whether the names that MP4 makes up for tracks stay true.
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
