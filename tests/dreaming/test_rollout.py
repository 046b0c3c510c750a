"""Rollouts, in which a predictor gets its own frames as input."""

import pytest
import torch

from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.rollout import rollout
from cloudconv.errors import ModelError
from cloudconv.images import picture_from
from cloudconv.models import registry
from tests.helpers.dreams import clouds, material, tensor, tensors, vitals_of


@pytest.fixture(scope="module")
def footage():
    return clouds(80)


def test_each_frame_is_predicted_from_the_frames_before(footage):
    source = material(footage)
    dreamt_frames = tensors(rollout(source, Options(3, model="linear")))
    assert len(dreamt_frames) == 3
    before, last = tensor(footage[-2]), tensor(footage[-1])
    for picture in dreamt_frames:
        model = registry.load_predictor("linear")
        expected = model.predict(torch.stack((before, last))[None])[0]
        assert torch.allclose(picture, expected, atol=1e-5)
        before, last = last, picture


@pytest.mark.parametrize("loop", [False, True])
def test_a_rollout_has_the_requested_length(loop):
    source = material(clouds(3, (50, 35)))
    dreamt_frames = tensors(rollout(source, Options(4, loop=loop, model="flow")))
    assert [tuple(picture.shape) for picture in dreamt_frames] == [(3, 35, 50)] * 4


@pytest.mark.full
def test_a_rollout_that_collapses_is_not_alive(footage):
    source = material(footage)
    dreamt_frames = tensors(rollout(source, Options(60, model="conv")))
    (row,) = vitals_of(source, dreamt_frames)
    assert not row.alive
    assert len(row.failed) >= 3


def test_a_loop_fades_into_its_first_frame(footage):
    source = material(footage)
    first = tensor(footage[0])
    dreamt_frames = tensors(
        rollout(source, Options(30, loop=True, loop_to=picture_from(first), model="hold"))
    )
    differences = [float((picture - first).abs().mean()) for picture in dreamt_frames]
    # The last 15 frames go in even steps to the frame that the first would follow.
    shares = [min(1, (30 - number) / 16) for number in range(30)]
    assert differences == pytest.approx(
        [share * differences[0] for share in shares], abs=1e-5
    )


def test_a_rollout_needs_a_predictor(footage):
    with pytest.raises(ModelError, match="predict"):
        next(rollout(material(footage), Options(1, model="blend")))
