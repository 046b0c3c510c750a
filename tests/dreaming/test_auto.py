"""The mode that ``auto`` chooses for a material."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cloudconv.dreaming import auto
from cloudconv.dreaming.auto import better_mode, choose, wind_of
from cloudconv.dreaming.methods.base import Composed, DreamFrame, Options
from cloudconv.dreaming.methods.modes import MethodSpec, method
from cloudconv.dreaming.rehearsal import Rehearsal
from cloudconv.jobs.extend.ending import gather_material
from cloudconv.media.reading.probe import probe
from tests.helpers.dreams import ball, chosen, clouds, material


def crossing(count):
    """Return pictures of a solid object that crosses the picture once."""
    ground = clouds(1)[0] // 2
    frames = []
    for k in range(count):
        picture = ground.copy()
        corner = int(-20 + 3 * k), 40
        cv2.rectangle(picture, corner, (corner[0] + 20, 70), (220, 180, 40), -1)
        cv2.rectangle(picture, (corner[0] + 5, 45), (corner[0] + 15, 60), (20, 20, 90), -1)
        frames.append(picture)
    return frames


def solid(width):
    """Return a wall of many small stones."""
    random = np.random.default_rng(4)
    return random.integers(0, 255, (96, width, 3), np.uint8)


def pan():
    return [np.ascontiguousarray(solid(400)[:, k : k + 200]) for k in range(60)]


def page(speed=3.0):
    whole = np.full((400, 240, 3), 250, np.uint8)
    for row in range(16, 400, 12):
        text = "the sky moves on and on"[row // 5 % 6 :]
        cv2.putText(whole, text, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1)
    return [whole[int(speed * k) :][:160] for k in range(72)]


def passing():
    """Return soft things that pass each other."""
    soft = cv2.GaussianBlur(clouds(1)[0], (0, 0), 5)
    other = np.roll(soft, 40, 1)
    half = len(soft) // 2
    halves = [
        (np.roll(soft, 2 * k, 1)[:half], np.roll(other, -2 * k, 1)[half:])
        for k in range(60)
    ]
    return [np.vstack(pair) for pair in halves]


def trembling():
    """Return a vibrating string: it moves too little to be followed, but is no still."""
    frames = []
    for k in range(60):
        frames.append(clouds(1)[0].astype(int))
        frames[-1][20:40] += round(3 * np.sin(k / 3))
    return [np.uint8(np.clip(one, 0, 255)) for one in frames]


SOLID = {
    "short bounce": lambda: ball(20),
    "bounce": lambda: ball(60),
    "short crossing": lambda: crossing(24),
    "crossing": lambda: crossing(50),
    "pan": pan,
    "page": page,
    "slow page": lambda: page(0.2),
    "passing": passing,
    "trembling": trembling,
}
"""Clips that are no skies."""


@pytest.mark.full
@pytest.mark.parametrize("kind", SOLID)
def test_solid_objects_are_never_cut_apart(kind):
    assert chosen(material(SOLID[kind]())).mode in {"texture", "flow"}


def test_short_clips_give_no_collage():
    assert chosen(material(clouds(40))) == (
        "texture",
        "40 frames, too few for a collage",
    )


@pytest.mark.parametrize(
    ("pictures", "why"),
    [
        (clouds(1), "a single picture"),
        (clouds(1) * 30, "nothing moves"),
        (clouds(7), "only 7 frames"),
    ],
)
def test_stills_and_very_short_clips_give_a_flow(pictures, why):
    choice = chosen(material(pictures))
    assert choice.mode == "flow"
    assert why in choice.why


def rehearsed(ranks):
    """Return a function that returns rehearsals of given grades, and how visible."""
    return lambda mode: SimpleNamespace(
        worst=ranks[mode][0], rank=ranks[mode], spec=method(mode)
    )


@pytest.mark.parametrize(
    ("ranks", "mode"),
    [
        # A texture need not be rehearsed where a collage has no fault.
        ({"collage": (-1, 0)}, "collage"),
        ({"collage": (1, 1), "texture": (1, 2)}, "collage"),
        ({"collage": (1, 3), "texture": (-1, 0)}, "texture"),
        ({"collage": (2, 1), "texture": (1, 5)}, "texture"),
    ],
)
def test_the_mode_of_a_sky_with_a_wind_is_the_better_rehearsal(monkeypatch, ranks, mode):
    monkeypatch.setattr(auto, "torn_by_collage", lambda _: "")
    choice = choose(material(clouds(60)), rehearsed(ranks))
    whys = {"collage": "a steady wind", "texture": "better than a collage"}
    assert choice == (mode, whys[mode])


def test_what_no_wind_carries_plays_again_whatever_is_wrong(monkeypatch):
    monkeypatch.setattr(auto, "torn_by_collage", lambda _: "no wind")
    choice = choose(material(clouds(60)), rehearsed({}))
    assert choice == ("texture", "no wind")


@pytest.mark.parametrize(
    ("pictures", "torn", "made", "ranks", "better"),
    [
        (clouds(60), "", "flow", {"collage": (0, 2), "texture": (0, 1)}, "texture"),
        (clouds(60), "", "texture", {"collage": (0, 2)}, "collage"),
        (clouds(60), "", "texture", {"collage": (2, 2)}, None),
        (clouds(60), "torn", "texture", {}, None),
        (clouds(60), "torn", "collage", {"texture": (1, 1)}, "texture"),
        (clouds(40), "", "texture", {}, None),
        (clouds(1) * 60, "", "texture", {}, None),
    ],
)
def test_no_flow_and_no_collage_that_tears_is_advised(
    monkeypatch, pictures, torn, made, ranks, better
):
    monkeypatch.setattr(auto, "torn_by_collage", lambda _: torn)
    spoiled = SimpleNamespace(material=material(pictures), spec=method(made), worst=2)
    assert better_mode(spoiled, rehearsed(ranks)) == better


@pytest.mark.full
def test_land_that_slides_spoils_a_rehearsal():
    sliding = clouds(210, (160, 120))
    wall = np.random.default_rng(0).integers(0, 255, (40, 160, 3), np.uint8)
    wall = cv2.GaussianBlur(wall, (0, 0), 1.5)
    for number, picture in enumerate(sliding):
        picture[80:] = np.roll(wall, 2 * max(number - 60, 0), 1)

    def dream(_material, _options):
        for picture in sliding[60:]:
            yield DreamFrame.made(np.float32(picture) / 255, Composed())

    spec = MethodSpec("collage", 8, dream, needs_wind=True)
    made = Rehearsal(spec, material(sliding[:60]), Options(150)).made()
    assert "slides" in {fault.vital for fault in made.meter.faults}
    assert made.worst == 2


def swaying(count=60):
    """Return soft pictures that move to and fro, like flames, surf and grass."""
    soft = cv2.GaussianBlur(clouds(1, (160, 120))[0], (0, 0), 3)
    return [np.roll(soft, round(6 * np.sin(k / 3)), 1) for k in range(count)]


@pytest.mark.full
def test_motion_without_a_direction_gives_a_texture():
    """New footage of a collage comes with the wind; there is none."""
    result = material(swaying())
    assert wind_of(result.reduced()) < 0.3
    assert chosen(result) == ("texture", "no steady wind")
    assert wind_of(material(clouds(60)).reduced()) > 0.8


def followed(count=60):
    """Return a soft thing that a camera follows over soft ground: both sway."""
    thing = cv2.GaussianBlur(clouds(1, (160, 120))[0], (0, 0), 2)
    frames = swaying(count)
    for k, frame in enumerate(frames):
        left = 60 + round(10 * np.sin(k / 5))
        frame[40:90, left : left + 50] = thing[40:90, 30:80][:, :: -1 if k // 9 % 2 else 1]
    return frames


@pytest.mark.full
def test_a_thing_that_the_camera_follows_is_not_torn_by_a_collage():
    result = material(followed())
    assert wind_of(result.reduced()) < 0.5
    assert chosen(result).mode == "texture"


@pytest.mark.full
def test_a_choice_depends_on_nothing_but_clip_and_seed():
    pictures = ball(30)
    assert chosen(material(pictures), 3) == chosen(material(pictures), 3)


def test_noise_on_a_still_counts_as_no_motion():
    random = np.random.default_rng(0)
    still = clouds(1)[0].astype(int)
    noisy = [
        np.uint8(np.clip(still + random.integers(-1, 2, still.shape), 0, 255))
        for _ in range(20)
    ]
    assert chosen(material(noisy)).mode == "flow"


@pytest.mark.full
def test_the_example_of_the_readme_becomes_a_collage():
    example = Path(__file__).parents[2] / "examples" / "clouds.mp4"
    assert chosen(gather_material(probe(example))).mode == "collage"


def flames(count=90):
    """Return the light of a fire: spots of new places and sizes in each picture."""
    random = np.random.default_rng(3)
    pictures = []
    for _ in range(count):
        spots = cv2.resize(random.random((9, 12)).astype(np.float32), (160, 120))
        pictures.append(np.uint8(200 * spots[..., None] * np.float32([1, 0.6, 0.2])))
    return pictures


def test_a_fire_that_becomes_hard_is_a_fault():
    """Motion explains little of a fire, so the picture that moves becomes hard."""
    film = material(flames())
    faults = Rehearsal(method("flow"), film, Options(150)).made().meter.faults
    assert any("becomes hard" in fault.text for fault in faults)
    assert {fault.grade for fault in faults} != {"hardly seen"}
