"""Verdicts name what was made, and never what was filmed."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.dreaming.methods.base import Composed, Filmed, Jump, Options
from cloudconv.dreaming.methods.texture import texture
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.vitals import VitalsMeter
from tests.helpers.dreams import clouds, material

SIZE = (32, 24)


def painted(random, count):
    """Return pictures of which each may be any other: (h, w, 3) each."""
    few = random.integers(0, 255, (3, 6, 8, 3), np.uint8)
    looks = [cv2.resize(look, SIZE, interpolation=cv2.INTER_CUBIC) for look in few]
    return [looks[k] for k in random.integers(0, 3, count)]


@given(
    seed=st.integers(0, 99),
    stretches=st.lists(st.tuples(st.sampled_from("fjc"), st.integers(1, 12)), min_size=1),
    follows=st.booleans(),
)
@settings(max_examples=15, deadline=None)
@pytest.mark.full
def test_a_fault_is_always_in_a_made_picture(seed, stretches, follows):
    """The pictures, and which of them are filmed, are random."""
    random = np.random.default_rng(seed)
    origins = []
    for kind, length in stretches:
        start = len(origins)
        for k in range(length):
            part = (k + 1) / (length + 1)
            origins.append(
                {
                    "f": Filmed(k % 6),
                    "j": Jump(0, 1, part, start, length),
                    "c": Composed(),
                }[kind]
            )
    film = FilmFeatures(material(painted(random, 6)))
    meter = VitalsMeter(film, len(origins), -1 if follows else None)
    for picture, origin in zip(painted(random, len(origins)), origins, strict=True):
        meter.push(picture, origin)
    assert not any(isinstance(origins[fault.frame], Filmed) for fault in meter.faults)
    assert len(meter.rows) == -(-len(origins) // 100)
    assert all(row.alive or set(row.failed) for row in meter.rows)


@given(seed=st.integers(0, 99), kind=st.sampled_from(["clouds", "looks"]))
@settings(max_examples=4, deadline=None)
@pytest.mark.full
def test_a_warning_of_a_texture_has_the_time_of_a_jump(seed, kind):
    random = np.random.default_rng(seed)
    film = painted(random, 24) if kind == "looks" else clouds(24, SIZE, speed=1 + seed % 5)
    clip = material(film)
    meter = VitalsMeter(FilmFeatures(clip), 60)
    origins = []
    for frame in texture(clip, Options(60, seed)):
        meter.push(frame.small(clip), frame.origin)
        origins.append(frame.origin)
    assert all(isinstance(origins[fault.frame], Jump) for fault in meter.faults)
