"""Train the block that looks at four frames, on top of an interpolator that stays as it is.

    python weights/train_refine.py samples CLIPS SAMPLES --model cloud-best --without RECIPE
    python weights/train_refine.py train SAMPLES OUTPUT --model cloud-best [--init FILE]
        [--half] [--minutes 38] [--rate 0.0012] [--batch 6] [--crop 192]
    python weights/train_refine.py join BLOCK OUTPUT --model cloud-best [--share 0.6]

The first step cuts samples out of a folder of clips: six pictures each (the one before the pair,
the pair, the one after it, and two true ones from between), in gaps of two to eight frames, and
the motion that the model finds for the two. Clips that the recipe validates on are left out. The
second step trains the block on them, with ``--half`` on pictures of half the size, which is
quicker. The third step puts the block into the model's weights, with a share of its corrections:
on clips held out of the training 0.6 of them gain nearly as much as all, and harm less.
"""

from __future__ import annotations

import argparse
import math
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from cloudconv import weights
from cloudconv.media.color import thumbnail
from cloudconv.media.read.source import Source
from cloudconv.models import registry
from cloudconv.models.ops import resize
from cloudconv.models.rife import IFNet
from cloudconv.schedule.scene import CutDetector, RepeatDetector
from cloudconv.training import clips
from cloudconv.training.losses import parse_loss

SIDE, EACH, LONGEST = 288, 48, 220
"""Pixels of a sample; samples of a clip; frames of it that are looked at."""
CROP = 192  # the smallest sample that is used
LOSS = "psnr:4,charbonnier:1,laplacian:1,gdl:0.5"
ALONE = 0.05
"""How many samples lack the picture before the pair, and that after it."""
AVERAGE = 0.998
WARM_UP = 100  # steps
LAST_RATE = 0.02
BEFORE, FIRST, SECOND, AFTER = range(4)


def model_of(name: str) -> IFNet:
    """The interpolator with its weights; its refinement, if the weights have none, as built."""
    model = registry.spec(name).build()
    assert isinstance(model, IFNet)
    state = weights.load_state(name)
    model.load_state_dict({**model.state_dict(), **state})
    return model


def cut_samples(
    clip: clips.Clip, random: np.random.Generator
) -> tuple[list[Tensor], list[list[int]]]:
    """Six pictures a sample, (6, 3, side, side) uint8, and its gap and the places of the true."""
    frames, looks = [], []
    repeats = RepeatDetector()
    with Source(clip.info, threads=1) as source:
        for frame in source.frames():
            if repeats.push(frame) and frames:
                continue
            looks.append(thumbnail(frame, *CutDetector.THUMBNAIL))
            frames.append(clips._picture(frame, clip.shape))
            if len(frames) == LONGEST:
                break
    height, width = clip.shape
    side = min(SIDE, height // 32 * 32, width // 32 * 32)
    samples: list[Tensor] = []
    places: list[list[int]] = []
    for _ in range(4 * EACH):
        gap = min(2 + int(7 * random.random() ** 2), (len(frames) - 1) // 3)
        if gap < 2 or len(samples) == EACH:
            break
        start = int(random.integers(len(frames) - 3 * gap))
        if clips._has_cut(looks[start : start + 3 * gap + 1]):
            continue
        first, second = frames[start + gap], frames[start + 2 * gap]
        liveliest = (-1.0, 0, 0)
        for _ in range(3):
            top, left = (int(random.integers(n - side + 1)) for n in (height, width))
            part = (..., slice(top, top + side, 4), slice(left, left + side, 4))
            difference = (first[part].float() - second[part]).abs().mean()
            liveliest = max(liveliest, (float(difference) * (0.5 + random.random()), top, left))
        _, top, left = liveliest
        true = [int(n) for n in random.integers(1, gap, 2)]
        taken = [start + k * gap for k in range(4)] + [start + gap + n for n in true]
        cut = [frames[n][:, top : top + side, left : left + side] for n in taken]
        samples.append(torch.stack(cut))
        places.append([gap, *true])
    return samples, places


@torch.inference_mode()
def motions(model: IFNet, samples: Tensor, places: NDArray[np.int64]) -> NDArray[np.float16]:
    """What the model finds between the pair, at the moments of the true ones, at half the size."""
    found = []
    for pictures, (gap, *true) in zip(samples, places, strict=True):
        x0, x1 = (pictures[k].float().div(255).expand(2, -1, -1, -1) for k in (FIRST, SECOND))
        timestep = torch.tensor([n / gap for n in true]).view(2, 1, 1, 1)
        *_, (motion, size) = model._motions(x0, x1, timestep, 1.0)
        side = samples.shape[-1] // 2
        small = resize(motion, size / 2)[..., :side, :side]
        small[:, :4] *= size / 2
        found.append(small.half().numpy())
    return np.stack(found)


def make_samples(folder: Path, target: Path, name: str, recipe: Path) -> None:
    """Write the samples of each clip that the recipe does not validate on."""
    target.mkdir(parents=True, exist_ok=True)
    held = {Path(path).name for path in tomllib.loads(recipe.read_text())["val"]}
    model = model_of(name).eval()
    (group,) = clips.open_clips([str(folder)], size=1280)
    for number, clip in enumerate(group):
        if clip.info.path.name in held or min(clip.shape) < CROP:
            continue
        samples, places = cut_samples(clip, np.random.default_rng(number))
        if samples:
            together = torch.stack(samples)
            found = motions(model, together, np.array(places))
            stem = target / clip.info.path.name
            np.save(f"{stem}.pictures.npy", together.numpy())
            np.save(f"{stem}.motions.npy", found)
            np.save(f"{stem}.places.npy", np.array(places))
        print(clip.info.path.name, len(samples), flush=True)


class Samples:
    """Batches of random samples, turned and mirrored in space and in time."""

    def __init__(self, folder: Path, batch: int, crop: int, *, half: bool) -> None:
        stems = sorted(str(p)[: -len(".pictures.npy")] for p in folder.glob("*.pictures.npy"))
        kinds = ("pictures", "motions", "places")
        self._clips = [[np.load(f"{s}.{kind}.npy", mmap_mode="r") for kind in kinds] for s in stems]
        self._clips = [clip for clip in self._clips if clip[0].shape[-1] >= crop]
        self._batch, self._crop, self._half = batch, crop, half
        self._random = np.random.default_rng(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        while True:
            pictures, found, moments, reaches = zip(
                *(self._sample() for _ in range(self._batch)), strict=True
            )
            yield (
                torch.stack(pictures, 1),
                torch.stack(found).contiguous(),
                torch.tensor(moments).float().view(-1, 1, 1, 1),
                torch.tensor(reaches),
            )

    def _sample(self) -> tuple[Tensor, Tensor, float, list[float]]:
        random = self._random
        pictures, found, places = self._clips[random.integers(len(self._clips))]
        number, which = int(random.integers(len(pictures))), int(random.integers(2))
        gap, *true = places[number]
        moment = float(true[which] / gap)
        y, x = (int(n) for n in random.integers(0, (pictures.shape[-1] - self._crop) // 2 + 1, 2))
        chosen = pictures[number][
            [0, 1, 2, 3, 4 + which], :, 2 * y : 2 * y + self._crop, 2 * x : 2 * x + self._crop
        ]
        shown = torch.from_numpy(chosen).float() / 255
        part = found[number, which, :, y : y + self._crop // 2, x : x + self._crop // 2]
        motion = torch.from_numpy(part.copy()).float()
        reach = [1.0, 1.0]
        for k, (outer, own) in enumerate(((BEFORE, FIRST), (AFTER, SECOND))):
            if random.random() < ALONE:
                shown[outer], reach[k] = shown[own], 0.0
        if random.random() < 0.5:
            shown, motion = shown[[3, 2, 1, 0, 4]], motion[[2, 3, 0, 1, 4, 5]]
            motion[4] *= -1
            moment, reach = 1 - moment, reach[::-1]
        for axis, flows in ((3, [0, 2]), (2, [1, 3])):
            if random.random() < 0.5:
                shown, motion = shown.flip(axis), motion.flip(axis - 1)
                motion[flows] *= -1
        if random.random() < 0.5:
            shown, motion = shown.transpose(2, 3), motion.transpose(1, 2)[[1, 0, 3, 2, 4, 5]]
        if self._half:
            shown = resize(shown.contiguous(), 0.5)
        return shown, motion, moment, reach


def train(given: argparse.Namespace) -> None:
    """Write the moving average of the block's weights."""
    model = model_of(given.model)
    assert model.refine is not None
    block = model.refine
    if given.init is not None:
        block.load_state_dict(load_file(given.init))
    model.requires_grad_(False)
    block.requires_grad_(True)
    optimiser = torch.optim.AdamW(block.parameters(), given.rate, weight_decay=1e-4)
    average = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    loss = parse_loss(LOSS, relative=True)
    torch.manual_seed(0)
    began = time.monotonic()
    scores: list[float] = []
    samples = Samples(given.samples, given.batch, given.crop, half=given.half)
    for step, (pictures, motion, timestep, reach) in enumerate(samples):
        done = (time.monotonic() - began) / 60 / given.minutes
        if done >= 1:
            break
        cosine = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
        for group in optimiser.param_groups:
            group["lr"] = given.rate * min(1, (step + 1) / WARM_UP) * cosine
        before, x0, x1, after, true = pictures.unbind(0)
        small = [x if given.half else resize(x, 0.5) for x in (x0, x1, before, after)]
        change = block(small, motion, timestep, reach)
        change = torch.cat((change[:, :6] + motion, change[:, 6:]), 1)
        # Not sharpened yet: that comes after.
        made = model._mixed(x0, x1, timestep, change, 1.0 if given.half else 2.0).picture
        total = loss(made, true, torch.lerp(x0, x1, timestep))
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(block.parameters(), 1.0)
        optimiser.step()
        share = min(AVERAGE, (2 + step) / (11 + step))
        for name, tensor in block.state_dict().items():
            average[name].lerp_(tensor, 1 - share)
        scores.append(float(-10 * (made.detach() - true).square().mean().log10()))
        if step % 200 == 199:
            print(f"{step + 1} steps, {np.mean(scores[-200:]):.3f} dB", flush=True)
            save_file(average, given.output)
    save_file(average, given.output)


def join(block: Path, output: Path, name: str, share: float) -> None:
    """The model's weights with the block's in them, as ``add_trained.py`` takes them.

    ``share``: how much of its corrections is taken.
    """
    spec = registry.spec(name)
    state = {
        f"refine.{key}": tensor * (share if ".lastconv." in key else 1.0)
        for key, tensor in load_file(block).items()
    }
    own = model_of(name).state_dict()
    save_file({**own, **state}, output, {"model": spec.name, "task": spec.task})


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for step, names in (
        ("samples", ["clips", "samples"]),
        ("train", ["samples", "output"]),
        ("join", ["block", "output"]),
    ):
        command = steps.add_parser(step)
        for name in names:
            command.add_argument(name, type=Path)
        command.add_argument("--model", default="cloud-best")
        if step == "join":
            command.add_argument("--share", type=float, default=0.6)
        if step == "samples":
            command.add_argument("--without", type=Path, required=True)
        if step == "train":
            command.add_argument("--init", type=Path)
            command.add_argument("--half", action="store_true")
            command.add_argument("--minutes", type=float, default=38)
            command.add_argument("--rate", type=float, default=0.0012)
            command.add_argument("--batch", type=int, default=6)
            command.add_argument("--crop", type=int, default=192)
    given = parser.parse_args()
    if given.step == "samples":
        make_samples(given.clips, given.samples, given.model, given.without)
    elif given.step == "train":
        train(given)
    else:
        join(given.block, given.output, given.model, given.share)


if __name__ == "__main__":
    main()
