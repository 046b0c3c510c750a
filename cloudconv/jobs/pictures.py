"""Shrink pictures, and store them as JPEG for reports."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv.report.data import ReportPicture


def shrunk(rgb: Tensor, width: int) -> Tensor:
    """Return a picture, (3, H, W), that is at most ``width`` pixels wide."""
    if rgb.shape[2] <= width:
        return rgb
    height = max(1, round(rgb.shape[1] * width / rgb.shape[2]))
    return functional.interpolate(rgb[None], (height, width), mode="area")[0]


def jpeg(rgb: Tensor, width: int, quality: int) -> ReportPicture:
    """Return RGB, (3, H, W) in [0, 1], as a JPEG that is at most ``width`` pixels wide."""
    shown = shrunk(rgb, width)
    samples = shown.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    data = io.BytesIO()
    Image.fromarray(samples.cpu().numpy()).save(data, "JPEG", quality=quality)
    return ReportPicture(data.getvalue(), shown.shape[2], shown.shape[1])
