"""Grades of doubts, their boxes, and pictures that show through each other."""

import re
from fractions import Fraction as F

import cv2
import numpy as np
import pytest

from cloudconv import doubts
from cloudconv.doubts import (
    GRADES,
    Box,
    box_of,
    doubled,
    grade_of,
    size_of,
    unexplained,
)


def scene(left, shade=200):
    """Return a picture of a square on a fine grey pattern: (96, 128, 3)."""
    noise = np.random.default_rng(0).integers(90, 130, (96, 128, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 1)
    picture[32:64, left : left + 32] = shade
    return picture


def shared(share):
    return np.full((24, 32, 1), share, np.float32)


def test_half_of_two_pictures_is_a_ghost_and_either_is_none():
    pictures = [np.float32(scene(left) / 255) for left in (10, 80)]
    assert doubled(pictures, shared(0.5)).max() > 40
    assert doubled(pictures, shared(0)).max() == 0
    assert doubled(pictures, shared(1)).max() == 0
    quarter, half = (doubled(pictures, shared(share)) for share in (0.25, 0.5))
    np.testing.assert_allclose(quarter, 0.75 * half, rtol=1e-5)


def test_the_box_is_around_the_ghost():
    pictures = [np.float32(scene(80, shade) / 255) for shade in (20, 220)]
    x, y, width, height = box_of(doubled(pictures, shared(0.5))).pixels(128, 96)
    assert abs(x - 80) <= 8
    assert abs(y - 32) <= 8
    assert abs(width - 32) <= 12
    assert abs(height - 32) <= 12


def test_more_that_is_wrong_has_no_lower_grade():
    grades = [GRADES.index(grade_of(size)) for size in np.linspace(0, 60, 200)]
    assert grades == sorted(grades)
    assert set(grades) == {0, 1, 2}


def test_a_larger_part_and_more_levels_have_a_larger_size():
    levels = np.zeros((30, 40), np.float32)
    levels[:3, :4] = 20
    larger = np.zeros_like(levels)
    larger[:6, :4] = 20
    assert size_of(levels) < size_of(larger) < size_of(2 * larger)


def test_a_box_has_whole_pixels_inside_the_picture():
    assert Box(0, 0, 1, 1).pixels(321, 241) == [0, 0, 321, 241]
    assert Box(0.5, 0.25, 0.75, 0.5).pixels(100, 80) == [50, 20, 25, 20]


def test_what_differs_at_a_place_is_unexplained_most_in_the_middle():
    apart = np.full((20, 40), 12, np.uint8)
    apart[5:9, 10:16] = 130
    levels = unexplained(apart)
    assert (levels > 0).sum() == 24
    assert box_of(levels).pixels(400, 200) == [100, 50, 60, 40]
    sizes = [size_of(unexplained(apart, t)) for t in (0.01, 0.2, 0.5)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0


def test_light_that_changes_everywhere_is_explained():
    assert not unexplained(np.full((20, 40), 80, np.uint8)).any()


def entry_of(time, size):
    return doubts.entry(int(24 * time), F(time), size, Box(), "something", (20, 40))


def test_the_worst_doubts_are_the_same_in_any_parts_and_order():
    sizes = np.random.default_rng(0).integers(25, 200, 130) / 10
    every = [entry_of(k, size) for k, size in enumerate(sizes.tolist())]
    parts = [doubts.joined([doubts.of_one(each)]) for each in every]
    whole = doubts.joined(parts)
    few = sum(each["grade"] == "hardly seen" for each in every)
    assert 0 < few < 130
    assert (whole["count"], whole["hardly_seen"]) == (130 - few, few)
    assert [each["size"] for each in whole["frames"]] == sorted(sizes, reverse=True)[:50]
    halves = [doubts.joined(parts[60:]), {}, doubts.joined(parts[:60])]
    assert doubts.joined(halves) == whole


@pytest.mark.parametrize(("seen", "hardly"), [(0, 3), (1, 2), (5, 1), (7, 4), (90, 20)])
def test_the_clause_about_doubts_fits_their_count(seen, hardly):
    """Each doubt that a viewer sees is named or counted, and no other."""
    every = [entry_of(k, 5.0) for k in range(seen)]
    every += [entry_of(seen + k, 2.6) for k in range(hardly)]
    whole = doubts.joined(map(doubts.of_one, every))
    clauses = list(doubts.kinds_of(whole["frames"], whole["count"]))
    assert len(clauses) == bool(seen)
    for clause in clauses:
        more = re.search(r"and (\d+) more times", clause)
        named = len(re.findall(r"\d+ \(\d+\.\d+ s\)", clause))
        assert named + int(more[1] if more else 0) == seen
