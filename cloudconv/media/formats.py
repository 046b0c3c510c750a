"""Describe pixel formats, and convert exactly between formats that store the same samples.

Inside cloudconv every picture is planar, native-endian and integer (a *working format*), so that a
plane is a plain (H, W) array. Decoders also return packed, semi-planar, big-endian and palette
formats, and some encoders need such formats. `repack` converts in both directions without a change
of any sample. The floats of EXR pictures are the exception: they become the nearest
16-bit codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from cloudconv.media import linear

Family = Literal["yuv", "rgb", "gray"]


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The contents of a pixel format.

    ``depth`` is in bits. The chroma planes are smaller by 2 to the power of each chroma shift.
    """

    name: str
    family: Family
    depth: int
    chroma_shift_x: int
    chroma_shift_y: int
    alpha: bool


@dataclass(frozen=True, slots=True)
class _Component:
    """The position of a working plane's samples in a stored format.

    The samples are the items ``offset::step`` of each row of ``plane``, ``shift`` bits to the left.
    """

    plane: int
    offset: int
    step: int
    shift: int = 0


@dataclass(frozen=True, slots=True)
class _Storage:
    """The mapping of a stored format to its working format, with a component per working plane.

    ``dtype`` is NumPy's name of an item. ``exact_back``: whether every picture of the working
    format can be stored in this format.
    """

    working: str
    dtype: str
    components: tuple[_Component, ...]
    exact_back: bool = True


_NATIVE = (
    *(f"gray{d}" for d in ("", "9le", "10le", "12le", "14le", "16le")),
    *(f"yuv{s}p" for s in ("410", "411", "420", "422", "440", "444")),
    *(f"yuv{s}p{d}le" for s in ("420", "422", "444") for d in (9, 10, 12, 14, 16)),
    *(f"yuv440p{d}le" for d in (10, 12)),
    *(f"yuva{s}p{d}" for s in ("420", "422", "444") for d in ("", "9le", "10le", "16le")),
    *(f"yuva{s}p12le" for s in ("422", "444")),
    *(f"gbrp{d}" for d in ("", "9le", "10le", "12le", "14le", "16le")),
    *(f"gbrap{d}" for d in ("", "10le", "12le", "14le", "16le")),
)

# Formats of old codecs. FFmpeg's scaler converts each code to a colour without loss. There is no
# conversion in the other direction.
_EXPANDED = {
    "pal8": "bgra",
    "monow": "gray",
    "monob": "gray",
    **{
        f"{order}{bits}{end}": "rgb24"
        for order in ("rgb", "bgr")
        for bits in ("555", "565")
        for end in ("le", "be")
    },
    **{f"{order}{kind}": "rgb24" for order in ("rgb", "bgr") for kind in ("8", "4_byte")},
}

_FLOATS = {
    f"{kind}f{bits}{end}": f"{kind}16le"
    for kind in ("gray", "gbrp", "gbrap")
    for bits in (16, 32)
    for end in ("le", "be")
}


def _letters(working: str) -> str:
    if working.startswith("gray"):
        return "y"
    letters = "gbr" if working.startswith("gbr") else "yuv"
    return letters + ("a" if working.startswith(("gbrap", "yuva")) else "")


def _packed(working: str, order: str, dtype: str = "u1", shift: int = 0) -> _Storage:
    """Describe a format with all components interleaved in one plane.

    ``order`` has a letter for each component, and '.' for padding.
    """
    return _Storage(
        working,
        dtype,
        tuple(
            _Component(0, order.index(c), len(order) // order.count(c), shift)
            for c in _letters(working)
        ),
    )


def _words(working: str, **shifts: int) -> _Storage:
    """Describe a format with all components of a pixel in one 32-bit word."""
    return _Storage(
        working, "<u4", tuple(_Component(0, 0, 1, shifts[c]) for c in _letters(working))
    )


def _semi_planar(working: str, order: str = "uv", dtype: str = "u1", shift: int = 0) -> _Storage:
    """Describe a format with a luma plane and one plane of both chroma components, interleaved."""
    chroma = (_Component(1, order.index(c), 2, shift) for c in "uv")
    return _Storage(working, dtype, (_Component(0, 0, 1, shift), *chroma))


def _planar(working: str, dtype: str, shift: int = 0) -> _Storage:
    count = len(_letters(working))
    return _Storage(working, dtype, tuple(_Component(k, 0, 1, shift) for k in range(count)))


def _storages() -> dict[str, _Storage]:
    known = {name: _planar(name, "<u2" if name.endswith("le") else "u1") for name in _NATIVE}
    known |= {f"yuvj{s}p": _planar(f"yuv{s}p", "u1") for s in ("411", "420", "422", "440", "444")}
    known |= _rgb_storages() | _yuv_storages() | _gray_storages()
    big = {
        f"{name[:-2]}be": replace(storage, dtype=storage.dtype.replace("<", ">"))
        for name, storage in known.items()
        if name.endswith("le")
    }
    return known | big


def _rgb_storages() -> dict[str, _Storage]:
    storages = {"abgr": _packed("gbrap", "abgr")}
    for order in ("rgb", "bgr"):
        storages[f"{order}24"] = _packed("gbrp", order)
        storages[f"{order}48le"] = _packed("gbrp16le", order, "<u2")
        storages[f"{order}a64le"] = _packed("gbrap16le", order + "a", "<u2")
        storages |= {name: _packed("gbrap", name) for name in (f"{order}a", f"a{order}")}
        storages |= {
            name: _packed("gbrp", name.replace("0", ".")) for name in (f"{order}0", f"0{order}")
        }
    storages |= {f"gbrp{n}msble": _planar(f"gbrp{n}le", "<u2", 16 - n) for n in (10, 12)}
    storages["x2rgb10le"] = _words("gbrp10le", r=20, g=10, b=0)
    storages["x2bgr10le"] = _words("gbrp10le", b=20, g=10, r=0)
    return storages


def _yuv_storages() -> dict[str, _Storage]:
    storages = {f"{order}422": _packed("yuv422p", order) for order in ("yuyv", "uyvy", "yvyu")}
    storages |= {name: _packed("yuva444p", name) for name in ("vuya", "ayuv", "uyva")}
    storages |= {
        "vuyx": _packed("yuv444p", "vuy."),
        "vyu444": _packed("yuv444p", "vyu"),
        "ayuv64le": _packed("yuva444p16le", "ayuv", "<u2"),
        "xv48le": _packed("yuv444p16le", "uyv.", "<u2"),
        "xv36le": _packed("yuv444p12le", "uyv.", "<u2", 4),
        "xv30le": _words("yuv444p10le", v=20, y=10, u=0),
        "v30xle": _words("yuv444p10le", v=22, y=12, u=2),
        "nv12": _semi_planar("yuv420p"),
        "nv16": _semi_planar("yuv422p"),
        "nv24": _semi_planar("yuv444p"),
        "nv21": _semi_planar("yuv420p", "vu"),
        "nv42": _semi_planar("yuv444p", "vu"),
        "nv20le": _semi_planar("yuv422p10le", "uv", "<u2"),
    }
    storages |= {f"yuv444p{n}msble": _planar(f"yuv444p{n}le", "<u2", 16 - n) for n in (10, 12)}
    for depth in (10, 12, 16):
        storages[f"y2{depth}le"] = _packed(f"yuv422p{depth}le", "yuyv", "<u2", 16 - depth)
        for digit, subsampling in ((0, "420"), (2, "422"), (4, "444")):
            storages[f"p{digit}{depth}le"] = _semi_planar(
                f"yuv{subsampling}p{depth}le", "uv", "<u2", 16 - depth
            )
    return storages


def _gray_storages() -> dict[str, _Storage]:
    # There is no planar gray with alpha, so the gray value is copied to all three colours.
    gray, opacity = _Component(0, 0, 2), _Component(0, 1, 2)
    return {
        name: _Storage(alpha, dtype, (gray, gray, gray, opacity), exact_back=False)
        for name, dtype, alpha in (("ya8", "u1", "gbrap"), ("ya16le", "<u2", "gbrap16le"))
    }


_STORAGES = _storages()


@cache
def layout(pix_fmt: str) -> PixelLayout:
    """Return the contents of the pixel format.

    Raises ValueError for a name that FFmpeg does not know, and for formats in GPU memory.
    """
    side = 64
    try:
        components = VideoFormat(pix_fmt, side, side).components
        rgb = VideoFormat(pix_fmt).is_rgb
    except ValueError as error:
        raise ValueError(f"Unknown pixel format {pix_fmt!r}.") from error
    if not components:  # vaapi, cuda: references to GPU memory, not samples
        raise ValueError(f"Pixel format {pix_fmt!r} holds no samples.")
    alpha = any(c.is_alpha for c in components) or pix_fmt == "pal8"
    colours = [c for c in components if not c.is_alpha]
    # PyAV's is_chroma is true for subsampled components only.
    family: Family = "rgb" if rgb or pix_fmt == "pal8" else "yuv" if len(colours) > 1 else "gray"
    shift_x = shift_y = 0
    if family == "yuv":
        shift_x = (side // colours[1].width).bit_length() - 1
        shift_y = (side // colours[1].height).bit_length() - 1
    return PixelLayout(pix_fmt, family, colours[0].bits, shift_x, shift_y, alpha)


def working_format(pix_fmt: str) -> str:
    """Return the planar, little-endian integer format with the same samples (floats: rounded).

    Raises ValueError if there is none: integers of more than 16 bits, raw sensor data.
    """
    pix_fmt = _EXPANDED.get(pix_fmt, _FLOATS.get(pix_fmt, pix_fmt))
    try:
        return _STORAGES[pix_fmt].working
    except KeyError as error:
        raise ValueError(
            f"Pixel format {pix_fmt!r} cannot be held exactly in whole numbers of at most 16 bits."
        ) from error


def is_float(pix_fmt: str) -> bool:
    """Return whether the samples are floating-point numbers."""
    return pix_fmt in _FLOATS


def repack(picture: VideoFrame, to_pix_fmt: str) -> VideoFrame:
    """Return the same samples in another pixel format; the picture itself if nothing changes.

    The result never has bottom-up rows. Time stamps and colour tags are copied; side data is not.
    For floats see :mod:`cloudconv.media.linear`. Raises ValueError if the two formats do not store
    the same samples.
    """
    name = picture.format.name
    upright = all(plane.line_size > 0 for plane in picture.planes if plane.width)
    if name == to_pix_fmt and upright:
        return picture
    if name in _EXPANDED:
        # With more than one thread this scaler sometimes leaves rows unwritten.
        expanded = picture.reformat(format=_EXPANDED[name], threads=1)
        return repack(_like(picture, expanded), to_pix_fmt)
    if _FLOATS.get(name) == to_pix_fmt or _FLOATS.get(to_pix_fmt) == name:
        return _through_light(picture, to_pix_fmt)
    source, target = _STORAGES.get(name), _STORAGES.get(to_pix_fmt)
    if (
        source is None
        or target is None
        or source.working != target.working
        or not (target.exact_back or name == to_pix_fmt)
    ):
        raise ValueError(
            f"A picture in {name!r} cannot be stored as {to_pix_fmt!r} without changing samples."
        )
    return _copied(picture, source, target, to_pix_fmt)


def _through_light(picture: VideoFrame, to_pix_fmt: str) -> VideoFrame:
    """Convert floats to 16-bit codes, or codes to floats.

    Linear floats become sRGB codes, and all codes become linear floats.
    """
    name, transfer = picture.format.name, int(picture.color_trc)
    dtype, into = _dtype(name), _dtype(to_pix_fmt)
    planes = [_rows(picture, k, dtype)[:, : picture.width] for k in range(len(picture.planes))]
    made = VideoFrame(picture.width, picture.height, to_pix_fmt)
    convert = linear.codes_of if is_float(name) else linear.light_of
    for number, plane in enumerate(convert(planes, transfer)):
        _rows(made, number, into)[:, : picture.width] = plane
    made = _like(picture, made)
    if transfer == linear.LINEAR or not is_float(name):
        made.color_trc = linear.SRGB if is_float(name) else linear.LINEAR
    return made


def _dtype(pix_fmt: str) -> str:
    order = ">" if pix_fmt.endswith("be") else "<"
    if not is_float(pix_fmt):
        return f"{order}u2"
    return f"{order}f{2 if 'f16' in pix_fmt else 4}"


def _copied(picture: VideoFrame, source: _Storage, target: _Storage, to_pix_fmt: str) -> VideoFrame:
    made = VideoFrame(picture.width, picture.height, to_pix_fmt)
    for plane in made.planes:
        # Padding is set to opaque, because some readers take it for alpha.
        _bytes(plane)[:] = 0xFF if source.working.startswith("gbr") else 0
    is_words = target.dtype == "<u4" or target.dtype == ">u4"
    if is_words:
        _rows(made, 0, target.dtype)[:] = 0
    shape = VideoFormat(source.working, picture.width, picture.height)
    mask = (1 << layout(source.working).depth) - 1
    for number, (a, b) in enumerate(zip(source.components, target.components, strict=True)):
        width = shape.components[_component_of_plane(source.working, number)].width
        samples = _rows(picture, a.plane, source.dtype)[:, a.offset :: a.step][:, :width]
        if a.shift or source.dtype.endswith("4"):
            samples = (samples >> a.shift) & mask
        into = _rows(made, b.plane, target.dtype)[:, b.offset :: b.step][:, :width]
        if is_words:
            into |= samples.astype(np.uint32) << b.shift
        else:
            into[:] = samples << b.shift if b.shift else samples
    return _like(picture, made)


def _component_of_plane(working: str, plane: int) -> int:
    # FFmpeg numbers RGB components R, G, B, (A), but the planes are G, B, R, (A).
    return plane if not working.startswith("gbr") else (1, 2, 0, 3)[plane]


def _rows(picture: VideoFrame, plane: int, dtype: str) -> NDArray[Any]:
    """Return a plane's rows, top down, with padding, as a view of its memory."""
    stored = picture.planes[plane]
    kind = np.dtype(dtype)
    line = abs(stored.line_size)
    whole = line // kind.itemsize * kind.itemsize
    rows: NDArray[Any] = _bytes(stored).reshape(-1, line)[:, :whole].view(kind)
    return rows[::-1] if stored.line_size < 0 else rows


def _bytes(plane: Any) -> NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8)


def _like(picture: VideoFrame, made: VideoFrame) -> VideoFrame:
    made.pts = picture.pts
    if picture.time_base is not None:
        made.time_base = picture.time_base
    always_full = picture.format.name.startswith(("yuvj", "mono"))
    made.color_range = 2 if always_full else picture.color_range
    made.colorspace = picture.colorspace
    made.color_primaries = picture.color_primaries
    made.color_trc = picture.color_trc
    return made
