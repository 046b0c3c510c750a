"""Measure if a predictor learns faster from a trained autoencoder's encoder than from nothing.

    python benchmarks/transfer.py [--seeds 0,1] [--csv docs/measurements/transfer.csv]

Run this where clips/ is. For each seed the recipe of skip-autoencoder runs twice: from the encoder
of the shipped autoencoder, as in the recipe, and from scratch. All else is equal. The output has
the gain over a repeated last frame on held-back frames for each validation, in dB, 1 and 2 frames
ahead, and at the end of each run the same gains on the frames of the training.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

from cloudconv.events import watched
from cloudconv.jobs import train
from cloudconv.settings import TrainSettings
from cloudconv.training.loop import Validation

RECIPE = Path(__file__).resolve().parent.parent / "weights/recipes/skip-autoencoder.toml"
STARTS = {"encoder": "autoencoder", "scratch": None}


def main() -> None:
    """Run the command that the docstring of the module shows."""
    arguments = _arguments()
    recipe = TrainSettings(recipe=RECIPE, steps=arguments.steps, threads=arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for name, init in STARTS.items():
                output = str(Path(folder) / f"{name}.safetensors")
                settings = replace(recipe, init=init, seed=seed, output=output, overwrite=True)
                result = watched(train.run(settings))
                rows += [_row(seed, name, "held back", v) for v in result.history]
                rows.append(_row(seed, name, "trained on", result.seen))
                for row in rows[-len(result.history) - 1 :]:
                    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _row(seed: int, start: str, frames: str, scores: Validation) -> dict[str, str]:
    gains = {f"gain_h{h}": p - scores.naive_psnr[h] for h, p in scores.psnr.items()}
    sharp = {f"sharpness_h{h}": share for h, share in scores.sharpness.items()}
    named = {"seed": str(seed), "start": start, "frames": frames, "step": str(scores.step)}
    return named | {name: f"{value:.3f}" for name, value in (gains | sharp).items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0]
    )
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="also write the curves here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
