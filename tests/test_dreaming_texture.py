"""Video textures: real frames go on, jumps do not show, loops close."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from cloudconv.dreaming.jumps import Jumps
from cloudconv.dreaming.likeness import distances, repetition, thumbnails
from cloudconv.dreaming.texture import Texture
from cloudconv.dreaming.vitals import vitals_of
from tests.dreams import ball, ball_is_whole, clouds, material, tensor


def dream(count: int, frames: int, seed: int = 0, **options: object) -> list[Tensor]:
    made = Texture().dream(material(ball(count)), frames=frames, seed=seed, **options)  # type: ignore[arg-type]
    return [picture.clone() for picture in made]


def changes(pictures: list[Tensor]) -> list[float]:
    return [float((b - a).abs().mean()) for a, b in pairwise(pictures)]


def test_the_ball_bounces_on_and_stays_whole() -> None:
    source = ball(60)
    made = dream(60, 150)
    assert len(made) == 150
    assert all(ball_is_whole(picture) for picture in made)
    usual = changes([tensor(p) for p in source])
    assert max(changes([tensor(source[-1]), *made])) < 1.3 * max(usual)
    rows = vitals_of(material(source), made, repeats=True)
    assert all(row.alive for row in rows), [row.failed for row in rows]


def test_seeds() -> None:
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
def test_short_clips(count: int, loop: bool) -> None:
    assert len(dream(count, 20, loop=loop)) == 20
    assert len(dream(count, 1, loop=loop)) == 1


def test_clouds_do_not_jump() -> None:
    source = material(clouds(80))
    made = list(Texture().dream(source, frames=120, seed=1))
    rows = vitals_of(source, made, repeats=True)
    for row in rows:
        assert not {"jump", "sharpness", "crease"} & set(row.failed), row.values


def test_jumps_match_motion_and_not_just_place() -> None:
    """A ball that rises looks like one that falls; only frames around tell."""
    source = material(ball(72))
    jumps = Jumps(thumbnails(source), 12)
    walk = jumps.walk(np.random.default_rng(0), 71)
    shown = [next(walk) for _ in range(200)]
    leaps = [(a, b) for a, b in pairwise([71, *shown]) if b != a + 1]
    assert leaps
    for before, after in leaps:
        assert (after - before - 1) % 24 == 0


def test_a_walk_does_not_end_dead() -> None:
    rows = np.random.default_rng(2).normal(0, 40, (30, 50)).astype(np.float32)
    walk = Jumps(rows, 7).walk(np.random.default_rng(0), 29)
    shown = [next(walk) for _ in range(300)]
    assert min(shown) >= 0
    assert max(shown) <= 29
    assert sum(b == a + 1 for a, b in pairwise(shown)) > 200


def test_repetition_tells_coming_back_from_drifting_on() -> None:
    back = repetition(distances(thumbnails(material(ball(72)))))
    on = repetition(distances(thumbnails(material(clouds(90)))))
    assert back is not None
    assert on is not None
    assert back < 0.3
    assert on > 2
    assert repetition(np.zeros((5, 5), np.float32)) is None
