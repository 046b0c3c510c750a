"""Published networks give the pictures of their authors' code, known by content."""

import importlib
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cloudconv.models import convolutions, registry
from cloudconv.models.base import MAPS, Interpolator
from cloudconv.models.pair import Pair
from cloudconv.models.published import families, normalised, recognise, unfit
from tests.helpers import published
from tests.helpers.pairs import difference_of_shared

CLOSE = 1e-4
ENGINE = convolutions.usual_engine()
ORDER = Path(__file__).parents[1] / "golden" / "rife4_order.npz"

VERSIONS = {
    "rife_4_0": "4.0 or 4.1",
    "rife_4_2": "4.2 to 4.4",
    "rife_4_5": "4.5",
    "rife_4_6": "4.6",
    "rife_4_7": "4.7 to 4.9",
    "rife_4_10": "4.10 to 4.12",
    "rife_4_12_lite": "4.12.lite or 4.13.lite",
    "rife_4_13": "4.13 to 4.15, 4.17 to 4.19, or 4.24",
    "rife_4_14_lite": "4.14.lite",
    "rife_4_15_lite": "4.15.lite to 4.17.lite",
    "rife_4_20": "4.20",
    "rife_4_21": "4.21 to 4.23",
    "rife_4_22_lite": "4.22.lite",
    "rife_4_25": "4.25 or 4.26",
    "rife_4_25_lite": "4.25.lite",
    "rife_4_25_heavy": "4.25.heavy",
    "rife_4_26_heavy": "4.26.heavy",
    "rife_eccv": "of the paper",
    "rife_eccv_m": "of the paper",
    "ifrnet_s": "S",
    "ifrnet": "base",
    "ifrnet_l": "L",
    "ema_vfi_small": "small",
    "ema_vfi": "full",
    "film": "of the paper",
}

QUICK = ("rife_4_25", "rife_eccv_m", "ifrnet_s")
LARGE = ("rife_4_20", "rife_4_21", "ema_vfi_small", "film")
# Wider networks of the same code.
WIDE = ("rife_4_25_heavy", "ifrnet_l", "ema_vfi")
NETWORKS = [
    pytest.param(
        name,
        marks=[pytest.mark.full] * (name in LARGE) + [pytest.mark.slow] * (name in WIDE),
    )
    for name in VERSIONS
]


@cache
def shown(name):
    """Return what recognition says about the tensors of a network, without their values."""
    shapes = published.recorded(name).shapes
    result = recognise(
        normalised({k: torch.empty(s, device="meta") for k, s in shapes.items()})
    )
    assert result is not None
    return result


def model(name, state=None, *, fused=True):
    """Return a network with computed weights, or with those of ``state``."""
    result = shown(name).build()
    assert isinstance(result, Interpolator)
    result.load_state_dict(
        normalised(published.recorded(name).state()) if state is None else state
    )
    result.requires_grad_(False).eval()
    if fused:
        registry.fuse(result, lambda *_: ENGINE)
    return result.to(memory_format=torch.channels_last)


@cache
def kept(name):
    return model(name)


@pytest.mark.parametrize("name", WIDE)
def test_a_wider_network_is_recognised(name):
    assert shown(name).family.partition(" ")[2] == VERSIONS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_picture_is_that_of_the_authors_network_whose_version_is_recognised(name):
    recorded = published.recorded(name)
    network = model(name)
    shapes = {k: torch.empty(s, device="meta") for k, s in recorded.shapes.items()}
    assert unfit(shown(name), normalised(shapes)) == []
    assert shown(name).family.partition(" ")[2] == VERSIONS[name]
    network.reads_bgr = False  # the pictures of the recording are in the authors' order
    result = network(Pair.of(published.pair(*recorded.size), recorded.timestep))
    assert (recorded.shown(result) - recorded.sample).abs().max() < CLOSE


def test_both_layouts_of_film_are_recognised_and_unused_parts_of_4_2_are_ignored():
    shapes = published.recorded("film").shapes
    older = {
        re.sub(r"\.0\.(weight|bias)$", r".conv.\1", name): torch.empty(shape, device="meta")
        for name, shape in shapes.items()
    }
    assert "extract.extract_sublevels.convs.0.0.conv.weight" in older
    assert recognise(normalised(older)) == shown("film")
    state = published.recorded("rife_4_2").state()
    more = {
        "contextnet.conv1.conv1.0.weight": torch.empty(1),
        "unet.conv.bias": torch.empty(1),
    }
    assert recognise(normalised(state | more)) == shown("rife_4_2")


def test_missing_and_unknown_tensors_are_named():
    state = normalised(published.recorded("rife_4_2").state())
    bias = state.pop("block3.lastconv.bias")
    assert unfit(recognise(state), state) == ["block3.lastconv.bias"]
    state |= {"block3.lastconv.bias": bias, "extra.weight": torch.empty(3)}
    assert unfit(recognise(state), state) == ["extra.weight"]
    state["block3.lastconv.weight"] = torch.empty(64, 6, 4, 4)
    assert unfit(recognise(state), state) == ["block3.lastconv.weight"]
    state["block3.lastconv.weight"] = torch.empty(64, 5, 4, 4)
    assert unfit(recognise(state), state | {"forward.weight": bias}) != []


@pytest.mark.parametrize(
    "name", ["", "a.weight", "block0.conv0.1.0.weight", "encode.cnn3.weight"]
)
def test_other_tensors_are_not_recognised(name):
    assert recognise(normalised({name: torch.empty(8, 8, 3, 3)})) is None


SCALES = {
    "rife_4_0": 2,
    "rife_4_6": 0.5,
    "rife_4_7": 1,
    "rife_4_25_lite": 1,
    "rife_4_25": 4,
}


def recorded_order(key):
    """Return numbers of a picture made by PyTorch's functions in the authors' order."""
    with np.load(ORDER) as arrays:
        return torch.from_numpy(arrays[key])


def sample(picture):
    return picture.flatten()[:: picture.numel() // 400]


@pytest.mark.parametrize("name", SCALES)
def test_other_sizes_timesteps_and_scales_agree_with_the_plain_order(name):
    """The network reads less than the authors' code, and computes the same."""
    scale = SCALES[name]
    own = model(name, fused=False)
    multiple = own.multiple(scale)
    result = own.interpolate(*published.pair(multiple, 2 * multiple), 0.7, scale=scale)
    assert (sample(result) - recorded_order(f"{name}_{scale}")).abs().max() < CLOSE


def test_4_0_doubles_its_scales_where_the_motion_is_far():
    """The decision is made for each item of a batch, also at sizes of the usual scales."""
    state = normalised(published.recorded("rife_4_0").state())
    own = model("rife_4_0", {k: v * 3 if "lastconv" in k else v for k, v in state.items()})
    far = published.pair(64, 128)
    still = (torch.full((1, 3, 64, 128), 0.5),) * 2
    both = [torch.cat(pictures) for pictures in zip(far, still, strict=True)]
    result = own.interpolate(*both, torch.tensor((0.3, 0.6)))
    for item, key in zip(result, ("far", "still"), strict=True):
        # Flows of hundreds of pixels; without the doubling the first differs by 0.7.
        assert (sample(item) - recorded_order(key)).abs().max() < 10 * CLOSE
    for scale in (0.25, 0.5, 1):
        assert (
            own.interpolate(*(x[..., :32, :96] for x in far), 0.3, scale=scale)
            .isfinite()
            .all()
        )


def test_ifrnet_subtracts_the_mean_of_whole_pictures_from_tiles():
    own = kept("ifrnet_s")
    x0, x1 = published.pair(96, 256)
    x0, x1 = (x * torch.linspace(0, 1, 256) for x in (x0, x1))
    pair = Pair.of([x0, x1], 0.5)
    left = [x[..., :192] for x in (x0, x1)]
    parts = pair, Pair.of(left, 0.5), Pair.of(left, 0.5, None, 1.0, pair)
    whole, alone, tile = (own.between(pair_) for pair_ in parts)
    off, usual = ((each[..., :32] - whole[..., :32]).abs().max() for each in (tile, alone))
    assert off < usual / 4


REMEMBERING = [
    *("rife_4_25", "ifrnet_s"),
    pytest.param("ema_vfi_small", marks=pytest.mark.full),
    pytest.param("film", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_kept_of_pictures_and_pairs_changes_nothing(name):
    assert difference_of_shared(kept(name)) < CLOSE


TOY = """
import torch
from cloudconv.models.published import Published, has, row

FAMILY = "Toy"

def detect(state):
    if not has(state, "toy.weight", None, 6, 3, 3):
        return None
    width, usual = len(state["toy.weight"]), {"multiple": 2, "bytes_per_pixel": 50}
    return row(state, FAMILY, f"{width} wide", "authors", "toy:Toy", **usual)

class Toy(Published):
    def estimate(self, seen, pair):
        made = self.conv("toy", torch.cat(seen, 1))
        return 0 * made[:, :1].expand(-1, 4, -1, -1), made[:, :1].sigmoid(), None
"""


def test_a_family_in_the_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    folders = importlib.import_module("cloudconv.models.published").__path__
    monkeypatch.setattr("cloudconv.models.published.__path__", [*folders, str(tmp_path)])
    families.cache_clear()
    try:
        state = {"toy.weight": torch.empty(3, 6, 3, 3), "toy.bias": torch.empty(3)}
        spec = recognise(state)
        assert unfit(spec, state) == []
    finally:
        families.cache_clear()
    assert (spec.family, spec.multiple) == ("Toy 3 wide", 2)


@pytest.mark.parametrize(
    "name", [*QUICK, pytest.param("ema_vfi_small", marks=pytest.mark.full)]
)
def test_items_opacity_and_residual_are_independent(name):
    own = kept(name)
    x0, x1 = (torch.cat((x, x.flip(3))) for x in published.pair(64, 64))
    alpha = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor((0.2, 0.9))
    result = own.interpolate(x0, x1, timesteps)
    clear = Pair.of([torch.cat((x, alpha), 1) for x in (x0, x1)], timesteps)
    more = own.between(clear, maps=True)
    assert more.shape[1] == 4 + MAPS
    assert torch.allclose(result, more[:, :3], atol=1e-5)
    assert more[:, 3].amin() >= 0
    for k in range(2):
        one = slice(k, k + 1)
        alone = own.interpolate(x0[one], x1[one], timesteps[one])
        assert torch.allclose(result[one], alone, atol=1e-4)


@pytest.mark.full
def test_ema_vfi_gets_blue_first_as_in_training():
    own = kept("ema_vfi_small")
    x0, x1 = published.pair(64, 96)
    result = own.interpolate(x0, x1, 0.5)
    network = model("ema_vfi_small")
    network.reads_bgr = False
    raw = network(Pair.of([x0.flip(1), x1.flip(1)], 0.5))
    assert own.reads_bgr
    assert torch.equal(result, raw.flip(1))


def test_what_makes_the_middle_only_says_so():
    assert not shown("rife_eccv").arbitrary_timestep
    assert shown("rife_eccv_m").arbitrary_timestep
    either = shown("ifrnet")
    assert either.cls.middle_is_optional
    assert either.arbitrary_timestep
