"""New frames lie on the curved way of things."""

import math
from functools import cache

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import cloudconv
from cloudconv.models import registry
from cloudconv.models.base import Made, OuterPictures
from cloudconv.models.pair import Pair, PairPicture
from cloudconv.render.inference import Inference
from cloudconv.render.memory import Sizes
from cloudconv.weights import weights_folder
from tests.helpers.factory import read_planes, same, write_clip

NAMES = ("cloud-best", "cloud-fast", "cloud-turbo", "rife-4.6")


@cache
def model(name):
    return registry.load(name)


@cache
def texture():
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 40, 56, generator=generator)
    return F.interpolate(coarse, (320, 448), mode="bicubic").clamp(0, 1)


def at(x, y=0.0):
    """Return the texture moved right and down by any part of a pixel, (1, 3, 128, 192)."""
    theta = torch.eye(2, 3)[None]
    theta[0, :, 2] = torch.tensor([-2 * x / 448, -2 * y / 320])
    grid = F.affine_grid(theta, [1, 3, 320, 448], align_corners=False)
    moved = F.grid_sample(texture(), grid, align_corners=False)
    return moved[..., 96:224, 128:320]


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def made(name, places, t, reach=(1.0, 1.0)):
    """Return the new picture between the second and the third of four places."""
    before, x0, x1, after = (at(*place) for place in places)
    outer = OuterPictures(before, after, torch.tensor([reach]))
    return model(name).interpolate(x0, x1, t, outer=outer)


def straight(name, places, t):
    return model(name).interpolate(at(*places[1]), at(*places[2]), t)


def apart(picture, place):
    """Return by how many pixels the middle of a picture lies beside its true place."""
    shown, true = (
        _gray(x)[16:112, 16:176].astype(np.float32) for x in (picture, at(*place))
    )
    (x, y), _ = cv2.phaseCorrelate(
        true, shown, cv2.createHanningWindow((160, 96), cv2.CV_32F)
    )
    return math.hypot(x, y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("t", [0.25, 0.5, 0.8])
def test_a_turn_is_followed_at_every_time(name, t):
    def place(moment):
        angle = 0.9 * moment
        return 14 * math.cos(angle), 14 * math.sin(angle)

    places = [place(k) for k in (-1, 0, 1, 2)]
    off = apart(straight(name, places, t), place(t))
    assert apart(made(name, places, t), place(t)) < 0.6 * off


@settings(deadline=None, max_examples=12)
@given(
    st.floats(-4, 4),
    st.floats(-4, 4),
    st.floats(0.6, 1.8),
    st.floats(0.6, 1.8),
    st.floats(0.2, 0.8),
)
def test_frames_at_uneven_times_lie_on_the_parabola(x, y, back, ahead, t):
    def place(moment):
        return 5 * moment + x * moment**2 / 2, -2 * moment + y * moment**2 / 2

    places = [place(k) for k in (-back, 0, 1, 1 + ahead)]
    off = apart(straight("cloud-turbo", places, t), place(t))
    curved = apart(made("cloud-turbo", places, t, (back, ahead)), place(t))
    assert curved < max(0.4, 0.7 * off)


def test_even_motion_stays_as_it_is():
    places = [(6 * k, 2 * k) for k in (-1, 0, 1, 2)]
    for name in NAMES:
        difference = made(name, places, 0.5) - straight(name, places, 0.5)
        assert difference.abs().mean() < 1 / 255


def test_the_frames_around_that_contradict_each_other_bend_little():
    places = [(-9, 0), (0, 0), (6, 0), (3, 0)]  # faster before, and back after
    shaken = [(9, 0), (0, 0), (6, 0), (15, 0)]  # back before, and faster after
    for row in (places, shaken):
        assert apart(made("cloud-best", row, 0.5), (3, 0)) < 0.6


def _gray(picture):
    return (picture.clamp(0, 1).mean(1)[0] * 255).byte().numpy()


def test_a_black_frame_before_bends_nothing():
    places = [(6 * k, 0) for k in (-1, 0, 1, 2)]
    x0, x1, after = (0.1 * at(*place) for place in places[1:])
    outer = OuterPictures(torch.zeros_like(x0), after, torch.ones(1, 2))
    for name in NAMES:
        new = model(name).interpolate(x0, x1, 0.5, outer=outer)
        even = model(name).interpolate(x0, x1, 0.5)
        assert psnr(new, 0.1 * at(3, 0)) > psnr(even, 0.1 * at(3, 0)) - 0.5


def swing(path, count=12):
    """Write a clip of a texture that swings, at 10 frames a second, 192 by 128."""
    pictures = []
    for k in range(count):
        shown = at(20 * math.sin(0.7 * k), 6 * math.cos(0.7 * k))[0].permute(1, 2, 0)
        levels = (shown * 255).round().byte().numpy()
        pictures.append(VideoFrame.from_ndarray(levels, "rgb24").reformat(format="bgr0"))
    return write_clip(path, pictures, rate=10)


def test_the_new_frames_of_a_part_are_those_of_the_whole(tmp_path):
    clip = swing(tmp_path / "swing.mkv")
    keywords = {"factor": 4, "model": "cloud-turbo", "encoder": "ffv1"}
    whole, part, reduced = (tmp_path / f"{name}.mkv" for name in ("whole", "part", "loop"))
    cloudconv.interpolate(clip, whole, **keywords)
    cloudconv.interpolate(clip, part, start="0.3", end="0.8", **keywords)
    assert same(read_planes(part), read_planes(whole)[12:32])
    # The frames around the part matter: they are not read if nothing is around.
    cut = tmp_path / "cut.mkv"
    cloudconv.interpolate(clip, cut, factor=1, replace="0", encoder="ffv1", end="0.8")
    cloudconv.interpolate(cut, reduced, **keywords)
    assert not same(read_planes(reduced)[-7:], read_planes(whole)[25:32])


def test_batches_follow_the_same_way(tmp_path):
    clip = swing(tmp_path / "swing.mkv", 6)
    keywords = {"factor": 4, "model": "cloud-turbo", "encoder": "ffv1"}
    found = []
    for name, more in (("one", {}), ("batch", {"batch": 4})):
        cloudconv.interpolate(clip, tmp_path / f"{name}.mkv", **keywords, **more)
        found.append(np.array(read_planes(tmp_path / f"{name}.mkv"), np.int16))
    assert np.abs(found[0] - found[1]).max() <= 1


def test_tiles_follow_the_same_way():
    places = [(10 * math.sin(0.8 * k), 10 * math.cos(0.8 * k)) for k in (-1, 0, 1, 2)]
    pictures = [torch.cat([at(*place)] * 2, 3) for place in places]
    tasks = [PairPicture(picture) for picture in pictures]
    sides = [(tasks[k],) for k in (1, 2, 0, 3)]
    pair = Pair(sides, torch.tensor([0.5]), torch.ones(1, 2))
    whole, even = (model("cloud-turbo").between(x) for x in (pair, pair.some([0])))
    inference = Inference(model("cloud-turbo"), torch.device("cpu"), sizes=Sizes(tile=256))
    tiles = Made.of(inference._new(pair)).pictures
    assert psnr(tiles, whole) > max(40, psnr(tiles, even) + 5)


def test_weights_of_an_earlier_version_work_without_their_refinement(tmp_path):
    clip = swing(tmp_path / "swing.mkv", 4)
    content = load_file(weights_folder() / "cloud-fast.safetensors")
    old = tmp_path / "old.safetensors"
    content["refine.block.beta"] = torch.zeros(4)
    save_file(content, old, {"model": "cloud-fast", "task": "interpolate"})
    keywords = {"factor": 2, "encoder": "ffv1"}
    now = cloudconv.interpolate(clip, tmp_path / "now.mkv", model="cloud-fast", **keywords)
    result = cloudconv.interpolate(clip, tmp_path / "old.mkv", model=old, **keywords)
    assert same(read_planes(tmp_path / "old.mkv"), read_planes(tmp_path / "now.mkv"))
    assert not now.warnings
    assert [warned.code for warned in result.warnings] == ["weights-unused"]
