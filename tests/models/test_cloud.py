"""This project's interpolators: still letters, noise, texture, weights, outer frames."""

import importlib
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from cloudconv import metrics, weights
from cloudconv.models import registry
from cloudconv.models.base import OuterPictures
from cloudconv.models.pair import Pair
from cloudconv.models.rife import IFNet
from cloudconv.settings.groups import DEFAULT_MODEL
from tests.helpers.pairs import difference_of_shared

OURS = ("cloud-best", "cloud-fast", "cloud-turbo")
each_of_ours = pytest.mark.parametrize("name", OURS)


@cache
def model(name):
    return registry.load(name)


def pan(shift):
    """Return a soft random texture, (1, 3, 192, 256), ``shift`` pixels to the left."""
    torch.manual_seed(4)
    texture = F.interpolate(torch.rand(1, 3, 30, 50), (240, 400), mode="bicubic").clamp(
        0, 1
    )
    begin = 32 + shift
    low = int(begin)
    left, right = (texture[..., 20:212, k : k + 256] for k in (low, low + 1))
    return torch.lerp(left, right, begin - low)


def with_letters(picture):
    """Return the picture with white letters, and a mask of letters and outlines."""
    torch.manual_seed(1)
    cells = torch.rand(1, 1, 3, 30) < 0.5
    ink = F.interpolate(cells.float(), scale_factor=4.0)[0, 0]
    letters = torch.zeros(picture.shape[2:])
    letters[150:162, 60:180] = ink
    outline = F.max_pool2d(letters[None, None], 5, 1, 2)[0, 0]
    return (picture * (1 - outline)).where(letters == 0, torch.ones(())), outline > 0


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.parametrize("name", [*OURS, "rife-4.6"])
def test_what_is_kept_of_pictures_and_pairs_changes_no_bit(name):
    assert difference_of_shared(model(name)) == 0


@each_of_ours
def test_letters_that_stand_still_over_a_pan_stay_unchanged(name):
    frames = [with_letters(pan(shift))[0] for shift in (0, 4, 8)]
    _, where = with_letters(frames[0])
    result = model(name).interpolate(frames[0], frames[2], torch.tensor([0.5]))
    assert psnr(result[..., where], frames[1][..., where]) >= 40
    # The rest moves: the result is far better than a blend.
    blended = (frames[0] + frames[2]) / 2
    assert psnr(result[..., ~where], frames[1][..., ~where]) > 6 + psnr(
        blended[..., ~where], frames[1][..., ~where]
    )


@each_of_ours
def test_a_small_thing_that_crosses_a_flat_ground_does_not_vanish(name):
    """The ground is equal in both frames, also where the thing is in between."""
    frames = []
    for shift in (0, 10, 20):
        frame = torch.full((1, 3, 192, 256), 0.9)
        frame[..., 80:106, 100 + shift : 116 + shift] = 0.1
        frames.append(frame)
    result = model(name).interpolate(frames[0], frames[2], torch.tensor([0.5]))
    assert result[..., 82:104, 112:124].mean() < 0.2
    assert psnr(result, frames[1]) > 10 + psnr((frames[0] + frames[2]) / 2, frames[1])


@each_of_ours
def test_motion_at_several_timesteps_is_correct(name):
    x0, x1 = pan(0), pan(8)
    for eighths in (1, 2, 6, 7):
        timestep = torch.tensor([eighths / 8])
        result = model(name).interpolate(x0, x1, timestep)
        truth = pan(float(eighths))
        assert psnr(result, truth) > 3 + psnr(torch.lerp(x0, x1, eighths / 8), truth)


@each_of_ours
def test_noise_over_a_still_picture_has_its_filmed_strength(name):
    """A mean of both frames would have less noise, which would pulse between frames."""
    torch.manual_seed(2)
    still = pan(0)
    x0, x1 = (still + 0.03 * torch.randn_like(still) for _ in range(2))
    result = model(name).interpolate(x0, x1, torch.tensor([0.5]))
    around = metrics.texture_energy(torch.stack([x0, x1])).log().mean((0, 1)).exp()
    finest_texture = float(metrics.texture(result[0], around))
    blended = float(metrics.texture((x0[0] + x1[0]) / 2, around))
    assert blended < -2
    assert -0.8 < finest_texture < 0.4
    assert psnr(result, still) > psnr(x0, still) + 1


@each_of_ours
def test_frames_at_every_timestep_have_the_texture_of_their_neighbours(name, monkeypatch):
    torch.manual_seed(5)
    fine = F.interpolate(torch.rand(1, 1, 75, 110), (220, 320), mode="bicubic")
    fine = 0.3 + 0.4 * fine.clamp(0, 1).expand(-1, 3, -1, -1)
    x0, x1 = fine[..., 10:202, 20:276], fine[..., 10:202, 25:281]
    around = metrics.texture_energy(torch.cat([x0, x1])).log().mean(0).exp()
    moments = torch.tensor([1, 2, 3, 4]) / 8

    def finest_texture():
        pairs = (x.expand(4, -1, -1, -1) for x in (x0, x1))
        result = model(name).interpolate(*pairs, moments)
        return [float(score) for score in metrics.texture(result, around)]

    restored = finest_texture()
    monkeypatch.setattr("cloudconv.models.rife.restore_detail", lambda *_: None)
    soft = finest_texture()
    assert all(abs(a) < 0.75 * abs(b) for a, b in zip(restored, soft, strict=True))
    jumps, softer = (
        max(abs(a - b) for a, b in pairwise(kept)) for kept in (restored, soft)
    )
    assert jumps < max(0.5, 0.9 * softer)


@each_of_ours
def test_edges_on_a_flat_background_do_not_ring(name):
    frames = []
    for shift in (0, 5):
        frame = torch.full((1, 3, 192, 256), 0.4)
        frame[..., 60:130, 80 + shift : 170 + shift] = 0.9
        frames.append(frame)
    result = model(name).interpolate(*frames, torch.tensor([0.5]))
    assert float(result.max()) < 0.9 + 0.04
    assert float(result.min()) > 0.4 - 0.04
    far = torch.ones(192, 256, dtype=torch.bool)
    far[50:140, 70:185] = False
    assert (result[..., far] - 0.4).abs().max() < 1 / 255


@each_of_ours
@pytest.mark.parametrize("shift", [3, 5, 9])
def test_pickets_of_a_fence_do_not_ring(name, shift):
    """Half a pixel softens all of them at once; sharpened edges had lines beside them."""
    frames = []
    for start in (0, shift):
        frame = torch.full((1, 3, 192, 256), 0.35)
        frame[..., 60:130, (torch.arange(256) - start) % 20 < 10] = 0.85
        frames.append(frame)
    result = model(name).interpolate(*frames, torch.tensor([0.5]))
    assert float(result.max()) < 0.85 + 0.02
    assert float(result.min()) > 0.35 - 0.02


@each_of_ours
def test_training_starts_with_the_result_of_rife(name):
    """The gate starts nearly shut: at most 5 % of the motion differ from RIFE's."""
    rife = {key: value.float() for key, value in weights.load_state("rife-4.6").items()}
    started = registry.spec(name).build()
    assert isinstance(started, IFNet)
    started.load_state_dict(started.start_from(rife), strict=True)
    blocks = [key for key, _ in started.named_children() if key.startswith("block")]
    sizes = (16, 8, 4) if name == OURS[2] else (8, 4, 2, 1)[: len(blocks)]
    plain = IFNet(registry.spec("rife-4.6"), sizes)
    plain.load_state_dict(
        {k: v for k, v in rife.items() if k in plain.state_dict()}, strict=True
    )
    x0, x1 = pan(0), pan(8)
    half = torch.tensor([0.5])
    expected = plain.interpolate(x0, x1, half)
    gap = (expected - (x0 + x1) / 2).abs().mean()
    assert (started.interpolate(x0, x1, half) - expected).abs().mean() < 0.05 * gap


HALF = torch.tensor([0.5])
NAME = DEFAULT_MODEL


def test_gradients_are_finite_without_motion_and_without_outer_frames():
    network = registry.spec(NAME).build()
    network.load_state_dict({k: v.float() for k, v in weights.load_state(NAME).items()})
    flat = pan(0)[..., :64, :64].clone()
    flat[..., :40] = 1.0
    moved = flat.roll(3, 2)
    reach = torch.tensor([[0.0, 1.0]])
    for x0, x1 in ((flat, flat), (flat, moved)):
        network.zero_grad()
        result = network(Pair.of([x0, x1, x0, x1], HALF, reach))
        result.square().mean().backward()
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert grads
        assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("sign", [1, -1])
def test_accelerated_motion_is_better_with_four_frames(sign):
    def at(moment):
        return pan(sign * (3 * moment + 1.5 * moment * moment))

    before, x0, x1, after = (at(k) for k in (0, 1, 2, 3))
    truth = at(1.5)
    outer = OuterPictures(before, after, torch.ones(1, 2))
    even = psnr(model(NAME).interpolate(x0, x1, HALF), truth)
    assert psnr(model(NAME).interpolate(x0, x1, HALF, outer=outer), truth) > even + 0.3


def test_missing_outer_frames_cost_little():
    before, x0, x1, after = (pan(k) for k in (0, 4, 8, 12))
    truth = pan(6)
    outer = [
        OuterPictures(before, after, torch.ones(1, 2)),
        OuterPictures(x0, after, torch.tensor([[0.0, 1.0]])),
        OuterPictures(before, x1, torch.tensor([[1.0, 0.0]])),
        OuterPictures(x0, x1, torch.zeros(1, 2)),
    ]
    result = [model(NAME).interpolate(x0, x1, HALF, outer=frames) for frames in outer]
    scores = [psnr(middle, truth) for middle in result]
    assert min(scores) > max(scores) - 1
    assert min(scores) > psnr((x0 + x1) / 2, truth) + 6


@pytest.fixture
def kinds(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("kinds")


def test_the_benchmark_of_kinds_can_leave_out_each_rule(kinds):
    for without in kinds.RULES.values():
        with without():
            pass


def gain(kinds, clip):
    """Return by how many dB the default model is better than RIFE."""
    # Things enter and leave the screens and drawings; the other kinds are alike at all
    # times.
    frames = 13 if clip.group in ("screen", "drawn") else 7
    own, rife = (
        kinds.score(clip, name, frames=frames) for name in ("cloud-best", "rife-4.6")
    )
    return own.psnr - rife.psnr


NEAR_RIFE = (
    *("pointer-40", "panel-12", "cartoon-8"),
    *("subtitles", "subtitles-fast"),
)
"""Those that gain least, and text that stands still over a moving picture."""


@pytest.mark.parametrize(
    "few",
    [
        pytest.param(True, marks=pytest.mark.full),
        pytest.param(False, marks=pytest.mark.slow),
    ],
)
def test_no_drawn_kind_is_far_behind_rife(kinds, monkeypatch, few):
    monkeypatch.setattr(registry, "load", cache(registry.load))
    compared = [
        clip
        for clip in kinds.KINDS
        if clip.name != "snow" and (clip.name in NEAR_RIFE) == few
    ]
    gains = {clip.name: gain(kinds, clip) for clip in compared}
    assert {name: found for name, found in gains.items() if found < -0.3} == {}
    if few:
        assert min(gains["subtitles"], gains["subtitles-fast"]) > 0.9


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="0.5 dB behind since the mix is weighed anew: kinds.md"
)
def test_drawn_snow_is_not_far_behind_rife(kinds):
    (snow,) = (clip for clip in kinds.KINDS if clip.name == "snow")
    assert gain(kinds, snow) > -0.3
