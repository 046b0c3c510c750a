"""Leave out each rule of collages once, and compare the dreams with those of all rules.

    python benchmarks/leave_out.py CLIP... --out FOLDER --width 160 --frames 100
    python benchmarks/leave_out.py CLIP... --out FOLDER --width 0 --rules pairs forecast

Each rule is replaced by a value or a function without effect. Each clip dreams with all rules, once
for each of two seeds, and once without each rule. FOLDER/results.json has for each dream: the
vitals that fail; the vitals relative to their limits (``excess``, above 1 fails); the distance to
the nearest frame of the clip, relative to the clip's change in ten frames (``near``, below .5 is a
replay); the change in eight frames that no motion explains, relative to the clip's (``sudden``);
and the processor time. FOLDER/RULE.png shows the dreams of all clips: each row with all rules, and
below without the rule.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from dreams import levels, small_clip

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import Wind
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.registry import method
from cloudconv.dreaming.pictures import COARSE_SIDE, grey, reduced, small_copy
from cloudconv.dreaming.vitals.vitals import VitalsMeter, vitals_meter
from cloudconv.events import result_of
from cloudconv.jobs.extend.history import gather_material
from cloudconv.media.read.probe import probe

SEEDS = 2
SHOWN = 6  # pictures of each dream in a sheet
ALL = "all rules"


class MeanWind(Wind):
    """A wind whose last flow is the mean flow."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Measure the wind."""
        super().__init__(*given, **named)
        self.recent = self.mean.clone()


def zeros(_: object, new: torch.Tensor) -> torch.Tensor:
    """Return 0 for each picture."""
    return torch.zeros(len(new))


RULES: dict[str, tuple[str, object]] = {
    "forecast": ("methods.collage._FORECAST", 0),
    "contrast of the clip": ("methods.collage._MOST_GAIN", 1.0),
    "contrast of a mix": ("methods.compositing._MOST_GAIN", 1.0),
    "borders along clouds": ("methods.collage.along_clouds", lambda weights, *_: weights),
    "pyramid": ("methods.compositing.pyramid_mean", lambda p, w: (p * w).sum(0)),
    "cost of mirror images": ("methods.clip_selector.symmetry", zeros),
    "cost of clouds seen twice": ("methods.clip_selector.repeats", zeros),
    "cost of earlier pictures": (
        "methods.clip_selector.Past.likeness",
        lambda _, thumbs: torch.zeros(len(thumbs)),
    ),
    "pictures shown whole": ("methods.clip_selector.ClipSelector._frames", lambda *_: set()),
    "single pieces": ("methods.clip_selector._SINGLE", 0.0),
    "pairs": ("methods.clip_selector._SINGLE", 1.0),
    "varied overlap": ("methods.clip_selector._OVERLAPS", (0.5, 0.5)),
    "directions of play": ("methods.clip_selector._kept_winds", lambda _: [(False, False)]),
    "uneven fronts": ("methods.transition._UNEVEN", 0.0),
    "wanted order": ("methods.front._WANTED", 0.0),
    "light of the time": ("material.light.Light.on", lambda *_, **__: None),
    "light of the place": (
        "material.light.Light.moved",
        lambda _, columns, height: torch.ones(1, height, len(columns)),
    ),
    "fraction of the slope": ("material.light._BELIEVED", 1.0),
    "speed of light": ("material.light._FOLLOWS", 1e9),
    "most gain of light": ("material.light._MOST", 1e9),
    "most gain of a place": ("material.light._MOST_MOVED", 1e9),
    "regions of light": ("material.light._REGIONS", 1),
    "parabola of light": ("material.light._POWERS", 1),
    "least light": ("material.light._DARK", 1.0),
    "frames shown in turn": ("material.wind._AGO", 0),
    "turns in slow skies only": ("material.wind._ENOUGH", inf),
    "wind of the last frames": ("methods.collage.Wind", MeanWind),
    "filled picture by degrees": ("material.wind._FILLS_BY", 1e-6),
    "widened still pixels": ("material.wind._FILLED", 1.0),
    "noise in likeness": ("methods.symmetry._NOISE", 1e-6),
    "faint parts in likeness": ("methods.symmetry._FAINT", 1e-6),
}


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--width", type=int, default=160, help="0 for the width of the clip")
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "results.json"
    results = json.loads(target.read_text()) if target.exists() else {}
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    names = [*(f"{ALL}, seed {seed}" for seed in range(SEEDS)), *options.rules]
    for clip in options.clips:
        rows = results.setdefault(str(clip), {})
        with torch.inference_mode():
            folder = options.out / clip.parent.name / "clips"
            dreams = Dreams(small_clip(clip, options.width, folder), options.frames)
            for name in (name for name in names if name not in rows):
                rows[name] = in_child(
                    partial(dreams.measured, name, strip_of(clip, name, options.out))
                )
                target.write_text(json.dumps(results))
        for name in names:
            row = rows[name]
            print(
                f"{clip.stem[:24]:24} {name[:26]:26} near {row['near']:.2f} "
                f"sudden {row['sudden']:.2f} {','.join(row['failed'])}",
                flush=True,
            )
    for name in options.rules:
        strips = [
            cv2.imread(str(strip_of(Path(clip), key, options.out)))
            for clip, rows in results.items()
            if name in rows
            for key in (names[0], name)
        ]
        cv2.imwrite(str(options.out / f"{name}.png"), np.vstack(strips))


def strip_of(clip: Path, name: str, out: Path) -> Path:
    """Return the file with the pictures of a dream beside each other."""
    return out / clip.parent.name / "strips" / f"{clip.stem}, {name}.png"


def in_child(call: Callable[[], Any]) -> Any:
    """Return the result of a call in a child process, which keeps this process unchanged."""
    context = multiprocessing.get_context("fork")
    result, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(call()))
    child.start()
    sender.close()  # so that a failed child ends the wait
    made = result.recv()
    child.join()
    return made


class Dreams:
    """The dreams of one clip."""

    def __init__(self, clip: Path, frames: int) -> None:
        """Measure the clip."""
        self._material: Material = result_of(gather_material(probe(clip)))
        self._spec = method("collage")
        kind = replace(self._spec.kind, frames=frames)
        self._meter: VitalsMeter = result_of(vitals_meter(self._material, kind))
        self._frames = frames
        count = len(self._material)
        shown = [self._material.glance(k) for k in range(count)]
        self._known = np.stack([self._look(levels) for levels in shown])
        self._sudden = sudden([reduced(grey(levels), COARSE_SIDE) for levels in shown])

    @staticmethod
    def _look(levels: np.ndarray) -> np.ndarray:
        small: np.ndarray = cv2.resize(levels, (120, 68), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32)

    def measured(self, name: str, strip: Path) -> dict[str, Any]:
        """Dream without a rule, write some pictures to ``strip``, and return the measurements."""
        seed = 0
        if name.startswith(ALL):
            seed = int(name.split()[-1])
        else:
            patch(*RULES[name])
        began = time.process_time()
        made = self._spec.build(Options()).dream(self._material, frames=self._frames, seed=seed)
        chosen = set(np.linspace(1, self._frames, SHOWN).round().astype(int) - 1)
        pictures, near, greys = [], [], []
        for number, picture in enumerate(made):
            small = small_copy(picture, self._material.small_size)
            self._meter.push(small)
            greys.append(reduced(grey(small), COARSE_SIDE))
            if number in chosen:
                pictures.append(cv2.resize(levels(picture), (240, 136)))
            if number % 10 == 9:
                apart = np.square(self._known - self._look(small)).mean((1, 2, 3))
                near.append(float(apart.min()) ** 0.5)
        took = time.process_time() - began
        strip.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(strip), np.hstack(pictures)[..., ::-1])
        step = min(10, len(self._known) - 1)
        change = np.square(self._known[step:] - self._known[:-step]).mean((1, 2, 3)) ** 0.5
        excess: dict[str, float] = {}
        for row in self._meter.rows:
            for key, value in row.values.items():
                low, high = self._meter.limits[key]
                if value is None:
                    continue
                over = max(value / high if 0 < high < inf else 0, low / value if value > 0 else 0)
                excess[key] = max(over, excess.get(key, 0.0))
        return {
            "failed": sorted({key for row in self._meter.rows for key in row.failed}),
            "excess": excess,
            "near": float(np.median(near) / max(float(change.mean()), 1e-6)),
            "sudden": sudden(greys) / max(self._sudden, 1e-6),
            "seconds": took,
        }


def sudden(greys: list[np.ndarray]) -> float:
    """Return the change in eight frames that no motion explains, in the worst of 20 blocks."""
    flows, blocks = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), []
    for before, after in zip(greys[:-8:4], greys[8::4], strict=True):
        height, width = after.shape
        place = flows.calc(after, before, None) + np.dstack(
            np.meshgrid(range(width), range(height))
        )
        moved = cv2.remap(before, place.astype(np.float32), None, cv2.INTER_LINEAR)
        apart = np.abs(moved.astype(np.float32) - after)
        size = max(width // 16, 1), max(height // 16, 1)
        blocks.append(np.quantile(cv2.resize(apart, size, interpolation=cv2.INTER_AREA), 0.95))
    return float(np.mean(blocks)) if blocks else 0.0


def patch(path: str, value: object) -> None:
    """Replace an attribute, such as ``methods.collage._FORECAST``, of a module or of a class."""
    parts = path.split(".")
    owner: Any = import_module("cloudconv.dreaming." + ".".join(parts[:2]))
    for part in parts[2:-1]:
        owner = getattr(owner, part)
    assert hasattr(owner, parts[-1]), path
    setattr(owner, parts[-1], value)


if __name__ == "__main__":
    main()
