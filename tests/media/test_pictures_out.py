"""Picture files and animations as outputs, and default names for inputs of pictures."""

from pathlib import Path

import av
import pytest
from PIL import Image

import cloudconv
from cloudconv.errors import InputError, OutputError
from cloudconv.media.plan import EncodingPlan
from cloudconv.media.probe import probe
from tests.helpers.factory import write_clip
from tests.media.test_sink import even, write


def make(source, output=None):
    return Path(cloudconv.interpolate(source, output, factor=2, model="tiny").output)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "shots.v2"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 24), (60 * number, 20, 200)).save(folder / f"{number:05d}.png")
    return folder


class LateEncoder:
    """An encoder that returns each file three pictures late, as one with threads may."""

    def __init__(self):
        self.times = []
        self._waiting = []

    def encode(self, picture):
        if picture is None:
            return self._waiting
        self.times.append(picture.pts)
        packet = av.Packet(bytes([len(self.times)]))
        packet.pts = picture.pts
        self._waiting.append(packet)
        return [self._waiting.pop(0)] if len(self._waiting) > 3 else []


def test_a_late_encoder_gets_every_picture_at_its_own_time(tmp_path, monkeypatch):
    # FFmpeg's JPEG encoder refuses two pictures of one time, so sequences failed at random.
    encoder, add_video = LateEncoder(), EncodingPlan.add_video

    def add_late(plan, out):
        add_video(plan, out)
        return encoder

    monkeypatch.setattr(EncodingPlan, "add_video", add_late)
    write(tmp_path / "out" / "%d.jpg", even(8), rate=24)
    assert encoder.times == list(range(8))
    files = [(tmp_path / "out" / f"{k}.jpg").read_bytes() for k in range(1, 9)]
    assert files == [bytes([k]) for k in range(1, 9)]


@pytest.mark.parametrize(
    ("pattern", "first"),
    [("%5d.png", "00001.png"), ("%%_%d.png", "%_1.png"), ("5%%%03d.png", "5%001.png")],
)
def test_a_pattern_means_the_same_for_input_and_output(pictures, tmp_path, pattern, first):
    make(pictures, tmp_path / "out" / pattern)
    made = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert made[0] == first
    assert probe(tmp_path / "out" / pattern).timing.frames == len(made) == 8
    with pytest.raises(OutputError, match="exist"):
        make(pictures, tmp_path / "out" / pattern)


def test_a_pattern_of_a_million_digits_is_none(pictures, tmp_path):
    with pytest.raises(OutputError, match="one picture"):
        make(pictures, tmp_path / "%099999999d.png")
    with pytest.raises(InputError, match="no file"):
        probe(tmp_path / "%099999999d.png")


@pytest.mark.parametrize("suffix", ["webp", "bmp", "tif", "png"])
def test_a_pattern_gives_one_picture_for_each_frame(pictures, tmp_path, suffix):
    make(pictures, tmp_path / "out" / f"%03d.{suffix}")
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == [f"{k:03d}.{suffix}" for k in range(1, 9)]
    for number in range(4):
        with Image.open(made[2 * number]) as image:
            assert getattr(image, "n_frames", 1) == 1
            red = image.convert("RGB").getpixel((16, 12))[0]
            assert abs(red - 60 * number) <= (3 if suffix == "webp" else 0)


def test_a_folder_of_pictures_and_videos_is_an_error(pictures):
    write_clip(pictures / "a.mkv", 3)
    with pytest.raises(InputError, match="holds videos: give one of them"):
        make(pictures)


@pytest.mark.parametrize(
    ("here", "given"),
    [(1, "shots.v2"), (1, "shots.v2/%05d.png"), (0, "."), (0, "%05d.png")],
)
def test_pictures_give_the_output_the_name_of_their_folder(pictures, monkeypatch, here, given):
    monkeypatch.chdir([pictures, pictures.parent][here])
    assert make(given).resolve() == pictures.parent.resolve() / "shots.v2_x2.mp4"
