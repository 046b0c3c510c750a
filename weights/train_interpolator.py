"""Train parts of an interpolator: its last blocks, or the four-frame block.

    python weights/train_interpolator.py FOLDER PACK... --held HELD
        [--recipe weights/recipes/footage/interpolator.toml] [--device cuda]

PACK and HELD are files of ``pack_footage.py``; HELD is for validation. FOLDER keeps the checkpoint,
the log, a plot of the log, and the trained weights. The same command continues from the last
checkpoint. The recipe gives the learning rate of each part that is trained. The blocks before the
first trained one run only once for each sample, before the training begins.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pack_footage as pack
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cloudconv import metrics
from cloudconv.models import registry
from cloudconv.models.base import OuterPictures
from cloudconv.models.rife import IFNet, Pair
from cloudconv.training.losses import Loss, parse_loss

PART = 15 * 2**20  # largest size of a checkpoint's file, in bytes
LAST_RATE = 0.02  # learning rate at the end, relative to that of the recipe
PAIR_ONLY = 0.25
"""Share of the batches without the frames before and after the pair."""
GRID = 4  # pixels: crops begin at multiples of this, where a pixel of the motion begins
TOGETHER = 4  # samples whose motion is estimated at once
REPORT_EVERY = 50  # steps
_LEFT, _ACROSS, _PANEL, _SPACE = 64, 560, 110, 30  # pixels of the plot
KINDS = {pack.FILMED: "filmed", pack.REDUCED: "reduced", pack.MADE_UP: "made_up"}


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("packs", type=Path, nargs="+")
    parser.add_argument("--held", type=Path, required=True)
    recipe = Path(__file__).parent / "recipes" / "footage" / "interpolator.toml"
    parser.add_argument("--recipe", type=Path, default=recipe)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    settings = tomllib.loads(given.recipe.read_text(encoding="utf-8"))["training"]
    train(given.packs, given.held, given.folder, settings, torch.device(given.device))


def train(
    packs: list[Path], held: Path, folder: Path, settings: dict[str, Any], device: torch.device
) -> None:
    """Train by a recipe's settings, from the checkpoint in ``folder`` if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    model = built(settings).to(device)
    first = first_trained(model, settings["learning_rates"])
    samples = Samples(prepared(model, packs, folder / "samples", first, device))
    unseen = Samples(prepared(model, [held], folder / "held", first, device))
    run = Run(model, settings, first, device)
    checkpoint = folder / "checkpoint"
    run.restore(checkpoint)
    if run.step == 0:
        _log(folder, {"step": 0, "seconds": 0.0, **run.validate(unseen)})
    while run.done < 1:
        run.advance(samples)
        if run.step % REPORT_EVERY == 0:
            _log(folder, {"step": run.step, "seconds": run.seconds, **run.report()})
            run.save(checkpoint)
        if run.step % settings["validate_every"] == 0 or run.done >= 1:
            _log(folder, {"step": run.step, "seconds": run.seconds, **run.validate(unseen)})
            run.save(checkpoint)
    with run.averaged():
        state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    about = {"model": model.spec.name, "task": model.spec.task}
    save_file(state, folder / "trained.safetensors", about)
    plot(folder)


def built(settings: dict[str, Any]) -> IFNet:
    """Return the interpolator with its weights, none of which is trained yet."""
    model = registry.build_model(settings["model"], task="interpolate")
    assert isinstance(model, IFNet)
    return model.requires_grad_(False)


def first_trained(model: IFNet, trained: Iterable[str]) -> int:
    """Return the number of the first trained block; each step starts with that block."""
    blocks = sum(name.startswith("block") for name, _ in model.named_children())
    first = min((n for n in range(blocks) if f"block{n}." in trained), default=blocks)
    if not first:
        raise SystemExit("block0. cannot be trained: a sample starts with the motion that it finds")
    return first


Prepared = dict[str, NDArray[Any]]


@torch.inference_mode()
def prepared(
    model: IFNet,
    packs: list[Path],
    folder: Path,
    first: int,
    device: torch.device,
) -> Prepared:
    """Return the samples' pictures, and the motion that the blocks before ``first`` estimate.

    The arrays are files in ``folder``. ``pictures``: (N, 6, 3, side, side) uint8. ``motions``:
    (N, 2, 6, h, w) float16, for each of the two true pictures. ``places``: (N, 4), kind and gap,
    and the numbers of the true pictures in the gap.
    """
    names = ("pictures", "motions", "places")
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        loaded = [load_file(path) for path in packs]
        total = sum(len(each["ends"]) for each in loaded)
        arrays: Prepared = {}
        number = 0
        for group in _groups(loaded):
            parts = _prepared(model, group, first, device)
            for name, part in zip(names, parts, strict=True):
                if name not in arrays:
                    arrays[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", "w+", part.dtype, (total, *part.shape[1:])
                    )
                arrays[name][number : number + len(part)] = part
            number += len(group)
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]
        (folder / "done").touch()
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def _groups(loaded: list[dict[str, Tensor]]) -> Iterator[list[tuple[pack.Picture, Tensor]]]:
    """Yield groups of ``TOGETHER`` samples: the six pictures, and (kind, gap, early, late)."""
    group = []
    for each in loaded:
        data, ends = each["data"].numpy(), each["ends"].tolist()
        for begin, end, places in zip([0, *ends[:-1]], ends, each["places"], strict=True):
            group.append((pack.decoded(data[begin:end]), places))
            if len(group) == TOGETHER:
                yield group
                group = []
    if group:
        yield group


def _prepared(
    model: IFNet,
    group: list[tuple[pack.Picture, Tensor]],
    first: int,
    device: torch.device,
) -> tuple[NDArray[Any], ...]:
    pictures = np.stack([one for one, _ in group])
    places = torch.stack([where for _, where in group])
    shown = torch.from_numpy(pictures).to(device).float() / 255
    x0, x1 = shown[:, pack.FIRST], shown[:, pack.SECOND]
    motions = []
    for column in (2, 3):
        timestep = (places[:, column] / places[:, 1]).float().view(-1, 1, 1, 1).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            found = islice(model._motions(Pair(x0, x1, timestep), 1.0), first)
            *_, (motion, _) = found
        motions.append(motion)
    return pictures, torch.stack(motions, 1).half().cpu().numpy(), places.numpy()


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples for one step: pictures (B, 3, H, W), and the motion before the trained blocks.

    ``outer`` holds the frames before and after the pair; None to train on the pair alone.
    """

    x0: Tensor
    x1: Tensor
    true: Tensor
    timestep: Tensor
    motion: Tensor
    outer: OuterPictures | None


class Samples:
    """Prepared samples, and random crops of them, flipped in space and in time."""

    def __init__(self, arrays: Prepared) -> None:
        """Use the arrays of :func:`prepared`, which may be on disk."""
        self._arrays = arrays
        self.kinds: list[int] = arrays["places"][:, 0].tolist()
        self._shrunk = arrays["pictures"].shape[-1] // arrays["motions"].shape[-1]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.kinds)

    def whole(self, number: int, device: torch.device) -> Batch:
        """Return one whole sample; the target is one of its two true pictures in turn."""
        side = self._arrays["pictures"].shape[-1]
        return _batch([self._cut(number, number % 2, 0, 0, side)], device, pair_only=False)

    def random(self, key: list[int], size: int, crop: int, device: torch.device) -> Batch:
        """Return a batch of random crops; the same key gives the same crops."""
        random = np.random.default_rng(key)
        room = (self._arrays["pictures"].shape[-1] - crop) // GRID
        pair_only = bool(random.random() < PAIR_ONLY)
        items = []
        for _ in range(size):
            number, which = int(random.integers(len(self))), int(random.integers(2))
            top, left = (int(n) * GRID for n in random.integers(0, room + 1, 2))
            items.append(_flipped(self._cut(number, which, top, left, crop), random))
        return _batch(items, device, pair_only=pair_only)

    def _cut(self, number: int, which: int, top: int, left: int, side: int) -> _Item:
        arrays = self._arrays

        def part(name: str, place: Any, shrunk: int) -> Tensor:
            rows, columns = (slice(n // shrunk, (n + side) // shrunk) for n in (top, left))
            return torch.from_numpy(np.array(arrays[name][number, place][..., rows, columns]))

        _, gap, *true = arrays["places"][number]
        return _Item(
            part("pictures", [*range(4), pack.EARLY + which], 1).float() / 255,
            part("motions", which, self._shrunk).float(),
            float(true[which] / gap),
        )


@dataclass(slots=True)
class _Item:
    pictures: Tensor  # the one before the pair, the pair, the one after it, and the true one
    motion: Tensor
    timestep: float


def _flipped(item: _Item, random: np.random.Generator) -> _Item:
    pictures, motion, timestep = item.pictures, item.motion, item.timestep
    if random.random() < 0.5:
        pictures, motion, timestep = (
            pictures[[3, 2, 1, 0, 4]],
            motion[[2, 3, 0, 1, 4, 5]],
            1 - timestep,
        )
        motion[4] *= -1
    for axis, flows in ((3, [0, 2]), (2, [1, 3])):
        if random.random() < 0.5:
            pictures, motion = pictures.flip(axis), motion.flip(axis - 1)
            motion[flows] *= -1
    if random.random() < 0.5:
        pictures, motion = pictures.transpose(2, 3), motion.transpose(1, 2)[[1, 0, 3, 2, 4, 5]]
    return _Item(pictures, motion, timestep)


def _batch(items: list[_Item], device: torch.device, *, pair_only: bool) -> Batch:
    pictures = torch.stack([item.pictures for item in items], 1).to(device).contiguous()
    before, x0, x1, after, true = pictures.unbind(0)
    return Batch(
        x0,
        x1,
        true,
        torch.tensor([item.timestep for item in items], device=device).view(-1, 1, 1, 1),
        torch.stack([item.motion for item in items]).to(device),
        None
        if pair_only
        else OuterPictures(before, after, torch.ones(len(items), 2, device=device)),
    )


class Run:
    """A model in training, and the state that is needed to resume."""

    def __init__(
        self, model: IFNet, settings: dict[str, Any], first: int, device: torch.device
    ) -> None:
        """Create the optimiser of the parameters that have a learning rate in the recipe."""
        self.model, self._settings, self._first, self._device = model, settings, first, device
        self._size = float(model._sizes[first - 1])
        self.step, self.seconds = 0, 0.0
        self._began = time.monotonic()
        self._trained: dict[str, nn.Parameter] = {}
        self._rates: list[float] = []
        rates = sorted(settings["learning_rates"].items(), key=lambda item: -len(item[0]))
        for name, parameter in model.named_parameters():
            rate = next((rate for prefix, rate in rates if name.startswith(prefix)), 0.0)
            if rate:
                parameter.requires_grad_(True)
                self._trained[name] = parameter
                self._rates.append(rate)
        self._average = {name: p.detach().clone() for name, p in self._trained.items()}
        self._trains_refinement = any(name.startswith("refine.") for name in self._trained)
        self._optimiser = torch.optim.AdamW(
            [{"params": [p]} for p in self._trained.values()],
            weight_decay=settings["weight_decay"],
        )
        self._loss: Loss = parse_loss(settings["loss"], relative=True)
        self._scores: list[float] = []

    @property
    def done(self) -> float:
        """Return the finished part of the training, from 0 to 1."""
        if "steps" in self._settings:
            return min(1.0, self.step / float(self._settings["steps"]))
        return min(1.0, self.seconds / 60 / float(self._settings["minutes"]))

    def advance(self, samples: Samples) -> None:
        """Make one step; its samples depend on the seed and the step alone."""
        settings = self._settings
        done = self.done
        rate = min(1.0, done / settings["warm_up"] + 1e-3)
        rate *= LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
        for group, own in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = own * rate
        key = [settings["seed"], self.step]
        batch = samples.random(key, settings["batch"], settings["crop"], self._device)
        self.model.train()
        made = self._made(batch, sharpen=False)
        naive = torch.lerp(batch.x0, batch.x1, batch.timestep)
        loss = self._loss(made, batch.true, naive)
        assert loss.isfinite(), f"the loss is no longer a number at step {self.step}"
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained.values(), settings["clip_gradient"])
        self._optimiser.step()
        share = min(settings["ema"], (2 + self.step) / (11 + self.step))
        with torch.no_grad():
            for name, parameter in self._trained.items():
                self._average[name].lerp_(parameter, 1 - share)
        self._scores.append(float(metrics.psnr(made.detach().clamp(0, 1), batch.true).mean()))
        self.step += 1
        self.seconds += self._lap()

    def _lap(self) -> float:
        now = time.monotonic()
        lap, self._began = now - self._began, now
        return lap

    def _made(self, batch: Batch, *, sharpen: bool) -> Tensor:
        model = self.model
        precision = torch.bfloat16 if self._settings["precision"] == "bf16" else torch.float32
        with torch.autocast(
            self._device.type, precision, enabled=precision != torch.float32, cache_enabled=True
        ):
            pair = Pair(batch.x0, batch.x1, batch.timestep)
            found = (batch.motion, self._size)
            for later in model._motions(pair, 1.0, batch.motion, self._first):
                found = later
            if batch.outer is None or model.refine is None:
                return model._mixed(pair, *found, sharpen=sharpen)
            with torch.set_grad_enabled(self._trains_refinement and torch.is_grad_enabled()):
                change, coarse = model._change(pair, *found, 1.0, batch.outer)
            return model._mixed(pair, *found, change, coarse, sharpen=sharpen)

    def report(self) -> dict[str, float]:
        """Return the mean PSNR of the training crops since the last report."""
        scores, self._scores = self._scores, []
        return {"training": float(np.mean(scores))}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the moving average of its weights within the context."""
        with torch.no_grad():
            kept = {name: p.detach().clone() for name, p in self._trained.items()}
            for name, parameter in self._trained.items():
                parameter.copy_(self._average[name])
            yield
            for name, parameter in self._trained.items():
                parameter.copy_(kept[name])

    def validate(self, samples: Samples) -> dict[str, float]:
        """Return scores on whole held-back samples; pictures are sharpened as in ``interp``.

        The scores are the PSNR of filmed and of reduced samples, the interpolation error of made-up
        motion (mean absolute difference in levels of 255), and the texture of the new pictures
        relative to the true ones, in dB.
        """
        found: dict[str, list[float]] = {}
        self.model.eval()
        with self.averaged():
            for number, kind in enumerate(samples.kinds):
                batch = samples.whole(number, self._device)
                made = metrics.eight_bit(self._made(batch, sharpen=True))
                name = KINDS[kind]
                if kind == pack.MADE_UP:
                    error = (made - batch.true).abs().mean() * 255
                    found.setdefault(name, []).append(float(error))
                    continue
                found.setdefault(name, []).append(float(metrics.psnr(made, batch.true)))
                found.setdefault("texture", []).append(texture(made, batch.true))
        return {name: float(np.mean(each)) for name, each in found.items()}

    def save(self, folder: Path) -> None:
        """Write a checkpoint in files of at most ``PART`` bytes, and delete older checkpoints."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "trained": {name: p.detach() for name, p in self._trained.items()},
            "average": self._average,
            "optimiser": self._optimiser.state_dict(),
        }
        stream = io.BytesIO()
        torch.save(state, stream)
        data = stream.getbuffer()
        target = folder / f"{self.step:07d}"
        target.mkdir(parents=True, exist_ok=True)
        for number, begin in enumerate(range(0, len(data), PART)):
            (target / f"part{number:02d}").write_bytes(data[begin : begin + PART])
        (target / "whole").touch()
        for other in folder.iterdir():
            if other != target:
                shutil.rmtree(other)

    def restore(self, folder: Path) -> None:
        """Continue from the checkpoint, if there is one."""
        found = sorted(folder.glob("*/whole"))
        if not found:
            return
        parts = sorted(found[-1].parent.glob("part*"))
        stream = io.BytesIO(b"".join(part.read_bytes() for part in parts))
        state = torch.load(stream, map_location=self._device, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(state["trained"][name])
                self._average[name].copy_(state["average"][name])
        self._optimiser.load_state_dict(state["optimiser"])


def texture(made: Tensor, true: Tensor) -> float:
    """Return the energy of the finest band of luma relative to the true picture, in dB."""
    offsets = torch.arange(-3, 4)
    weights = torch.exp(-(offsets**2) / 2.0)
    kernel = torch.outer(weights, weights).div(weights.sum() ** 2)[None, None]
    energies = []
    for picture in (made, true):
        luma = metrics.luma(picture)[:, None].float()
        band = luma[..., 3:-3, 3:-3] - F.conv2d(luma, kernel.to(luma.device))
        energies.append(float(band.square().mean()) + 1e-8)
    return 10 * math.log10(energies[0] / energies[1])


def plot(folder: Path) -> None:
    """Draw the log as an SVG: each held-back score over the steps, scaled to its range."""
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    looks = [entry for entry in entries if "training" not in entry]
    names = [name for name in looks[0] if name not in ("step", "seconds")]
    last = max(entry["step"] for entry in entries) or 1
    parts = []
    for row, name in enumerate(names):
        points = [(entry["step"], entry[name]) for entry in looks]
        low, high = min(y for _, y in points), max(y for _, y in points)
        top = row * (_PANEL + _SPACE) + _SPACE
        room = high - low or 1.0
        line = " ".join(
            f"{_LEFT + _ACROSS * x / last:.1f},{top + _PANEL * (high - y) / room:.1f}"
            for x, y in points
        )
        parts.append(
            f'<text x="{_LEFT}" y="{top - 6}">{name}: {points[0][1]:.3f} to {points[-1][1]:.3f}'
            f'</text><rect x="{_LEFT}" y="{top}" width="{_ACROSS}" height="{_PANEL}"/>'
            f'<polyline points="{line}"/>'
            f'<text x="4" y="{top + 12}">{high:.3f}</text>'
            f'<text x="4" y="{top + _PANEL}">{low:.3f}</text>'
        )
    height = len(names) * (_PANEL + _SPACE) + 2 * _SPACE
    hours = entries[-1]["seconds"] / 3600
    foot = f'<text x="{_LEFT}" y="{height - 14}">{last} steps, {hours:.1f} hours</text>'
    style = "text{font:12px sans-serif}rect{fill:none;stroke:#bbb}polyline{fill:none;stroke:#06c}"
    (folder / "log.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _ACROSS + 16}" '
        f'height="{height}"><style>{style}</style>{"".join(parts)}{foot}</svg>\n',
        encoding="utf-8",
    )


def _log(folder: Path, entry: dict[str, float]) -> None:
    line = json.dumps({name: round(value, 4) for name, value in entry.items()})
    print(line, flush=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")


if __name__ == "__main__":
    main()
