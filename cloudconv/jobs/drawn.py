"""Draw labelled pictures, and write them as a video."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cloudconv.media.colour.color import color_space, from_rgb
from cloudconv.media.colour.convert import UPRIGHT, turn_of
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags, Frame, MediaInfo, make_picture
from cloudconv.media.writing.encoding import draft_encoding
from cloudconv.media.writing.sink import Sink

LABEL_HEIGHT = 32  # of one line
_TAGS = ColorTags(1, 1, 1, 1)
_PIX_FMT = "yuv420p"


def label(lines: Sequence[str], width: int, size: int = 18) -> Tensor:
    """Return lines of white text on black, (3, h, width) RGB in [0, 1]."""
    height = LABEL_HEIGHT * size // 18
    image = Image.new("L", (width, height * len(lines)))
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=size)
    for number, line in enumerate(lines):
        pen.text((8, height * number + 4), line, fill=255, font=font)
    return torch.from_numpy(np.array(image)).float().div(255).expand(3, -1, -1)


def as_shown(rgb: Tensor, info: MediaInfo) -> Tensor:
    """Return a picture of a source, (3, H, W), as players show it: turned, not squeezed."""
    height, width = rgb.shape[1:]
    if info.aspect is not None:
        size = height, max(1, round(width * info.aspect))
        rgb = F.interpolate(rgb[None], size, mode="bilinear", antialias=True)[0]
    return (turn_of(info.display_matrix) or UPRIGHT).samples(rgb)


def even(rgb: Tensor) -> Tensor:
    """Return a picture, (3, H, W), without a last row or column of an odd side."""
    return rgb[:, : rgb.shape[1] // 2 * 2, : rgb.shape[2] // 2 * 2]


def drawn_frame(rgb: Tensor, time: Fraction, duration: Fraction) -> Frame:
    """Return a picture, (3, H, W) RGB in [0, 1], even sides, as a drawn video's frame."""
    form = layout(_PIX_FMT)
    height, width = rgb.shape[1:]
    planes = from_rgb(rgb, form, color_space(_TAGS, form, width, height))
    return Frame(make_picture(planes, form.name, width, height), time, duration, _TAGS)


def drawn_video(
    path: Path,
    info: MediaInfo,
    rgb: Tensor,
    rate: Fraction | None,
    *,
    overwrite: bool = False,
) -> Sink:
    """Open a silent video of pictures of the size of ``rgb``, drawn from a source."""
    height, width = rgb.shape[1:]
    drawn = replace(
        info,
        width=width,
        height=height,
        tags=_TAGS,
        pix_fmt=_PIX_FMT,
        working_pix_fmt=_PIX_FMT,
        aspect=None,
        display_matrix=None,
        side_data={},
        streams=(),
    )
    encoding = draft_encoding(path, drawn, rate=rate)
    return Sink(encoding.at([info.timing.time_base]), overwrite=overwrite)
