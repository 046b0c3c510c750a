"""Score every predictor, including the small research models, on a folder of clips.

    python benchmarks/predictors.py CLIPS [--weights FOLDER] [--models conv,unet5,flow]
    [--json F]

For each horizon: PSNR, sharpness (Mathieu et al. 2015), L2, GDL, the total loss L2 + GDL,
and the mean gradient of the forecast relative to the truth ("gradient": 1 is as sharp as
the source). Then the middle frame by unet-middle, trained with three losses, by rife-4.6
and by blending. Scores are means over each clip, then over the clips, so that long clips do
not count more.

Clips are reduced to at most 480 pixels a side by area averaging (OpenCV). Forecasts start
at every 6th frame among the first 60 frames. Frames are counted as in the file, including
repeats.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv import checkpoints, metrics, weights
from cloudconv.errors import CloudconvError
from cloudconv.jobs.compare.methods import as_rgb
from cloudconv.media.reading.source import Source
from cloudconv.models import catalogue
from cloudconv.models.base import Interpolator, Model, Predictor
from cloudconv.models.catalogue import ModelSpec

METRICS = ("psnr", "sharpness", "l2", "gdl")
COLUMNS = ("psnr", "sharpness", "l2", "gdl", "total loss", "gradient")
Scores = dict[str, float]


def main() -> None:
    """Run the command that the docstring of the module shows."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    clips = sorted(
        p for p in arguments.clips.iterdir() if p.is_file() and p.suffix != ".md"
    )
    tables: dict[str, dict[str, dict[str, Scores]]] = {"predict": {}, "interpolate": {}}
    for spec in _wanted(arguments.models):
        try:
            model = _load(spec, arguments.weights)
        except CloudconvError as error:
            print(f"{spec.name}: left out ({error})", file=sys.stderr)
            continue
        began = time.monotonic()
        per_clip = []
        for clip in clips:
            frames = _frames(clip, arguments.frames, arguments.side)
            if isinstance(model, Predictor):
                scores = _forecasts(model, frames, arguments.horizons, arguments.every)
            else:
                assert isinstance(model, Interpolator)
                scores = _middles(model, frames, arguments.every)
            per_clip.append(scores)
            if arguments.verbose:
                shown = {key: round(value["psnr"], 2) for key, value in scores.items()}
                print(f"{spec.name} {clip.name} {shown}", file=sys.stderr)
        tables[spec.task][spec.name] = _mean(per_clip)
        print(f"{spec.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    for horizon in arguments.horizons:
        print(f"\nforecast, {horizon} ahead, {len(clips)} clips")
        _table(
            {
                name: row[str(horizon)]
                for name, row in tables["predict"].items()
                if str(horizon) in row
            }
        )
    if tables["interpolate"]:
        print(f"\nmiddle of two frames, {len(clips)} clips")
        _table({name: row["middle"] for name, row in tables["interpolate"].items()})
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a folder of clips")
    parser.add_argument(
        "--weights", type=Path, help="weights that replace the shipped ones"
    )
    parser.add_argument("--models", type=lambda text: text.split(","), help="only these")
    parser.add_argument(
        "--horizons",
        type=lambda text: [int(h) for h in text.split(",")],
        default=[1, 5, 15],
    )
    parser.add_argument("--every", type=int, default=6, help="frames between two forecasts")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
    parser.add_argument("--side", type=int, default=480, help="longest side in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write all scores here")
    parser.add_argument("-v", "--verbose", action="store_true", help="PSNR of each clip")
    return parser.parse_args()


def _wanted(names: list[str] | None) -> Iterator[ModelSpec]:
    known = {(s.name, s.task): s for s in catalogue.LISTED}
    for (name, task), spec in known.items():
        compared = task == "predict" or name in ("blend", "rife-4.6") or "middle" in name
        wanted = compared if names is None else name in names
        if wanted and task != "reconstruct":
            yield spec


def _load(spec: ModelSpec, folder: Path | None) -> Model:
    model: Model = spec.build()
    if spec.weights is not None:
        own = None if folder is None else folder / f"{spec.weights}.safetensors"
        if own is not None and own.exists():
            state, _ = checkpoints.read(own)
        else:
            state = weights.load_state(spec.weights)
        model.load_state_dict(state)
    return model.requires_grad_(False).eval()


def _frames(clip: Path, count: int, side: int) -> Tensor:
    """Return the first frames, (T, 3, H, W) float32 in [0, 1], 8-bit values, reduced."""
    pictures = []
    with Source(clip) as source:
        for frame in islice(source.frames(), count):
            rgb = as_rgb(frame).mul(255).round().byte().permute(1, 2, 0).numpy()
            part = min(1.0, side / max(rgb.shape))
            size = round(rgb.shape[1] * part), round(rgb.shape[0] * part)
            pictures.append(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _forecasts(
    model: Predictor, frames: Tensor, horizons: list[int], every: int
) -> dict[str, Scores]:
    rows: defaultdict[str, list[Scores]] = defaultdict(list)
    need = model.spec.context
    for last in range(5, len(frames) - 1, every):
        context = frames[max(last - need + 1, 0) : last + 1]
        if len(context) < need:
            continue
        reached = [h for h in horizons if last + h < len(frames)]
        forecasts = list(model.forecast(context[None], max(reached, default=0)))
        for horizon in reached:
            rows[str(horizon)].append(
                _scores(forecasts[horizon - 1][0], frames[last + horizon])
            )
    return {key: _mean_of(scores) for key, scores in rows.items()}


def _middles(model: Interpolator, frames: Tensor, every: int) -> dict[str, Scores]:
    half = torch.tensor([0.5])
    rows = [
        _scores(
            model.interpolate(frames[k - 1][None], frames[k + 1][None], half)[0], frames[k]
        )
        for k in range(5, len(frames) - 1, every)
    ]
    return {"middle": _mean_of(rows)}


def _scores(made: Tensor, truth: Tensor) -> Scores:
    made = metrics.eight_bit(made)
    scores = {name: float(metrics.PER_FRAME[name](made, truth)) for name in METRICS}
    scores["total loss"] = scores["l2"] + scores["gdl"]
    scores["gradient"] = _gradient(made) / max(_gradient(truth), 1e-6)
    return scores


def _gradient(rgb: Tensor) -> float:
    return float(rgb.diff(dim=-1).abs().mean() + rgb.diff(dim=-2).abs().mean())


def _mean_of(rows: list[Scores]) -> Scores:
    return {name: float(np.mean([row[name] for row in rows])) for name in COLUMNS}


def _mean(per_clip: list[dict[str, Scores]]) -> dict[str, Scores]:
    keys = dict.fromkeys(key for scores in per_clip for key in scores)
    return {key: _mean_of([s[key] for s in per_clip if key in s]) for key in keys}


def _table(rows: dict[str, Scores]) -> None:
    print(f"{'':24}" + "".join(f"{name:>12}" for name in COLUMNS))
    for name, scores in sorted(rows.items(), key=lambda row: -row[1]["psnr"]):
        print(f"{name:24}" + "".join(f"{scores[c]:12.4g}" for c in COLUMNS))


if __name__ == "__main__":
    main()
