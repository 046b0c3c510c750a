"""Repeated frames in the context of a predictor, and the same repeats in its forecast.

The *content* of a context is its distinct pictures, newest first. The *age* of a picture is its
distance to the newest one, in steps of motion.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cloudconv.models.context_cadence import changes, content, repeats, steps, steps_of_content


def moving(count: int) -> Tensor:
    """Return (count, 3, 32, 48): smooth shades that move to the right, two pixels a frame."""
    x = torch.arange(48.0).expand(3, 32, 48)
    return torch.stack([(x / 5 - 2 * k / 5).sin() / 2 + 0.5 for k in range(count)])


def pattern(text: str) -> tuple[int, ...]:
    """Return the steps of R (repeat: 0), N (next frame: 1) and D (a frame left out: 2)."""
    return tuple("RND".index(letter) for letter in text)


@pytest.mark.parametrize(
    "rhythm",
    [
        "NNRNN",
        "NNNNR",
        "NRNRN",
        "RNRNR",
        "RNNRN",
        "NRNNR",
        "NNNNN",
        "NRRNR",
        "RNRRN",
        "RNNRR",
    ],
)
def test_patterns_of_repeats_are_recognised(rhythm: str) -> None:
    changed = [0.4 if letter == "R" else 10.0 + k for k, letter in enumerate(rhythm)]
    assert steps(changed, changed) == pattern(rhythm)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param([9, 9, 9, 0.1, 0.1], id="comes to rest"),
        pytest.param([0.1, 0.1, 9, 9, 9], id="begins to move"),
        pytest.param([40, 20, 10, 5, 2.5], id="slows down"),
        pytest.param([5, 4, 6, 3, 5], id="moves unevenly"),
        pytest.param([50, 50, 50, 140, 20], id="flashes"),
        pytest.param([0, 0, 0, 0, 0], id="stands still"),
        pytest.param([3], id="two frames"),
    ],
)
def test_irregular_motion_is_no_pattern_of_repeats(changed: list[float]) -> None:
    assert not any(repeats(changed))


@pytest.mark.parametrize(
    ("rhythm", "expected"),
    [
        ("NNNNN", "1 2 3 4 5 6 7"),
        ("RNNNN", "0 1 2 3 4 4 5"),
        ("NNRNN", "1 2 2 3 4 5 6"),
        ("RNRNR", "1 1 2 2 3 3 4"),
        ("RNNRN", "1 1 2 3 3 4 5"),
        ("NNRND", "1 2 3 4 5 6 7"),
        ("RNRRN", "0 0 1 1 1 2 2"),
        ("NRRNR", "0 1 1 1 2 2 2"),
    ],
)
def test_patterns_of_repeats_continue(rhythm: str, expected: str) -> None:
    ahead = [steps_of_content(pattern(rhythm), frames) for frames in range(1, 8)]
    assert ahead == [int(number) for number in expected.split()]


def test_a_repeat_and_a_skipped_frame_are_recognised_together() -> None:
    cycle, even = [20, 21, 2, 20, 39], [20, 21, 20, 22, 39]
    assert steps(cycle, cycle) == pattern("NNRND")
    assert steps(even, even) == pattern("NNNNN")
    frames = moving(6)
    shown = frames[[0, 1, 1, 2, 4, 5]]
    shown[2] += 0.002
    assert content(shown, 5).ages == (0, 1, 3, 4, 5)


def test_content_has_each_repeated_picture_once() -> None:
    frames = moving(3)
    shown = torch.stack([frames[k] for k in (0, 0, 1, 1, 2, 2)])
    found = content(shown, 5)
    # The first two frames may be one frame and its copy at the start of the context.
    assert found.pattern == pattern("NRNR")
    assert found.ages == (0, 1, 2, 2, 2)
    assert torch.equal(found.frames, frames[[2, 1, 0, 0, 0]])


def test_a_still_gives_one_picture_of_age_zero() -> None:
    still = moving(1).expand(6, -1, -1, -1)
    found = content(still, 5)
    assert found.pattern == ()
    assert found.ages == (0, 0, 0, 0, 0)


def test_content_without_repeats_is_the_last_frames() -> None:
    frames = moving(6)
    found = content(frames, 5)
    assert found.ages == (0, 1, 2, 3, 4)
    assert torch.equal(found.frames, frames[1:].flip(0))


def test_small_motion_in_a_corner_counts() -> None:
    frames = torch.zeros(3, 3, 64, 96)
    frames[1, :, :8, :8] = 1
    assert changes(frames)[0][0] > 0.9


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(0, 40))
def test_the_position_of_content_never_decreases(changed: list[float], frames: int) -> None:
    found = steps(changed, changed)
    ahead = [steps_of_content(found, number) for number in range(frames)]
    assert ahead == list(accumulate(ahead, max))
    assert all(b - a in (0, 1) for a, b in pairwise(ahead))
