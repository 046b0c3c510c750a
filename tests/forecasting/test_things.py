"""Things before a still camera are found, followed, and moved on as wholes."""

import cv2
import numpy as np
import pytest
import torch

from cloudconv.forecasting.plate import plate_of
from cloudconv.forecasting.things import Things
from cloudconv.models import registry
from tests.forecasting.test_layers import textured
from tests.helpers.street import COLOURS, HEIGHT, WIDTH, places_of, street

KNOWN, AHEAD = 40, 12


def test_the_plate_has_no_blot_of_things_and_follows_the_light():
    pictures = street(KNOWN, ground := textured(0, HEIGHT, WIDTH), light=0.005)
    apart = np.abs(plate_of(pictures) - 255.0 * ground * 1.005 ** (KNOWN - 1)).mean((0, 2))
    assert apart.max() < 6


@pytest.mark.full
def test_a_thing_that_waits_for_more_than_half_of_the_time_leaves_no_ghost():
    ground = textured(0, HEIGHT, WIDTH)
    random = np.random.default_rng(0)
    coat = (255 * random.random((60, 60, 3))).astype(np.uint8)
    noise = random.normal(0, 1, (60, *ground.shape))
    pictures = [*(255 * ground + noise).clip(0, 255).astype(np.uint8)]
    for n, picture in enumerate(pictures):
        left = min(
            100 + max(0, n - 29) * 12, WIDTH - 1
        )  # the thing stays for 30 of 60 frames, and is restless
        picture[60:120, left : left + 60] = np.roll(coat, n, (0, 1))[:, : WIDTH - left]
    things = Things(pictures)
    assert np.abs(things.plate.picture - 255 * ground).mean(2)[60:120, 100:160].max() < 20
    # The thing is found whole while it waits.
    assert things.plate.masks[10][62:118, 102:158].mean() > 0.95


def test_a_thing_is_one_track_from_its_entry_on():
    things = Things(street(KNOWN))
    assert things.hold
    assert len(things.tracks) == 2
    for track, place in zip(things.tracks, places_of(KNOWN - 1), strict=True):
        sight = track.last()
        left, top, width, height = place
        assert sight.frame == KNOWN - 1
        assert (
            np.abs(sight.centre - (left + width / 2 - 0.5, top + height / 2 - 0.5)).max()
            < 1
        )


@pytest.mark.full
def test_the_forecast_keeps_things_whole_at_their_places():
    pictures = torch.from_numpy(np.stack(street(KNOWN + AHEAD))).permute(0, 3, 1, 2) / 255
    known = pictures[None, :KNOWN].clone()
    forecasts = list(registry.load_predictor("layers").forecast(known, AHEAD))
    assert torch.equal(known[0], pictures[:KNOWN])
    for step in (1, 6, AHEAD):
        picture = forecasts[step - 1][0]
        true = pictures[KNOWN + step - 1]
        assert (picture - true).abs().mean() < 0.01
        for (left, top, width, height), colour in zip(
            places_of(KNOWN + step - 1), COLOURS, strict=True
        ):
            inside = picture[:, top + 3 : top + height - 3, left + 3 : left + width - 3]
            apart = inside - torch.tensor(colour)[:, None, None] / 255
            assert apart.abs().max() < 0.08


@pytest.mark.full
def test_a_thing_that_comes_back_to_where_it_was_holds():
    ground = [255 * textured(0, HEIGHT, WIDTH) for _ in range(2 * KNOWN)]
    for n, picture in enumerate(ground):
        left = 30 + 5 * (KNOWN - abs(KNOWN - n))
        picture[90:120, left : left + 40] = COLOURS[0]
    pictures = [picture.astype(np.uint8) for picture in ground]
    assert Things(pictures).hold


def test_two_things_that_meet_are_divided_and_go_on():
    crossing = [(2, 60, 30, 24, 4, 0), (250, 70, 30, 24, -4, 0)]
    things = Things(street(64, things=crossing))
    lasts = sorted(track.last().centre[0] for track in things.tracks if track.end == 63)
    assert len(things.tracks) == 2
    assert np.abs(np.array(lasts) - (12.5, 268.5)).max() < 3


def coming_or_going(frames, begin, nearer, moved=90):
    """Return frames of a square whose distance falls by ``nearer`` in a frame."""
    # The colours of the ground are alike: where they end, things would wait.
    ground = 0.4 + textured(0, HEIGHT, WIDTH) / 5
    pictures = []
    for n in range(frames):
        far = begin - nearer * n
        side, left, top = (round(value / far) for value in (50, 300, 90))
        left -= moved
        picture = (255 * ground).astype(np.uint8)
        cv2.rectangle(picture, (left, top), (left + side, top + side), COLOURS[0], -1)
        pictures.append(picture)
    return pictures


def test_a_thing_that_comes_nearer_grows():
    (going,) = Things(coming_or_going(40, 3, 0.04)).going
    _, size, move, _ = going.after(49)
    assert size == pytest.approx((3 - 0.04 * 39) / (3 - 0.04 * 49), rel=0.08)
    assert np.abs(move - (325 / 1.04 - 325 / 1.44, 115 / 1.04 - 115 / 1.44)).max() < 10


def test_a_small_thing_that_goes_away_becomes_smaller_and_slower():
    (going,) = Things(coming_or_going(40, 1.2, -0.06, moved=30)).going
    assert going.sights[-1].area < 300
    far = 1.2 + 0.06 * 39
    _, size, move, _ = going.after(99)
    assert size == pytest.approx(far / (far + 0.06 * 60), rel=0.15)
    assert np.abs(move - np.array((325, 115)) * (1 / (far + 3.6) - 1 / far)).max() < 10


def test_things_before_a_moving_camera_do_not_hold():
    ground = textured(0, HEIGHT, WIDTH + 200)
    pictures = [
        (255 * ground[:, 2 * n : 2 * n + WIDTH]).astype(np.uint8).copy()
        for n in range(KNOWN)
    ]
    assert not Things(street(KNOWN, ground=pictures)).hold


@pytest.mark.full
def test_things_before_a_camera_that_moves_slowly_are_found_in_the_last_view():
    ground = textured(0, HEIGHT, WIDTH)
    view = 16, 10, WIDTH - 32, HEIGHT - 20

    def seen(picture, left):
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), left / 16, 1)
        turn[:, 2] += np.array((left, left / 4)) - view[:2]
        return cv2.warpAffine(picture, turn, view[2:], flags=cv2.INTER_CUBIC)

    pictures = [seen(each, 0.3 * (KNOWN - n)) for n, each in enumerate(street(KNOWN))]
    things = Things(pictures)
    assert things.plate.drifts
    assert things.hold
    wanted = seen((255 * ground).astype(np.uint8), 0.3)
    assert np.abs(things.plate.picture - wanted.astype(float)).mean() < 3
    for n in range(0, KNOWN, 5):
        for (left, top, width, height), colour in zip(places_of(n), COLOURS, strict=True):
            if left > 40 and left + width < WIDTH - 40:
                middle = things.plate.steady(n)[
                    top + height // 2 - 10, left + width // 2 - 16
                ]
                assert np.abs(middle - np.array(colour)).max() < 30


def test_lines_before_a_camera_that_trembles_are_no_things():
    ground = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    random = np.random.default_rng(0)
    for left in range(20, 320, 40):
        cv2.line(ground, (left, 0), (left - 60, HEIGHT), (240, 240, 240), 3, cv2.LINE_AA)
    pictures = []
    for n, picture in enumerate(street(KNOWN, ground / 255)):
        # The tremble of the last frames is not a shift alone.
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0.3 * (n > KNOWN - 8), 1)
        turn[:, 2] += random.normal(0, 1, 2)
        size = WIDTH, HEIGHT
        pictures.append(
            cv2.warpAffine(picture, turn, size, borderMode=cv2.BORDER_REPLICATE)
        )
    masks = Things(pictures).plate.masks
    for n, mask in enumerate(masks):
        for left, top, width, height in places_of(n):
            mask[
                max(top - 12, 0) : top + height + 12, max(left - 12, 0) : left + width + 12
            ] = 0
    assert np.mean([mask[8:-8, 8:-8].mean() for mask in masks[-7:]]) < 0.001


def test_a_walker_goes_on_with_its_own_steps():
    ground = textured(0, HEIGHT, WIDTH)
    pictures = []
    for n in range(64):
        picture = (255 * ground).astype(np.uint8)
        left = 20 + 3 * n
        step = 12 * abs(n % 8 - 4)
        cv2.rectangle(picture, (left, 60), (left + 30, 110), COLOURS[0], -1)
        cv2.rectangle(picture, (left, 80), (left + 30, 80 + step // 2), COLOURS[1], -1)
        pictures.append(picture)
    (going,) = Things(pictures[:48]).going
    assert len(going.sights) == 8
    for frame in (48, 55, 63):
        sight, size, move, _ = going.after(frame)
        assert sight.frame % 8 == frame % 8
        assert size == pytest.approx(1, abs=0.02)
        assert move[0] == pytest.approx(3 * (frame - sight.frame), abs=1.5)
