"""New frames that are a guess are named: in any run the same ones, and no others."""

import io
import json
import os
import re
from base64 import b64decode

import cv2
import numpy as np
import pytest
import torch
from av import VideoFrame
from PIL import Image

from cloudconv.doubts import GRADES, SHOWN
from cloudconv.errors import Interrupted, OutputError
from cloudconv.jobs.interp.store import LONGEST_END
from cloudconv.jobs.reports import pictured
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import write_clip
from tests.helpers.jobs import stop_after
from tests.helpers.sinks import info_of

SIZE = 120, 200
RATE = 12
# The number of the frame after the jump. With a frame before the pair, a disc that jumps is
# held where it was.
JUMPS = 1
RADIUS = 16


def filmed(number):
    """Return a frame in which a disc moves slowly, but jumps once."""
    coarse = np.random.default_rng(0).integers(40, 216, (15, 25, 3)).astype(np.float32)
    ground = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    x = 30 + number / 2 + 100 * (number >= JUMPS)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = np.clip(RADIUS + 0.5 - np.hypot(columns - x, rows - 60), 0, 1)[..., None]
    return np.clip(ground + inside * (250 - ground), 0, 255)


def panned(number):
    """Return a frame of a camera that pans over a texture by 12 pixels a frame."""
    cells = np.random.default_rng(0).integers(0, 255, (8, 40, 3)).astype(np.float32)
    wide = cv2.resize(cells, (3 * SIZE[1], SIZE[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(wide[:, 12 * number : 12 * number + SIZE[1]], 0, 255)


def clip(path, show, count=26):
    frames = [
        VideoFrame.from_ndarray(show(k).astype(np.uint8), "rgb24").reformat(
            format="yuv444p"
        )
        for k in range(count)
    ]
    return write_clip(path, frames, rate=RATE, pix_fmt="yuv444p")


@pytest.fixture(scope="module")
def jump(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("jump") / "jump.mkv", filmed)


def interp(source, out, **settings):
    options = {"factor": 2, "model": "cloud-turbo", "scene_cut": "off", "batch": 2}
    return calls.interpolate(source, out, **{**options, **settings})


@pytest.fixture(scope="module")
def whole(jump, tmp_path_factory):
    """Return the result of an uninterrupted run."""
    return interp(jump, tmp_path_factory.mktemp("whole") / "whole.mkv")


def test_a_disc_that_jumps_is_named_with_its_time_and_box(whole):
    (frame,) = whole.doubtful["frames"]
    assert whole.doubtful["count"] == 1
    assert frame["time"] == round((2 * JUMPS - 1) / (2 * RATE), 3)
    assert GRADES.index(frame["grade"]) > 0
    x, y, width, height = frame["box"]
    places = [30 + JUMPS / 2 + by for by in (0, 100)]
    assert any(x <= place <= x + width for place in places)
    assert y <= SIZE[0] / 2 <= y + height
    assert height < 4 * RADIUS
    (warned,) = (w for w in whole.warnings if w.code == "doubtful-frames")
    said = "a guess: at output frame 1 (0.042 s, between source frames 0 and 1)"
    assert said in warned.text


def test_nothing_is_named_in_a_pan_over_a_texture(tmp_path):
    result = interp(clip(tmp_path / "pan.mkv", panned), tmp_path / "out.mkv")
    assert result.doubtful == {"count": 0, "hardly_seen": 0, "frames": []}
    assert not [w for w in result.warnings if w.code == "doubtful-frames"]


def test_a_resumed_run_names_the_same_frames(jump, whole, tmp_path):
    out = tmp_path / "b.mkv"
    with pytest.raises(Interrupted):
        interp(jump, out, watch=stop_after(50))
    result = interp(jump, out)
    assert result.resumed
    assert result.doubtful == whole.doubtful


@pytest.mark.usefixtures("ray")
@pytest.mark.full
def test_workers_name_the_same_frames(jump, whole, tmp_path):
    result = interp(jump, tmp_path / "b.mkv", workers="local:2")
    assert [f["time"] for f in result.doubtful["frames"]] == [
        f["time"] for f in whole.doubtful["frames"]
    ]


def test_an_output_without_segments_names_the_same_frames(jump, whole, tmp_path):
    assert interp(jump, tmp_path / "b.gif").doubtful == whole.doubtful


@pytest.mark.parametrize("options", [{"model": "blend"}, {"shutter": 180}])
def test_frames_that_are_not_judged_are_not_called_good(jump, tmp_path, options):
    report = tmp_path / "look"
    result = interp(jump, tmp_path / "b.mkv", **options, report=report)
    assert result.doubtful is None
    page = (report / "index.html").read_text("utf-8")
    assert "the new frames were not judged" in page


@pytest.mark.full
def test_the_json_has_the_doubtful_frames(jump, whole, tmp_path):
    command = ["interp", jump, tmp_path / "b.mkv", "--factor=2", "--model=cloud-turbo"]
    result = invoke(*command, "--scene-cut=off", "--batch=2", "--json")
    assert json.loads(result.stdout)["doubtful"] == whole.doubtful
    assert {*whole.doubtful["frames"][0]} == {
        *("frame", "time", "size", "grade", "text", "box", "between")
    }


# The report


def views(page):
    """Return the pictures of a page, place by place."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text("utf-8"))
    pictures = [Image.open(io.BytesIO(b64decode(text))).convert("RGB") for text in found]
    return [pictures[k : k + 3] for k in range(0, len(pictures), 3)]


def shows_disc(picture, x):
    """Return whether the middle of a disc is bright there."""
    scale = picture.width / SIZE[1]
    return min(picture.getpixel((round(scale * x), picture.height // 2))) > 215


@pytest.fixture(scope="module")
def reported(jump, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    interp(jump, folder / "b.mkv", report=folder / "deep" / "r")
    return folder


def test_a_report_shows_the_new_frame_between_its_source_frames(reported):
    page = reported / "deep" / "r" / "index.html"
    assert os.listdir(page.parent) == ["index.html"]
    ((before, new, after),) = views(page)
    places = 30 + (JUMPS - 1) / 2, 130 + JUMPS / 2
    assert [shows_disc(before, x) for x in places] == [True, False]
    assert [shows_disc(after, x) for x in places] == [False, True]
    assert not all(shows_disc(new, x) for x in places)
    text = page.read_text("utf-8")
    assert "1 new frame is a guess" in text
    assert "0.042 s" in text


@pytest.mark.full
def test_a_report_has_its_pictures_after_a_resumed_run_and_without_segments(
    jump, reported, tmp_path
):
    with pytest.raises(Interrupted):
        interp(jump, tmp_path / "b.mkv", report=tmp_path / "r", watch=stop_after(50))
    assert not (tmp_path / "r").exists()
    assert interp(jump, tmp_path / "b.mkv", report=tmp_path / "r").resumed
    interp(jump, tmp_path / "c.gif", report=tmp_path / "s")
    words = ("--factor=2", "--model=cloud-turbo", "--scene-cut=off", "--batch=2")
    invoke("interp", jump, "-o", "-", *words, "--report", tmp_path / "t")
    expected = views(reported / "deep" / "r" / "index.html")
    for name in ("r", "s", "t"):
        assert views(tmp_path / name / "index.html") == expected


@pytest.mark.full
def test_a_place_of_a_run_that_began_without_a_report_says_so(jump, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interp(jump, tmp_path / "b.mkv", watch=stop_after(50))
    result = interp(jump, tmp_path / "b.mkv", report=tmp_path / "r")
    assert (result.resumed, result.doubtful["count"]) == (True, 1)
    page = tmp_path / "r" / "index.html"
    assert views(page) == []
    text = page.read_text("utf-8")
    assert (
        "An earlier run without a report made this frame, so there is no picture." in text
    )


def test_a_report_that_exists_is_replaced_only_if_that_is_allowed(jump, reported):
    report = reported / "deep" / "r"
    options = {"report": report, "end": 1.0, "factor": 4}
    with pytest.raises(OutputError, match="`overwrite`"):
        interp(jump, reported / "c.mkv", **options)
    assert not (reported / "c.mkv").exists()
    interp(jump, reported / "c.mkv", overwrite=True, **options)
    page = (report / "index.html").read_text("utf-8")
    assert "0.042 s" in page
    assert "1 new frame is a guess" not in page


@pytest.mark.parametrize(
    ("out", "report"), [("b.mkv", "b.mkv"), ("b.mkv", "b.mkv/r"), ("s/%03d.png", "s")]
)
def test_a_report_at_the_place_of_the_output_is_refused_before_the_work(
    jump, tmp_path, out, report
):
    with pytest.raises(OutputError, match="report and the output have the same name"):
        interp(jump, tmp_path / out, report=tmp_path / report)
    assert not os.listdir(tmp_path)


def test_the_lines_around_a_place_leave_its_picture_in_sight(tmp_path):
    """The video is so small that its pixels are as wide as the lines."""
    small = clip(tmp_path / "a.mkv", lambda k: cv2.resize(filmed(k), (20, 15)))
    result = interp(small, tmp_path / "b.mkv", report=tmp_path / "r")
    ((before, _, _),) = views(tmp_path / "r" / "index.html")
    x, y, width, height = (24 * side for side in result.doubtful["frames"][0]["box"])
    shown = cv2.resize(np.asarray(before), (480, 360))[y : y + height, x : x + width]
    upper = shown[0, 5:-5]
    assert upper[:, 0].min() > 180
    assert upper[:, 1].max() < 120
    assert (shown.min(2) > 215).mean() > 0.3


@pytest.mark.parametrize("size", [(1080, 607), (480, 480), (607, 1080), (900, 30)])
def test_the_pictures_of_a_segment_are_small_in_any_format(size):
    """The end of a segment's file has three pictures of each of twelve places."""
    noise = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    (data,) = pictured([noise], (2, 2, 10, 10), info_of(size[::-1]))
    assert 3 * SHOWN * len(data) < LONGEST_END
    assert max(Image.open(io.BytesIO(b64decode(data))).size) <= 480
