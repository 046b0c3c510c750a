"""Skies that pass by: no mirror image, nothing twice, and a sun that stays."""

from functools import cache

import cv2
import numpy as np
import pytest
import torch

from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.collage import collage
from cloudconv.dreaming.methods.passing import Pass, Sky
from tests.helpers.dreams import material

LETTERS = "JLP2457hky"
HEIGHT, WIDTH = 120, 200
ALIKE = 0.93  # correlation from which on a letter is seen
SUN = 150, 26, 8  # place and radius


@cache
def letter(sign):
    """Return the brightness of a letter without symmetry, as soft as a cloud: (30, 24)."""
    drawn = np.zeros((30, 24), np.uint8)
    cv2.putText(drawn, sign, (2, 25), cv2.FONT_HERSHEY_DUPLEX, 0.9, 255, 3, cv2.LINE_AA)
    return cv2.GaussianBlur(drawn, (0, 0), 0.8)


@cache
def drifting(speed=1.0, *, sun=False, upright=False, dusk=False, burning=False):
    """Return 100 pictures of a sky with letters, each once, that the wind carries.

    The sky is blue, and the letters are white. At ``dusk`` one side is red and bright, and
    the other one violet and dark; the letters are yellow, and darker on that side.
    When it is ``burning``, the sky is dark red, and the letters are yellow on one side and
    orange on the other.
    """
    sky = np.zeros((HEIGHT, WIDTH + int(100 * speed)), np.uint8)
    places = [(y, x) for x in range(4, sky.shape[1] - 24, 34) for y in (4, 44, 84)]
    chosen = np.random.default_rng(3).permutation(len(places))[: len(LETTERS)]
    for sign, number in zip(LETTERS, chosen, strict=True):
        y, x = places[number]
        sky[y : y + 30, x : x + 24] = letter(sign)
    blue = [60, 110, 190] + 30 * np.linspace(0, 1, HEIGHT)[:, None, None]
    cloud = np.float64(225)
    if dusk:
        bright = np.linspace(0, 1, WIDTH)[:, None]
        blue = [70, 45, 85] + bright * [170, 40, -60]
        cloud = [250, 215, 50] * (0.4 + 0.6 * bright)
    if burning:
        side = np.float64(np.arange(WIDTH) > 140)[:, None]
        blue = np.array([110.0, 40, 30])
        cloud = [250, 110, 50] + side * [0, 100, 0]
    pictures = []
    for k in range(100):
        middle = sky.shape[1] - k * speed - (WIDTH + 1) / 2, (HEIGHT - 1) / 2
        cover = cv2.getRectSubPix(sky, (WIDTH, HEIGHT), middle)[..., None] / 255
        picture = np.uint8(blue + cover * (cloud - blue))
        if sun:
            cv2.circle(picture, SUN[:2], SUN[2], (255, 255, 255), -1, cv2.LINE_AA)
        pictures.append(picture.swapaxes(0, 1).copy() if upright else picture)
    return pictures


def obliquely(speed=(0.6, 0.45)):
    """Return 100 pictures of a sky with many letters, carried to the right and down."""
    across, down = (int(100 * one) for one in speed)
    sky = np.zeros((HEIGHT + down, WIDTH + across), np.uint8)
    random = np.random.default_rng(5)
    for y in range(4, sky.shape[0] - 30, 40):
        for x in range(4, sky.shape[1] - 24, 34):
            sky[y : y + 30, x : x + 24] = letter(random.choice([*LETTERS]))
    size = np.array([WIDTH, HEIGHT])
    pictures = []
    for k in range(100):
        middle = (sky.shape[1], sky.shape[0]) - k * np.array(speed) - (size + 1) / 2
        cover = cv2.getRectSubPix(sky, (WIDTH, HEIGHT), middle)[..., None] / 255
        pictures.append(np.uint8([70, 120, 200] + cover * [155, 105, 25]))
    return pictures


def dreamt(pictures, count):
    with torch.inference_mode():
        frames = collage(material(pictures), Options(count))
        return [np.uint8(255 * one.show().clip(0, 1)) for one in frames]


def places_of(sign, picture, *, mirrored=False):
    """Return how often a letter is seen in a picture at places that are apart."""
    form = np.ascontiguousarray(letter(sign)[:, :: -1 if mirrored else 1])
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    alike = cv2.matchTemplate(grey, form, cv2.TM_CCOEFF_NORMED)
    clear = cv2.matchTemplate(grey, form, cv2.TM_CCOEFF)
    found = (alike > ALIKE) & (clear > 0.2 * np.square(form - form.mean()).sum())
    marks = cv2.dilate(np.uint8(found), np.ones((9, 9)))
    return cv2.connectedComponents(marks)[0] - 1


def seen(pictures):
    """Return how often one picture shows a letter, at most, and a mirrored letter."""
    return tuple(
        max(places_of(sign, one, mirrored=way) for one in pictures for sign in LETTERS)
        for way in (False, True)
    )


def test_the_drawn_letters_are_found_and_each_is_in_the_film_once():
    film = drifting()[::5]
    assert seen(film) == (1, 0)
    twice = np.hstack([film[0], film[0][:, ::-1]])
    assert seen([twice]) == (1, 1)
    assert seen([np.hstack([film[0], film[0]])]) == (2, 0)


@pytest.mark.full
@pytest.mark.parametrize("speed", [1.0, 2.5])
def test_no_letter_of_a_sky_is_mirrored_or_seen_twice(speed):
    shown = dreamt(drifting(speed), 240)[::4]
    assert seen(shown) == (1, 0)
    # The sky is not empty either: as many letters as in the film are in view.
    letters = [
        np.mean([places_of(sign, one) for one in some for sign in LETTERS])
        for some in (drifting(speed)[::4], shown)
    ]
    assert letters[1] > 0.6 * letters[0]


@pytest.mark.full
def test_a_sun_stays_one_and_in_its_place():
    for one in dreamt(drifting(sun=True), 160)[::4]:
        white = np.uint8(one.min(2) > 238)
        count, _, stats, centres = cv2.connectedComponentsWithStats(white)
        large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] > 20]
        assert len(large) == 1
        assert np.abs(centres[large[0]] - SUN[:2]).max() < 2


@pytest.mark.full
def test_nothing_moves_away_from_a_sun_at_the_rim():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot(y, x - 150)
    glow = 150 * np.exp(-away / 25)[..., None] + 255 * (away < 9)[..., None]
    film = [np.uint8((one + glow).clip(0, 255)) for one in drifting()]

    def brightness(pictures):
        """Return the greatest brightness beside the sun, where no letter passes."""
        return max(one[:3, 60:115].mean((0, 2)).max() for one in pictures)

    assert brightness(dreamt(film, 160)) < brightness(film) + 24


@pytest.mark.full
def test_clouds_that_sink_are_not_stretched_to_streaks():
    # Below the upper edge, clouds sink while the wind blows to the right.
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    sinks = 0.8 * np.exp(-np.square(y / 40))
    film = [
        cv2.remap(one, x, y - k * sinks, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for k, one in enumerate(drifting())
    ]
    sky = Sky(material(film))
    size = HEIGHT, WIDTH
    alone = Pass(0, sky.times[0])
    for number in range(0, 120, 10):
        flow = sky.flow(alone, number, len(film) - 1, size)
        assert np.diff(flow[..., 1], axis=0).min() > -0.3


@pytest.mark.full
def test_no_cloud_gets_a_hue_that_the_film_lacks():
    film = drifting(dusk=True)

    def green(pictures):
        reds, greens, blues = np.moveaxis(np.int16(pictures), -1, 0)
        return np.quantile(greens - np.maximum(reds, blues), 0.999)

    assert green(film) < -10
    assert green(dreamt(film, 200)[::4]) < -5


@pytest.mark.full
def test_no_cloud_brings_a_hue_to_a_place_that_lacks_it():
    film = drifting(burning=True)

    def yellow(pictures):
        reds, greens, _ = np.moveaxis(np.float32(pictures)[:, :, :70], -1, 0)
        return np.quantile(greens - 0.55 * reds, 0.999)

    assert yellow(film) < 0
    assert yellow(dreamt(film, 200)[::4]) < 36


def wholeness(pictures):
    """Return the part of what is white that belongs to whole letters."""
    whole = np.mean([[places_of(sign, one) for sign in LETTERS] for one in pictures])
    return whole * len(LETTERS) / np.mean([(one[..., 0] > 150).mean() for one in pictures])


@pytest.mark.full
def test_an_oblique_wind_goes_on_and_letters_stay_whole():
    """The wind turned level, and what it carries was stretched at the upper edge."""
    film = obliquely()
    shown = dreamt(film, 160)
    greys = [np.float32(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY)) for one in shown[60:]]
    pairs = zip(greys[:-4:4], greys[4::4], strict=False)
    moves = [cv2.phaseCorrelate(*pair)[0] for pair in pairs]
    assert np.median(moves, 0) / 4 == pytest.approx((0.6, 0.45), abs=0.1)
    assert wholeness(shown[60::8]) > 0.75 * wholeness(film[::10])
    letters = [np.mean([one[..., 0] > 150 for one in some]) for some in (film, shown)]
    assert letters[1] == pytest.approx(letters[0], rel=0.25)


@pytest.mark.full
@pytest.mark.parametrize(("upright", "axis"), [(False, 0), (True, 1)])
def test_the_wind_of_a_sky_is_measured(upright, axis):
    sky = Sky(material(drifting(upright=upright)))
    assert sky.axis == axis
    assert sky.wind[..., axis].mean() == pytest.approx(1.0, abs=0.05)
    assert abs(sky.wind[..., 1 - axis].mean()) < 0.05


@pytest.mark.full
def test_clouds_come_in_at_the_edge_and_no_other_place():
    """Letters in the middle were at the place that the wind leads back to."""
    film = drifting()
    pictures = [*film[-1:], *dreamt(film, 200)]
    for before, after in zip(pictures[:-20:10], pictures[20::10], strict=False):
        moved = before[:, :-20].astype(int)
        apart = np.abs(after[:, 20:].astype(int) - moved).max(2)[:, 70:]
        assert (apart > 60).mean() < 0.02
