"""Opening a muxer, and asking one by trying what it takes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import av
import av.error
from av.container import OutputContainer


def open_muxer(
    name: str, muxer: str, options: Mapping[str, str], *, unlisted: bool = False
) -> OutputContainer:
    """A muxer that writes to ``name``, a URL of FFmpeg's.

    With ``unlisted`` it is asked through ``tee``, which passes everything on. The bindings let no
    stream in that Matroska's list of codecs leaves out, and that leaves out what it writes under a
    number of Windows': WMA, A-law, ADPCM, GSM, old video. ``tee`` passes no chapters on, and asks
    no encoder for a header of its own.
    """
    if not unlisted:
        return av.open(name, "w", format=muxer, container_options=dict(options))
    given = "".join(f":{key}={value}" for key, value in options.items())
    plain = "".join(f"\\{sign}" if sign in "\\'|[] " else sign for sign in name)
    return av.open(f"[f={muxer}{given}]{plain}", "w", format="tee")


def can_hold(muxer: str, stream: Any, *, unlisted: bool = False) -> bool:
    """Whether the muxer takes a copy of the stream; some refuse only when the header is written."""
    try:
        with (
            open_muxer(f"file:{os.devnull}", muxer, {}, unlisted=True)
            if unlisted
            else av.open(io.BytesIO(), "w", format=muxer)
        ) as trial:
            add_copy(trial, stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def add_copy(out: OutputContainer, stream: Any) -> Any:
    """A stream for packets of ``stream``, in a muxer whose header is not written yet."""
    # Without opaque, a video template looks for an encoder of its codec, which copying needs not.
    opaque = {"opaque": True} if stream.type == "video" else {}
    return out.add_stream_from_template(stream, **opaque)
