"""A texture of a street: things leave as wholes and come in as wholes."""

import numpy as np
import pytest
import torch

from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.street import goes_on
from cloudconv.dreaming.methods.texture import texture
from tests.forecasting.test_layers import textured
from tests.helpers.dreams import material, tensors
from tests.helpers.street import COLOURS, HEIGHT, WIDTH, places_of, street

FILM, DREAM = 60, 70


def dream(clip, seed=0, frames=DREAM):
    with torch.inference_mode():
        dreamt_frames = texture(clip, Options(frames=frames, seed=seed))
        return torch.stack(tensors(frame.show() for frame in dreamt_frames))


def place_of(picture, colour):
    """Return the area of a colour, and its centre, x and y."""
    apart = (picture * 255 - torch.tensor(colour)[:, None, None]).abs().amax(0)
    rows, columns = torch.nonzero(apart < 15, as_tuple=True)
    return len(rows), np.array([columns.float().mean(), rows.float().mean()])


@pytest.fixture(scope="module")
def film():
    return street(FILM)


@pytest.fixture(scope="module")
def dreamt(film):
    clip = material(film)
    assert goes_on(clip, Options())
    return dream(clip)


@pytest.mark.full
def test_things_move_on_until_they_leave(dreamt):
    for colour, number in zip(COLOURS, range(2), strict=True):
        for time in range(1, 40):
            left, top, width, height = places_of(FILM - 1 + time)[number]
            if left >= 0 and left + width <= WIDTH:
                area, centre = place_of(dreamt[time - 1], colour)
                wanted = (left + (width - 1) / 2, top + (height - 1) / 2)
                assert area == pytest.approx(width * height, rel=0.15)
                assert np.abs(centre - wanted).max() < 1.5


def test_nothing_pops_up_and_nothing_vanishes(film, dreamt):
    before = torch.from_numpy(np.stack(film[-2:])).permute(0, 3, 1, 2) / 255
    for colour in COLOURS:
        areas = [place_of(picture, colour)[0] for picture in [*before, *dreamt]]
        # A thing of 40 by 24 pixels enters and leaves by 4 columns in a frame.
        assert np.abs(np.diff(areas)).max() < 6 * 24


def test_things_come_in_again(dreamt):
    assert max(place_of(picture, COLOURS[0])[0] for picture in dreamt[50:]) > 500


def test_what_things_leave_is_the_ground_without_a_rim(dreamt):
    ground = torch.from_numpy(textured(0, HEIGHT, WIDTH)).permute(2, 0, 1)
    free = (dreamt - ground)[:, :, :30]  # above both lanes
    apart = (dreamt - ground).abs().amax(1)
    assert free.abs().mean() < 0.01
    for picture, each in zip(dreamt, apart, strict=True):
        area = sum(place_of(picture, colour)[0] for colour in COLOURS)
        assert (each > 0.1).sum() < 1.3 * area + 300


@pytest.mark.full
def test_a_street_says_where_it_is_not_as_filmed(film):
    clip = material(film)
    with torch.inference_mode():
        frames = [*texture(clip, Options(frames=30))]
    for frame in frames:
        result = frame.origin.made
        apart = np.abs(frame.show() * 255 - film[frame.origin.number]).max(2)
        assert result.mean() < 0.5
        assert apart[~result].max() < 4


@pytest.mark.full
def test_the_same_seed_makes_the_same_frames(film, dreamt):
    assert torch.equal(dream(material(film), frames=30), dreamt[:30])


@pytest.mark.full
def test_a_moving_camera_and_a_loop_stay_a_texture_of_the_whole_picture(film):
    ground = textured(0, HEIGHT, WIDTH + 200)
    pictures = [255 * ground[:, 3 * n : 3 * n + WIDTH] for n in range(FILM)]
    assert not goes_on(material(street(FILM, pictures)), Options())
    assert not goes_on(material(film), Options(loop=True))


@pytest.mark.full
@pytest.mark.parametrize("first", [4, 20], ids=["only at its begin", "never"])
def test_a_clip_into_which_nothing_comes_stays_a_texture_of_the_whole_picture(film, first):
    clip = material(film[first:])
    assert clip.things.hold
    assert not goes_on(clip, Options())


@pytest.mark.full
@pytest.mark.parametrize("pace", [4, 6], ids=["slow", "leaves soon"])
def test_things_of_the_first_frame_come_in_where_nothing_large_enters(pace):
    """A small thing enters, and a car is there from the first frame on."""
    things = (200, 100, 60, 36, -pace, 0), (340, 40, 12, 8, -3, 0)
    dreamt_frames = dream(material(street(80, things=things)), frames=130)
    areas = [place_of(picture, COLOURS[0])[0] for picture in dreamt_frames]
    assert max(areas[20:]) > 2000
    assert np.abs(np.diff(areas)).max() < 1.5 * pace * 36


@pytest.mark.full
def test_the_street_is_never_empty_for_long_where_things_enter_in_the_clip():
    """A car enters after 70 frames, and leaves."""
    things = (-40 - 4 * 70, 60, 40, 24, 4, 0), (300, 110, 40, 24, -4, 0)
    dreamt_frames = dream(material(street(150, things=things)), frames=240)
    empty = [
        sum(place_of(picture, colour)[0] for colour in COLOURS) < 200
        for picture in dreamt_frames
    ]
    assert max(len(run) for run in "".join(" x"[picture] for picture in empty).split()) < 45


@pytest.mark.full
def test_cars_stay_behind_a_pole_that_hid_them():
    """Both cars are behind the pole when the film ends."""
    pole, colour = (slice(20, 170), slice(180, 188)), (240, 230, 60)
    shown = street(FILM, 0.4 + textured(0, HEIGHT, WIDTH) / 5)
    for picture in shown:
        picture[pole] = colour
    made = dream(material(shown), frames=25)
    apart = (made * 255 - torch.tensor(colour)[:, None, None]).abs().amax(1)
    assert (apart[:, 22:168, 182:186] > 60).float().mean() < 0.02
