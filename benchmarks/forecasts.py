"""Compare forecasts of clips' last 15 frames, by extrapolate's measure and by eye.

    python benchmarks/forecasts.py CLIP... [--sheets FOLDER]

For each clip, reduced to 560 pixels: the choice of two trials on the 15 and the 7 frames
before the last 15, and the choice that the true last frames give; with the fault of each
model, the mean over the frames, of both trials together. Then means over the clips at 1, 2,
4, 8 and 12 frames: PSNR, the finest band where anything moves relative to the true frame
(dB), and the fault. A sheet shows the true frames and a row for each model. Frames that
repeat the one before are left out. At most 150 frames are read.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.choice import fault
from cloudconv.jobs.extend.extrapolate import CANDIDATES
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.metrics import eight_bit, luma, psnr
from cloudconv.models import registry

AHEAD = 15
SIDE = 560
MOST = 150
KEPT = 60
SHOWN = (0, 1, 3, 7, 11)


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    models = (*CANDIDATES, "hold")
    means = defaultdict(list)
    for clip in arguments.clips:
        frames = _frames(clip)
        known = frames[:-AHEAD]
        tried = min(AHEAD, len(known) - 8)
        trials = [(known[:-span], known[-span:]) for span in (tried, max(1, tried // 2))]
        line = [clip.stem[-30:]]
        chosen = ""
        for spans in (trials, [(known, frames[-AHEAD:])]):
            total = dict.fromkeys(models, 0.0)
            for before, true in spans:
                forecasts = {name: _forecast(name, before, len(true)) for name in models}
                faults = {
                    name: [
                        fault(*pair, before[-1]) for pair in zip(each, true, strict=True)
                    ]
                    for name, each in forecasts.items()
                }
                for name in models:
                    total[name] += float(np.mean(faults[name])) / len(spans)
            best = min(CANDIDATES, key=lambda name: total[name])
            chosen = chosen or best
            line.append(
                f"{best:9} " + " ".join(f"{total[name]:.3f}" for name in CANDIDATES)
            )
        for name in models:
            score = [
                (float(psnr(each, truth)), _detail(each, truth, known[-1]), wrong)
                for each, truth, wrong in zip(
                    forecasts[name], true, faults[name], strict=True
                )
            ]
            for label in (name, *(["auto"] if name == chosen else [])):
                means[label].append([score[k] for k in SHOWN])
        print(" | ".join(line), flush=True)
        if arguments.sheets is not None:
            rows = [true, *(forecasts[name] for name in CANDIDATES)]
            wide = [torch.cat([row[k] for k in SHOWN], 2) for row in rows]
            sheet = torch.cat(wide, 1).mul(255).byte().permute(1, 2, 0).numpy()
            cv2.imwrite(str(arguments.sheets / f"{clip.stem}.png"), sheet[..., ::-1])
    for name, scores in means.items():
        for title, values in zip(
            ("PSNR", "detail", "fault"), np.mean(scores, 0).T, strict=True
        ):
            print(f"{name:10} {title:7}", " ".join(f"{value:.2f}" for value in values))


def _frames(clip: Path) -> list[Tensor]:
    result: list[Tensor] = []
    for frame in Source(probe(clip, None, deinterlace=False)).frames():
        rgb = rgb_of(frame).permute(1, 2, 0).numpy()
        scale = min(1.0, SIDE / max(rgb.shape))
        size = [round(side * scale / 2) * 2 for side in (rgb.shape[1], rgb.shape[0])]
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        picture = eight_bit(torch.from_numpy(small).permute(2, 0, 1))
        if not result or (picture - result[-1]).abs().mean() > 0.15 / 255:
            result.append(picture)
        if len(result) == MOST:
            break
    return result[-KEPT:]


def _forecast(name: str, context: list[Tensor], count: int) -> list[Tensor]:
    model = registry.load_predictor(name)
    return [
        eight_bit(made[0]) for made in model.forecast(torch.stack(context)[None], count)
    ]


def _detail(made: Tensor, true: Tensor, last: Tensor) -> float:
    one, two, three = (luma(picture).mul(255).numpy() for picture in (made, true, last))
    moving = cv2.GaussianBlur(cv2.absdiff(two, three), (0, 0), 2) > 6
    if not moving.any():
        return 0.0
    bands = [
        np.square(picture - cv2.GaussianBlur(picture, (0, 0), 1))[moving]
        for picture in (one, two)
    ]
    return float(10 * np.log10((bands[0].mean() + 1e-3) / (bands[1].mean() + 1e-3)))


if __name__ == "__main__":
    main()
