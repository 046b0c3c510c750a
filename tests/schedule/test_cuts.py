"""Cuts and repeated frames are found, and other changes are not mistaken for them."""

import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import SettingsError
from cloudconv.media.colour.color import cell_means
from cloudconv.media.frames.frame import Frame
from cloudconv.media.reading.source import Source
from cloudconv.schedule.cuts import CutDetector, FlashDetector, RepeatDetector
from cloudconv.settings import InterpSettings
from tests.helpers import calls, joined
from tests.helpers.factory import picture, planes_of, read_planes, same, write_clip
from tests.helpers.tiers import first_full

HEIGHT, WIDTH = CutDetector.THUMBNAIL
CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips" / "val"
# Cuts inside clips of that folder, found by eye.
KNOWN = {"weather-App__smoky.mp4": {4, 62}, "sea__test.mp4": {260}}


def scene(seed, count, *, speed=0.4, level=0.5):
    """Return a moving picture, detailed at every size like a photo: (count, 36, 64)."""
    random = np.random.default_rng(seed)
    size = 256
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = np.inf
    waves = np.fft.fft2(random.normal(size=(size, size))) / frequency**1.2
    texture = np.fft.ifft2(waves).real
    texture = np.clip(level + level * 0.4 * texture / texture.std(), 0, 1)
    angle = random.uniform(0, 2 * np.pi)
    frames = []
    for k in range(count):
        down = k * speed * np.sin(angle)
        right = k * speed * np.cos(angle)
        rows = (np.arange(HEIGHT) + round(down)) % size
        columns = (np.arange(WIDTH) + round(right)) % size
        frames.append(texture[np.ix_(rows, columns)])
    clip = torch.from_numpy(np.stack(frames)).float()
    noise = torch.from_numpy(random.normal(0, 0.3 / 255, clip.shape)).float()
    return (clip + noise).clamp(0, 1)


def cuts(thumbnails, threshold=None):
    detector = CutDetector(threshold)
    decisions = []
    for k, thumbnail in enumerate(thumbnails):
        decisions += detector.push(thumbnail)
        assert len(decisions) >= k + 1 - detector.lookahead
    decisions += detector.finish()
    assert len(decisions) == len(thumbnails)
    return [k for k, cut in enumerate(decisions) if cut]


@pytest.mark.full
@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.4, 2.0]),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_a_hard_cut_is_found(seed, speed, before, after):
    clip = torch.cat(
        [scene(seed, before, speed=speed), scene(seed + 1, after, speed=speed)]
    )
    assert cuts(clip) == [before]


@pytest.mark.parametrize("level", [0.03, 0.06])
def test_a_cut_in_the_dark_is_found(level):
    for seed in range(8):
        clip = torch.cat([scene(seed, 10, level=level), scene(seed + 50, 10, level=level)])
        assert cuts(clip) == [10]


@pytest.mark.parametrize("repeats", [1, 2])
def test_several_cuts_close_together_are_found_also_among_repeats(repeats):
    shots = [scene(seed, 6, speed=2).repeat_interleave(repeats, 0) for seed in range(8)]
    assert cuts(torch.cat(shots)) == list(range(6 * repeats, 48 * repeats, 6 * repeats))


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_flash_is_not_a_cut(length, strength):
    clip = scene(length, 24)
    clip[10 : 10 + length] += (1 - clip[10 : 10 + length]) * strength
    assert cuts(clip) == []
    assert cuts(torch.cat([clip[:16], scene(9, 12)])) == [16]


def flashes(thumbnails):
    detector = FlashDetector()
    decisions = [flash for luma in thumbnails for flash in detector.push(luma)]
    decisions += detector.finish()
    assert len(decisions) == len(thumbnails)
    return [number for number, flash in enumerate(decisions) if flash]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("strength", [0.5, 1.0, -1.0])
def test_a_flash_begins_at_its_first_frame(length, strength):
    clip = scene(length, 24)
    lit = clip[10 : 10 + length]
    lit += (1 - lit) * strength if strength > 0 else lit * strength
    assert flashes(clip) == [10]


def test_lasting_and_regular_changes_are_no_flashes():
    clip = scene(5, 24)
    lighter = torch.cat([clip[:12], clip[12:] * 0.4 + 0.6])
    flicker = clip * torch.tensor([1.0, 0.6]).repeat(12)[:, None, None]
    for other in (clip, lighter, flicker, torch.cat([clip[:12], scene(6, 12)])):
        assert flashes(other) == []


@pytest.mark.parametrize("speed", [3.0, 6.0, 10.0])
def test_a_pan_is_not_a_cut(speed):
    for seed in range(4):
        moving = scene(seed, 20, speed=speed)
        clip = torch.cat(
            [moving[:1].expand(6, -1, -1), moving, moving[-1:].expand(6, -1, -1)]
        )
        assert cuts(clip) == []


def test_fades_and_dissolves_are_not_cuts():
    gain = torch.linspace(1, 0, 12)[:, None, None]
    one, other = scene(3, 12), scene(4, 12)
    black = torch.zeros(4, HEIGHT, WIDTH)
    assert cuts(torch.cat([one * gain, black, other * gain.flip(0)])) == []
    dissolve = one * gain + other * (1 - gain)
    assert (
        cuts(torch.cat([one[:1].expand(6, -1, -1), dissolve, other[-1:].expand(6, -1, -1)]))
        == []
    )


def test_flicker_strobe_light_and_noise_are_not_cuts():
    clip = scene(5, 40)
    random = torch.Generator().manual_seed(1)
    assert (
        cuts((clip * (0.7 + 0.6 * torch.rand(40, 1, 1, generator=random))).clamp(0, 1))
        == []
    )
    clip[::2] *= 0.3
    assert cuts(clip) == []
    noise = torch.rand(60, HEIGHT, WIDTH, generator=random)
    assert cuts(noise) == []
    assert cuts(0.5 + noise / 255) == []


@pytest.mark.parametrize("light", [(1.3, 0), (0.6, 0), (0.5, 0.5), (1.6, -0.15)])
def test_a_step_of_exposure_or_a_lamp_is_not_a_cut(light):
    gain, offset = light
    for seed in range(6):
        clip = scene(seed, 24, speed=1.5)
        clip[12:] = (clip[12:] * gain + offset).clamp(0, 1)
        assert cuts(clip) == []
        other = (scene(seed + 50, 12) * gain + offset).clamp(0, 1)
        assert cuts(torch.cat([clip[:12], other])) == [12]


def test_cards_of_one_colour_have_a_cut_between_them():
    clip = 0.2 + scene(1, 20, speed=0, level=0)
    clip[10:] += 0.5
    assert cuts(clip) == [10]


def drawing(x, y, stride):
    """Return a figure with a round body and two legs on flat ground: (36, 64)."""
    scale = 8  # samples per pixel in each direction
    down, right = torch.meshgrid(
        torch.arange(HEIGHT * scale) / scale,
        torch.arange(WIDTH * scale) / scale,
        indexing="ij",
    )
    picture = torch.where(down < 24, 0.78, 0.52)
    distance = torch.hypot(right - x, down - y)
    picture[distance < 6] = 0.35
    picture[(distance - 6).abs() < 0.3] = 0.0
    for side in (-1, 1):
        leg = x + side * stride * (down - y - 6) / 6
        picture[((right - leg).abs() < 0.3) & (down > y + 6) & (down < y + 12)] = 0.0
    return torch.nn.functional.avg_pool2d(picture[None, None], scale)[0, 0]


@pytest.mark.parametrize("hold", [4, 5, 6])
def test_a_figure_in_the_middle_of_a_flat_drawing_is_not_a_cut(hold):
    drawings = [
        drawing(8 + 4 * k, 18 + 4 * np.sin(k / 0.75), 3 * np.sin(2 * k)) for k in range(13)
    ]
    walk = torch.stack(drawings).repeat_interleave(hold, 0)
    noise = scene(1, len(walk), speed=0, level=0) - scene(1, 1, speed=0, level=0)
    assert cuts((walk + 0.2 * noise).clamp(0, 1)) == []
    other = drawing(50, 8, 3).flip(0)[None].expand(12, -1, -1)
    assert cuts(torch.cat([walk, other])) == [len(walk)]


def test_the_threshold_ranges_from_a_cut_at_every_frame_to_none():
    clip = torch.cat([scene(1, 8), scene(2, 8)])
    assert cuts(clip, 0) == list(range(1, 16))
    assert cuts(clip, 0.3) == cuts(clip, 0.7) == [8]
    assert cuts(clip, 1) == cuts(clip[:1]) == cuts(clip[:0]) == []


def repeats(frames):
    detector = RepeatDetector()
    decisions = []
    for frame in frames:
        decisions += detector.push(cell_means(frame.planes()[0]))
    decisions += detector.finish()
    assert len(decisions) == len(frames)
    return [k for k, (repeats, _) in enumerate(decisions) if repeats]


def encode_and_decode(tmp_path, pictures, **options):
    path = write_clip(
        tmp_path / "clip.mp4", pictures, codec="libx264", options={"crf": "23"}, **options
    )
    with Source(path) as source:
        return list(source.frames())


@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize("step", [0.25, 6.0])
def test_repeats_are_found_in_a_lossy_file(tmp_path, step, noise):
    # Of every five frames the last one repeats.
    slots = [k - (k + 1) // 5 for k in range(60)]
    pictures = [picture(k, 192, 128, step=step, noise=noise) for k in slots]
    marked = repeats(encode_and_decode(tmp_path, pictures))
    expected = list(range(4, 60, 5))
    if step > 1:
        assert marked == expected
    else:  # motion as weak as the codec's noise: a missed repeat is better than a false one
        assert set(marked) <= set(expected)


@pytest.mark.parametrize("step", [0.05, 0.1, 3.0])
def test_slow_motion_has_no_repeats(tmp_path, step):
    pictures = [picture(k, 192, 128, step=step, noise=1.5) for k in range(48)]
    assert repeats(encode_and_decode(tmp_path, pictures)) == []


@pytest.mark.parametrize("every", [2, 3, 4])
def test_a_counter_over_a_slow_pan_makes_no_repeats(tmp_path, every):
    pictures = [picture(k, 192, 128, step=1.0) for k in range(36)]
    for number, shown in enumerate(pictures):
        digits = np.random.default_rng(number // every).integers(0, 2, (5, 6)) * 200 + 20
        rows = np.frombuffer(shown.planes[0], np.uint8).reshape(128, -1)
        rows[8:28, 8:32] = digits.repeat(4, 0).repeat(4, 1)
    assert repeats(encode_and_decode(tmp_path, pictures)) == []


@pytest.mark.parametrize("weak", [0.4, 0.8])
def test_weak_motion_after_strong_motion_is_no_picture_that_stands_still(tmp_path, weak):
    strong = round(4 / weak)
    places = [*range(0, 24 * strong, strong)]
    places += [places[-1] + k for k in range(1, 13)]
    pictures = [picture(place, 192, 128, step=weak) for place in places]
    marked = repeats(encode_and_decode(tmp_path, pictures))
    assert not any({k, k + 1, k + 2, k + 3} <= set(marked) for k in marked)


def brighter(frame, codes):
    """Return a copy of a picture with another light."""
    light = VideoFrame(frame.width, frame.height, frame.format.name)
    planes = planes_of(frame)
    planes[0] = np.clip(planes[0].astype(int) + codes, 16, 235).astype(np.uint8)
    for target, values in zip(light.planes, planes, strict=True):
        rows = np.frombuffer(target, np.uint8).reshape(target.height, -1)
        rows[:, : target.width] = values
    return light


@pytest.mark.parametrize(
    "light",
    [lambda k: 200 * (k % 4 == 0), lambda k: 20 * (k % 4 < 2), lambda k: 60 * (k > 20)],
    ids=["strobe", "flicker", "lamp"],
)
def test_a_change_of_light_makes_no_repeats(tmp_path, light):
    pictures = [brighter(picture(k, 192, 128), light(k)) for k in range(40)]
    assert repeats(encode_and_decode(tmp_path, pictures, rate=30)) == []


def test_a_motion_that_starts_and_ends_softly_has_no_repeats(tmp_path):
    places = (480 * (1 - np.cos(np.linspace(0, 4 * np.pi, 72)))).round().astype(int)
    pictures = [picture(int(place), 192, 128, step=0.125) for place in places]
    assert repeats(encode_and_decode(tmp_path, pictures, rate=60)) == []


def test_a_picture_that_stands_for_a_lost_one_is_a_repeat(tmp_path):
    lost = [7, 15, 16, 26, 33]
    slots = [next(k for k in range(n, -1, -1) if k not in lost) for n in range(40)]
    pictures = [picture(k, 192, 128, step=3.0) for k in slots]
    assert repeats(encode_and_decode(tmp_path, pictures, rate=50)) == lost


def test_identical_frames_are_repeats_in_any_format():
    for pix_fmt in ("yuv420p10le", "gbrp", "gray"):
        pictures = [picture(k // 2, pix_fmt=pix_fmt) for k in range(12)]
        frames = [
            Frame(p, Fraction(k, 24), Fraction(1, 24)) for k, p in enumerate(pictures)
        ]
        assert repeats(frames) == [1, 3, 5, 7, 9, 11]


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are missing")
@pytest.mark.parametrize("most", first_full([12, None]))
def test_cuts_are_found_in_real_footage(most):
    """At least 98 % of hard cuts are found, with at most one false cut in 1,000 frames."""
    clips = joined.load(CLIPS, most)
    assert len(clips) >= 10
    chance = random.Random(2)
    scenes = [(clip, KNOWN.get(name, set())) for name, clip in clips.items()]
    for kind in ({}, {"dark": True}, {"events": True}):
        scenes.append(joined.join(clips, KNOWN, 50, chance, **kind))
    result = [set(cuts(thumbnails)) for thumbnails, _ in scenes]
    pairs = [(marks, marked) for (_, marks), marked in zip(scenes, result, strict=True)]
    assert sum(len(a & b) for a, b in pairs) >= 0.98 * sum(len(a) for a, _ in pairs)
    false = sum(len(b - a) for a, b in pairs)
    assert false <= sum(len(thumbnails) for thumbnails, _ in scenes) / 1000


@pytest.mark.parametrize("threshold", [5.0, -0.1, float("nan")])
def test_a_threshold_outside_of_its_range_is_refused(threshold):
    with pytest.raises(SettingsError, match="from 0 to 1, got"):
        InterpSettings("a.mkv", factor=2, scene_cut=threshold)


def shaken(seed, count):
    """Return pictures of a camera that jumps between three places."""
    places = [12 * (k % 3) + k // 3 for k in range(count)]
    return scene(seed, max(places) + 1, speed=3)[places]


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_cut_is_found_soon_after_the_first_frame_of_a_shaken_clip(seed):
    """The first frames differ from all before, and the later ones are like one of them."""
    other = scene(seed + 50, 2, speed=3)
    assert cuts(torch.cat([shaken(seed, 7), other])) == [7]


@pytest.mark.parametrize("before", [1, 2, 4, 7, 11])
def test_a_part_has_the_cuts_of_the_whole(tmp_path, before):
    thumbnails = torch.cat([shaken(2, 20), scene(52, 2, speed=3)])
    large = (255 * thumbnails).byte().repeat_interleave(4, 1).repeat_interleave(4, 2)
    pictures = [VideoFrame.from_ndarray(each.numpy(), "gray") for each in large]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=10)

    def made(name, start):
        options = {"factor": 2, "model": "blend", **calls.lossless(tmp_path / name)}
        return calls.interpolate(clip, tmp_path / name, start=start, **options)

    assert made("b.mkv", 0).cuts == [2.0]
    assert made("c.mkv", Fraction(20 - before, 10)).cuts == [2.0]
    whole = read_planes(tmp_path / "b.mkv")
    assert same(read_planes(tmp_path / "c.mkv"), whole[2 * (20 - before) :])
    # The first frame of a part begins no scene of the output.
    assert made("d.mkv", 2).cuts == []


@pytest.mark.parametrize(("size", "step"), [(2, 1), (2, 4), (3, 2), (5, 1), (9, 3)])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_small_thing_that_moves_makes_no_repeats(size, step, noise):
    """The mean of a block stays as it is while the thing moves within the block."""
    frames = []
    for number in range(40):
        shown = picture(number, 320, 192, "gray", step=0, noise=noise)
        rows = np.frombuffer(shown.planes[0], np.uint8).reshape(192, -1)
        at = 30 + step * number
        rows[90 : 90 + size, at : at + size] = 235
        frames.append(Frame(shown, Fraction(number), Fraction(1)))
    assert repeats(frames) == []
