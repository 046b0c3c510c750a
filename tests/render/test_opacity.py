"""Opacity moves, also where nothing else shows a motion."""

import numpy as np
import pytest
from PIL import Image

import cloudconv
from tests.helpers.tiers import first_full

STEP = 6


def title(number, hidden):
    """Return a white title, which slides, over transparent pixels of a hidden level."""
    strokes = np.random.default_rng(5).random((5, 16)) < 0.6
    opacity = np.zeros((104, 200), np.uint8)
    start = 20 + STEP * number
    opacity[36:66, start : start + 96] = 255 * np.kron(strokes, np.ones((6, 6)))
    colours = np.where(opacity[..., None] > 0, 255, np.full(3, hidden, np.uint8))
    return np.dstack([colours, opacity]).astype(np.uint8)


@pytest.mark.parametrize("hidden", first_full([255, 0]))
def test_a_title_that_only_its_opacity_shows_moves(tmp_path, hidden):
    (tmp_path / "in").mkdir()
    for number in range(6):
        picture = Image.fromarray(title(number, hidden), "RGBA")
        picture.save(tmp_path / "in" / f"{number:03}.png")
    cloudconv.interpolate(
        tmp_path / "in" / "%03d.png",
        tmp_path / "out" / "%03d.png",
        factor=2,
        model="cloud-best",
        input_fps=24,
    )
    new = np.array(Image.open(sorted((tmp_path / "out").iterdir())[5]), float)
    before, after = (title(number, hidden)[..., 3].astype(float) for number in (2, 3))
    truth = np.roll(before, STEP // 2, 1)
    wrong = np.abs(new[..., 3] - truth).mean()
    assert wrong < 0.1 * np.abs((before + after) / 2 - truth).mean()
    shown = new[..., 3] > 64
    assert new[shown][:, :3].min() > 200
    if hidden:
        assert new[~shown][:, :3].mean() > 240
