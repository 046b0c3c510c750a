"""Joined excerpts of real clips, with cuts where they meet."""

import random
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cloudconv.errors import CloudconvError
from cloudconv.media.colour.color import thumbnail
from cloudconv.media.reading.source import Source
from cloudconv.schedule.cuts import CutDetector

HEIGHT, WIDTH = CutDetector.THUMBNAIL


def load(folder: Path, most: int | None) -> dict[str, Tensor]:
    """Return the thumbnails of the ``most`` smallest clips: (frames, 36, 64) in [0, 1].

    Files that cannot be read are left out.
    """
    clips: dict[str, Tensor] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_size)[:most]:
        try:
            with Source(path) as source:
                frames = [thumbnail(frame, HEIGHT, WIDTH) for frame in source.frames()]
        except CloudconvError:
            continue
        clips[path.name] = torch.stack(frames)
    return clips


def join(
    clips: Mapping[str, Tensor],
    known: Mapping[str, set[int]],
    joins: int,
    chance: random.Random,
    *,
    dark: bool = False,
    events: bool = False,
) -> tuple[Tensor, set[int]]:
    """Return joined excerpts of 8 to 60 frames, and the frames that start a new scene.

    Excerpts are darkened, or have flashes of one to three frames and fast pans across a
    still.
    """
    parts: list[Tensor] = []
    cuts: set[int] = set()
    length = 0
    last = ""
    while len(parts) <= joins:
        name = chance.choice([n for n in clips if n != last and len(clips[n]) >= 8])
        last = name
        count = min(chance.randint(8, 60), len(clips[name]))
        start = chance.randint(0, len(clips[name]) - count)
        shot = clips[name][start : start + count].clone()
        inside = {k - start for k in known.get(name, set()) if start < k < start + count}
        if dark:
            # Keep the black level, and round the rest as 8 bits with some grain would.
            shot = (shot * chance.choice([0.1, 0.2, 0.3]) * 255 * 16).round() / (255 * 16)
        if events and not inside and count >= 24:
            shot = _pan(shot, chance) if chance.random() < 0.5 else _flash(shot, chance)
        cuts |= {length + k for k in inside} | ({length} if parts else set())
        parts.append(shot)
        length += len(shot)
    return torch.cat(parts), cuts


def _flash(shot: Tensor, chance: random.Random) -> Tensor:
    at = chance.randint(6, len(shot) - 10)
    count = chance.randint(1, 3)
    strength = chance.choice([0.6, 0.9, 1.0])
    shot[at : at + count] = shot[at : at + count] * (1 - strength) + strength
    return shot


def _pan(shot: Tensor, chance: random.Random) -> Tensor:
    """Return a still frame, a fast pan over the frame and its mirror image, and a still."""
    start = len(shot) // 3
    count = chance.randint(6, 10)
    still = torch.nn.functional.interpolate(shot[start][None, None], scale_factor=2.0)[0, 0]
    wide = torch.cat([still, still.flip(1), still], 1)
    step = chance.choice([4, 8, 12])
    views = [wide[18 : 18 + HEIGHT, k * step : k * step + WIDTH] for k in range(count)]
    still_views = [views[0]] * start
    return torch.stack([*still_views, *views, *([views[-1]] * 8)])
