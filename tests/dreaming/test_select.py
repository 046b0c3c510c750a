"""The mode that ``auto`` chooses for a material."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cloudconv.dreaming.select import Motion, advice, motion_of, wanders
from cloudconv.events import result_of
from cloudconv.jobs.extend.history import gather_material
from cloudconv.media.read.probe import probe
from tests.helpers.dreams import Picture, ball, chosen_mode, clouds, material


def crossing(count: int) -> list[Picture]:
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


def test_clouds_are_for_a_collage() -> None:
    chosen = chosen_mode(material(clouds(80)))
    assert chosen.mode == "collage"
    assert chosen.why.startswith("collage: ")
    assert chosen.warning is None


@pytest.mark.parametrize("count", [20, 60])
def test_a_bouncing_ball_is_for_a_texture(count: int) -> None:
    assert chosen_mode(material(ball(count))).mode == "texture"


@pytest.mark.full
def test_solid_objects_are_never_cut_apart() -> None:
    assert chosen_mode(material(crossing(50))).mode == "texture"
    # The clip is too short for a similar frame that is far enough away in time.
    chosen = chosen_mode(material(crossing(24)))
    assert chosen.mode == "texture"
    assert "cut through" in chosen.why


def solid(width: int) -> Picture:
    """Return a wall of many small stones."""
    random = np.random.default_rng(4)
    return random.integers(0, 255, (96, width, 3), np.uint8)


def test_a_pan_over_solid_objects_plays_back_and_forth() -> None:
    wide = solid(400)
    chosen = chosen_mode(material([np.ascontiguousarray(wide[:, k : k + 200]) for k in range(60)]))
    assert chosen.mode == "texture"
    assert "sharper edges" in chosen.why
    assert chosen.warning is not None
    assert "see the motion reverse" in str(chosen.warning)


def test_a_drifting_sky_is_not_a_pan() -> None:
    wide = np.ascontiguousarray(clouds(1, (700, 96))[0][:60])
    source = material([np.ascontiguousarray(wide[:, 2 * k : 2 * k + 200]) for k in range(60)])
    assert chosen_mode(source).mode == "collage"


def test_short_clips_give_no_collage() -> None:
    chosen = chosen_mode(material(clouds(40)))
    assert chosen.mode == "texture"
    assert "40 frames are too few" in chosen.why


@pytest.mark.parametrize(
    ("pictures", "why"),
    [
        (clouds(1), "a single picture"),
        (clouds(1) * 30, "nothing moves"),
        (clouds(7), "7 frames are too few"),
        (clouds(20), "20 frames are too few for a collage"),
    ],
)
def test_stills_and_very_short_clips_give_a_flow(pictures: list[Picture], why: str) -> None:
    chosen = chosen_mode(material(pictures))
    assert chosen.mode == "flow"
    assert why in chosen.why


@pytest.mark.parametrize("pictures", [clouds(1), clouds(1) * 30, clouds(20), clouds(60), ball(40)])
def test_the_advice_is_the_choice_of_auto_unless_that_mode_failed(pictures: list[Picture]) -> None:
    source = material(pictures)
    chosen = chosen_mode(source).mode
    for died in ("collage", "texture", "flow", "rollout"):
        said = advice(source, died)
        assert f"the mode {died}" not in said
        if chosen != died:
            assert said == f"try the mode {chosen}, which auto chooses for this clip"


def test_the_advice_is_texture_if_the_choice_of_auto_failed() -> None:
    assert "try the mode texture" in advice(material(clouds(20)), "flow")
    assert "try the mode texture" in advice(material(clouds(60)), "collage")
    assert "no other mode" in advice(material(ball(40)), "texture")
    assert "no other mode" in advice(material(clouds(1)), "flow")


def test_noise_on_a_still_counts_as_no_motion() -> None:
    random = np.random.default_rng(0)
    still = clouds(1)[0].astype(int)
    noisy = [
        np.uint8(np.clip(still + random.integers(-1, 2, still.shape), 0, 255)) for _ in range(20)
    ]
    assert chosen_mode(material(noisy)).mode == "flow"


def test_a_vibration_gives_a_texture() -> None:
    """The motion is too small to be followed, but a vibrating string is not a still."""
    still = clouds(1)[0].astype(int)
    waves = [round(3 * np.sin(k / 3)) for k in range(60)]
    trembling = []
    for wave in waves:
        one = still.copy()
        one[20:40] += wave
        trembling.append(np.uint8(np.clip(one, 0, 255)))
    assert result_of(motion_of(material(trembling))).fastest < 0.1
    assert chosen_mode(material(trembling)).mode == "texture"


def test_motion_has_its_measured_speed_and_variation() -> None:
    drift, passing = (
        result_of(motion_of(material(clouds(40)))),
        result_of(motion_of(material(crossing(50)))),
    )
    assert drift.fastest == pytest.approx(1.1, abs=0.4)
    assert drift.steadiness > passing.steadiness - 0.5
    assert passing.variation > 2 * drift.variation
    assert 0.1 < drift.standing < 0.5


def test_the_example_of_the_readme_becomes_a_collage() -> None:
    example = Path(__file__).parents[2] / "examples" / "clouds.mp4"
    chosen = chosen_mode(result_of(gather_material(probe(example))))
    assert (chosen.mode, chosen.warning) == ("collage", None)


def crowd(count: int) -> list[Picture]:
    """Return soft spots that move to the right, each at its own changing speed, like runners."""
    random = np.random.default_rng(1)
    places, speeds = random.random((60, 2)) * (160, 96), random.uniform(0.6, 3.0, 60)
    colours = random.uniform(40, 230, (60, 3))
    turns = random.uniform(0.2, 0.6, 60)
    made = []
    for k in range(count):
        picture = np.full((96, 128, 3), 120, np.float32)
        for (x, y), speed, colour, turn in zip(places, speeds, colours, turns, strict=True):
            x = (x + speed * k + 2 * np.sin(turn * k)) % 160 - 16
            cv2.circle(picture, (round(16 * x), round(16 * y)), 6 * 16, colour.tolist(), -1, 8, 4)
        made.append(np.uint8(cv2.GaussianBlur(picture, (0, 0), 2.0)))
    return made


def test_a_storm_whose_clouds_turn_is_no_crowd() -> None:
    """Each filmed clip of people or traffic has finer edges, or keeps its direction."""
    storm = Motion(
        fastest=0.61,
        steadiness=0.74,
        variation=0.98,
        standing=0.25,
        wander=0.63,
        uneven=0.31,
        middle=0.5,
    )
    assert not wanders(storm, fine=0.25)
    assert wanders(replace(storm, wander=0.75, uneven=0.28), fine=0.46)
    assert wanders(replace(storm, steadiness=0.95), fine=0.25)


@pytest.mark.full
def test_a_camera_that_pans_over_land_makes_no_collage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated land is as soft as clouds, so its fineness is not compared."""
    monkeypatch.setattr("cloudconv.dreaming.select.SOFT", -1.0)
    world = clouds(48, (208, 128), speed=0.5)
    panned = [np.ascontiguousarray(picture[:, k : k + 160]) for k, picture in enumerate(world)]
    chosen = chosen_mode(material(panned))
    assert chosen.mode == "texture"
    assert "the camera moves" in chosen.why


def test_a_crowd_gives_a_texture_with_a_warning_about_reversed_motion() -> None:
    chosen = chosen_mode(material(crowd(70)))
    assert chosen.mode == "texture"
    assert "separately" in chosen.why
    assert chosen.warning is not None
    assert "see the motion reverse" in str(chosen.warning)
