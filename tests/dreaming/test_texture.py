"""Video textures: source frames in a new order, invisible jumps, closed loops."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from cloudconv.dreaming.material.regions import likeness_of, regions_of
from cloudconv.dreaming.methods.jumps import Graph, Step, relative_motion
from cloudconv.dreaming.methods.texture import Texture, backwards_of
from tests.helpers.dreams import Picture, ball, ball_is_whole, clouds, material, tensor, vitals_of

SIDES = (slice(0, 90), slice(-90, None))


def dream(count: int, frames: int, seed: int = 0, **options: object) -> list[Tensor]:
    made = Texture().dream(material(ball(count)), frames=frames, seed=seed, **options)  # type: ignore[arg-type]
    return [picture.clone() for picture in made]


def changes(pictures: list[Tensor]) -> list[float]:
    return [float((b - a).abs().mean()) for a, b in pairwise(pictures)]


def test_a_bouncing_ball_keeps_bouncing_and_stays_whole() -> None:
    source = ball(60)
    made = dream(60, 150)
    assert len(made) == 150
    assert all(ball_is_whole(picture) for picture in made)
    usual = changes([tensor(p) for p in source])
    assert max(changes([tensor(source[-1]), *made])) < 1.3 * max(usual)
    rows = vitals_of(material(source), made, repeats=True)
    assert all(row.alive for row in rows), [row.failed for row in rows]


def test_frames_depend_on_the_seed() -> None:
    source = material(clouds(60, (64, 48)))

    def made(seed: int) -> list[Tensor]:
        return list(Texture().dream(source, frames=90, seed=seed))

    one, again, other = made(0), made(0), made(5)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("frames", [48, 408])
def test_a_loop_leads_into_its_own_first_frame(frames: int) -> None:
    made = dream(60, frames, loop=True)
    assert len(made) == frames
    usual = max(changes([tensor(p) for p in ball(60)]))
    assert max(changes([*made, made[0]])) < 1.5 * usual
    assert all(ball_is_whole(picture) for picture in made)


@pytest.mark.parametrize("frames", [36, 84])
def test_a_loop_leads_into_the_source(frames: int) -> None:
    source = [tensor(p) for p in ball(60)]
    made = dream(60, frames, loop=True, loop_to=source[0])
    usual = max(changes(source))
    assert max(changes([source[-1], *made, source[0]])) < 1.5 * usual
    assert all(ball_is_whole(picture) for picture in made)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("loop", [False, True])
def test_short_clips_give_the_requested_length(count: int, loop: bool) -> None:
    assert len(dream(count, 20, loop=loop)) == 20
    assert len(dream(count, 1, loop=loop)) == 1


@pytest.mark.full
def test_clouds_move_without_jumps() -> None:
    source = material(clouds(80))
    made = list(Texture().dream(source, frames=120, seed=1))
    rows = vitals_of(source, made, repeats=True)
    assert rows
    for row in rows:
        assert not {"jump", "sharpness", "crease"} & set(row.failed), row.values


def graph_of(pictures: list[Picture]) -> Graph:
    source = material(pictures)
    whole = np.zeros(pictures[0].shape[:2], np.intp)
    (alike,) = likeness_of(len(source), source.glance, whole)
    return Graph(alike.unlike, relative_motion(alike.changes))


def test_jumps_match_the_motion_and_not_only_the_position() -> None:
    """A rising ball looks like a falling one; only the frames around differ."""
    walk = graph_of(ball(72)).walk(np.random.default_rng(0), Step(71, True))
    shown = [next(walk) for _ in range(200)]
    leaps = [(a, b) for a, b in pairwise(shown) if abs(b.frame - a.frame) > 1]
    assert leaps
    for before, after in leaps:
        assert before.forward == after.forward
        way = 1 if before.forward else -1
        assert (after.frame - before.frame - way) % 24 == 0


def test_playback_reverses_where_motion_rests() -> None:
    """The clip shows a swing that slows down at both ends and never returns by itself."""
    grid = ball(1)[0] // 2
    places = 40 + 30 * np.sin(np.linspace(-2, 2, 70))
    pictures = []
    for place in places:
        pictures.append(grid.copy())
        cv2.circle(pictures[-1], (round(16 * place), 16 * 30), 16 * 8, (230, 80, 60), -1, 16, 4)
    walk = graph_of(pictures).walk(np.random.default_rng(1), Step(69, True))
    shown = [69, *(next(walk).frame for _ in range(400))]
    turns = [b for a, b, c in zip(shown, shown[1:], shown[2:], strict=False) if a == c]
    assert len(turns) > 3
    speed = np.abs(np.gradient(places))
    assert all(speed[turn] < 0.5 * speed.max() for turn in turns)


def test_every_frame_is_a_frame_of_the_clip() -> None:
    source = clouds(40, (64, 48))
    made = Texture().dream(material(source), frames=120, seed=3)
    real = torch.stack([tensor(picture) for picture in source])
    assert all(float((real - p).abs().amax((1, 2, 3)).min()) < 1e-6 for p in made)


def two_balls(count: int) -> list[Picture]:
    """Return two balls, far apart, that never rest at the same time."""
    left, right = ball(count, period=24), ball(count + 31, period=37)[31:]
    return [np.hstack([a, b]) for a, b in zip(left, right, strict=True)]


def test_regions_that_move_separately_are_played_separately() -> None:
    source = material(two_balls(50))
    labels = regions_of(50, source.glance)
    assert len(np.unique(labels)) == 2
    assert len(np.unique(labels[:, :80])) == len(np.unique(labels[:, -80:])) == 1
    made = list(Texture().dream(source, frames=150, seed=0))
    halves = [torch.stack([tensor(p)[..., part] for p in two_balls(50)]) for part in SIDES]
    together = 0
    for picture in made:
        near = [
            (half - picture[..., part]).abs().amax((1, 2, 3))
            for half, part in zip(halves, SIDES, strict=True)
        ]
        assert all(float(away.min()) < 1e-6 for away in near)
        together += int(near[0].argmin() == near[1].argmin())
    assert together < 75
    usual = changes([tensor(p) for p in two_balls(50)])
    assert max(changes(made)) < 1.3 * max(usual)


def test_a_camera_pan_is_one_region() -> None:
    wide = clouds(1, (400, 96))[0]
    pan = [np.ascontiguousarray(wide[:, 2 * k : 2 * k + 200]) for k in range(40)]
    source = material(pan)
    assert not regions_of(40, source.glance).any()


def test_motion_that_repeats_is_played_forwards() -> None:
    method = Texture()
    assert len(list(method.dream(material(ball(60)), frames=200, seed=0))) == 200
    assert method.backwards is not None
    assert method.backwards < 0.1
    assert backwards_of(material(ball(60))) is None


def passing(count: int) -> list[Picture]:
    """Return a block that crosses a still background once and does not return."""
    made = []
    for k in range(count):
        picture = np.full((64, 96, 3), 60, np.uint8)
        picture[::8], picture[:, ::8] = 75, 75
        picture[30:50, k : k + 16] = (230, 80, 60)
        made.append(picture)
    return made


def test_reversed_frames_are_counted_and_a_warning_names_them() -> None:
    source = material(passing(60))
    warned = backwards_of(source)
    assert warned is not None
    assert "backwards" in str(warned)
    method = Texture()
    assert len(list(method.dream(source, frames=200, seed=0))) == 200
    assert method.backwards is not None
    assert 0.2 < method.backwards < 0.8
