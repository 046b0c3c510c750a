"""Pictures that stand still hold no repeats, and a refill leaves them as they are."""

from fractions import Fraction as F

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.cadence import MAX_REPEATS, Cadence
from cloudconv.schedule.tasks import analyse, evened

_HEIGHT, _WIDTH = 72, 128
_HELD = st.integers(MAX_REPEATS + 2, 24)


def _wide(seed):
    """Return a wide picture with soft shapes and hard edges."""
    random = np.random.default_rng(seed)
    picture = random.integers(30, 220, (9, 150)).repeat(8, 0).repeat(8, 1)
    return picture.astype(float)


def _pushed(steps, ease):
    """Return the places of a motion of so many steps to the end, from 0 to 1."""
    even = np.arange(1, steps + 1) / steps
    if ease == "both":
        return even * even * (3 - 2 * even)
    return 1 - (1 - even) ** 2 if ease == "out" else even


@st.composite
def _clips(draw):
    """Return a clip of a picture that stands, is moved and stands, and refreshes of it."""
    places = [0.0] * draw(_HELD)
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.integers(4, 12))
        far = draw(st.integers(steps * 3, 320))
        way = far * _pushed(steps, draw(st.sampled_from(["even", "both", "out"])))
        places += [*(places[-1] + way), *[places[-1] + far] * draw(_HELD)]
    wide = _wide(draw(st.integers(0, 99)))
    refreshes = set(range(draw(st.integers(0, 9)), len(places), draw(st.integers(8, 24))))
    strength = draw(st.floats(0.3, 3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    noise = np.zeros((_HEIGHT, _WIDTH))
    frames = []
    for number, place in enumerate(places):
        left = round(place) % (wide.shape[1] - _WIDTH)
        if number in refreshes:
            noise = random.normal(0, strength, noise.shape)
        luma = (wide[:, left : left + _WIDTH] + noise).round().clip(16, 235)
        frames.append(luma.astype(np.uint8))
    return frames


def _refilled(pictures):
    frames = [
        Frame(VideoFrame.from_ndarray(luma, "gray"), F(k, 25), F(1, 25))
        for k, luma in enumerate(pictures)
    ]
    cadence = Cadence()
    return [*evened(analyse(frames, "off"), cadence)], cadence.advice


@pytest.mark.full
@settings(max_examples=60, deadline=None)
@given(_clips())
def test_a_refill_changes_nothing_where_a_picture_stands_is_moved_and_stands(pictures):
    items, advice = _refilled(pictures)
    assert [item.shows for item in items] == [item.frame.time for item in items]
    assert advice is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(2, 9), st.sets(st.integers(4, 36), min_size=1))
def test_a_refill_makes_only_repeats_anew_where_no_cadence_is(seed, step, at):
    """Repeats are fourteen frames or more apart, and have the noise of a coder."""
    random = np.random.default_rng(seed)
    at = [k for k in sorted(at) if k == min(at) or k > min(at) + 14][:2]
    wide = _wide(seed)
    place = 0
    pictures = []
    for k in range(44):
        place += step * (k not in at)
        luma = wide[:, place : place + _WIDTH] + random.normal(0, 0.7, (_HEIGHT, _WIDTH))
        pictures.append(luma.round().clip(16, 235).astype(np.uint8))
    items, advice = _refilled(pictures)
    shown = [None if k in at else F(k, 25) for k in range(44)]
    assert [item.shows for item in items] == shown
    assert "repeat" in advice
