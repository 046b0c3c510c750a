"""Read what a picture carries beside its samples, and put that into the output.

FFmpeg calls this side data. PyAV can read most kinds, and sets none of a video but its
rotation: the functions here take other ways. Sizes of structures: FFmpeg's libavutil
(``spherical.h``, ``stereo3d.h``, ``mastering_display_metadata.h``).
"""

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.packet import packet_sidedata_type_from_literal
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition
from av.video.frame import VideoFrame

from cloudconv.media.containers import matroska
from cloudconv.media.containers.containers import Container, Content
from cloudconv.media.containers.muxing import add_copy, add_side_data, header_of
from cloudconv.media.frames.filters import Chain
from cloudconv.media.frames.frame import MediaInfo

# All kinds of side data of pictures in FFmpeg's enum AVFrameDataType, with the words for a
# person. None marks kinds that nobody would miss: those of sound, what a decoder computes,
# an encoder's notes, and values that every MPEG-2 file has. The rotation has an element of
# its own.
_NONE = (
    *(
        "PANSCAN",
        "MATRIXENCODING",
        "DOWNMIX_INFO",
        "REPLAYGAIN",
        "SKIP_SAMPLES",
        "GOP_TIMECODE",
    ),
    *("AUDIO_SERVICE_TYPE", "MOTION_VECTORS", "REGIONS_OF_INTEREST", "VIDEO_ENC_PARAMS"),
    *("SEI_UNREGISTERED", "DETECTION_BBOXES", "VIDEO_HINT", "DISPLAYMATRIX"),
)
CAPTIONS, _STEREO, _SPHERICAL = "A53_CC", "STEREO3D", "SPHERICAL"
_DISPLAY, _LIGHT = "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"
_CROP = "FRAME_CROPPING"  # of the stream
_VIEW = "VIEW_ID"
KINDS: dict[str, str | None] = {
    **dict.fromkeys(_NONE),
    CAPTIONS: "closed captions (CEA-608, CEA-708)",
    _STEREO: "stereo 3D layout",
    _SPHERICAL: "360° projection",
    _DISPLAY: "HDR10 mastering display",
    _LIGHT: "HDR10 light levels",
    _CROP: "marks of the shown part of the picture (cropping)",
    "AFD": "active format description (AFD)",
    "ICC_PROFILE": "ICC colour profile",
    "S12M_TIMECODE": "time codes of single frames (SMPTE 12M)",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "FILM_GRAIN_PARAMS": "film grain",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environment",
    "LCEVC": "LCEVC enhancement layer",
    _VIEW: "second view (MV-HEVC)",
    "3D_REFERENCE_DISPLAYS": "3D reference displays",
    "EXIF": "EXIF data",
}
# Kinds that PyAV cannot read, by FFmpeg's number, the colour profile first. PyAV 18 does
# not know those from 28 on (see PyAV-Org/PyAV#2392), and frees the name of a PNG's profile
# twice, which ends the process: `[*frame.side_data]` of a PNG with the chunk iCCP.
_UNREADABLE = {
    "ICC_PROFILE": 15,
    "LCEVC": 28,
    _VIEW: 29,
    "3D_REFERENCE_DISPLAYS": 30,
    "EXIF": 31,
    **{f"FFmpeg's side data {n}": n for n in range(32, 40)},
}

# Matroska's StereoMode by FFmpeg's type of stereo 3D, and whether the right picture comes
# first.
_STEREO_MODES = {
    **{(1, 0): 1, (1, 1): 11, (2, 0): 3, (2, 1): 2, (3, 0): 13, (3, 1): 14},
    **{(4, 0): 5, (4, 1): 4, (6, 0): 7, (6, 1): 6, (7, 0): 9, (7, 1): 8},
}
_NO_LAYOUT = 8
# The frame packing of H.264 by FFmpeg's type of stereo 3D.
_PACKINGS = {1: 3, 2: 4, 3: 5, 4: 0, 6: 2, 7: 1}
_EQUIRECTANGULAR, _CUBEMAP, _TILE = range(3)
_RECTILINEAR = 4
_MOST_LIGHT = 2**16 - 1  # cd/m²
_MOST_LUMINANCE = (2**32 - 1) // 10_000  # the same, of a display


def side_data_of(picture: VideoFrame, codec: str = "") -> dict[str, bytes]:
    """Return the side data of a picture of that codec by its kind.

    Some kinds are there without their content. The picture's time base may change.
    """
    data: dict[str, bytes] = {}
    ends_the_process = codec in ("png", "apng")  # until its colour profile is removed
    for kind, number in _UNREADABLE.items():
        if not ends_the_process:
            with suppress(ValueError):
                return data | readable(picture)
        ends_the_process = False
        select = Chain(picture, ("sidedata", f"mode=select:type={number}"))
        if [*select.push(picture, picture.pts)]:
            data[kind] = b""
            delete = Chain(picture, ("sidedata", f"mode=delete:type={number}"))
            (picture,) = delete.push(picture, picture.pts)
    with suppress(ValueError):
        data |= readable(picture)
    return data


def has_own_colours(data: dict[str, bytes]) -> bool:
    """Return whether side data is of Dolby Vision of profile 5.

    Players show its colours right only with that metadata. The structure is FFmpeg's
    AVDOVIMetadata; FFmpeg finds the profile by the same two values.
    """
    content = data.get("DOVI_METADATA", b"")
    if len(content) < 8:
        return False
    (header,) = struct.unpack_from("=Q", content)
    values = content[header : header + 11]
    return len(values) == 11 and values[4] == 0 and values[10] == 1


def readable(picture: VideoFrame) -> dict[str, bytes]:
    """Return the side data of a picture.

    Raise ValueError for a kind that PyAV does not know.
    """
    # The attribute side_data of PyAV's frame refers to the frame that keeps it, so the
    # pixels would stay in memory until Python looks for cycles, a hundred frames later.
    container: Any = SideDataContainer
    data = {entry.type.name: bytes(entry) for entry in container(picture)}
    # A flat picture has a projection too, of which a viewer loses nothing.
    if data.get(_SPHERICAL, b"")[:4] == struct.pack("=i", _RECTILINEAR):
        del data[_SPHERICAL]
    return data


def marks_of(stream: Any) -> tuple[str | None, dict[str, bytes]]:
    """Return FFmpeg's name for the chroma's place, and the stream's own side data."""
    # PyAV 18 has no attribute for either, and the muxer writes both into its header.
    header = header_of("matroska", lambda out: add_copy(out, stream))
    if header is None:
        return None, {}
    place, crop = matroska.marks_of(header)
    marks: dict[str, bytes] = {}
    if any(crop):
        marks[_CROP] = struct.pack("<4I", *crop)
    if stream.disposition & Disposition.multilayer:
        marks[_VIEW] = b""
    return place, marks


def light_levels(info: MediaInfo) -> tuple[int, int] | None:
    """Return MaxCLL and MaxFALL in cd/m².

    The result is None if there are none, or 16 bits do not hold them.
    """
    data = info.side_data.get(_LIGHT, b"")
    if len(data) < 8:
        return None
    brightest, mean = struct.unpack_from("<2I", data)
    return (brightest, mean) if max(brightest, mean) <= _MOST_LIGHT else None


def mastering_display(
    info: MediaInfo,
) -> tuple[list[Fraction], list[Fraction]] | None:
    """Return chromaticities and luminances of the mastering display.

    They are x and y of red, green, blue and white, and the least and the greatest luminance
    in cd/m². Each list is empty if unknown.

    The result is None if there is no display, or one of its numbers is impossible.
    """
    data = info.side_data.get(_DISPLAY, b"")
    if len(data) < 88:
        return None
    numbers = struct.unpack_from("<22i", data)
    pairs = zip(numbers[:20:2], numbers[1:20:2], strict=True)
    values = [Fraction(top, bottom or 1) for top, bottom in pairs]
    chromaticities = values[:8] * bool(numbers[20])
    luminances = values[8:] * bool(numbers[21])
    fits = all(0 <= value <= 1 for value in chromaticities)
    fits &= all(0 <= value <= _MOST_LUMINANCE for value in luminances)
    return (chromaticities, luminances) if fits else None


def frame_packing(info: MediaInfo) -> int | None:
    """Return the number of H.264's frame packing for a stereo 3D layout.

    The result is None if it has none.
    """
    kind, inverted = _stereo(info)
    return None if inverted else _PACKINGS.get(kind)


def keep(stream: Any, info: MediaInfo, container: Container) -> bool:
    """Add the source's side data to a video stream before its encoder is opened.

    Return whether there was any. The encoder's parameters get other values.
    """
    elements = b"".join(_elements(info, container))
    if elements:
        # PyAV cannot set side data of a stream (PyAV-Org/PyAV#1150). A stream without a
        # codec has it, and a filter of packets copies all parameters of its input stream to
        # its output.
        header = io.BytesIO(matroska.described_video(elements))
        with av.open(header, format="matroska") as described:
            BitStreamFilterContext("null", described.streams[0], stream)
    return bool(elements)


def left_out(info: MediaInfo, container: Container, *, packs: bool) -> list[str]:
    """Return the words for side data of the source that the output cannot store.

    ``packs``: whether the encoder states the frame packing of H.264.
    """
    # The warning of lost colours includes lost HDR10 metadata.
    has_hdr10 = Content.HDR10 in container.keeps or Content.COLOURS not in container.keeps
    packs &= frame_packing(info) is not None
    is_flat = _stereo(info)[0] == 0
    keeps = {
        CAPTIONS: True,
        _DISPLAY: has_hdr10 and mastering_display(info) is not None,
        _LIGHT: has_hdr10 and light_levels(info) is not None,
        _CROP: Content.CROPPING in container.keeps,
        _SPHERICAL: bool(_projection(info, container)),
        _STEREO: is_flat or packs or _stereo_mode(info, container) is not None,
    }
    kinds = (KINDS.get(kind, kind) for kind in info.side_data if not keeps.get(kind))
    return list(dict.fromkeys(words for words in kinds if words))


def _stereo(info: MediaInfo) -> tuple[int, bool]:
    data = info.side_data.get(_STEREO, bytes(8))
    if "VIEW_ID" in info.side_data:
        return _NO_LAYOUT, False  # the other view is not decoded
    return int.from_bytes(data[:4], "little"), bool(data[4] & 1)


def _stereo_mode(info: MediaInfo, container: Container) -> int | None:
    mode = _STEREO_MODES.get(_stereo(info))
    return mode if mode in container.stereo_modes else None


def _projection(info: MediaInfo, container: Container) -> bytes:
    """Return the content of Matroska's element Projection; no bytes if there is none."""
    data = info.side_data.get(_SPHERICAL)
    if data is None:
        return b""
    needed = Content.PROJECTIONS if any(data) else Content.SPHERES
    if needed not in container.keeps:
        return b""
    kind, *angles = struct.unpack_from("<4i", data)
    left, top, right, bottom, padding = struct.unpack_from("<5I", data, 16)
    turns = [angle / 2**16 for angle in angles]
    if kind == _CUBEMAP:
        return matroska.projection(2, (0, padding), turns)
    if kind in (_EQUIRECTANGULAR, _TILE):
        return matroska.projection(1, (top, bottom, left, right), turns)
    return b""


def _elements(info: MediaInfo, container: Container) -> Iterator[bytes]:
    yield _projection(info, container)
    yield matroska.stereo(_stereo_mode(info, container))
    if Content.CROPPING in container.keeps:
        yield matroska.crops(struct.unpack("<4I", info.side_data.get(_CROP, bytes(16))))
    if Content.HDR10 in container.keeps:
        yield matroska.hdr10(light_levels(info), mastering_display(info))


class Captions:
    """A way to give captions to pictures of one size and pixel format for an encoder."""

    def __init__(self, width: int, height: int, pix_fmt: str) -> None:
        self._pack: Any = av.CodecContext.create("rawvideo", "w")
        self._unpack: Any = av.CodecContext.create("rawvideo", "r")
        for context in (self._pack, self._unpack):
            context.width = width
            context.height = height
            context.pix_fmt = pix_fmt

    def add(self, picture: VideoFrame, captions: bytes) -> Any:
        """Return a copy of the picture with captions, without its colour tags."""
        # PyAV sets the side data of packets alone (PyAV-Org/PyAV#1593), which decoders
        # copy.
        (packet,) = self._pack.encode(picture)
        add_side_data(packet, packet_sidedata_type_from_literal("a53_cc"), captions)
        (unpacked,) = self._unpack.decode(packet)
        unpacked.pict_type = 0  # else each would become a key frame
        return unpacked
