"""Vitals are described in plain words."""

from __future__ import annotations

import pytest

from cloudconv.dreaming.vitals.vitals import KEYS
from cloudconv.dreaming.vitals.words import in_words


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("motion", 0.26, "it moves 26% as much as the clip"),
        ("motion", 1.02, "it moves 102% as much as the clip"),
        ("sharpness", 0.5, "it is 50% as sharp as the clip"),
        ("saturation", 2.1, "it is 210% as colourful as the clip"),
        ("std", 0.0, "it has 0% of the clip's contrast"),
        ("jump", 7.0, "a frame changes suddenly"),
    ],
)
def test_a_vital_has_its_description(key: str, value: float, said: str) -> None:
    assert in_words(key, value) == said


def test_every_vital_has_a_description() -> None:
    assert all(in_words(key, 0.3) for key in KEYS)
