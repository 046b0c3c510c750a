"""Linear light by the colour tags of a picture."""

from fractions import Fraction as F

import pytest
import torch
from av import VideoFrame

from cloudconv.media.colour.curves import curve_for
from cloudconv.media.frames.frame import ColorTags, Frame

CPU = torch.device("cpu")


def curve(transfer, pix_fmt="yuv420p"):
    picture = VideoFrame(16, 16, pix_fmt)
    return curve_for(Frame(picture, F(0), F(1), ColorTags(transfer=transfer)), CPU)


@pytest.mark.parametrize(
    ("transfer", "pix_fmt", "value", "expected"),
    [
        (13, "gbrp", 0.5, 0.21404),  # sRGB, IEC 61966-2-1
        (1, "yuv420p", 0.5, 0.25972),  # BT.709
        (14, "yuv420p10le", 0.5, 0.25972),  # BT.2020 of 10 bits has the same curve
        (2, "yuv420p", 0.5, 0.25972),  # untagged video
        (2, "gbrp", 0.5, 0.21404),  # untagged RGB
        (16, "yuv420p10le", 0.508078, 1.0),  # PQ: 100 cd/m², the unit
        (16, "yuv420p10le", 0.751827, 10.0),  # PQ: 1000 cd/m²
        (18, "yuv420p10le", 0.5, 1 / 12),  # HLG
        (18, "yuv420p10le", 1.0, 1.0),
        (8, "gbrp16le", 0.3, 0.3),  # linear
        (4, "yuv420p", 0.5, 0.5**2.2),
    ],
)
def test_the_light_is_that_of_the_standard(transfer, pix_fmt, value, expected):
    found = curve(transfer, pix_fmt).light(torch.tensor([value]))
    assert float(found) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("transfer", [1, 4, 5, 8, 13, 16, 18])
def test_values_return_from_light_also_outside_of_the_range(transfer):
    values = torch.linspace(-0.2, 1.2, 100_001)
    function = curve(transfer)
    there = function.light(values)
    assert bool((there.diff() >= 0).all())
    back = function.values(there)
    assert float((back - values).abs().max()) < 0.25 / 4095
    assert values.equal(torch.linspace(-0.2, 1.2, 100_001))
