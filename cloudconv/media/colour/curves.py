"""Convert RGB between the coded values of a picture and linear light, on any device.

Codes of video (BT.709, ITU-T H.273, section 8.2) stand for the light that the camera saw:
the curve of a display is another one.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.media.colour.color import description_of
from cloudconv.media.frames.formats import SRGB, curve_of
from cloudconv.media.frames.frame import Frame
from cloudconv.transfer import upload

_UNKNOWN = 2
_ALPHA, _BETA = 1.099296826809442, 0.018053968510807  # of BT.709's transfer function
_VIDEO = (1, 6, 11, 14, 15)  # FFmpeg's numbers of BT.709's transfer function


class Curve(NamedTuple):
    """A transfer function: the light of evenly spaced values from 0 to 1, rising.

    Values outside continue the curve with slope 1.
    """

    table: Tensor

    def light(self, values: Tensor) -> Tensor:
        """Return the linear light of coded values, of any shape."""
        inside = values.clamp(0, 1)
        place = inside * (len(self.table) - 1)
        index = place.long().clamp_max_(len(self.table) - 2)
        low, high = self.table[index], self.table[index + 1]
        return low.lerp_(high, place.sub_(index)).add_(values - inside)

    def values(self, light: Tensor) -> Tensor:
        """Return the coded values of linear light: the inverse of :meth:`light`."""
        inside = light.clamp(self.table[0], self.table[-1])
        index = torch.searchsorted(self.table, inside, right=True).sub_(1)
        index.clamp_max_(len(self.table) - 2)
        low, high = self.table[index], self.table[index + 1]
        place = index.add((inside - low).div_(high - low))
        return place.div_(len(self.table) - 1).add_(light - inside)


def curve_for(frame: Frame, device: torch.device) -> Curve:
    """Return the transfer function of a frame; untagged RGB is sRGB, and other video."""
    form, _ = description_of(frame)
    transfer = frame.tags.transfer
    if transfer == _UNKNOWN:
        transfer = SRGB if form.family == "rgb" else _VIDEO[0]
    return _on_device(transfer, device)


@cache
def _on_device(transfer: int, device: torch.device) -> Curve:
    table = _video() if transfer in _VIDEO else curve_of(transfer)
    return Curve(*upload([torch.from_numpy(table)], device))


def _video() -> NDArray[np.float32]:
    values = np.arange(1 << 16) / ((1 << 16) - 1)
    curved = ((values + _ALPHA - 1) / _ALPHA) ** (1 / 0.45)
    return np.where(values < 4.5 * _BETA, values / 4.5, curved).astype(np.float32)
