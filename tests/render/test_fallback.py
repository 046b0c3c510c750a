"""The fallback blends where motion fails on filmed frames, and nowhere else."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.media.frames.frame import Frame
from cloudconv.models import fallback
from cloudconv.models.pair import Pair
from cloudconv.timeline import Task
from tests.helpers.factory import picture
from tests.render.test_renderer import renderer

MODELS = ["cloud-best", "cloud-fast", "cloud-turbo", "rife-4.6"]
FACTOR = 3


def frames(*, noise, step, width=160, height=128, reach=1):
    """Return four frames: noise over a still picture, or a picture that moves whole."""
    places = 0, reach, reach + 1, 2 * reach + 1
    pictures = [picture(k, width, height, step=step, noise=noise) for k in places]
    return [
        Frame(p, Fraction(k, 24), Fraction(1, 24))
        for k, p in zip(places, pictures, strict=True)
    ]


def new_frames(source, model, outer=2, **options):
    """Return the luma of the new frames between the middle two."""
    before, left, right, after = source
    times = left.time, left.duration
    work = renderer(model, **options)
    reach = (left.time - before.time) / (right.time - left.time)
    around = [(frame, reach) for frame in (before, after)]
    first, last = [*around[:outer], None, None][:2]
    tasks = [
        Task(left, right, Fraction(k, FACTOR), *times, before=first, after=last)
        for k in range(1, FACTOR)
    ]
    luma = [frame.planes()[0].float() for frame in work.render(tasks)]
    assert not work.new_warnings()
    return luma


def difference(some, others):
    return max(float((a - b).abs().mean()) for a, b in zip(some, others, strict=True))


def blends(source):
    left, right = (frame.planes()[0].float() for frame in source[1:3])
    return [left.lerp(right, k / FACTOR) for k in range(1, FACTOR)]


@pytest.mark.full
@pytest.mark.parametrize("model", MODELS)
def test_the_fallback_blends_where_motion_fails_on_filmed_frames(model):
    source = frames(noise=6.0, step=0.0)
    blended, plain = (new_frames(source, model, fallback=on) for on in (True, False))
    assert difference(blended, blends(source)) < difference(plain, blends(source)) / 2


def assert_not_blended(source, model, at_most=0.0):
    combined, plain = (new_frames(source, model, fallback=on) for on in (True, False))
    assert difference(combined, plain) <= at_most


@pytest.mark.full
@pytest.mark.parametrize("model", MODELS)
def test_correct_motion_is_not_blended(model):
    assert_not_blended(frames(noise=0.0, step=3.0), model)


def test_correct_motion_beside_longer_gaps_is_hardly_blended():
    """Some noise averages out."""
    assert_not_blended(frames(noise=8.0, step=6.0, reach=4), "cloud-fast", at_most=0.3)


@pytest.mark.parametrize(
    ("size", "outer"), [((97, 65), 2), ((33, 130), 2), ((160, 128), 1), ((160, 128), 0)]
)
def test_frames_of_any_size_are_tried_if_there_is_an_outer_frame(size, outer):
    source = frames(noise=6.0, step=0.0, width=size[0], height=size[1])
    combined, plain = (
        new_frames(source, "cloud-turbo", outer, fallback=on) for on in (True, False)
    )
    assert combined[0].shape == plain[0].shape
    assert (difference(combined, plain) > 0) == (outer > 0)


@pytest.mark.full
def test_tiles_blend_where_the_whole_picture_does():
    source = frames(noise=6.0, step=0.0, width=384, height=288)
    whole, tiled = (
        new_frames(source, "rife-4.6", fallback=True, tile=t) for t in ("off", 256)
    )
    plain = new_frames(source, "rife-4.6", fallback=False)
    assert difference(whole, blends(source)) < difference(plain, blends(source)) / 2
    assert difference(whole, tiled) < 0.5
    for one, other in zip(whole, tiled, strict=True):
        assert (one - other).square().mean() < 255**2 * 1e-5


@pytest.mark.full
@given(st.floats(0.02, 0.3), st.floats(0.02, 0.3), st.floats(0.1, 1), st.integers(0, 99))
def test_the_weight_is_that_of_least_squares(moved, blended, nearer, seed):
    """For independent errors, the best weight is that of a Wiener filter.

    Where motion explains more than in the trial, the model's error is smaller in
    proportion.
    """
    generator = torch.Generator().manual_seed(seed)

    def pictures(error, left):
        filmed = torch.rand(1, 3, 96, 96, generator=generator)
        noise = torch.randn(2, 1, 3, 96, 96, generator=generator)
        result = torch.cat((filmed + error * noise[0], torch.full((1, 1, 96, 96), left)), 1)
        return result, Pair.of([filmed + blended * noise[1]] * 2, 0.5), filmed

    errors = fallback.errors(*pictures(moved, 1.0))
    result, pair, _ = pictures(nearer * moved, nearer)
    own, other = (nearer * moved) ** 2, blended**2
    best = 0.5 + (fallback._FINER * own - other) / (2 * (own + other))
    expected = min(max((best - fallback._LEAST) / (1 - fallback._LEAST), 0.0), 1.0)
    weight = fallback.blend_weight(errors, result, pair)
    assert float((weight - expected).abs().mean()) < 0.05


@given(st.floats(0.02, 0.1), st.floats(0.2, 0.5), st.integers(0, 99))
def test_nothing_is_seen_twice_and_noise_is_blended(noise, contrast, seed):
    """A square jumps, over noise, and in trials a blend was better than the model."""
    generator = torch.Generator().manual_seed(seed)
    x0, x1 = 0.3 + noise * torch.randn(2, 2, 3, 64, 96, generator=generator)
    left = (x0 - x1).mean(1, keepdim=True)
    result = torch.cat((torch.lerp(x0, x1, 0.5) + 0.1, left), 1)
    errors = torch.tensor([1000.0, 0.0]).view(1, 2, 1, 1).expand(2, 2, 8, 12)
    usual = fallback.blend_weight(errors, result, Pair.of([x0, x1], 0.5))
    assert usual.min() > 0.8
    jumps = torch.zeros(8, 12, dtype=torch.bool)
    for frame, column in ((x0, 8), (x1, 64)):
        frame[..., 16:32, column : column + 16] += contrast
        jumps[2:4, column // 8 : column // 8 + 2] = True
    weight = fallback.blend_weight(errors, result, Pair.of([x0, x1], 0.5))
    assert not weight[:, 0, jumps].any()
    assert weight[:, 0, ~jumps].min() > 0.8


@pytest.mark.parametrize("contrast", [1.0, 0.0], ids=["texture", "noise"])
def test_a_mix_is_as_sharp_as_its_parts_except_noise(contrast):
    """The detail of a common texture is restored. Detail of noise cannot be restored."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    common = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
    x0, made = contrast * common / 2 + torch.rand(2, 1, 3, 64, 64, generator=generator) / 4
    mixed = {}
    for weight in (0.0, 0.5, 1.0):
        mixed[weight] = made.clone()
        fallback.mix_in_blend(
            mixed[weight], Pair.of([x0, x0], 0.5), torch.full((1, 1, 4, 4), weight)
        )
    assert torch.equal(mixed[0.0], made)
    assert torch.allclose(mixed[1.0], x0, atol=1e-6)
    rough = [float(picture.mean(1).diff(dim=-1).std()) for picture in (mixed[0.5], made)]
    assert (0.9 < rough[0] / rough[1] < 1.1) == (contrast > 0)
    assert rough[0] / rough[1] > 0.65
