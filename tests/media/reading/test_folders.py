"""The videos in a folder are found by their endings, and what is left out is named."""

import av
import numpy as np
import pytest
from PIL import Image

from cloudconv.media.reading.pictures import videos_in
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from tests.helpers.command import invoke
from tests.helpers.factory import write_clip


def sound_with_cover(path, image):
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=48000)
        stream.layout = "mono"
        out.add_attachment("cover.png", "image/png", image)
        samples = np.zeros((1, 48000), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.fixture
def folder(tmp_path):
    """Return a folder with videos under known and unknown endings, and other files."""
    home = tmp_path / "in"
    home.mkdir()
    clip = write_clip(tmp_path / "clip.mkv", 3, size=(32, 32)).read_bytes()
    for name in (
        "VID_1.insv",
        "b.dav",
        "c.unheard",
        "noending",
        "GL010007.LRV",
        "GX010007.mp4",
    ):
        (home / name).write_bytes(clip)
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    still = (tmp_path / "still.png").read_bytes()
    (home / "still.thm").write_bytes(still)
    sound_with_cover(home / "song.sound", still)
    for name in ("v.txt", "w.txt", "x.nfo", "data.bin"):
        (home / name).write_text("a line of text\n" * 200)
    return home


def test_videos_are_found_by_their_endings(folder):
    names = ["GX010007.mp4", "VID_1.insv", "b.dav"]
    assert [file.name for file in videos_in(folder)] == names


def test_a_batch_takes_the_videos_and_says_what_it_leaves_out(folder, tmp_path):
    options = ("--factor", 2, "--model", "tiny", "--device", "cpu", "--threads", 1)
    done = invoke("interp", folder, "--out-dir", tmp_path / "out", *options, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4  # with the heading
    left = "GL010007.LRV, c.unheard, data.bin and 6 more"
    assert f"stands for its videos, and what else is in it is left out: {left}." in (
        done.stderr
    )


def pictures_of(source):
    return (frame.picture for frame in source.frames())


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize(
    "numbers",
    [
        *([0, 1, 2], [1, 5000, 9998], [9997, 9998, 9999], [*range(50), *range(52, 100)]),
        *([*range(10)], [*range(1, 10)], [1, 3, 5, 7, 9], [1, 2, 3, 7, 8, 9]),
        *([*range(0, 100, 11)], [*range(0, 1000, 111)]),
    ],
)
def test_other_numbers_stay_in_their_order(tmp_path, numbers, width):
    for place, number in enumerate(numbers):
        shade = Image.new("RGB", (32, 32), (2 * place, 0, 0))
        shade.save(tmp_path / f"IMG_{number:0{width}}.png")
    info = probe(tmp_path)
    with Source(info) as source:
        shades = [
            int(picture.to_ndarray(format="rgb24")[0, 0, 0])
            for picture in pictures_of(source)
        ]
    assert shades == [2 * place for place in range(len(numbers))]
