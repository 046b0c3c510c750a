"""Convert between the linear light of EXR pictures and the code values of networks and videos.

Light is float with 1 for diffuse white, and colours are multiplied by their alpha (OpenEXR's
conventions). Codes have 16 bits. Codes made from light have sRGB's curve (IEC 61966-2-1). Light is
made from codes by the source's transfer tag. A linear or pure power tag gives that power. PQ gives
display light in units of 100 nits. HLG gives scene light from 0 to 1 (ITU-R BT.2100). Every other
tag gives sRGB's curve, as in Blender and Nuke.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINEAR, SRGB = 8, 13
"""FFmpeg's numbers of the transfer functions."""

_POWERS = {4: 2.2, 5: 2.8, LINEAR: 1.0}  # the exponents of pure power functions
_PQ, _HLG = 16, 18
_TOP = 65535  # the highest code


def light_of(planes: list[NDArray[Any]], transfer: int) -> list[NDArray[np.float32]]:
    """Convert (H, W) uint16 codes to light: one gray plane, or three colours and perhaps alpha."""
    light = [_curve(transfer)[plane] for plane in planes[:3]]
    if len(planes) < 4:
        return light
    opacity = (planes[3] / np.float32(_TOP)).astype(np.float32)
    return [*(plane * opacity for plane in light), opacity]


def codes_of(planes: list[NDArray[Any]], transfer: int) -> list[NDArray[np.uint16]]:
    """Convert (H, W) floats to codes: with sRGB's curve for linear light, else without a curve.

    The planes are those of :func:`light_of`. Linear colours are divided by their alpha. Values
    below 0 or above 1 are clipped, and NaN becomes 0.
    """
    values = [np.nan_to_num(plane.astype(np.float32), posinf=1, neginf=0) for plane in planes]
    colours, alpha = values[:3], values[3:]
    if transfer == LINEAR:
        if alpha:
            opacity = np.where(alpha[0] > 0, alpha[0], np.float32(1))
            colours = [(plane / opacity).astype(np.float32) for plane in colours]
        colours = [_srgb(np.clip(plane, 0, 1)) for plane in colours]
    return [np.rint(np.clip(plane, 0, 1) * _TOP).astype(np.uint16) for plane in (*colours, *alpha)]


def _srgb(light: NDArray[np.float32]) -> NDArray[np.float32]:
    curved = 1.055 * light ** np.float32(1 / 2.4) - 0.055
    made: NDArray[np.float32] = np.where(light <= 0.0031308, light * 12.92, curved)
    return made


@cache
def _curve(transfer: int) -> NDArray[np.float32]:
    """Return a table with the light of each code."""
    signal = np.arange(_TOP + 1) / _TOP
    if transfer in _POWERS:
        light = signal ** _POWERS[transfer]
    elif transfer == _PQ:
        root = signal ** (32 / 2523)
        light = 100 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (
            8192 / 1305
        )
    elif transfer == _HLG:
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)
