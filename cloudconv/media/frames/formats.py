"""Describe pixel formats, and convert exactly between formats that store the same samples.

Inside cloudconv every picture is planar, little-endian and integer (a *working format*), so
that a plane is a plain (H, W) array. Decoders also return packed, semi-planar, big-endian
and palette formats, and some encoders need such formats. `repack` converts without a change
of any sample. The floats of EXR pictures are the exception: they become the nearest 16-bit
codes.

Light is float with 1 for diffuse white, and colours are multiplied by their alpha
(OpenEXR's conventions). Codes have 16 bits. Codes made from light have sRGB's curve (IEC
61966-2-1). Light is made from codes by the source's transfer tag. A linear or pure power
tag gives that power. PQ gives display light in units of 100 nits. HLG gives scene light
from 0 to 1 (ITU-R BT.2100). Every other tag gives sRGB's curve, as in Blender and Nuke.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

Family = Literal["yuv", "rgb", "gray"]

LINEAR, SRGB = 8, 13  # FFmpeg's numbers of the transfer functions

_POWERS = {4: 2.2, 5: 2.8, LINEAR: 1.0}  # the exponents of pure power functions
_PQ, _HLG = 16, 18
_TOP = 65535  # the highest code


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The contents of a pixel format.

    ``depth`` is in bits. The chroma planes are smaller by 2 to the power of each chroma
    shift.
    """

    name: str
    family: Family
    depth: int
    chroma_shift_x: int
    chroma_shift_y: int
    alpha: bool

    @property
    def words(self) -> str:
        """Return the contents in a viewer's words, such as ``4:2:2 of 10 bits``."""
        kind = {"rgb": "RGB", "gray": "gray"}.get(self.family)
        if kind is None:
            kind = ":".join(_SUBSAMPLINGS[self.chroma_shift_x, self.chroma_shift_y])
        bits = f" of {self.depth} bits" * (self.depth > 8)
        return f"{kind}{bits}{' with transparency' * self.alpha}"


_SUBSAMPLINGS = {
    (2, 2): "410",
    (2, 0): "411",
    (1, 1): "420",
    (1, 0): "422",
    (0, 1): "440",
    (0, 0): "444",
}

# Formats of old codecs, and the formats that replace them. FFmpeg's scaler converts each
# code to a colour without loss. There is no conversion in the other direction.
_EXPANDED = {"pal8": "bgra", "monow": "gray", "monob": "gray"}
for _kind in ("8", "4_byte", "555le", "555be", "565le", "565be"):
    _EXPANDED |= {f"rgb{_kind}": "rgb24", f"bgr{_kind}": "rgb24"}

# Formats of floating-point samples, and the working formats that replace them.
_FLOATS = {
    f"{kind}f{end}": f"{kind}16le"
    for kind, end in product(("gray", "gbrp", "gbrap"), ("16le", "16be", "32le", "32be"))
}

# Formats that FFmpeg's scaler does not convert exactly: other floats, colour models, byte
# orders.
_UNUSABLE = re.compile(r".*f(16|32)|xyz|uyyvyy|gbrp1[02]msb|(x2|xv30|v30x|y21).*be")

# FFmpeg's direct conversions to these formats leave out the last column or row of an odd
# size: `reformat` of 5x5 pictures (jellyfin/jellyfin-ffmpeg#453 is about p010le).
# Conversions through the second format, another order of the same samples, are complete.
_DETOURS = {
    "p010le": "p010be",
    "p016le": "p016be",
    "yuyv422": "yvyu422",
    "uyvy422": "yvyu422",
}
_UNSCALED = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@cache
def layout(pix_fmt: str) -> PixelLayout:
    """Return the contents of the pixel format.

    Raises ValueError for a name that FFmpeg does not know, and for formats in GPU memory.
    """
    side = 64
    form = VideoFormat(pix_fmt, side, side)
    if not form.components:  # vaapi, cuda: references to GPU memory, not samples
        raise ValueError(f"Pixel format {pix_fmt!r} holds no samples.")
    is_rgb = form.is_rgb or pix_fmt == "pal8"
    alpha = pix_fmt == "pal8" or any(c.is_alpha for c in form.components)
    colours = [c for c in form.components if not c.is_alpha]
    # PyAV's is_chroma is true for subsampled components only, so the components are
    # counted.
    family: Family = "yuv" if len(colours) > 1 else "gray"
    if is_rgb:
        family = "rgb"
    shift_x = shift_y = 0
    if family == "yuv":
        shift_x = (side // colours[1].width).bit_length() - 1
        shift_y = (side // colours[1].height).bit_length() - 1
    return PixelLayout(pix_fmt, family, colours[0].bits, shift_x, shift_y, alpha)


@cache
def working_format(pix_fmt: str) -> str:
    """Return the planar, little-endian integer format of equal samples; floats are rounded.

    Gray with alpha becomes RGB with alpha, because no planar format stores gray and alpha.
    Raises ValueError if there is no such format, as for more than 16 bits, packed floats
    and sensor data.
    """
    stored = _EXPANDED.get(pix_fmt, _FLOATS.get(pix_fmt, pix_fmt))
    try:
        kind = layout(stored)
        if kind.family == "yuv":
            shifts = kind.chroma_shift_x, kind.chroma_shift_y
            planar = f"yuv{'a' * kind.alpha}{_SUBSAMPLINGS[shifts]}p"
        elif kind.family == "rgb" or kind.alpha:
            planar = f"gbr{'a' * kind.alpha}p"
        else:
            planar = "gray"
        working = planar if kind.depth == 8 else f"{planar}{kind.depth}le"
        VideoFormat(working)  # raises ValueError if FFmpeg has no such format
        if kind.depth > 16 or _UNUSABLE.match(stored):
            raise ValueError(stored)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Pixel format {pix_fmt!r} cannot be held exactly in whole numbers of at most "
            "16 bits."
        ) from error
    return working


def is_float(pix_fmt: str) -> bool:
    """Return whether the samples are floating-point numbers."""
    return pix_fmt in _FLOATS


def repack(picture: VideoFrame, to_pix_fmt: str) -> VideoFrame:
    """Return the same samples in a format that stores them.

    If nothing changes, the result is the picture itself. The result never has bottom-up
    rows. Time stamps and colour tags are copied; side data is not. For floats see the start
    of this module.
    """
    name = picture.format.name
    if name == to_pix_fmt:
        upright = all(plane.line_size > 0 for plane in picture.planes if plane.width)
        return picture if upright else _upright(picture)
    if name in _EXPANDED:
        return repack(_unscaled(picture, _EXPANDED[name]), to_pix_fmt)
    if _FLOATS.get(name) == to_pix_fmt or _FLOATS.get(to_pix_fmt) == name:
        return _through_light(picture, to_pix_fmt)
    if to_pix_fmt in _DETOURS:
        picture = _unscaled(picture, _DETOURS[to_pix_fmt])
    return _unscaled(picture, to_pix_fmt)


OPAQUE = {"bgra": "bgr0", "rgba": "rgb0", "pal8": "bgr0"}
"""Packed formats and palettes, and the same without their opacity."""


def is_opaque(picture: VideoFrame) -> bool:
    """Return whether a picture of a packed format or a palette is opaque everywhere."""
    if picture.format.name not in OPAQUE:
        return False
    if picture.format.name in _EXPANDED:
        picture = _unscaled(picture, _EXPANDED[picture.format.name])
    return bool((_rows(picture, 0, "u1")[:, 3 : 4 * picture.width : 4] == 255).all())


@cache
def can_widen(pix_fmt: str, to: str, *, is_jpeg: bool = False) -> bool:
    """Return whether a working format of pictures holds all samples of another format.

    RGB holds RGB and gray; 4:4:4 and RGB of 8 bits hold the formats of JPEG.
    """
    if is_jpeg and to in ("yuv444p", "gbrp"):
        return to == "gbrp" or pix_fmt == "gray" or pix_fmt.startswith("yuvj")
    if is_float(pix_fmt):
        return False
    own, wide = layout(working_format(pix_fmt)), layout(to)
    alike = own.family != "yuv" and wide.family in (own.family, "rgb")
    # Most palettes have no transparent colour.
    opaque = not own.alpha or pix_fmt == "pal8"
    return alike and own.depth in (8, wide.depth) and (wide.alpha or opaque)


def widened(picture: VideoFrame, to: str) -> VideoFrame:
    """Return a picture in a format for which :func:`can_widen` is true."""
    if working_format(picture.format.name) == to:
        return repack(picture, to)
    if "yuv" in picture.format.name or to == "yuv444p":
        return _from_jpeg(picture, to)
    if layout(to).depth == layout(working_format(picture.format.name)).depth:
        return _unscaled(picture, to)
    small = widened(picture, to[:-4])
    result = VideoFrame(picture.width, picture.height, to)
    for number in range(len(result.planes)):
        values = _rows(small, number, "u1")[:, : picture.width]
        _rows(result, number, "<u2")[:, : picture.width] = values * np.uint16(257)
    return _like(small, result)


def _from_jpeg(picture: VideoFrame, to: str) -> VideoFrame:
    """Return a picture of a JPEG as 4:4:4, each sample unchanged, or as RGB."""
    if to == "yuv444p":
        result = _unscaled(picture, to)
    else:
        result = _like(
            picture,
            picture.reformat(
                format=to,
                src_colorspace=Colorspace.ITU601,
                dst_colorspace=Colorspace.ITU601,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
                threads=1,
            ),
        )
        result.colorspace = 0
    result.color_range = 2
    return result


@cache
def is_exact(pix_fmt: str) -> bool:
    """Return whether the format stores every picture of its working format exactly."""
    if pix_fmt in _EXPANDED or is_float(pix_fmt):
        return False
    try:
        # Gray with alpha cannot store its working format, RGB with alpha, unless R = G = B.
        return layout(pix_fmt).family == layout(working_format(pix_fmt)).family
    except ValueError:
        return False


def _unscaled(picture: VideoFrame, to_pix_fmt: str) -> VideoFrame:
    """Return the picture in another pixel format of the same size, range and matrix."""
    # Matrix and range are equal on both sides. With the picture's own matrix and range, the
    # scaler would convert the range of some formats, and refuse unusual matrices.
    result = picture.reformat(
        format=to_pix_fmt,
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_UNSCALED,
        threads=1,  # with more, rows may remain unwritten: repeat gbrp16le to rgb48be
    )
    return _like(picture, result)


def _upright(picture: VideoFrame) -> VideoFrame:
    result = VideoFrame(picture.width, picture.height, picture.format.name)
    for number in range(len(result.planes)):
        source, target = (_rows(image, number, "u1") for image in (picture, result))
        width = min(source.shape[1], target.shape[1])
        target[:, :width] = source[:, :width]
    return _like(picture, result)


def turned(
    picture: VideoFrame, swaps: bool, rows: bool, columns: bool, size: tuple[int, int]
) -> VideoFrame:
    """Return a picture with swapped rows and columns, then reversed rows or columns.

    The last row and column are repeated up to a ``size``, (width, height).
    """
    picture = repack(picture, working_format(picture.format.name))
    if swaps:
        picture = _unscaled(picture, on_its_side(picture.format.name))
    name = picture.format.name
    result = VideoFrame(*size, name)
    kind = _dtype(name)
    for number, plane in enumerate(result.planes):
        stored: Any = picture.planes[number]
        samples = _rows(picture, number, kind)[:, : stored.width]
        turned_samples = samples.T if swaps else samples
        steps = (
            slice(None, None, -1 if rows else 1),
            slice(None, None, -1 if columns else 1),
        )
        height, width = turned_samples.shape
        beyond = (0, plane.height - height), (0, plane.width - width)
        whole = np.pad(turned_samples[steps], beyond, mode="edge")
        _rows(result, number, kind)[:, : plane.width] = whole
    return _like(picture, result)


def on_its_side(pix_fmt: str) -> str:
    """Return the format of turned pictures: 4:4:4 for 4:2:2, whose turned form is rare.

    The chroma of the other formats has equal subsampling in both directions.
    """
    return re.sub("411|422|440", "444", pix_fmt)


def _through_light(picture: VideoFrame, to_pix_fmt: str) -> VideoFrame:
    """Convert floats to 16-bit codes, sRGB's for linear ones, or codes to linear floats."""
    name = picture.format.name
    transfer = int(picture.color_trc)
    dtype = _dtype(name)
    into = _dtype(to_pix_fmt)
    planes = [
        _rows(picture, k, dtype)[:, : picture.width] for k in range(len(picture.planes))
    ]
    result = VideoFrame(picture.width, picture.height, to_pix_fmt)
    convert = codes_of if is_float(name) else light_of
    for number, plane in enumerate(convert(planes, transfer)):
        _rows(result, number, into)[:, : picture.width] = plane
    result = _like(picture, result)
    if transfer == LINEAR or not is_float(name):
        result.color_trc = SRGB if is_float(name) else LINEAR
    return result


def _dtype(pix_fmt: str) -> str:
    kind = f"u{1 + (layout(pix_fmt).depth > 8)}"
    if is_float(pix_fmt):
        kind = "f2" if "f16" in pix_fmt else "f4"
    return f"{'>' if pix_fmt.endswith('be') else '<'}{kind}"


def _rows(picture: VideoFrame, plane: int, dtype: str) -> NDArray[Any]:
    """Return a plane's rows, top down, with padding, as a view of the plane's memory."""
    stored: Any = picture.planes[plane]
    kind = np.dtype(dtype)
    line = abs(stored.line_size)
    whole = line // kind.itemsize * kind.itemsize
    rows: NDArray[Any] = (
        np.frombuffer(stored, np.uint8).reshape(-1, line)[:, :whole].view(kind)
    )
    return rows[::-1] if stored.line_size < 0 else rows


def _like(picture: VideoFrame, result: VideoFrame) -> VideoFrame:
    result.pts = picture.pts
    if picture.time_base is not None:
        result.time_base = picture.time_base
    always_full = picture.format.name.startswith(("yuvj", "mono"))
    result.color_range = 2 if always_full else picture.color_range
    result.colorspace = picture.colorspace
    result.color_primaries = picture.color_primaries
    result.color_trc = picture.color_trc
    return result


def light_of(planes: list[NDArray[Any]], transfer: int) -> list[NDArray[np.float32]]:
    """Convert (H, W) uint16 codes to light: a gray plane, or colours and perhaps alpha."""
    light = [curve_of(transfer)[plane] for plane in planes[:3]]
    if len(planes) < 4:
        return light
    opacity = (planes[3] / np.float32(_TOP)).astype(np.float32)
    return [*(plane * opacity for plane in light), opacity]


def codes_of(planes: list[NDArray[Any]], transfer: int) -> list[NDArray[np.uint16]]:
    """Convert (H, W) floats to codes: with sRGB's curve for linear light, else linearly.

    The planes are those of :func:`light_of`. Linear colours are divided by their alpha.
    Values below 0 or above 1 are clipped, and NaN becomes 0.
    """
    values = [
        np.nan_to_num(plane.astype(np.float32), posinf=1, neginf=0) for plane in planes
    ]
    colours, alpha = values[:3], values[3:]
    if transfer == LINEAR:
        if alpha:
            opacity = np.where(alpha[0] > 0, alpha[0], np.float32(1))
            colours = [(plane / opacity).astype(np.float32) for plane in colours]
        for number, light in enumerate(np.clip(colours, 0, 1)):
            curved = 1.055 * light ** np.float32(1 / 2.4) - 0.055
            colours[number] = np.where(light <= 0.0031308, light * 12.92, curved)
    return [
        np.rint(np.clip(plane, 0, 1) * _TOP).astype(np.uint16)
        for plane in (*colours, *alpha)
    ]


@cache
def curve_of(transfer: int) -> NDArray[np.float32]:
    """Return the light of each 16-bit code; sRGB's curve stands for all of video."""
    signal = np.arange(_TOP + 1) / _TOP
    if transfer in _POWERS:
        light = signal ** _POWERS[transfer]
    elif transfer == _PQ:
        root = signal ** (32 / 2523)
        ratio = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
        light = 100 * ratio ** (8192 / 1305)
    elif transfer == _HLG:
        a = 0.17883277
        b = 1 - 4 * a
        c = 0.5 - a * np.log(4 * a)
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        light = np.where(
            signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4
        )
    return light.astype(np.float32)
