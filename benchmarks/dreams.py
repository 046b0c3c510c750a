"""Score dreams of a folder of clips: a table, and a contact sheet for each dream.

    python benchmarks/dreams.py CLIP... --out FOLDER --frames 300 --width 320
    python benchmarks/dreams.py CLIP... --out FOLDER --check
    python benchmarks/dreams.py CLIP... --out FOLDER --land

Clips are reduced first. Each row has the mode and its reason, the share of unreal blocks on
average and in the worst frame, the vitals that failed, and new frames a second without
encoding. A block has sides of 20 pixels at a width of 320. An unreal block differs from all
source frames at its place by more than .03 (root mean square). FOLDER/results.json gets all
vitals of each window.

``--check`` tests the vitals themselves, over all windows of the clips. The second half of a
clip must be alive when compared with the first. Faults that no footage has must be dead:
two frames mixed, a rectangle of another frame, a repeated edge column, a sudden change of
light.

``--land`` prints the fraction of the picture that counts as land, of clips at their full
size. The sheet of a clip has the last frame, and the same frame with the land in red.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from cloudconv.dreaming.auto import choose
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Composed, Options
from cloudconv.dreaming.methods.modes import method
from cloudconv.dreaming.rehearsal import Rehearsal
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.vitals import Vitals, VitalsMeter
from cloudconv.images import picture_from, small_copy, tensor_of
from cloudconv.jobs.extend.ending import gather_material
from cloudconv.media.reading.probe import probe

BLOCK, WIDE = 20, 320
UNREAL = 0.03
# Least frames of half a clip: a shorter half says too little about the other.
LEAST_HALF = 24


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument(
        "--width", type=int, default=320, help="0 for the width of the clip"
    )
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="test the vitals instead")
    parser.add_argument(
        "--land", action="store_true", help="show what counts as land instead"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "results.json"
    results = json.loads(target.read_text()) if target.exists() else {}
    if options.check:
        with torch.inference_mode():
            check(options)
        return
    if options.land:
        for clip in options.clips:
            show_land(clip, options.out)
        return
    for clip in options.clips:
        with torch.inference_mode():
            result = measure(clip, options)
        results[clip.name] = result
        target.write_text(json.dumps(results, indent=1))
        failed = sorted({name for row in result["vitals"] for name in row["failed"]})
        print(
            f"{clip.stem[:34]:34} {result['mode']:8} unreal {result['unreal']:6.1%} "
            f"worst {result['worst']:6.1%} alive {result['alive']}/{len(result['vitals'])} "
            f"{result['fps']:5.1f}/s {','.join(failed)} | {result['why']}",
            flush=True,
        )


def measure(clip: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Continue a clip and return the values of its row."""
    info = probe(small_clip(clip, options.width, options.out))
    material = gather_material(info)
    began = time.perf_counter()
    mode = options.mode
    why = "asked for"
    if mode == "auto":
        asked = Options(options.frames, options.seed)
        choice = choose(
            material, lambda name: Rehearsal(method(name), material, asked).made()
        )
        mode, why = choice.mode, choice.why
    spec = method(mode)
    result = spec.dream(material, Options(options.frames, options.seed))
    meter = VitalsMeter(FilmFeatures(material), options.frames)
    chosen = set(np.linspace(1, options.frames, 8).round().astype(int) - 1)
    source = Blocks(material)
    shares = []
    kept = []
    took = time.perf_counter() - began
    for number in range(options.frames):
        began = time.perf_counter()
        frame = next(result)
        meter.push(frame.small(material), frame.origin, frame.ghost)
        took += time.perf_counter() - began
        picture = tensor_of(frame.show())
        shares.append(source.unreal(picture))
        if number in chosen:
            kept.append(levels(picture))
    sheet(kept).save(options.out / f"{clip.stem}.png")
    rows = meter.rows
    return {
        "mode": mode,
        "why": why,
        "unreal": float(np.mean(shares)),
        "worst": float(np.max(shares)),
        "alive": sum(row.alive for row in rows),
        "fps": options.frames / took,
        "vitals": [{**row.as_json(), "failed": row.failed} for row in rows],
        "limits": meter.limits,
    }


def show_land(clip: Path, folder: Path) -> None:
    """Print the fraction of a clip's picture that is land, and write the sheet."""
    material = gather_material(probe(clip))
    matte = torch.from_numpy(material.matte)
    last = tensor_of(material.picture(-1))
    tinted = (
        last * (1 - matte)
        + matte * (last + last.new_tensor([2.0, 0, 0])[:, None, None]) / 3
    )
    name = f"{clip.parent.name}-{clip.stem}"
    sheet([levels(last), levels(tinted)], rows=1).save(folder / f"{name}-land.png")
    pan = " pan" if material.views.path is not None else ""
    print(f"{name[:60]:60} {float(matte.mean()):6.1%}{pan}", flush=True)


def check(options: argparse.Namespace) -> None:
    """Print how many windows are alive, of real footage and of each fault."""
    alive: dict[str, list[bool]] = {kind: [] for kind in ("real", *BROKEN)}
    for clip in options.clips:
        whole = gather_material(probe(small_clip(clip, options.width, options.out)))
        half = len(whole.frames) // 2
        if half < LEAST_HALF:
            continue
        first, second = (
            Material(
                whole.frames[part], times=whole.times[part], step=whole.step, cut=whole.cut
            )
            for part in (slice(half), slice(half, None))
        )
        said = []
        for kind in alive:
            rows = judged(first, second, BROKEN.get(kind, lambda pictures, _: pictures))
            alive[kind] += [row.alive for row in rows]
            said.append(
                f"{kind}: {' '.join(','.join(row.failed) or 'alive' for row in rows)}"
            )
        print(f"{clip.stem[:34]:34} {' | '.join(said)}", flush=True)
    for kind, windows in alive.items():
        print(f"{kind}: {sum(windows)} of {len(windows)} windows alive")


def judged(first: Material, second: Material, change: Change) -> list[Vitals]:
    """Return the vitals of a clip's changed second half, compared with the first half."""
    count = len(second)
    meter = VitalsMeter(FilmFeatures(first), count)
    pictures = [tensor_of(second.picture(k)) for k in range(count)]
    originals = [tensor_of(first.views.picture(k)) for k in range(len(first.frames))]
    for picture in change(pictures, originals):
        meter.push(small_copy(picture_from(picture), first.small_size), Composed())
    return meter.rows


def doubled(pictures: list[torch.Tensor], known: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return double exposures: the mean of each frame and a frame of the other half."""
    return [(p + known[k % len(known)]) / 2 for k, p in enumerate(pictures)]


def pasted(pictures: list[torch.Tensor], known: list[torch.Tensor]) -> list[torch.Tensor]:
    """Paste a rectangle of the other half, with the brightness below, into each frame."""
    frames = []
    for k, picture in enumerate(pictures):
        high, wide = picture.shape[1:]
        box = slice(high // 4, high * 3 // 4), slice(wide // 4, wide * 3 // 4)
        patch = known[k % len(known)][:, *box]
        light = picture[:, *box].mean((1, 2), keepdim=True) - patch.mean(
            (1, 2), keepdim=True
        )
        frames.append(picture.clone())
        frames[-1][:, *box] = patch + light
    return frames


def smeared(pictures: list[torch.Tensor], _: list[torch.Tensor]) -> list[torch.Tensor]:
    """Repeat one column over the left twentieth of the picture."""
    result = [picture.clone() for picture in pictures]
    for picture in result:
        deep = picture.shape[2] // 20
        picture[..., :deep] = picture[..., deep : deep + 1]
    return result


def flashed(pictures: list[torch.Tensor], _: list[torch.Tensor]) -> list[torch.Tensor]:
    """Make the left half a third brighter and warmer, from the middle of the time on."""
    gain = pictures[0].new_tensor([1.35, 1.1, 0.8])[:, None, None]
    result = [picture.clone() for picture in pictures]
    for picture in result[len(result) // 2 :]:
        picture[..., : picture.shape[2] // 2] *= gain
    return result


Change = Callable[[list[torch.Tensor], list[torch.Tensor]], list[torch.Tensor]]
BROKEN: dict[str, Change] = {
    "doubled": doubled,
    "pasted": pasted,
    "smeared": smeared,
    "flashed": flashed,
}


class Blocks:
    """The blocks of all source frames, for comparison with new frames."""

    def __init__(self, material: Material) -> None:
        """Cut all frames of the material into blocks."""
        frames = [tensor_of(material.views.picture(k)) for k in range(len(material.frames))]
        rows = torch.stack([self.cut(frame) for frame in frames])
        self._rows = rows.permute(1, 0, 2).contiguous()
        self._squares = self._rows.square().sum(2)

    @staticmethod
    def cut(picture: torch.Tensor) -> torch.Tensor:
        """Return the blocks of a picture (3, H, W) as (blocks, values)."""
        height, width = picture.shape[1:]
        high = max(BLOCK, round(height * WIDE / width) // BLOCK * BLOCK)
        small = torch.nn.functional.interpolate(
            picture[None].clamp(0, 1), (high, WIDE), mode="bilinear", antialias=True
        )
        return torch.nn.functional.unfold(small, BLOCK, stride=BLOCK)[0].T

    def unreal(self, picture: torch.Tensor) -> float:
        """Return the share of blocks that differ from the blocks of all source frames."""
        rows = self.cut(picture)
        across = torch.einsum("bnd,bd->bn", self._rows, rows)
        squares = self._squares - 2 * across + rows.square().sum(1)[:, None]
        apart = squares.amin(1).clamp_min(0).div(rows.shape[1]).sqrt()
        return float((apart > UNREAL).float().mean())


def small_clip(clip: Path, width: int, folder: Path) -> Path:
    """Return a lossless copy of the clip at that width; write the copy once."""
    target = folder.parent / f"small_{width}" / f"{clip.parent.name}-{clip.stem}.mp4"
    if target.exists() or not width:
        return target if width else clip
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(clip)) as read, av.open(str(target), "w") as write:
        video = read.streams.video[0]
        rate = video.average_rate
        assert rate, f"{clip.name} has no frame rate"
        stream = write.add_stream("libx264", rate=rate)
        stream.width, stream.height = (
            width,
            round(video.height * width / video.width / 2) * 2,
        )
        stream.pix_fmt = "yuv420p"
        stream.options = {"qp": "0", "preset": "ultrafast"}
        for number, frame in enumerate(read.decode(video)):
            small = frame.reformat(
                stream.width, stream.height, "yuv420p", interpolation="AREA"
            )
            small.pict_type = 0
            small.pts = number
            small.time_base = Fraction(1 / rate)
            write.mux(stream.encode(small))
        write.mux(stream.encode())
    return target


def levels(picture: torch.Tensor) -> np.ndarray:
    """Return a picture (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def sheet(pictures: list[np.ndarray], width: int = 400, rows: int = 2) -> Image.Image:
    """Return the pictures in rows, each ``width`` pixels wide."""
    images = [Image.fromarray(picture) for picture in pictures]
    images = [p.resize((width, round(p.height * width / p.width))) for p in images]
    across = -(-len(images) // rows)
    high = images[0].height
    result = Image.new("RGB", (across * width, rows * high))
    for place, picture in enumerate(images):
        result.paste(picture, (place % across * width, place // across * high))
    return result


if __name__ == "__main__":
    main()
