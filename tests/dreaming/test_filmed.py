"""The clip that the project exists for: clouds over trees, small to save time."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cloudconv.jobs.extend import dream as job
from cloudconv.settings import DreamSettings
from tests.helpers.dreams import lost_land, tensor
from tests.helpers.jobs import finish
from tests.helpers.tiers import first_full

CLIP = Path(__file__).resolve().parents[3] / "shared" / "clips" / "clouds.mp4"
SIZE = 240, 180
FILM = 320, 240


def reduced(path, out):
    with av.open(str(path)) as clip, av.open(str(out), "w") as output:
        stream = output.add_stream("libx264", clip.streams.video[0].average_rate)
        stream.width, stream.height = FILM
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast"}
        for frame in clip.decode(video=0):
            small = frame.reformat(*FILM, "yuv420p", interpolation="AREA")
            output.mux(stream.encode(small))
        output.mux(stream.encode())
    return out


def shown(path):
    frames = []
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            frames.append(cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA))
    return frames


# The choice of auto is that of the readme's example, see test_auto.py.
@pytest.mark.parametrize("mode", first_full(["collage", "auto"]))
@pytest.mark.skipif(not CLIP.exists(), reason="the clip is not in the repository")
def test_the_sky_goes_on_over_all_trees(tmp_path, mode):
    clip = reduced(CLIP, tmp_path / "clip.mp4")
    out = tmp_path / "dream.mp4"
    settings = DreamSettings(clip, out, mode=mode, frames=120, only_new=True)
    result = finish(job.run(settings))
    assert result.mode == "collage"
    assert [row["alive"] for row in result.vitals] == [True, True]
    pictures, made = shown(clip), shown(out)
    assert lost_land(pictures, map(tensor, made)) <= 0.01
    # A replay is nearer to some source frame than source frames ten apart are to each
    # other.
    source = np.stack(pictures).astype(np.float32)
    moves = np.sqrt(np.square(source[10:] - source[:-10]).mean((1, 2, 3))).mean()
    away = [
        np.sqrt(np.square(source[::2] - picture).mean((1, 2, 3))).min()
        for picture in made[60::10]
    ]
    assert np.median(away) > 0.5 * moves
