"""Video textures: the clip again and again, forwards, with slow jumps and closed loops."""

import pkgutil
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from cloudconv.dreaming.methods.base import Filmed, Jump, Options
from cloudconv.dreaming.methods.jumps import Jumps
from cloudconv.dreaming.methods.texture import texture
from cloudconv.images import luma, measured_flow, picture_from, small_copy, tensor_of
from tests.helpers.dreams import (
    ball,
    ball_is_whole,
    clouds,
    material,
    pasted,
    tensor,
    vitals_of,
)
from tests.helpers.tiers import first_full


def textured(source, options):
    """Return the pictures of a texture."""
    return [tensor_of(frame.show()) for frame in texture(source, options)]


def dream(count, frames, seed=0, **options):
    return textured(material(ball(count)), Options(frames, seed, **options))


def changes(pictures):
    return [float((b - a).abs().mean()) for a, b in pairwise(pictures)]


def slow_skies(pair=None):
    """Return 90 pictures of one sky that slowly becomes another, of a ``pair``."""
    noise = np.random.default_rng(0).random((2, 12, 16, 3)).astype(np.float32)
    soft = (cv2.resize(each, (80, 60), interpolation=cv2.INTER_CUBIC) for each in noise)
    first, last = pair or soft
    return [(first + k / 89 * (last - first)).clip(0, 1) for k in range(90)]


@pytest.mark.full
def test_a_bouncing_ball_keeps_bouncing_and_stays_whole():
    source = ball(60)
    dreamt_frames = dream(60, 150)
    assert len(dreamt_frames) == 150
    assert all(ball_is_whole(picture) for picture in dreamt_frames)
    usual = changes([tensor(p) for p in source])
    assert max(changes([tensor(source[-1]), *dreamt_frames])) < 1.3 * max(usual)
    rows = vitals_of(material(source), dreamt_frames)
    assert all(row.alive for row in rows), [row.failed for row in rows]


def test_the_difference_of_bright_frames_that_are_almost_equal_is_exact():
    source = [np.full((60, 80, 3), 250, np.uint8) for _ in range(40)]
    for picture in source[1::2]:
        picture[:8, :8] -= 1
    apart = Jumps(material(source), 0).apart
    assert (apart[0, 2], apart[0, 1]) == (0, pytest.approx(0.115, rel=0.05))


@pytest.mark.parametrize("loop", first_full([True, False]))
def test_a_sky_that_never_comes_back_changes_slowly(loop):
    """A picture slowly becomes another, so that no frame of the clip is like the last."""
    source = [np.uint8(255 * sky) for sky in slow_skies()]
    pictures = [tensor(picture) for picture in source]
    to_source = {"loop": True, "loop_to": picture_from(pictures[0])} if loop else {}
    dreamt_frames = textured(material(source), Options(150, 0, **to_source))
    around = (
        [pictures[-1], *dreamt_frames, *pictures[:12]]
        if loop
        else [pictures[-1], *dreamt_frames]
    )
    moved = [float((b - a).abs().mean()) for a, b in zip(around, around[12:], strict=False)]
    # Within 12 frames less than a quarter of the difference of the two pictures appears.
    assert max(moved) < 0.25 * float((pictures[0] - pictures[-1]).abs().mean())


@pytest.mark.full
def test_rain_goes_on_while_a_slow_sky_begins():
    drops = np.random.default_rng(1).random((90, 60, 80, 1)) < 0.02
    source = [
        np.uint8(255 * np.where(drop, 1, 0.8 * sky))
        for sky, drop in zip(slow_skies(), drops, strict=True)
    ]
    dreamt_frames = textured(material(source), Options(50, 0))
    usual = np.median(changes([tensor(p) for p in source]))
    differences = changes([tensor(source[-1]), *dreamt_frames])
    assert 0.6 * usual < min(differences) <= max(differences) < 1.3 * usual


@pytest.mark.full
def test_no_frame_stands_out_where_a_slow_change_begins_and_ends():
    """Clouds with fine detail slowly become others: each change lasts for many frames."""
    noise = np.random.default_rng(2).random((2, 96, 128, 3)).astype(np.float32)
    pair = [cv2.GaussianBlur(each, (0, 0), 1) for each in noise]
    source = material([np.uint8(255 * sky) for sky in slow_skies(pair)])
    rows = vitals_of(source, textured(source, Options(120, 0)), pasted())
    assert all(row.alive for row in rows), rows


@pytest.mark.full
def test_frames_depend_on_the_seed():
    source = material(clouds(60, (64, 48)))

    def made(seed):
        return textured(source, Options(90, seed))

    one, again, other = made(0), made(0), made(5)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("frames", "to_source"), [(48, False), (408, False), (36, True), (84, True)]
)
def test_a_loop_leads_into_its_own_first_frame_or_into_the_source(frames, to_source):
    source = [tensor(p) for p in ball(60)]
    dreamt_frames = dream(
        60, frames, loop=True, **({"loop_to": picture_from(source[0])} if to_source else {})
    )
    assert len(dreamt_frames) == frames
    around = (
        [source[-1], *dreamt_frames, source[0]]
        if to_source
        else [*dreamt_frames, dreamt_frames[0]]
    )
    assert max(changes(around)) < 1.5 * max(changes(source))
    assert to_source or all(ball_is_whole(picture) for picture in dreamt_frames)


@pytest.mark.parametrize(("count", "loop"), [(1, True), (2, False), (3, True), (9, True)])
def test_short_clips_give_the_requested_length(count, loop):
    assert len(dream(count, 20, loop=loop)) == 20
    assert len(dream(count, 1, loop=loop)) == 1


@pytest.mark.full
def test_clouds_move_without_jumps():
    source = material(clouds(80))
    dreamt_frames = textured(source, Options(120, 1))
    rows = vitals_of(source, dreamt_frames, pasted())
    assert rows
    for row in rows:
        assert not row.failed, row.values


def scrolling(count):
    """Return stripes of many colours that move two columns to the right in each frame."""
    random = np.random.default_rng(2)
    wide = cv2.GaussianBlur(random.integers(0, 255, (64, 288, 3), np.uint8), (0, 0), 3)[
        :, 96:192
    ]
    # The picture is the same again after 96 columns.
    share = np.linspace(0, 1, 24)[None, :, None]
    wide[:, -24:] = np.uint8(wide[:, -24:] * (1 - share) + wide[:, :1] * share)
    return [np.roll(wide, 2 * k, 1) for k in range(count)]


def test_motion_that_repeats_goes_on_forwards_without_an_end():
    dreamt_frames = textured(material(scrolling(80)), Options(200, 0))
    wanted = scrolling(280)[80:]
    apart = [
        float((a - tensor(b)).abs().mean())
        for a, b in zip(dreamt_frames, wanted, strict=True)
    ]
    assert max(apart) < 0.004, apart
    turned = [
        float((a - tensor(b)).abs().mean())
        for a, b in zip(dreamt_frames, wanted[2:], strict=False)
    ]
    assert min(turned) > 0.01


@pytest.mark.full
def test_frames_between_jumps_are_as_filmed():
    """A jump lasts for a third of a clip at most, and the next one begins later."""
    source = clouds(60, (64, 48))
    result = torch.stack(textured(material(source), Options(200, 3)))
    real = torch.stack([tensor(picture) for picture in source])
    apart = (result[:, None] - real).abs().amax((2, 3, 4))
    filmed = apart.amin(1) < 1e-6
    assert float(filmed.float().mean()) > 0.3
    nearest = apart.argmin(1)
    assert {int(step) for step in nearest.diff()[filmed[1:] & filmed[:-1]]} == {1}


@pytest.mark.full
@pytest.mark.parametrize("loop", [False, True])
def test_each_frame_says_if_it_is_filmed_or_made_by_a_jump(loop):
    source = clouds(60, (64, 48))
    to_source = {"loop": True, "loop_to": picture_from(tensor(source[0]))} if loop else {}
    result = [*texture(material(source), Options(150, 3, **to_source))]
    origins = [frame.origin for frame in result]
    for frame in result:
        if isinstance(frame.origin, Filmed):
            assert torch.equal(tensor_of(frame.show()), tensor(source[frame.origin.number]))
    jumps = {(o.start, o.length) for o in origins if isinstance(o, Jump)}
    assert len(jumps) > 1
    for start, length in jumps:
        pictures = origins[start : start + length]
        assert {(o.start, o.length) for o in pictures} == {(start, length)}
        parts = [o.part for o in pictures]
        wanted = [k / (length + 1) for k in range(1, len(parts) + 1)]
        assert parts == pytest.approx(wanted)
        assert len(parts) == min(length, len(result) - start)
        if start == 0:
            assert pictures[0].before == len(source) - 1
        elif isinstance(origins[start - 1], Filmed):
            assert pictures[0].before == origins[start - 1].number + 1
        following = origins[start + length] if start + length < len(result) else None
        if isinstance(following, Filmed):
            assert following.number == pictures[-1].after + 1
    to_home = [o.after is None for o in origins if isinstance(o, Jump)]
    assert any(to_home) == loop


@pytest.mark.full
def test_clouds_do_not_run_back_at_a_jump():
    def along(pictures):
        """Return the motion to the right, in pixels a frame, over each 12 frames."""
        greys = [
            luma(small_copy(picture_from(picture), (96, 128)))[:70] for picture in pictures
        ]
        motion = [-measured_flow(b, a)[..., 0].mean() for a, b in pairwise(greys)]
        return np.convolve(motion, np.ones(12) / 12, "valid")

    source = clouds(60)
    film = [tensor(picture) for picture in source]
    dreamt_frames = textured(material(source), Options(70, 0))
    assert min(along([film[-1], *dreamt_frames])) > 0.3 * np.mean(along(film))


def crossing(count):
    """Return a ball that crosses the picture once, and slowly."""
    frames = []
    for k in range(count):
        picture = np.full((64, 160, 3), 60, np.uint8)
        picture[::8], picture[:, ::8] = 75, 75
        centre = round(16 * (40 + 50 * k / count)), 16 * 32
        cv2.circle(picture, centre, 8 * 16, (230, 80, 60), -1, cv2.LINE_AA, 4)
        frames.append(picture)
    return frames


@pytest.mark.full
def test_a_thing_moves_to_its_new_place_and_does_not_dissolve():
    dreamt_frames = textured(material(crossing(60)), Options(120, 0))
    assert all(ball_is_whole(picture) for picture in dreamt_frames)
    places = [
        float((p[0] - p[1] > 0.3).nonzero()[:, 1].float().mean()) for p in dreamt_frames
    ]
    assert max(abs(b - a) for a, b in pairwise(places)) < 8


@pytest.mark.full
def test_a_change_of_exposure_leaves_no_edges():
    base = clouds(1, (192, 144))[0][:108].astype(np.float32)
    shares = [1 - 0.4 * max(0, k - 40) / 20 for k in range(60)]
    dreamt_frames = textured(material([np.uint8(base * s) for s in shares]), Options(30, 0))
    for picture in dreamt_frames:
        light = picture.mean(0) / tensor(np.uint8(base)).mean(0)
        assert float(light[4:-4, 4:-4].diff(dim=1).abs().quantile(0.999)) < 0.08


def two_balls(count):
    """Return two balls, far apart, whose motions repeat after different times."""
    left = ball(count, period=24)
    right = ball(count + 31, period=37)[31:]
    return [np.hstack([a, b]) for a, b in zip(left, right, strict=True)]


@pytest.mark.full
def test_things_that_repeat_after_different_times_change_slowly():
    source = two_balls(100)
    dreamt_frames = textured(material(source), Options(150, 0))
    usual = changes([tensor(p) for p in source])
    assert max(changes(dreamt_frames[25:])) < 1.5 * max(usual)
    assert all(ball_is_whole(picture[..., :96]) for picture in dreamt_frames[25:])


def fading_ball():
    light = [1 - 0.4 * max(0, number - 20) / 20 for number in range(40)]
    return [np.uint8(one * part) for one, part in zip(ball(40), light, strict=True)]


@pytest.mark.full
@pytest.mark.parametrize(
    ("pictures", "work"),
    [
        (fading_ball, "cloudconv.models.base.Interpolator.between"),
        (partial(clouds, 40), "cloudconv.dreaming.methods.texture.blended"),
    ],
    ids=["network", "by-place"],
)
def test_a_jump_that_comes_again_is_made_once(pictures, work, monkeypatch):
    source = material(pictures())
    options = Options(160, 0)
    calls = []
    original = pkgutil.resolve_name(work)
    monkeypatch.setattr(work, lambda *a, **b: calls.append(a) or original(*a, **b))
    frames = [*texture(source, options)]
    jumps = [frame.origin for frame in frames if isinstance(frame.origin, Jump)]
    kept = [frame.show().tobytes() for frame in frames]
    different = {(jump.before, jump.after, jump.part) for jump in jumps}
    assert len(calls) == len(different) < len(jumps)
    monkeypatch.setattr("cloudconv.dreaming.methods.texture._KEPT_BYTES", 0)
    calls.clear()
    assert [frame.show().tobytes() for frame in texture(source, options)] == kept
    assert len(calls) == len(jumps)


def flicker(count):
    """Return pictures of which each is as unlike any other."""
    random = np.random.default_rng(7)
    return [random.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("seed", first_full([0, 1, 2]))
def test_no_part_comes_again_before_the_others(seed):
    """A fire leads from each of its frames to any other."""
    frames = texture(material(flicker(60)), Options(240, seed))
    numbers = [frame.origin.number for frame in frames if isinstance(frame.origin, Filmed)]
    assert len({*numbers}) > 0.9 * 60
    seen = {}
    apart = []
    for place, number in enumerate(numbers):
        if number in seen:
            apart.append(place - seen[number])
        seen[number] = place
    assert np.median(apart) > 2 / 3 * 60


@pytest.mark.parametrize("to_source", [False, True])
@pytest.mark.parametrize(
    ("frames", "seed"), first_full([(150, 0), (151, 1), (170, 0), (300, 1)])
)
def test_a_loop_shows_most_of_the_clip_and_closes(frames, seed, to_source):
    """A fire leads from each of its frames to any other, so many jumps are as good."""
    source = flicker(60)
    home = 40
    to_source = {"loop_to": picture_from(tensor(source[home]))} if to_source else {}
    options = Options(frames, seed, loop=True, **to_source)
    made = [*texture(material(source), options)]
    numbers = [frame.origin.number for frame in made if isinstance(frame.origin, Filmed)]
    assert len(made) == frames
    assert all(a != b for a, b in pairwise(numbers))
    assert len({*numbers}) > 0.8 * 60
    first = home if to_source else numbers[0]
    assert numbers[-1] == first - 1
    assert isinstance(made[-1].origin, Filmed)


@pytest.mark.full
@pytest.mark.parametrize("to_source", [False, True])
def test_no_picture_stands_still_before_a_loop_closes(to_source):
    source = ball(87, period=30)
    least = min(changes(map(tensor, source)))
    to_source = {"loop_to": picture_from(tensor(source[0]))} if to_source else {}
    for frames in (150, 201, 240, 275, 283):
        made = texture(material(source), Options(frames, 0, loop=True, **to_source))
        pictures = [tensor_of(frame.show()) for frame in made]
        assert min(changes([*pictures, pictures[0]])) > 0.5 * least


@pytest.mark.full
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_a_loop_may_be_shorter_than_the_way_into_the_clip(frames):
    source = clouds(70, (64, 48))
    options = Options(frames, 0, loop=True, loop_to=picture_from(tensor(source[0])))
    assert len(textured(material(source), options)) == frames


def test_where_one_jump_is_good_the_clip_repeats_after_it():
    pictures = flicker(60)
    pictures[50:52] = pictures[10:12]
    frames = texture(material(pictures), Options(150, 0))
    jumps = [frame.origin for frame in frames if isinstance(frame.origin, Filmed)]
    numbers = [jump.number for jump in jumps]
    leaps = {(a, b) for a, b in pairwise(numbers[10:]) if b - a != 1}
    assert leaps == {(49, 10)}
