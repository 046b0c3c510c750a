"""Open a muxer, and test which streams a muxer accepts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import av
import av.error
from av.container import OutputContainer


def open_muxer(
    name: str, muxer: str, options: Mapping[str, str], *, unlisted: bool = False
) -> OutputContainer:
    """Open the muxer ``muxer``, which writes to ``name``, a URL for FFmpeg.

    PyAV refuses codecs that are missing from the muxer's list. Matroska's list omits the codecs
    that Matroska stores under their number in Windows: WMA, A-law, ADPCM, GSM, old video. With
    ``unlisted`` the muxer is opened through the muxer ``tee``, which accepts every stream. ``tee``
    writes no chapters, and does not request global headers from encoders.
    """
    if not unlisted:
        return av.open(name, "w", format=muxer, container_options=dict(options))
    given = "".join(f":{key}={value}" for key, value in options.items())
    plain = "".join(f"\\{sign}" if sign in "\\'|[] " else sign for sign in name)
    return av.open(f"[f={muxer}{given}]{plain}", "w", format="tee")


def can_hold(muxer: str, stream: Any, *, unlisted: bool = False) -> bool:
    """Return whether the muxer accepts a copy of the stream."""
    return accepts(muxer, lambda out: add_copy(out, stream), unlisted=unlisted)


def accepts(muxer: str, add: Callable[[OutputContainer], Any], *, unlisted: bool = False) -> bool:
    """Return whether the muxer accepts the stream that ``add`` adds.

    Some muxers refuse a stream only when the header is written, so a header is written and
    discarded. If the stream has an encoder, the encoder must open, too.
    """
    try:
        with open_muxer(f"file:{os.devnull}", muxer, {}, unlisted=unlisted) as trial:
            add(trial)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def add_copy(out: OutputContainer, stream: Any) -> Any:
    """Add a stream for copied packets of ``stream`` to a muxer before its header is written."""
    # Without ``opaque``, PyAV requires an encoder for the video's codec, which a copy does not use.
    opaque = {"opaque": True} if stream.type == "video" else {}
    return out.add_stream_from_template(stream, **opaque)
