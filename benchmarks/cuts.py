"""Recall and false rate of cut detection: ``python benchmarks/cuts.py FOLDER [--joins N]``.

Random excerpts of the clips in FOLDER are joined at hard cuts in three versions: unchanged;
darkened; and with flashes of one to three frames and fast pans across a still. Then every clip is
analysed whole. ``--known NAME:FRAME`` names cuts inside the clips.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cloudconv.errors import CloudconvError
from cloudconv.media.color import thumbnail
from cloudconv.media.source import Source
from cloudconv.schedule.scene import CutDetector

HEIGHT, WIDTH = CutDetector.THUMBNAIL


@dataclass(slots=True)
class Score:
    """The numbers of cuts, missed cuts, false cuts and frames, and the time in seconds."""

    cuts: int = 0
    missed: int = 0
    false: int = 0
    frames: int = 0
    seconds: float = 0.0

    def add(self, other: Score) -> None:
        """Add the numbers of another score."""
        self.cuts += other.cuts
        self.missed += other.missed
        self.false += other.false
        self.frames += other.frames
        self.seconds += other.seconds


def load(folder: Path) -> dict[str, Tensor]:
    """Return the thumbnails of every clip: (frames, 36, 64) float32 in [0, 1]."""
    clips: dict[str, Tensor] = {}
    for path in sorted(folder.iterdir()):
        try:
            with Source(path) as source:
                clips[path.name] = torch.stack(
                    [thumbnail(frame, HEIGHT, WIDTH) for frame in source.frames()]
                )
        except CloudconvError as error:
            print(f"left out: {error}")
    return clips


def detect(thumbnails: Iterable[Tensor]) -> set[int]:
    """Return the frames that start a new scene."""
    detector = CutDetector()
    decisions: list[bool] = []
    for item in thumbnails:
        decisions += detector.push(item)
    return {k for k, cut in enumerate([*decisions, *detector.finish()]) if cut}


def join(
    clips: Mapping[str, Tensor],
    known: Mapping[str, set[int]],
    joins: int,
    chance: random.Random,
    *,
    dark: bool = False,
    events: bool = False,
) -> tuple[Tensor, set[int]]:
    """Return joined excerpts of 8 to 60 frames, and the frames that start a new scene."""
    parts: list[Tensor] = []
    cuts: set[int] = set()
    length, last = 0, ""
    while len(parts) <= joins:
        name = chance.choice([n for n in clips if n != last and len(clips[n]) >= 8])
        last = name
        count = min(chance.randint(8, 60), len(clips[name]))
        start = chance.randint(0, len(clips[name]) - count)
        part = clips[name][start : start + count].clone()
        inside = {k - start for k in known.get(name, set()) if start < k < start + count}
        if dark:
            # Keep the black level, and round the rest as 8 bits with some grain would.
            part = (part * chance.choice([0.1, 0.2, 0.3]) * 255 * 16).round() / (255 * 16)
        if events and not inside and count >= 24:
            part = pan(part, chance) if chance.random() < 0.5 else flash(part, chance)
        cuts |= {length + k for k in inside} | ({length} if parts else set())
        parts.append(part)
        length += len(part)
    return torch.cat(parts), cuts


def flash(part: Tensor, chance: random.Random) -> Tensor:
    """Make one to three frames in the middle part much brighter or wholly white."""
    at, count = chance.randint(6, len(part) - 10), chance.randint(1, 3)
    strength = chance.choice([0.6, 0.9, 1.0])
    part[at : at + count] = part[at : at + count] * (1 - strength) + strength
    return part


def pan(part: Tensor, chance: random.Random) -> Tensor:
    """Return a still frame, then a fast pan over the frame and its mirror image, then a still."""
    start, count = len(part) // 3, chance.randint(6, 10)
    still = torch.nn.functional.interpolate(part[start][None, None], scale_factor=2.0)[0, 0]
    wide = torch.cat([still, still.flip(1), still], 1)
    step = chance.choice([4, 8, 12])
    views = [wide[18 : 18 + HEIGHT, k * step : k * step + WIDTH] for k in range(count)]
    still_views = [views[0]] * start
    return torch.stack([*still_views, *views, *([views[-1]] * 8)])


def score(thumbnails: Tensor, cuts: set[int]) -> Score:
    """Return the score of cut detection on thumbnails with known cuts."""
    start = time.perf_counter()
    found = detect(thumbnails)
    seconds = time.perf_counter() - start
    return Score(len(cuts), len(cuts - found), len(found - cuts), len(thumbnails), seconds)


def measure(
    clips: Mapping[str, Tensor], known: Mapping[str, set[int]], joins: int
) -> dict[str, Score]:
    """Return the scores by the name of the kind of footage."""
    chance = random.Random(2)
    kinds = {"joined": {}, "dark": {"dark": True}, "flashes, pans": {"events": True}}
    scores = {
        name: score(*join(clips, known, joins, chance, **kind)) for name, kind in kinds.items()
    }
    whole = Score()
    for name, clip in clips.items():
        whole.add(score(clip, known.get(name, set())))
    return scores | {"whole clips": whole}


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--joins", type=int, default=400, help="cuts in each joined clip")
    parser.add_argument("--known", nargs="*", default=[], metavar="NAME:FRAME")
    arguments = parser.parse_args()
    known: dict[str, set[int]] = {}
    for entry in arguments.known:
        name, frame = entry.rsplit(":", 1)
        known.setdefault(name, set()).add(int(frame))
    scores = measure(load(arguments.folder), known, arguments.joins)
    total = Score()
    for item in scores.values():
        total.add(item)
    print(f"{'':14} {'cuts':>6} {'found':>7} {'false':>6} {'frames':>7} {'per 1000':>9} {'ms':>5}")
    for name, item in {**scores, "all": total}.items():
        recall = f"{100 * (1 - item.missed / item.cuts):.1f} %" if item.cuts else "-"
        print(
            f"{name:14} {item.cuts:6} {recall:>7} {item.false:6} {item.frames:7} "
            f"{1000 * item.false / item.frames:9.2f} {1000 * item.seconds / item.frames:5.2f}"
        )


if __name__ == "__main__":
    main()
