"""Scene-linear light in EXR files from code values, and back."""

from functools import partial

import av
import cv2
import numpy as np
import pytest
from PIL import Image

import cloudconv
from cloudconv.errors import EncoderError
from cloudconv.media.frames.formats import codes_of, light_of
from cloudconv.media.reading.probe import probe

WIDTH, HEIGHT = 48, 32
make = partial(cloudconv.interpolate, factor=2, model="blend")


def planes(file, dtype):
    with av.open(str(file)) as container:
        picture = next(container.decode(video=0))
    return [
        np.frombuffer(plane, dtype).reshape(HEIGHT, -1)[:, :WIDTH].copy()
        for plane in picture.planes
    ]


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_to_exr_and_back_are_exact(tmp_path, channels):
    codes = np.random.default_rng(0).integers(
        1, 65536, (3, HEIGHT, WIDTH, channels), np.uint16
    )
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(codes):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)
    assert make(tmp_path / "in", tmp_path / "light" / "%d.exr", input_fps=25).warnings == []
    back = make(tmp_path / "light", tmp_path / "back" / "%d.png")
    assert [text for text in map(str, back.warnings) if "values above 1 become 1" in text]
    for number, picture in enumerate(codes):
        target = tmp_path / "back" / f"{4 * number + 1}.png"
        np.testing.assert_array_equal(
            cv2.imread(str(target), cv2.IMREAD_UNCHANGED), picture
        )


def test_exr_holds_linear_light(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.new("RGB", (WIDTH, HEIGHT), (188, 255, 0)).save(
            tmp_path / "in" / f"{number}.png"
        )
    make(tmp_path / "in", tmp_path / "out" / "%d.exr")
    info = probe(tmp_path / "out")
    assert (info.working_pix_fmt, info.tags.transfer) == ("gbrp16le", 13)
    green, blue, red = (plane[0, 0] for plane in planes(tmp_path / "out" / "1.exr", "<f4"))
    assert (green, blue) == (1, 0)
    assert red == pytest.approx(0.5029, abs=1e-4)  # code 188 is about half of the light
    make(tmp_path / "in", tmp_path / "half" / "%d.exr", encoder_option={"format": "half"})
    assert planes(tmp_path / "half" / "1.exr", "<f2")[2][0, 0] == pytest.approx(
        red, abs=1e-3
    )
    with pytest.raises(EncoderError, match="cannot write gbrpf32le"):
        make(tmp_path / "in", tmp_path / "out.mkv", encoder="ffv1", pix_fmt="gbrpf32le")


def test_light_out_of_range_is_clipped():
    odd = [np.array([[np.nan, np.inf, -np.inf, -1, 2, 0.5]], np.float32)]
    assert codes_of(odd, 8)[0].tolist() == [[0, 65535, 0, 0, 65535, 48192]]


@pytest.mark.parametrize(
    ("transfer", "signal", "light"),
    # PQ at 1000 nits and HLG at diffuse white (BT.2100), then a pure power, linear and
    # BT.709.
    [
        (16, 0.7518, 10.0),
        (18, 0.75, 0.265),
        (4, 0.5, 0.2176),
        (8, 0.5, 0.5),
        (1, 0.5, 0.2140),
    ],
)
def test_each_transfer_function_gives_its_light(transfer, signal, light):
    result = light_of([np.array([[round(signal * 65535)]], np.uint16)], transfer)[0]
    assert result.item() == pytest.approx(light, rel=2e-3)
