"""Compare two models on every kind of clip, or measure the rules of one model.

    python benchmarks/kinds.py                                # cloud-best against rife-4.6
    python benchmarks/kinds.py --models cloud-fast,rife-4.6 animals.txt --root clips
    python benchmarks/kinds.py --without marks,still          # the gain of each rule

Drawn kinds are generated (``drawn.py``). Filmed kinds are files with a row for each clip:
the kind, a tab, and the path of the clip below ``--root``; or folders, each of which is a
kind. Of a clip the centre is taken. Every second frame is kept, and the others are made
again as ``interp`` makes them. Animation on twos is made with ``--refill``, and scored
against the true drawings. A PSNR counts up to 60 dB. Texture: see ``docs/compare.md``.

A rule's table has the gain in dB for each kind, the mean over its clips and the worst clip.
The rule ``near`` acts only close to a source frame, so its frames are made at 1/64 of the
gap, and of drawn kinds only.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from drawn import KINDS, Kind, Picture, Size
from torch import Tensor

import cloudconv
from cloudconv import metrics
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.reading.source import Source
from cloudconv.models import rife
from cloudconv.models.base import Interpolator
from cloudconv.models.pair import Pair

_MOST = 60.0  # dB
_NEAR = 64  # the rule ``near`` is scored at one of so many steps
_CPU = torch.device("cpu")


class Score(NamedTuple):
    """The means over the scored frames of a clip: PSNR and texture, in dB."""

    psnr: float
    texture: float


@dataclass(frozen=True, slots=True)
class Filmed:
    """A filmed clip: its kind is ``group``, and the file ``path``."""

    name: str
    group: str
    path: Path


Clip = Kind | Filmed


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "filmed", nargs="*", type=Path, help="lists of clips, or folders of clips"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), help="the folder of the lists' clips"
    )
    parser.add_argument("--models", default="cloud-best,rife-4.6", help="two, with a comma")
    parser.add_argument(
        "--without", metavar="RULES", help=f"with commas: {','.join(RULES)}"
    )
    parser.add_argument(
        "--drawn", default="all", help="drawn kinds with commas, all or none"
    )
    parser.add_argument(
        "--size", default="480x272", help="of the pictures (default 480x272)"
    )
    parser.add_argument("--frames", type=int, default=7, help="of each clip (default 7)")
    parser.add_argument(
        "--every", type=int, default=1, help="take every such frame of filmed clips"
    )
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    shot = partial(score, size=(width, height), frames=options.frames, every=options.every)
    named = options.drawn.split(",")
    clips: list[Clip] = [k for k in KINDS if options.drawn == "all" or k.name in named]
    clips += [clip for given in options.filmed for clip in listed(given, options.root)]
    model, other = options.models.split(",")
    if options.without is None:
        compare(clips, (model, other), shot)
        return
    leave_out(clips, model, options.without.split(","), shot)


def listed(given: Path, root: Path) -> Iterator[Filmed]:
    """Yield the clips of a list, or of a folder."""
    if given.is_dir():
        for path in sorted(given.iterdir()):
            yield Filmed(path.stem, given.name, path)
        return
    for row in given.read_text(encoding="utf-8").splitlines():
        if row and not row.startswith("#"):
            group, name = row.split("\t")
            yield Filmed(Path(name).stem, group, root / name)


def compare(clips: list[Clip], models: tuple[str, str], shot: Any) -> None:
    """Print the scores of two models on each clip, and the gain on each kind."""
    print(f"{'clip':32} {models[0]:>10} {models[1]:>10}   gain  texture", flush=True)
    gains: dict[str, dict[str, float]] = {}
    for clip in clips:
        own, against = (shot(clip, model) for model in models)
        gains.setdefault(clip.group, {})[clip.name] = own.psnr - against.psnr
        texture = f"{own.texture:+.2f} {against.texture:+.2f}"
        row = (
            f"{own.psnr:10.2f} {against.psnr:10.2f} {own.psnr - against.psnr:+6.2f}  "
            f"{texture}"
        )
        print(f"{clip.name[:32]:32} {row}", flush=True)
    print_gains("gain", gains)


def leave_out(clips: list[Clip], model: str, rules: list[str], shot: Any) -> None:
    """Print the gain of each rule on each kind."""
    gains: dict[str, dict[str, dict[str, float]]] = {rule: {} for rule in rules}
    textures: dict[str, list[float]] = {rule: [] for rule in rules}
    for clip in clips:
        whole = shot(clip, model)
        for rule in rules:
            is_near = rule == "near"
            if is_near and (isinstance(clip, Filmed) or clip.twos):
                continue
            with RULES[rule]():
                less = shot(clip, model, near=is_near)
            more = shot(clip, model, near=True) if is_near else whole
            gains[rule].setdefault(clip.group, {})[clip.name] = more.psnr - less.psnr
            textures[rule].append(more.texture - less.texture)
    for rule in rules:
        print_gains(rule, gains[rule])
        print(f"  texture {statistics.fmean(textures[rule]):+.2f} dB", flush=True)


def print_gains(name: str, gains: Mapping[str, Mapping[str, float]]) -> None:
    """Print the mean gain on each kind, and the clip with the least gain."""
    print(name)
    for group, clip_gains in gains.items():
        worst = min(clip_gains, key=clip_gains.__getitem__)
        best = max(clip_gains, key=clip_gains.__getitem__)
        mean = statistics.fmean(clip_gains.values())
        least = f"{clip_gains[worst]:+.2f} {worst[:28]}"
        most = f"{clip_gains[best]:+.2f} {best[:28]}"
        print(f"  {group:12} {mean:+.2f}, worst {least}, best {most}", flush=True)


def score(
    clip: Clip,
    model: str,
    *,
    size: Size = (480, 272),
    frames: int = 7,
    every: int = 1,
    near: bool = False,
) -> Score:
    """Return the score of the frames that a model makes of a clip.

    ``frames``: the most frames of the clip, an odd number; every second one is kept.
    ``every``: a filmed clip is every such frame of its file.
    ``near``: make one frame close to the first frame of a drawn clip instead.
    """
    make = partial(cloudconv.interpolate_frames, model=model, scene_cut="off")
    if isinstance(clip, Filmed):
        pictures = _filmed(clip.path, size, frames, every)
    elif clip.twos:
        # The repeats are left out, so the times of the new frames are halves of a drawing's
        # time.
        pictures = _drawn(clip, size, frames)
        result = list(make(pictures, 2, refill=True))
        places = range(2, 2 * frames - 4, 4)
        return _mean(
            [
                (result[k], clip.draw(k / 2, size), [result[k - 2], result[k + 2]])
                for k in places
            ]
        )
    else:
        pictures = _drawn(clip, size, frames)
        if near:
            one = list(islice(make(pictures[::2], _NEAR), 1, 2))
            return _mean([(one[0], clip.draw(2 / _NEAR, size), pictures[:3:2])])
    result = list(make(pictures[::2], 2))
    places = range(1, len(pictures) - 1, 2)
    return _mean(
        [(result[k], pictures[k], [pictures[k - 1], pictures[k + 1]]) for k in places]
    )


@lru_cache(maxsize=1)
def _drawn(clip: Kind, size: Size, frames: int) -> list[Picture]:
    """Return the first frames of a clip; on twos each drawing is returned twice."""
    return [clip.draw(2 * (k // 2) if clip.twos else k, size) for k in range(frames)]


def _filmed(path: Path, size: Size, frames: int, every: int) -> list[Picture]:
    """Return the centre of every such frame of a clip, an odd number of frames."""
    width, height = size
    pictures = []
    with Source(path, threads=1) as source:
        for frame in islice(source.frames(), 0, frames * every, every):
            rgb = rgb_of(frame, _CPU).clamp(0, 1)
            top = max(0, rgb.shape[1] - height) // 2
            left = max(0, rgb.shape[2] - width) // 2
            centre = rgb[:, top : top + height, left : left + width]
            picture: Picture = centre.mul(255).round_().byte().permute(1, 2, 0).numpy()
            pictures.append(picture.copy())
    return pictures[: len(pictures) - 1 + len(pictures) % 2]


def _mean(scored: list[tuple[Picture, Picture, list[Picture]]]) -> Score:
    """Return the mean scores of pictures, each with the true one and its neighbours."""
    psnr, texture = [], []
    for new, true, neighbours in scored:
        picture = _tensor(new)
        psnr.append(min(_MOST, float(metrics.psnr(picture, _tensor(true)))))
        around = metrics.texture_energy(torch.stack([*map(_tensor, neighbours)]))
        texture.append(float(metrics.texture(picture, around.log().mean(0).exp())))
    values = [value for value in texture if value == value]
    return Score(statistics.fmean(psnr), statistics.fmean(values) if values else 0.0)


def _tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


@contextmanager
def _without_gate() -> Iterator[None]:
    fill: Any = rife._fill

    def closed(*given: Any) -> None:
        logits = given[4].clone()
        logits[:, 1] = -torch.inf
        fill(*given[:4], logits, *given[5:])

    with patch.object(rife, "_fill", closed):
        yield


@contextmanager
def _without_outer() -> Iterator[None]:
    between = Interpolator.between

    def alone(self: Interpolator, pair: Pair, **more: Any) -> Tensor:
        return between(self, replace(pair, sides=pair.sides[:2], reach=None), **more)

    with patch.object(Interpolator, "between", alone):
        yield


RULES: Mapping[str, Any] = {
    "marks": partial(patch, "cloudconv.models.stillness.Stillness.marks", lambda *_: None),
    "still": partial(
        patch, "cloudconv.models.stillness.sample", lambda *_: torch.zeros(())
    ),
    "near": partial(patch, "cloudconv.models.rife._NEAR", torch.inf),
    "sharpening": partial(patch, "cloudconv.models.rife.restore_detail", lambda *_: None),
    "shifts": partial(patch, "cloudconv.render.inference.move_exactly", lambda *_: None),
    "hold": partial(patch, "cloudconv.render.inference.hold", lambda *_: None),
    "gate": _without_gate,
    "odds": partial(patch, "cloudconv.models.rife.IFNet._weighed", lambda _, __, x: x),
    "outer": _without_outer,
}
"""For each rule a context in which the models work without it."""


if __name__ == "__main__":
    main()
