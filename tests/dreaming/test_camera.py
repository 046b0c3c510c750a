"""A camera that pans slowly."""

from __future__ import annotations

import numpy as np
import pytest

from cloudconv.dreaming.material.camera import pans_slowly
from cloudconv.dreaming.select import pans
from tests.helpers.dreams import clouds, material

VIEW = 160


def test_a_slow_pan_is_found() -> None:
    world = clouds(48, (VIEW + 48, 128), speed=0.5)
    panned = [np.ascontiguousarray(picture[:, k : k + VIEW]) for k, picture in enumerate(world)]
    source = material(panned)
    assert pans_slowly(len(source), source.small, source.flow)


@pytest.mark.parametrize("count", [1, 30])
def test_a_camera_that_stands_still_does_not_pan(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Generated land is as soft as clouds, so its fineness is not compared."""
    monkeypatch.setattr("cloudconv.dreaming.select.SOFT", -1.0)
    assert not pans(material(clouds(count, (VIEW, 128))))
