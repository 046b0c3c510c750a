"""Things go only where things of the clip went, with the sizes of these places."""

import cv2
import numpy as np
import pytest

from cloudconv.forecasting.things import Things

HEIGHT, WIDTH = 180, 320
HORIZON = 40
ROAD, SKY, POLE = (110, 112, 115), (90, 140, 220), (240, 230, 90)
CAR, VAN = (200, 30, 30), (30, 40, 120)


def scene(frames, cars, front=None):
    """Return frames of a road under a sky, with cars, and a picture that stays before them.

    A car is a colour, the place of its wheels (x, y) in each frame, and its width at the
    lower edge of the picture. Sizes fall evenly to the horizon. ``front``: left, top, right
    and bottom of a pole.
    """
    random, shown = np.random.default_rng(0), []
    base = np.empty((HEIGHT, WIDTH, 3))
    base[:] = ROAD
    base[: HORIZON + 20] = SKY
    for frame in range(frames):
        picture = base.copy()
        for colour, place, width in cars:
            x, y = place(frame)
            half = width * (y - HORIZON) / (HEIGHT - HORIZON) / 2
            one, two = (x - half, y - 1.5 * half), (x + half, y)
            corners = [tuple(round(value) for value in each) for each in (one, two)]
            cv2.rectangle(picture, *corners, colour, -1)
        if front is not None:
            cv2.rectangle(picture, front[:2], front[2:], POLE, -1)
        picture += random.normal(0, 1, picture.shape)
        shown.append(picture.round().clip(0, 255).astype(np.uint8))
    return shown


def away(frame, start=1.0, pace=0.02):
    """Return the place of a car that drives away over the middle of the road."""
    far = start + pace * frame
    return 160 + 60 / far, HORIZON + (HEIGHT - HORIZON) / far


def test_a_car_that_drives_away_stays_on_the_road_and_has_the_size_of_its_place():
    things = Things(scene(60, [(CAR, lambda n: away(n, 0.9, 0.03), 60)]), 0.04)
    (going,) = things.going
    last = going.sights[-1]
    assert len(going.way) < 300
    sizes = going.way.sizes
    feet = last.box[0].stop + going.way.moves[:, 1]
    assert feet.min() > HORIZON + 15
    # Sizes fall evenly to the horizon.
    wanted = (last.centre[1] + going.way.moves[:, 1] - HORIZON) / (last.centre[1] - HORIZON)
    assert np.abs(sizes / wanted - 1).max() < 0.2
    assert going.way.shown[-1] < 0.2


@pytest.mark.full
def test_a_car_slows_down_and_waits_where_the_road_ends():
    def along(frame):
        return 40 + 2 * frame, 120

    frames = scene(80, [(CAR, along, 60)])
    for picture in frames:
        picture[:, 260:] = (60, 160, 60)
    (going,) = Things(frames, 0.04).going
    way = going.way
    right = going.sights[-1].box[1].stop + way.moves[:, 0]
    assert 235 < right.max() < 285
    pace = np.diff(way.moves[:, 0])
    assert pace[:10] == pytest.approx(2, abs=0.2)
    assert np.abs(np.diff(pace)).max() < 0.5
    assert pace[-20:] == pytest.approx(0, abs=0.01)
    assert not way.leaves


@pytest.mark.full
def test_a_thing_turns_as_an_earlier_one_did():
    def curve(frame):
        turn = min(max(frame - 30, 0), 45) * np.pi / 90
        return (
            90 + 3 * min(frame, 30) + 86 * np.sin(turn),
            150 - 86 * (1 - np.cos(turn)) + 0 * frame,
        )

    late = lambda n: curve(n - 50) if n >= 50 else (-200, 150)  # noqa: E731
    things = Things(scene(84, [(CAR, curve, 22), (VAN, late, 22)]), 0.04)
    (going,) = [each for each in things.going if each.sights[-1].colour[2] > 90]
    straight = going.heading.at(25)[1]
    turned = going.way.moves[24]
    assert turned[1] < straight[1] - 15


@pytest.mark.full
def test_a_pole_that_hid_things_hides_them_again():
    walker = (CAR, lambda n: (30 + 2.5 * n, 150), 40)
    later = (VAN, lambda n: (-120 + 2.5 * n, 150), 40)
    pole = (148, 60, 155, 179)
    things = Things(scene(90, [walker, later], pole), 0.04)
    hiding = things.ways.hiding
    assert hiding[132:146, 149:155].mean() > 0.9
    hiding[:, 146:158] = 0
    assert hiding.mean() < 0.002


@pytest.mark.full
def test_a_thing_above_the_horizon_keeps_its_size():
    frames = scene(60, [(CAR, lambda n: away(n, 0.9, 0.03), 60)])
    for number, picture in enumerate(frames):
        left, top = 60 + 3 * number // 2, 16 + number // 8
        picture[top : top + 12, left : left + 24] = VAN
    (balloon,) = [
        each for each in Things(frames, 0.04).going if each.sights[-1].box[0].stop < HORIZON
    ]
    assert balloon.way.sizes == pytest.approx(1)
    assert balloon.way.moves[9, 0] == pytest.approx(15, abs=2)
