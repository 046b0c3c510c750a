"""The mode that ``auto`` chooses for a material."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cloudconv.dreaming.auto import FRAMES, Trial, advice, choose
from cloudconv.jobs.extend.history import gather_material
from cloudconv.media.probe import probe
from tests.helpers.dreams import ball, clouds, material


def crossing(count):
    """Return pictures of a solid object that crosses the picture once."""
    ground = clouds(1)[0] // 2
    made = []
    for k in range(count):
        picture = ground.copy()
        corner = int(-20 + 3 * k), 40
        cv2.rectangle(picture, corner, (corner[0] + 20, 70), (220, 180, 40), -1)
        cv2.rectangle(picture, (corner[0] + 5, 45), (corner[0] + 15, 60), (20, 20, 90), -1)
        made.append(picture)
    return made


@pytest.mark.full
@pytest.mark.parametrize("count", [20, 60])
def test_a_bouncing_ball_is_for_a_texture(count):
    assert choose(material(ball(count))).mode == "texture"


@pytest.mark.full
@pytest.mark.parametrize("count", [24, 50])
def test_solid_objects_are_never_cut_apart(count):
    chosen = choose(material(crossing(count)))
    assert chosen.mode == "texture"
    assert "fails (" in chosen.why
    assert "texture" in chosen.why


def solid(width):
    """Return a wall of many small stones."""
    random = np.random.default_rng(4)
    return random.integers(0, 255, (96, width, 3), np.uint8)


@pytest.mark.full
def test_a_pan_over_solid_objects_is_a_texture():
    wide = solid(400)
    chosen = choose(material([np.ascontiguousarray(wide[:, k : k + 200]) for k in range(60)]))
    assert chosen.mode == "texture"
    assert "solid things move before a moving camera" in chosen.why


@pytest.mark.full
def test_a_page_of_text_that_scrolls_is_no_sky():
    page = np.full((400, 240, 3), 250, np.uint8)
    for row in range(16, 400, 12):
        text = "the sky moves on and on"[row // 5 % 6 :]
        cv2.putText(page, text, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1)
    chosen = choose(material([page[3 * k : 3 * k + 160] for k in range(72)]))
    assert chosen.mode == "texture"


@pytest.mark.full
def test_soft_things_that_pass_each_other_are_no_sky():
    soft = cv2.GaussianBlur(clouds(1)[0], (0, 0), 5)
    one, other = soft, np.roll(soft, 40, 1)
    half = len(one) // 2
    pictures = [
        np.vstack([np.roll(one, 2 * k, 1)[:half], np.roll(other, -2 * k, 1)[half:]])
        for k in range(60)
    ]
    chosen = choose(material(pictures))
    assert chosen.mode == "texture"
    assert "do not move in one direction" in chosen.why


def test_short_clips_give_no_collage():
    chosen = choose(material(clouds(40)))
    assert chosen.mode != "collage"
    assert "40 frames are too few for a collage" in chosen.why


@pytest.mark.parametrize(
    ("pictures", "why"),
    [
        (clouds(1), "a single picture"),
        (clouds(1) * 30, "nothing moves"),
        (clouds(7), "7 frames are too few"),
    ],
)
def test_stills_and_very_short_clips_give_a_flow(pictures, why):
    chosen = choose(material(pictures))
    assert chosen.mode == "flow"
    assert why in chosen.why


def test_the_best_trial_is_whole_then_calm_then_new():
    order = [
        Trial("collage", (), False),
        Trial("texture", (), True),
        Trial("collage", (), False, 1.6),
        Trial("texture", (), True, 1.5),
        Trial("collage", (), False, 3.0),
        Trial("collage", ("it is torn",), False),
    ]
    assert sorted(reversed(order), key=lambda trial: trial.rank) == order
    assert str(order[3]) == "texture fails (it changes 150% as suddenly as the clip)"
    assert str(order[5]) == "collage fails (it is torn)"


@pytest.mark.full
def test_a_choice_depends_on_nothing_but_clip_and_seed():
    pictures = ball(30)
    assert choose(material(pictures), 3) == choose(material(pictures), 3)


@pytest.mark.parametrize("died", ["collage", "texture", "flow"])
def test_the_advice_is_no_mode_that_failed(died):
    assert f"the mode {died}" not in advice(died, 60, by_choice=True)
    assert "try the mode auto" in advice(died, 60, by_choice=False)


def test_the_advice_is_texture_if_the_choice_of_auto_failed():
    assert "try the mode texture" in advice("collage", 60, by_choice=True)
    assert "no other mode" in advice("texture", 60, by_choice=True)
    for by_choice in (True, False):
        assert "no other mode" in advice("flow", 1, by_choice=by_choice)


def test_noise_on_a_still_counts_as_no_motion():
    random = np.random.default_rng(0)
    still = clouds(1)[0].astype(int)
    noisy = [
        np.uint8(np.clip(still + random.integers(-1, 2, still.shape), 0, 255)) for _ in range(20)
    ]
    assert choose(material(noisy)).mode == "flow"


@pytest.mark.full
def test_a_vibration_gives_a_texture():
    """The motion is too small to be followed, but a vibrating string is not a still."""
    still = clouds(1)[0].astype(int)
    waves = [round(3 * np.sin(k / 3)) for k in range(60)]
    trembling = []
    for wave in waves:
        one = still.copy()
        one[20:40] += wave
        trembling.append(np.uint8(np.clip(one, 0, 255)))
    assert choose(material(trembling)).mode == "texture"


@pytest.mark.full
def test_the_example_of_the_readme_becomes_a_collage():
    example = Path(__file__).parents[2] / "examples" / "clouds.mp4"
    chosen = choose(gather_material(probe(example)))
    assert chosen.mode == "collage"
    assert chosen.why.startswith(f"collage: in a trial of {FRAMES} small frames, collage ")


def crowd(count):
    """Return soft spots before a wall, each at its own changing speed, like runners."""
    random, wall = np.random.default_rng(1), solid(128)
    places, speeds = random.random((60, 2)) * (160, 96), random.uniform(0.6, 3.0, 60)
    colours = random.uniform(40, 230, (60, 3))
    turns = random.uniform(0.2, 0.6, 60)
    made = []
    for k in range(count):
        picture = wall.astype(np.float32)
        for (x, y), speed, colour, turn in zip(places, speeds, colours, turns, strict=True):
            x = (x + speed * k + 2 * np.sin(turn * k)) % 160 - 16
            cv2.circle(picture, (round(16 * x), round(16 * y)), 6 * 16, colour.tolist(), -1, 8, 4)
        made.append(np.uint8(cv2.GaussianBlur(picture, (0, 0), 1.0)))
    return made


@pytest.mark.full
def test_a_crowd_gives_a_texture():
    chosen = choose(material(crowd(70)))
    assert chosen.mode == "texture"
    assert "texture shows the same pictures again" in chosen.why
