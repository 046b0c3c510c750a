"""Collages: moving sky for any length, still land in place, the same frames for a seed."""

from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from cloudconv.dreaming.material import land
from cloudconv.dreaming.material.wind import Drift, SkyBehind
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.collage import collage
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.modes import method
from cloudconv.dreaming.methods.transition import Seam, order_of, seam_of
from cloudconv.dreaming.planes import colours, held
from cloudconv.images import blurred, picture_from, resized, weight_size
from tests.helpers.dreams import (
    clouds,
    lost_land,
    material,
    tensor,
    tensors,
    trees,
    vitals_of,
)
from tests.helpers.tiers import first_full

SIZE = (128, 96)


@cache
def footage(count=60):
    return clouds(count, SIZE, speed=1.0)


@cache
def source_of(frames):
    return material(footage(frames))


def dream_of(source, frames, seed=0, **options):
    """Return the frames of a collage of a material, or of pictures."""
    source = material(source) if isinstance(source, list) else source
    with torch.inference_mode():
        pictures = collage(source, Options(frames, seed, **options))
        return tensors(one.show() for one in pictures)


def dreamt(count=40, frames=60, **options):
    return dream_of(source_of(frames), count, **({"seed": 1} | options))


def change(a, b):
    return float((a - b).abs().mean())


@pytest.fixture(scope="module")
def usual():
    return dreamt(50)


@pytest.mark.full
def test_a_collage_starts_without_a_jump_and_has_the_requested_length(usual):
    assert len(usual) == 50
    assert usual[0].shape == (3, 96, 128)
    before = change(*map(tensor, footage()[-2:]))
    assert change(usual[0], tensor(footage()[-1])) < 1.6 * before
    assert max(change(a, b) for a, b in pairwise(usual)) < 2.5 * before


@pytest.mark.full
def test_the_first_frames_are_a_forecast():
    dreamt_frames = dream_of(footage(80)[:70], 5, seed=1)
    for k in (0, 2, 4):
        truth = tensor(footage(80)[70 + k])
        last = tensor(footage(80)[69])
        # Other footage enters at the left, so the true content there cannot be known.
        assert change(dreamt_frames[k], truth) < 0.5 * change(last, truth)
        near = (..., slice(12, 24))
        assert change(dreamt_frames[k][near], truth[near]) < 0.7 * change(
            last[near], truth[near]
        )


@pytest.mark.parametrize("seed", first_full([0, 2]))
def test_no_strip_of_other_sky_appears_at_the_edge(seed):
    pictures = clouds(61, (320, 240))
    last, following = map(tensor, pictures[59:])

    def at_the_edge(picture):
        """Return the last change at the left edge, relative to that in the middle."""
        apart = (picture - last).abs().mean((0, 1))
        return float(apart[:10].mean() / apart[32:288].mean())

    dreamt_frames = dream_of(pictures[:60], 3, seed)
    # A strip of other sky would change the edge several times as much.
    assert max(map(at_the_edge, dreamt_frames)) < 1.3 * at_the_edge(following)


@pytest.mark.slow
def test_all_vitals_hold_for_six_hundred_frames():
    source = material(clouds(250, SIZE))
    rows = vitals_of(source, dream_of(source, 600, seed=1))
    assert len(rows) == 6
    # The clouds of this sky only drift, so every change of footage is a residual beside
    # them.
    assert {key for row in rows for key in row.failed} <= {"residual"}


def drift_of(picture, still, wind):
    behind = SkyBehind(still)
    return Drift(held(picture), wind, behind)


def sky_of(picture, still):
    """Return the sky of a picture that does not move."""
    wind = np.zeros((*still.shape, 2), np.float32)
    return drift_of(picture, still, wind).look(0, sky=True).whole(colours(*still.shape))


def test_a_picture_without_land_is_all_sky():
    picture = np.random.default_rng(0).random((64, 96, 3), np.float32)
    assert np.array_equal(sky_of(picture, np.zeros((64, 96), np.float32)), picture)


@pytest.mark.full
def test_land_stays_still_while_the_sky_moves(usual):
    last = tensor(footage()[-1])
    assert max(change(p[:, 90:], last[:, 90:]) for p in usual) < 0.01
    assert change(usual[-1][:, :60], last[:, :60]) > 0.02


@pytest.mark.full
@pytest.mark.parametrize("after", [False, True])
def test_a_loop_leads_to_its_first_frame_or_to_that_of_the_source(after):
    first = tensor(footage()[0])
    dreamt_frames = dreamt(
        40, loop=True, **({"loop_to": picture_from(first)} if after else {})
    )
    steps = [change(a, b) for a, b in pairwise(dreamt_frames)]
    end = change(dreamt_frames[-1], first if after else dreamt_frames[0])
    assert 0 < end < 2 * float(np.median(steps))
    assert after or change(dreamt_frames[-1], tensor(footage()[-1])) < 0.01


@pytest.mark.full
@pytest.mark.parametrize("mode", ["collage", "texture", "flow", "rollout"])
@pytest.mark.parametrize("scene", ["sky", "land"])
def test_a_loop_of_a_picture_that_is_all_sky_or_all_land_is_complete(mode, scene):
    """All sky has no still part, and all land has nothing else."""
    sky = [picture[:64] for picture in footage(40)]
    pictures = sky if scene == "sky" else [sky[0]] * 40
    options = Options(12, seed=1, loop=True, loop_to=picture_from(tensor(pictures[0])))
    made = tensors(one.show() for one in method(mode).dream(material(pictures), options))
    assert len(made) == 12
    assert all(bool(picture.isfinite().all()) for picture in made)


@pytest.mark.full
@pytest.mark.parametrize(
    ("count", "size"),
    [(8, SIZE), (9, SIZE), (30, (2, 2)), (30, (6, 4)), (30, (400, 8)), (30, (8, 400))],
)
def test_short_clips_and_tiny_or_narrow_pictures_are_accepted(count, size):
    dreamt_frames = dream_of(clouds(count, size), 20 if count == 30 else 8)
    assert dreamt_frames[-1].shape == (3, size[1], size[0])
    assert all(bool(picture.isfinite().all()) for picture in dreamt_frames)


def test_a_single_changing_pixel_is_accepted():
    pictures = [clouds(1, (16, 12))[0].copy() for _ in range(30)]
    for number, picture in enumerate(pictures):
        picture[3, 4] = 255 * (number % 2)
    assert all(bool(picture.isfinite().all()) for picture in dream_of(pictures, 8))


@pytest.mark.full
def test_a_still_picture_stays_still():
    dreamt_frames = dream_of([footage()[0]] * 30, 8)
    assert change(dreamt_frames[-1], tensor(footage()[0])) < 0.01


@pytest.mark.full
def test_a_small_trial_shows_the_footage_of_the_large_dream():
    pictures = clouds(60, (256, 192), speed=2.0)
    source = material(pictures)
    small = source.reduced()
    trial = dream_of(small, 24)[-1]
    dreamt_frames = dream_of(source, 24)[-1]
    reduced, last = (
        resized(picture_from(p), small.size) for p in (dreamt_frames, tensor(pictures[-1]))
    )
    picture = picture_from(trial)
    assert np.abs(reduced - picture).mean() < 0.2 * np.abs(last - picture).mean()


def test_fine_detail_changes_faster_than_coarse_detail():
    seam = Seam(np.full((4, 4), 50, np.float32), (0, 0), (10, 40))
    still = np.zeros((4, 4, 2), np.float32)
    weights = np.stack([seam.weights(still, age, (4, 4))[0, 0] for age in range(101)])
    fine, coarse = ((weights > 0.01) & (weights < 0.99)).sum(0).tolist()
    assert fine < 0.3 * coarse
    assert weights[[0, -1]].tolist() == [[0, 0], [1, 1]]
    # Both are half-way at once.
    assert len(set(np.abs(weights - 0.5).argmin(0).tolist())) == 1


def test_a_place_changes_as_fast_as_the_film_itself_does():
    """A thing that is still to go is half transparent no longer than its motion takes."""
    still = np.zeros((36, 64, 2), np.float32)
    grey, white = (np.full((36, 64, 3), level, np.float32) for level in (0.3, 0.9))
    own = np.full((36, 64), 0.01, np.float32)
    own[:, 32:] = 0.3  # a sixth of the whole change
    random = np.random.default_rng(0)
    seam = seam_of(lambda _: grey, lambda _: white, still, 100, random, own)
    fine = np.stack([seam.weights(still, age, (36, 64))[..., 0] for age in range(101)])
    lasts = ((fine > 0) & (fine < 1)).sum(0)
    assert lasts[:, :24].min() >= 40
    assert 18 <= lasts[:, 40:].min() <= lasts[:, 40:].max() <= 22


@pytest.mark.parametrize("lasts", [4, 10, 60, 200])
def test_a_transition_is_complete_at_its_end(lasts):
    noise = np.random.default_rng(0).random((2, 24, 32, 3)).astype(np.float32)
    old, new = (lambda _, each=each: each for each in noise)
    still = np.zeros((24, 32, 2), np.float32)
    own = np.full((24, 32), 0.1, np.float32)
    seam = seam_of(old, new, still, lasts, np.random.default_rng(0), own)
    begin, middle, end = (
        seam.weights(still, age, (24, 32)) for age in (0, lasts // 2, lasts)
    )
    assert float(begin.max()) < 1e-6 < float(middle.mean()) < 1 - 1e-6 < float(end.min())


@pytest.mark.full
def test_a_slow_sky_keeps_its_motion_and_grain_from_the_first_frame():
    """Motion without grain would have only a third of the clip's change per frame."""
    random = np.random.default_rng(0)
    grains = [p + random.normal(0, 4, p.shape) for p in clouds(80, SIZE, speed=0.1)]
    pictures = [np.uint8(np.clip(p, 0, 255)) for p in grains]

    def steps(pictures):
        return float(np.mean([change(a[:, :60], b[:, :60]) for a, b in pairwise(pictures)]))

    first = [tensor(pictures[-1]), *dream_of(pictures, 12)]
    assert 0.8 < steps(first) / steps([tensor(p) for p in pictures[-20:]]) < 1.25


def likeness(pictures, away):
    """Return the median of pictures' greatest correlation with one ``away`` frames off."""
    rows = torch.stack([p[:, :60].mean(0).flatten() for p in pictures])
    rows = rows - rows.mean(0)
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    near = rows @ rows.T
    index = torch.arange(len(rows))
    near[(index[:, None] - index).abs() < away] = -1
    return float(near.amax(1).median())


@pytest.mark.full
def test_a_short_sky_shows_new_sky():
    """The dream of a clip of 2.5 seconds repeats no picture, unlike a replayed clip."""
    dreamt_frames = dreamt(150, frames=60)
    assert likeness(dreamt_frames, 60) < 0.5
    clip = [tensor(p) for p in footage()]
    replayed = [*clip, *clip[::-1]] * 2
    assert likeness(replayed[:150], 60) > 0.9


def ridge(count):
    """Return clouds over a hill.

    In places the clouds are as dark and as flat as the hill.
    """
    wide = np.tile(np.linspace(0, 8 * np.pi, 128 + 4 * count), (96, 1))
    down = np.arange(96)[:, None] / 9
    sky = 80 + 45 * np.sin(wide + np.sin(down)) * np.cos(down + wide / 3)
    hill = 70 + 8 * np.sin(np.arange(128) / 12)
    land = np.arange(96)[:, None] > hill
    frames = []
    for k in range(count):
        strip = sky[:, 4 * (count - k) : 4 * (count - k) + 128]
        values = np.where(land, 6, strip)[..., None] * np.array([1.0, 0.8, 0.6])
        frames.append(np.clip(values, 0, 255).astype(np.uint8))
    return frames


@pytest.mark.full
def test_a_silhouette_in_front_of_a_dark_sky_never_moves():
    pictures = ridge(50)
    dreamt_frames = dream_of(pictures, 50)
    last = tensor(pictures[-1])
    low = 82  # rows below this one show only land
    assert (
        max(float((p[:, low:] - last[:, low:]).abs().max()) for p in dreamt_frames) < 0.05
    )


@pytest.mark.full
def test_trees_that_stir_under_changing_light_stay():
    pictures = trees(60)
    assert lost_land(pictures, dream_of(pictures, 60)) < 0.01


@pytest.mark.full
def test_a_watermark_stays_and_does_not_travel():
    """The watermark has three dark bars with an opacity of 60 %."""
    pictures = [p.copy() for p in clouds(60)]
    for bar in (p[20:30, left : left + 3] for p in pictures for left in range(88, 106, 6)):
        bar[:] = np.uint8(0.4 * bar)
    dreamt_frames = dream_of(pictures, 40)

    def bars(picture, left):
        """Return how much darker the places of the bars are than the sky between."""
        levels = picture[:, 22:28, left : left + 18].mean((0, 1)).reshape(3, 2, 3).mean(2)
        return float((1 - levels[:, 0] / levels[:, 1]).mean())

    there = float(np.mean([bars(tensor(p), 88) for p in pictures]))
    assert min(bars(p, 88) for p in dreamt_frames) > 0.5 * there
    ever = max(bars(tensor(p), 18) for p in pictures)
    assert max(bars(p, 18) for p in dreamt_frames) < max(ever, 0.3 * there)


def halves(height, width):
    """Return two weights: the left half of a picture, and the right one."""
    left = np.zeros((*weight_size(height, width), 2), np.float32)
    left[:, : left.shape[1] // 2] = 1
    return [left, 1 - left]


def test_blending_keeps_common_content():
    picture = picture_from(tensor(footage()[0]))
    assert np.allclose(blended([picture, picture], halves(96, 128)), picture, atol=1e-5)


@pytest.mark.parametrize(("size", "most"), [((96, 128), 0.06), ((480, 640), 3 * 0.6 / 640)])
def test_blending_leaves_no_seam(size, most):
    """A difference in light fades over a third of a large picture."""
    flat = [np.full((*size, 3), level, np.float32) for level in (0.2, 0.8)]
    mixed = blended(flat, halves(*size))
    assert float(np.abs(np.diff(mixed, axis=1)).max()) < most
    assert float(mixed[:, 0].mean()) < float(mixed[:, -1].mean())


def test_new_footage_arrives_from_the_side_of_the_wind():
    size = weight_size(96, 128)
    wind = np.full((*size, 2), (-1.5, 0), np.float32)
    order = order_of(wind, np.random.default_rng(0), size)
    assert float(order[:, :8].mean()) < 0.3
    assert float(order[:, -8:].mean()) > 0.7
    quarters = [float((order >= k / 4).mean()) for k in range(4)]
    assert quarters == pytest.approx([1, 0.75, 0.5, 0.25], abs=0.01)


@pytest.mark.full
def test_new_footage_has_the_light_of_the_picture_that_it_enters():
    """The clip turns from red morning to blue noon.

    The dream starts blue and turns no faster.
    """
    shares = np.linspace(0.35, -0.35, 80)[:, None, None, None] * np.array([1, 0, -1])
    pictures = [
        np.uint8(np.clip(p * (1 + share), 0, 255))
        for p, share in zip(clouds(80), shares, strict=True)
    ]
    # Clouds change the measured warmth, too, by chance.
    dreamt_frames = dream_of(pictures, 90, seed=2)

    def warmth(picture):
        """Return the logarithm of red over blue in the sky, of the left and right half."""
        sky = picture[:, :60]
        halves = torch.stack([sky[..., :64].mean((1, 2)), sky[..., 64:].mean((1, 2))])
        return (halves[:, 0] / halves[:, 2]).log()

    turns = torch.stack([warmth(picture) for picture in dreamt_frames])
    ever = torch.stack([warmth(tensor(p)) for p in pictures])
    fastest = (ever[16:] - ever[:-16]).abs().amax()
    assert float((turns[16:] - turns[:-16]).abs().amax()) < 1.5 * float(fastest)
    # Both halves always show the light of one time of day: they differ by their clouds.
    plain = torch.stack([warmth(p) for p in dream_of(clouds(80), 90, seed=2)])
    apart, by_clouds = ((one[:, 0] - one[:, 1]).abs().amax() for one in (turns, plain))
    assert float(apart) < 1.5 * float(by_clouds)


@pytest.mark.full
def test_a_gust_at_the_end_smears_no_edge():
    """The last frames move faster than the mean wind.

    The space that they leave is not smeared.
    """
    calm = clouds(120)

    def towards(picture):
        """Return the change towards the left edge relative to the change along the edge."""
        edge = picture[:, :60, :4]
        return float(edge.diff(dim=2).abs().mean() / edge.diff(dim=1).abs().mean())

    usual = float(np.mean([towards(tensor(p)) for p in calm[::10]]))
    assert min(map(towards, dream_of([*calm[:60], *calm[60::4]], 16))) > 0.5 * usual


def test_a_glow_above_land_does_not_go_out_when_the_picture_moves():
    picture = np.full((240, 320, 3), 0.3, np.float32)
    still = np.zeros((240, 320), np.float32)
    still[-40:], picture[-40:], picture[-48:-40, :, 0] = 1, 0, 1.0
    sky = sky_of(picture, still)
    assert np.array_equal(sky[:-44], picture[:-44])
    assert float(sky[-40:-36, :, 0].min()) > 0.5  # the glow goes on behind the land


def test_clouds_go_on_behind_a_hill():
    picture = picture_from(tensor(clouds(1, (320, 300))[0][:240]))
    hill = 180 - 20 * np.sin(np.arange(320) / 50)
    still = (np.arange(240)[:, None] >= hill).astype(np.float32)
    seen = picture * (1 - still[..., None])
    sky = sky_of(seen, still)
    above, behind = (
        np.abs(np.diff(sky[rows], axis=1)).mean()
        for rows in (slice(120, 150), slice(205, 235))
    )
    assert float(behind) > 0.5 * float(above)


def test_trees_leave_no_ghosts_in_the_sky_that_moves_behind_them():
    picture = np.full((120, 160, 3), 0.8, np.float32)
    still = np.zeros((120, 160), np.float32)
    for left in range(10, 150, 20):
        still[60:, left : left + 6] = 1
    picture[still > 0] = 0
    wind = np.full((120, 160, 2), (3, 0), np.float32)
    drift = drift_of(picture, still, wind)
    for age in range(1, 6):
        shown = drift.look(age, sky=False).whole(colours(*still.shape))
        assert float(shown[still == 0].min()) > 0.75


@cache
def open_sky(count=60):
    """Return clouds as soft and pale as filmed ones, without land."""
    wide = [
        cv2.GaussianBlur(p[:120], (0, 0), 2.0) for p in clouds(count, (192, 180), speed=2.0)
    ]
    return [np.uint8(150 + 0.4 * (p.astype(np.float32) - 150)) for p in wide]


def lettered(opacity, colour):
    """Return the sky behind letters that stand still, mixed with it by ``opacity``."""
    letters = np.zeros((120, 192), np.uint8)
    cv2.putText(
        letters, "LOGO", (110, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA
    )
    share = opacity * letters[..., None] / 255
    return [np.uint8(np.rint((1 - share) * p + share * colour)) for p in open_sky()]


def test_a_word_is_whole_where_the_sky_behind_a_part_of_it_hardly_changes():
    word = np.zeros((240, 384), np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(word, "logo.com", (90, 180), font, 1.8, 255, 3, cv2.LINE_AA)
    changes = np.linspace(4, -3, 384).clip(0.1, 1)[None, :, None]
    skies = [150 + changes * (cv2.resize(p, (384, 240)) - 150.0) for p in open_sky(30)]
    share = word[..., None] / 255
    pictures = [np.uint8((1 - share) * sky + share * 220) for sky in skies]
    varies = np.broadcast_to(changes[..., 0], word.shape)
    found = land._letters(pictures, varies, np.zeros(word.shape, bool))
    assert found[word > 100].mean() > 0.95
    assert not found[:120].any()


@pytest.mark.full
@pytest.mark.parametrize(("opacity", "colour"), [(0.9, 255), (0.4, 0), (1.0, 20)])
def test_letters_stay_where_they_are(opacity, colour):
    pictures = lettered(opacity, colour)
    letters = tensor(pictures[-1]) - tensor(open_sky()[-1])
    letters = (letters.abs() > 0.5 * letters.abs().max()).any(0).numpy()
    dreamt_frames = dream_of(pictures, 40)

    def shape(picture):
        """Return how much more a picture varies in the letters' outline than beside."""
        image = picture_from(picture)
        fine = np.abs(image - blurred(image, 2.0)).mean(2)
        return float(fine[letters].mean() / fine[~letters].mean())

    usual = np.mean([shape(tensor(p)) for p in pictures])
    for picture in dreamt_frames[10:]:
        assert shape(picture) > 0.6 * usual


def test_a_sky_without_letters_has_no_land():
    assert not material(open_sky()).views.land.any()


def test_a_dream_after_a_trial_is_the_dream_without_one():
    source = material(footage())
    dream_of(source.reduced(), 3, seed=1)
    for after_trial, alone in zip(dream_of(source, 12, seed=1), dreamt(12), strict=True):
        assert torch.equal(after_trial, alone)
