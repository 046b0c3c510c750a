"""The clip that the project exists for, at its full size: clouds over a tree line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cloudconv.jobs.dream import run as job
from cloudconv.settings import DreamSettings
from tests.helpers.dreams import lost_land, tensor
from tests.helpers.jobs import finish

CLIP = Path(__file__).resolve().parents[3] / "shared" / "clips" / "clouds.mp4"
SIZE = 240, 180


def shown(path: Path) -> list[NDArray[np.uint8]]:
    made: list[Any] = []
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            made.append(cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA))
    return made


@pytest.mark.full
@pytest.mark.skipif(not CLIP.exists(), reason="the clip is not in the repository")
def test_twenty_seconds_of_new_sky_over_all_trees(tmp_path: Path) -> None:
    out = tmp_path / "dream.mp4"
    settings = DreamSettings(CLIP, out, mode="collage", seconds=20, only_new=True)
    result = finish(job.run(settings))
    assert result.new_frames == 600
    pictures, made = shown(CLIP), shown(out)
    assert lost_land(pictures, map(tensor, made)) <= 0.01
    # A replay is nearer to some source frame than source frames ten apart are to each other.
    source = np.stack(pictures).astype(np.float32)
    moves = np.sqrt(np.square(source[10:] - source[:-10]).mean((1, 2, 3))).mean()
    away = [
        np.sqrt(np.square(source[::2] - picture).mean((1, 2, 3))).min() for picture in made[::20]
    ]
    assert np.median(away) > 0.5 * moves
