"""New frames never show more things than their source frames, or than the network alone."""

from fractions import Fraction as F
from itertools import chain

import cv2
import numpy as np
import pytest
import torch
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.tasks import Request, schedule
from cloudconv.timeline import Multiply
from tests.helpers.tiers import MODELS
from tests.render.test_renderer import renderer

HEIGHT, WIDTH = 160, 288
_GROUND = (50, 40, 60)
_WAYS = {"row": (1, 0), "column": (0, 1), "diagonal": (1, 0.7), "grid": (1, 0)}
_EDGE = 12


def _put(picture, kind, x, y, size):
    x, y = round(x), round(y)
    colour = (230, 220, 200)
    if kind == "dot":
        cv2.circle(picture, (x, y), size, colour, -1)
    elif kind == "letter":
        place = x - size, y + size
        cv2.putText(picture, "H", place, cv2.FONT_HERSHEY_SIMPLEX, size / 9, colour, 2)
    else:
        tall = 3 * size if kind == "picket" else size
        cv2.rectangle(picture, (x - size, y - tall), (x + size, y + tall), colour, -1)


@st.composite
def rows(draw):
    """Return a few frames of equal things in a row, a column, a diagonal or a grid."""
    kind = draw(st.sampled_from(["dot", "square", "letter", "picket", "lamp"]))
    across, down = _WAYS[draw(st.sampled_from([*_WAYS]))]
    size = 9 if kind == "letter" else draw(st.integers(3, 6))
    apart = draw(st.integers(max(14, 4 * size), 60))
    count = draw(st.integers(2, 6))
    frames = draw(st.integers(4, 6))
    lit = draw(st.integers(2, 4))
    step = draw(st.integers(-30, 30)), draw(st.integers(-16, 16))
    places = [(apart * k * across, apart * k * down) for k in range(count)]
    if (across, down) == _WAYS["grid"] and draw(st.booleans()):
        places += [(x, y + 1.5 * apart) for x, y in places]
    start = [(side - step[k] * frames) / 2 for k, side in enumerate((WIDTH, HEIGHT))]
    middle = np.mean(places, 0)
    pictures = []
    for number in range(frames):
        picture = np.full((HEIGHT, WIDTH, 3), _GROUND, np.uint8)
        for k, place in enumerate(places):
            x, y = np.add(place, start) - middle
            if kind == "lamp" and (k - number) % lit:
                continue
            moved = 0 if kind == "lamp" else number
            _put(picture, kind, x + moved * step[0], y + moved * step[1], size)
        pictures.append(picture)
    return pictures


def sizes(picture):
    """Return the sizes of all parts that stand out, in pixels."""
    shown = (np.abs(picture.astype(int) - _GROUND).max(2) > 60).astype(np.uint8)
    return cv2.connectedComponentsWithStats(shown)[2][1:, cv2.CC_STAT_AREA]


def touches(picture):
    edge = np.abs(picture.astype(int) - _GROUND).max(2) > 60
    edge[_EDGE:-_EDGE, _EDGE:-_EDGE] = False
    return bool(edge.any())


def new_frames(pictures, model, tracks):
    frames = [
        Frame(VideoFrame.from_ndarray(each, "rgb24").reformat(format="gbrp"), F(k), F(1))
        for k, each in enumerate(pictures)
    ]
    asked = Request("it", Multiply(2), "off", "keep", loop=False, context=4, tracks=tracks)
    made = [
        torch.stack([*frame.planes()[2:], *frame.planes()[:2]], 2).numpy()
        for frame in renderer(model).frames(schedule(frames, asked))
    ]
    return made[1:-1:2]


@pytest.mark.full
@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(pictures=rows())
def test_no_new_frame_shows_more_things_than_the_frames_or_the_network(model, pictures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloudconv.render.inference.move_exactly", lambda *_: None)
        alone = new_frames(pictures, model, tracks=False)
    made = new_frames(pictures, model, tracks=True)
    for k, (new, other) in enumerate(zip(made, alone, strict=True)):
        pair = pictures[k : k + 2]
        if any(map(touches, pair)):
            continue
        # A part of less than half a thing is no thing.
        least = min(chain(*map(sizes, pair))) / 2
        first, second, shown, by_network = (
            (sizes(each) >= least).sum() for each in (*pair, new, other)
        )
        assert shown <= max(first, second, by_network)
        if not np.array_equal(new, other):
            assert shown >= min(first, second, by_network)
