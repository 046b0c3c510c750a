"""Add copied streams to FFmpeg's muxers, try headers, and describe finished files."""

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import PacketSideData
from av.stream import Disposition


def header_of(muxer: str, add: Callable[[OutputContainer], Any]) -> bytes | None:
    """Return the muxer's header for the stream that ``add`` adds; None if it is refused.

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


def add_copy(out: OutputContainer, stream: Any, unlisted: Sequence[str] = ()) -> Any:
    """Add a stream for copied packets of ``stream`` to a muxer that has no header yet.

    ``unlisted`` are codecs that the muxer takes and FFmpeg does not list for it.
    """
    # Without ``opaque``, PyAV requires an encoder of the video's codec
    # (PyAV-Org/PyAV#1780).
    opaque = {"opaque": True} if stream.type == "video" else {}
    if codec_name(stream) in unlisted:
        # PyAV refuses these codecs. A filter of packets copies all parameters of its input
        # stream.
        target = out.add_mux_stream("pcm_s16le")
        BitStreamFilterContext("null", stream, target)
        return target
    target = out.add_stream_from_template(stream, **opaque)
    if stream.type == "video" and not stream.codec_context.width:
        # A cover that was not decoded has no size. Muxers want one, and MP4 does not store
        # it.
        target.width = target.height = 1
    return target


def add_side_data(packet: Any, kind: int, data: bytes) -> None:
    """Add side data to a packet; the kind is FFmpeg's number."""
    side = PacketSideData(kind, len(data))  # type: ignore[call-arg]
    side.update(data)
    packet.set_sidedata(side, move=True)


def stamp_of(packet: Any) -> Any:
    """Return when a packet is shown, or else when it is decoded, in ticks; or None."""
    return packet.dts if packet.pts is None else packet.pts


def nearest(ticks: Fraction) -> int:
    """Return the nearest whole number as FFmpeg does: of two, that away from 0."""
    away = int(abs(ticks) + Fraction(1, 2))
    return away if ticks > 0 else -away


def codec_name(stream: Any) -> str:
    """Return FFmpeg's short name of the codec."""
    context = stream.codec_context
    return str(
        context.name if context is not None else getattr(stream, "name", None) or "unknown"
    )


def kind_of(stream: Any) -> str:
    """Return the kind of a stream: ``still`` for a cover or an attachment, or its type."""
    is_still = stream.type == "attachment" or stream.disposition & Disposition.attached_pic
    return "still" if is_still else str(stream.type)


def label_of(stream: Any) -> str:
    """Return the words for a stream in a warning."""
    title = stream.metadata.get("filename") or stream.metadata.get("title")
    details = [codec_name(stream), stream.metadata.get("language"), title]
    different = dict.fromkeys(details)  # a font's codec is its file's name
    words = ", ".join(str(detail) for detail in different if detail and detail != "und")
    name = f"{stream.type.capitalize()} stream {stream.index}"
    return f"{name} ({words})" if words else name
