"""Pack crops of clips, and made-up motion with exact middle frames, into one training file.

    python weights/pack_footage.py CLIPS OUTPUT [--recipe weights/recipes/footage/interpolator.toml]
        [--held-back] [--mib 35] [--lossless]

CLIPS holds the folders that the recipe names. A sample has six pictures: a pair, the
frames before and after the pair, and two true frames from between. Most samples are reduced to half
the size, which removes compression artefacts. With ``--held-back``, the file holds samples of the
clips that the recipe keeps out of training, to validate on. With ``--lossless`` the pictures are
PNG, otherwise JPEG. The recipe gives the seed, so the same clips give the same file.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from cloudconv.media.color import rgb_of, thumbnail
from cloudconv.media.source import Source
from cloudconv.schedule.scene import CutDetector, RepeatDetector
from cloudconv.training import clips

Picture = NDArray[np.uint8]
Kind = int
FILMED, REDUCED, MADE_UP = range(3)
BEFORE, FIRST, SECOND, AFTER, EARLY, LATE = range(6)

MIB = 2**20
LONGEST_GAP = 8  # frames from one picture of the pair to the other
LIVELIEST_OF = 3  # random crops, of which the one with the most motion is likely to be taken
LEAST_MOTION = 0.8  # least mean difference within the pair, in levels of 255
QUALITY = 95  # of JPEG, without subsampling of colours


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded column of six pictures.

    ``gap``: frames from one picture of the pair to the other. ``early``, ``late``: the numbers of
    the true pictures, counted from the first of the pair.
    """

    data: bytes
    kind: Kind
    clip: str
    gap: int
    early: int
    late: int


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("output", type=Path)
    recipe = Path(__file__).parent / "recipes" / "footage" / "interpolator.toml"
    parser.add_argument("--recipe", type=Path, default=recipe)
    parser.add_argument("--held-back", action="store_true")
    parser.add_argument("--mib", type=float, default=35)
    parser.add_argument("--lossless", action="store_true")
    given = parser.parse_args()
    settings = tomllib.loads(given.recipe.read_text(encoding="utf-8"))["footage"]
    names = held_back(settings, given.recipe)
    found = [
        clip
        for folder in settings["folders"]
        for clip in _open(given.clips / folder)
        if (clip.info.path.name in names) == given.held_back
    ]
    samples = interleaved(found, settings, lossless=given.lossless)
    kept = write(samples, given.output, given.mib, settings["side"])
    print(f"{kept} samples of {len(found)} clips, {given.output.stat().st_size / MIB:.1f} MiB")


def held_back(settings: dict[str, Any], recipe: Path) -> set[str]:
    """Return the file names of the clips that are kept out of the training."""
    names = set(settings.get("held_back", []))
    for listed in settings.get("held_back_lists", []):
        lines = (recipe.parent / listed).read_text(encoding="utf-8").splitlines()
        names |= {line.split("\t")[-1] for line in lines if line and not line.startswith("#")}
    return names


def _open(folder: Path) -> list[clips.TrainingClip]:
    (group,) = clips.open_clips([str(folder)])
    return group


def interleaved(
    found: list[clips.TrainingClip], settings: dict[str, Any], *, lossless: bool
) -> Iterator[Sample]:
    """Yield one sample of each clip in turn, so that a small file has samples of all clips."""
    of_clips = []
    textures: list[Picture] = []
    for number, clip in enumerate(found):
        random = np.random.default_rng([settings["seed"], number])
        frames, looks = _frames(clip, settings["longest"])
        if frames:
            textures.append(frames[0])
            of_clips.append(list(_filmed(clip, frames, looks, settings, random, lossless)))
    made_up = []
    for number in range(settings["made_up"]):
        random = np.random.default_rng([settings["seed"], len(found), number])
        pictures, places = made_up_motion(textures, settings["side"], random)
        made_up.append(Sample(_encoded(pictures, lossless=lossless), MADE_UP, "", *places))
    # Spread the made-up samples over the whole file.
    each = -(-len(made_up) // max(1, max(map(len, of_clips), default=1)))
    rounds = [made_up[n : n + each] for n in range(0, len(made_up), max(1, each))]
    for filmed, added in zip_longest(zip_longest(*of_clips), rounds, fillvalue=()):
        yield from (sample for sample in filmed if sample is not None)
        yield from added


def _frames(clip: clips.TrainingClip, longest: int) -> tuple[list[Picture], list[Tensor]]:
    """Return at most ``longest`` frames that differ, (H, W, 3) RGB, and their thumbnails."""
    frames: list[Picture] = []
    looks = []
    repeats = RepeatDetector()
    with Source(clip.info, threads=1) as source:
        for frame in source.frames():
            if repeats.push(frame) and frames:
                continue
            looks.append(thumbnail(frame, *CutDetector.THUMBNAIL))
            rgb = rgb_of(frame).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
            frames.append(rgb.permute(1, 2, 0).contiguous().numpy())
            if len(frames) == longest:
                break
    return frames, looks


def _filmed(
    clip: clips.TrainingClip,
    frames: list[Picture],
    looks: list[Tensor],
    settings: dict[str, Any],
    random: np.random.Generator,
    lossless: bool,
) -> Iterator[Sample]:
    """Yield samples of a clip, each within one scene."""
    side, height = settings["side"], min(frames[0].shape[:2])
    kinds = [FILMED] * settings["filmed"]
    if height >= 2 * side:
        kinds += [REDUCED] * settings["reduced"]
    elif height >= side:
        kinds += [FILMED] * (settings["reduced"] // 2)
    else:
        return
    random.shuffle(kinds)
    for kind in kinds:
        for _ in range(4):
            longest = min(LONGEST_GAP, (len(frames) - 1) // 3)
            if longest < 2:
                return
            gap = 2 + int((longest - 1) * random.random() ** 1.5)
            start = int(random.integers(len(frames) - 3 * gap))
            if clips._has_cut(looks[start : start + 3 * gap + 1]):
                continue
            true = sorted(int(n) for n in random.integers(1, gap, 2))
            taken = [start + k * gap for k in range(4)] + [start + gap + n for n in true]
            cut = _cut([frames[n] for n in taken], kind, side, random)
            if cut is not None:
                data = _encoded(cut, lossless=lossless)
                yield Sample(data, kind, clip.info.path.name, gap, *true)
                break


def _cut(
    pictures: list[Picture], kind: Kind, side: int, random: np.random.Generator
) -> list[Picture] | None:
    """Return a crop where much moves, or None if hardly anything moves."""
    step = 2 if kind == REDUCED else 1
    height, width = pictures[0].shape[:2]
    tried = []
    for _ in range(LIVELIEST_OF):
        top, left = (int(random.integers(n - step * side + 1)) for n in (height, width))
        place = slice(top, top + step * side), slice(left, left + step * side)
        first, second = (pictures[n][place][::4, ::4].astype(np.int16) for n in (FIRST, SECOND))
        motion = float(np.abs(first - second).mean())
        tried.append((motion * (0.5 + random.random()), motion, place))
    _, motion, place = max(tried, key=lambda one: one[0])
    if motion < LEAST_MOTION:
        return None
    parts = [picture[place] for picture in pictures]
    if step == 1:
        return parts
    return [cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA) for part in parts]


def made_up_motion(
    textures: list[Picture], side: int, random: np.random.Generator
) -> tuple[list[Picture], tuple[int, int, int]]:
    """Return six pictures of patches that move on smooth paths, and (gap, early, late).

    Each picture is drawn at twice the size and reduced. Patches occlude those behind them. Some
    samples have motion blur, some have noise.
    """
    gap = LONGEST_GAP
    early, late = sorted(int(n) for n in random.integers(1, gap, 2))
    moments = [-1.0, 0.0, 1.0, 2.0, early / gap, late / gap]
    layers = [_Layer.draw(textures, 2 * side, random, number) for number in range(_layers(random))]
    shutter = float(random.uniform(0.1, 0.5)) / gap if random.random() < 0.35 else 0.0
    noise = float(random.uniform(0.5, 3.0)) if random.random() < 0.35 else 0.0
    pictures = []
    for moment in moments:
        blurred = np.linspace(-0.5, 0.5, 5) * shutter if shutter else np.zeros(1)
        shots = [_drawn(layers, moment + offset, side) for offset in blurred]
        picture = np.mean(shots, 0) + random.normal(0, noise, (side, side, 3)) * bool(noise)
        pictures.append(np.clip(np.round(picture), 0, 255).astype(np.uint8))
    return pictures, (gap, early, late)


def _layers(random: np.random.Generator) -> int:
    return 1 + int(random.integers(1, 5))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A texture, its opacity, (n, n), and its path.

    ``speed`` and ``bend`` are the steady and the accelerated part of the shift, in pixels. ``turn``
    (radians) and ``zoom`` (logarithm) are steady. All are per gap between the pair.
    """

    texture: Picture
    opacity: NDArray[np.float32]
    speed: NDArray[np.float64]
    bend: NDArray[np.float64]
    turn: float
    zoom: float

    @classmethod
    def draw(
        cls, textures: list[Picture], side: int, random: np.random.Generator, number: int
    ) -> _Layer:
        """Return a random layer; the first one fills the picture."""
        large = 2 * side
        texture = textures[random.integers(len(textures))]
        height, width = texture.shape[:2]
        size = min(height, width, large)
        top, left = (int(random.integers(n - size + 1)) for n in (height, width))
        part = texture[top : top + size, left : left + size]
        # The canvas is twice as wide as the view; mirror images of the texture fill its borders.
        spare = large - size
        part = cv2.copyMakeBorder(
            part, spare // 2, spare - spare // 2, spare // 2, spare - spare // 2, cv2.BORDER_REFLECT
        )
        opacity = np.ones((large, large), np.float32)
        if number:
            opacity = _shape(large, side, random)
        reach = side * (0.02 if random.random() < 0.3 else 0.09)
        return cls(
            np.ascontiguousarray(part),
            opacity,
            random.normal(0, reach, 2),
            random.normal(0, reach * 0.06, 2),
            float(random.normal(0, 0.03)),
            float(random.normal(0, 0.025)),
        )

    def placed(self, moment: float) -> NDArray[np.float64]:
        """Return the affine map at a moment: 0 is the first picture of the pair, 1 the second."""
        since = moment - 0.5
        large = len(self.opacity)
        shift = self.speed * since + self.bend * since**2
        angle, scale = self.turn * since, np.exp(self.zoom * since)
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        middle = large / 2 - 0.5
        target = large / 4 - 0.5 + shift  # the middle of the view
        return np.array(
            [
                [c, -s, target[0] - c * middle + s * middle],
                [s, c, target[1] - s * middle - c * middle],
            ]
        )


def _shape(large: int, side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return the opacity of a patch: a star-shaped outline with an edge of about two pixels."""
    mask = np.zeros((large, large), np.uint8)
    corners = int(random.integers(4, 12))
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(0.05, 0.3) * side * random.uniform(0.6, 1.4, corners)
    middle = large / 2 + random.uniform(-0.4, 0.4, 2) * side
    points = middle + np.stack((np.cos(angles), np.sin(angles)), 1) * radii[:, None]
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    soft: NDArray[np.float32] = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 1.2)
    return soft


def _drawn(layers: list[_Layer], moment: float, side: int) -> NDArray[np.float32]:
    """Return the view at a moment, (side, side, 3)."""
    size = (2 * side, 2 * side)
    view = np.zeros((*size, 3), np.float32)
    for number, layer in enumerate(layers):
        matrix = layer.placed(moment)
        texture = cv2.warpAffine(
            layer.texture.astype(np.float32),
            matrix,
            size,
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )
        if not number:
            view = np.asarray(texture, np.float32)
            continue
        opacity = cv2.warpAffine(layer.opacity, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
        view = view + opacity * (texture - view)
    reduced: NDArray[np.float32] = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
    return reduced


def _encoded(pictures: list[Picture], *, lossless: bool) -> bytes:
    image = cv2.cvtColor(np.concatenate(pictures), cv2.COLOR_RGB2BGR)
    if lossless:
        done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    else:
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *sampling])
    assert done, "the picture could not be encoded"
    return bytes(data)


def write(samples: Iterator[Sample], output: Path, mib: float, side: int) -> int:
    """Write samples until the file would be larger than ``mib``; return how many there are."""
    kept: list[Sample] = []
    size = 0
    for sample in samples:
        # The numbers and the name of a sample take some bytes, too.
        size += len(sample.data) + len(sample.clip) + 64
        if size > mib * MIB:
            break
        kept.append(sample)
    assert kept, "no clip gave a sample"
    data = np.frombuffer(b"".join(sample.data for sample in kept), np.uint8)
    ends = np.cumsum([len(sample.data) for sample in kept])
    places = [[sample.kind, sample.gap, sample.early, sample.late] for sample in kept]
    tensors = {
        "data": torch.from_numpy(data.copy()),
        "ends": torch.from_numpy(ends),
        "places": torch.tensor(places),
    }
    names = "\n".join(sample.clip for sample in kept)
    save_file(tensors, output, {"clips": names, "side": str(side)})
    return len(kept)


def decoded(data: Picture) -> Picture:
    """Return the six pictures of a sample, (6, 3, side, side) RGB."""
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None, "the file is damaged"
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    side = image.shape[1]
    pictures: Picture = image.reshape(6, side, side, 3).transpose(0, 3, 1, 2).astype(np.uint8)
    return pictures


if __name__ == "__main__":
    main()
