"""What changes in place shows one of the two pictures; the rest moves on."""

from fractions import Fraction
from functools import partial
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import cloudconv
from cloudconv.images import whole
from cloudconv.media.frames.frame import Frame
from cloudconv.models.base import Made
from cloudconv.models.pair import PairPicture
from cloudconv.render.inference import SourcePicture
from cloudconv.render.inplace import change_between, changed_in_place, hold
from tests.helpers.factory import write_clip
from tests.helpers.tiers import MODELS

HEIGHT, WIDTH = 136, 200
SUBTITLE = slice(104, 116), slice(30, 160)
COUNTER = slice(12, 36), slice(20, 76)
INSET = slice(24, 88), slice(104, 184)
HELD = "cloudconv.render.inference.hold"


def texture(seed, height=HEIGHT, width=WIDTH):
    random = np.random.default_rng(seed)
    noise = random.normal(size=(height, width, 3))
    smooth = sum(gaussian_filter(noise, (size, size, 0)) * size for size in (2, 5, 12))
    return (0.5 + 0.35 * smooth / np.abs(smooth).max()).astype(np.float32)


def pan(number, step=4, seed=1):
    """Return a part of a wide texture, which goes by a step for each picture."""
    start = step * (number + 3)
    return texture(seed, width=WIDTH + 80)[:, start : start + WIDTH].copy()


def written(picture, place, seed):
    """Write white strokes on black, as of letters, in a place; None for no letters."""
    if seed is None:
        return picture
    height, width = (part.stop - part.start for part in place)
    strokes = np.random.default_rng(seed).random((height // 4 + 1, width // 5 + 1)) < 0.6
    letters = np.kron(strokes, np.ones((4, 5)))[:height, :width, None]
    picture[place] = np.where(letters > 0, 1.0, 0.02)
    return picture


def inset(number, behind, scenes=(7, 8)):
    """Show one of two scenes in a window, in which a pan goes on."""
    start = 9 + 3 * number
    scene = texture(scenes[number > 0], width=WIDTH)
    behind[INSET] = 2 * scene[:64, start : start + 80] - 0.5
    return behind


def page():
    return np.full((HEIGHT, WIDTH, 3), 0.9, np.float32)


def label(number, behind, step):
    """Write a label that slides to the right over a picture."""
    start = 40 + step * (number + 1)
    return written(behind, (slice(50, 70), slice(start, start + 60)), 3)


CHANGES = {
    "a subtitle comes": (lambda k: written(pan(k), SUBTITLE, 5 if k > 0 else None)),
    "a subtitle changes": (lambda k: written(pan(k), SUBTITLE, 5 + (k > 0))),
    "a subtitle goes": (lambda k: written(pan(k), SUBTITLE, None if k > 0 else 5)),
    "a counter": (lambda k: written(label(k, page(), 4), COUNTER, 15 + (k > 0))),
    "a window of a page": (lambda k: inset(k, page())),
    "an inset over a pan": (lambda k: inset(k, pan(k))),
}
PLACES = dict(zip(CHANGES, [SUBTITLE] * 3 + [COUNTER] + [INSET] * 2, strict=True))
MOVES = {
    "a pan": pan,
    "a fast pan": lambda k: pan(k, 12),
    "a label that slides": lambda k: label(k, page(), 4),
    "a label that slides far": lambda k: label(k, page(), 30),
    "a label that stops": lambda k: label(min(k, 1), page(), 4),
    "noise": lambda k: np.random.default_rng(k + 9).random((HEIGHT, WIDTH, 3)),
    "another scene": lambda k: pan(k, seed=1 + (k > 0)),
    "another light": lambda k: pan(k) * (0.6 if k > 0 else 1.0),
}


def four(show):
    """Return the pictures of a pair, and those before and after it, as tensors."""
    shown = [np.ascontiguousarray(show(k), np.float32) for k in (-1, 0, 1, 2)]
    return [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in shown]


def place_of(pictures):
    """Return where a pair changes in place, as a renderer finds the place."""

    def look(picture, area):
        luma = picture.mean(1)[(..., *area)]
        return torch.nn.functional.adaptive_avg_pool2d(luma, (36, 64))[0]

    looks = [partial(look, picture) for picture in pictures]
    small = [each(whole((HEIGHT, WIDTH))) for each in looks]
    changes = [change_between(*pair) for pair in pairwise(small)]
    return changed_in_place(*small[1:3], changes, (HEIGHT, WIDTH), looks)


def held(pictures, timestep=0.5, apart=None):
    """Return the mean of a pair, and the same with the held places."""
    _, x0, x1, _ = pictures
    left = (x0 - x1).mean(1, keepdim=True)
    apart = (x0 - x1).abs().mean(1, keepdim=True) if apart is None else apart
    made = Made(torch.lerp(x0, x1, timestep), left, apart)
    mixed = made.pictures.clone()
    sides = [(PairPicture(x),) for x in (x0, x1)]
    hold(made, sides, sides[timestep > 0.5], [place_of(pictures)])
    return made, mixed


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize(("timestep", "nearer"), [(0.25, 1), (0.5, 1), (0.75, 2)])
def test_a_change_in_place_shows_the_nearer_picture(kind, timestep, nearer):
    pictures = four(CHANGES[kind])
    made, mixed = held(pictures, timestep)
    place = (..., *PLACES[kind])
    assert (made.pictures - pictures[nearer])[place].abs().mean() < 0.5 / 255
    assert made.apart[place].mean() < 0.5 / 255  # no doubt is left
    rows = slice(None, 20) if PLACES[kind] is SUBTITLE else slice(124, None)
    assert torch.equal(made.pictures[..., rows, :], mixed[..., rows, :])


@pytest.mark.parametrize("kind", MOVES)
def test_motion_and_what_changes_all_over_is_not_held(kind):
    made, mixed = held(four(MOVES[kind]))
    assert torch.equal(made.pictures, mixed)


def test_a_place_whose_motion_the_network_knows_is_moved():
    pictures = four(CHANGES["a subtitle changes"])
    made, mixed = held(pictures, apart=torch.full((1, 1, HEIGHT, WIDTH), 0.05))
    assert torch.equal(made.pictures, mixed)


def test_source_pictures_are_compared_once_and_keep_no_others():
    shown = [page()] * 2
    pictures = [
        SourcePicture(Frame(None, Fraction(k), Fraction(1), None, luma=torch.zeros(36, 64)))
        for k in range(len(shown))
    ]
    calls = []

    def compare(*pair):
        calls.append(pair)

    for _ in range(3):
        assert pictures[0].compared(pictures[1], compare) is None
    assert len(calls) == 1


def two_at_once(made, before, after):
    """Return the mean distance of a picture from the nearer of two others."""
    apart = [np.abs(made - picture).mean() for picture in (before, after)]
    return min(apart) / np.abs(before - after).mean()


@pytest.mark.parametrize("model", MODELS)
def test_a_subtitle_changes_at_once_while_a_label_slides(monkeypatch, model):
    def show(k):
        return written(label(k, page(), 4), SUBTITLE, 5 + (k > 0))

    pictures = [show(k) for k in (-1, 0, 1, 2)]
    made = list(cloudconv.interpolate_frames(pictures, 2, model=model))[3]
    monkeypatch.setattr(HELD, lambda *_: None)
    plain = list(cloudconv.interpolate_frames(pictures, 2, model=model))[3]
    assert two_at_once(plain[SUBTITLE], *(p[SUBTITLE] for p in pictures[1:3])) > 0.2
    assert two_at_once(made[SUBTITLE], *(p[SUBTITLE] for p in pictures[1:3])) < 0.01
    np.testing.assert_allclose(made[:80], plain[:80], atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("kind", CHANGES)
def test_a_video_shows_one_of_the_two_and_the_rest_as_without(tmp_path, monkeypatch, kind):
    """Videos of H.264 at 50 frames a second, of 4:2:0 and twice the size."""
    place = tuple(slice(2 * part.start, 2 * part.stop) for part in PLACES[kind])
    frames = []
    for k in range(-2, 4):
        samples = (CHANGES[kind](k).repeat(2, 0).repeat(2, 1) * 255).round()
        frame = av.VideoFrame.from_ndarray(samples.astype(np.uint8), "rgb24")
        frames.append(frame.reformat(format="yuv420p"))
    source = tmp_path / "in.mp4"
    write_clip(source, frames, rate=50, codec="libx264", options={"crf": "18"})

    def shown(path):
        with av.open(str(path)) as file:
            return [f.to_ndarray(format="rgb24") / 255 for f in file.decode(video=0)]

    def made(name):
        target = tmp_path / f"{name}.mkv"
        cloudconv.interpolate(source, target, factor=2, model="cloud-turbo", encoder="ffv1")
        return shown(target)[5]

    new = made("held")
    monkeypatch.setattr(HELD, lambda *_: None)
    plain = made("plain")
    pair = [picture[place] for picture in shown(source)[2:4]]
    assert two_at_once(plain[place], *pair) > 0.05
    assert two_at_once(new[place], *pair) < 0.02
    rows = slice(None, 150) if PLACES[kind] is SUBTITLE else slice(250, None)
    np.testing.assert_array_equal(new[rows], plain[rows])


@pytest.mark.parametrize("digits", ["56", "89", "68", "23"])
def test_the_digits_of_a_clock_do_not_show_through_each_other(digits):
    """A network makes a morph of them: its two moved pictures are alike there."""
    pictures = []
    for number in range(4):
        shown = (127 * pan(number, 2)).astype(np.uint8)
        place, white = (80, 90), (255, 255, 255)
        cv2.putText(
            shown, digits[number // 2], place, cv2.FONT_HERSHEY_SIMPLEX, 2.2, white, 7
        )
        pictures.append(shown)
    made = list(cloudconv.interpolate_frames(pictures, factor=2, device="cpu"))
    assert mixed(*made[2:5]) < 0.05


def mixed(before, new, after):
    """Return how far a picture is from the nearer of two others, where they differ."""
    before, new, after = (picture.astype(float) for picture in (before, new, after))
    change = after - before
    part = np.abs(change) > 90
    share = ((new - before) * change)[part].sum() / (change**2)[part].sum()
    return min(abs(share), abs(share - 1))


def camera(number, text, walks, size=(320, 180)):
    """Return the noisy picture of a camera that stands, with a clock of 10 lines of 180."""
    random = np.random.default_rng(20 + number)
    width, height = size
    shown = 110 * texture(2, height, width) + random.normal(size=(height, width, 1))
    left = 200 + walks * number
    shown[60:120, left : left + 20] = 170
    shown = shown.round().clip(0, 255).astype(np.uint8)
    scale = height / 180
    at, thick = (round(8 * scale), round(172 * scale)), round(scale)
    font, white = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
    return cv2.putText(shown, text, at, font, scale * 10 / 21, white, thick)


@pytest.mark.parametrize("text", ["12:34:5%d", "2026-11-30 12:34:5%d", "%d0:00"])
def test_small_digits_of_a_clock_do_not_show_through_each_other(text):
    pictures = [camera(k, text % (5 + (k > 1)), walks=3) for k in range(4)]
    made = list(cloudconv.interpolate_frames(pictures, factor=2, device="cpu"))
    assert mixed(*(picture[150:] for picture in made[2:5])) < 0.05
    # What walks goes on: its middle is between.
    columns = [np.abs(x[90].astype(float) - 170).mean(1) < 20 for x in made[2:5]]
    lefts = [np.flatnonzero(each)[0] for each in columns]
    assert lefts[0] < lefts[1] < lefts[2]


@pytest.mark.full
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gbrp12le"])
def test_small_digits_in_a_video_of_any_depth(tmp_path, pix_fmt):
    frames = []
    for k in range(6):
        shown = camera(k, f"12:34:5{5 + (k > 2)}", 3, size=(960, 540))
        frames.append(av.VideoFrame.from_ndarray(shown, "rgb24").reformat(format=pix_fmt))
    source = write_clip(tmp_path / "in.mkv", frames, rate=25, pix_fmt=pix_fmt)
    target = tmp_path / "out.mkv"
    cloudconv.interpolate(source, target, factor=2, model="cloud-turbo", encoder="ffv1")
    with av.open(str(target)) as file:
        made = [f.to_ndarray(format="rgb24")[450:] for f in file.decode(video=0)]
    assert mixed(*made[4:7]) < 0.05
