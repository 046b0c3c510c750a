"""The path of a camera that pans slowly."""

from __future__ import annotations

import numpy as np
import pytest

from cloudconv.dreaming.material.camera import camera_path
from cloudconv.dreaming.select import pans
from tests.helpers.dreams import clouds, material

VIEW = 160


def test_the_path_of_a_pan_is_found() -> None:
    world = clouds(48, (VIEW + 48, 128), speed=0.5)
    panned = [np.ascontiguousarray(picture[:, k : k + VIEW]) for k, picture in enumerate(world)]
    source = material(panned)
    path = camera_path(len(source), source.small, source.flow)
    assert path is not None
    assert path[-1] == pytest.approx([0, 0])
    assert path[0] == pytest.approx([-47, 0], abs=1.5)


@pytest.mark.parametrize("count", [1, 30])
def test_a_camera_that_stands_still_does_not_pan(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Generated land is as soft as clouds, so its fineness is not compared."""
    monkeypatch.setattr("cloudconv.dreaming.select.SOFT", -1.0)
    assert not pans(material(clouds(count, (VIEW, 128))))
