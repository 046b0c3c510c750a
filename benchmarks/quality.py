"""Score each method against the true frames over a folder of clips: a table for each drop.

    python benchmarks/quality.py clips --drop 2,4 --frames 24

One frame of every N is kept, and each method makes the others (``cloudconv compare``). Each
clip has the same weight: mean, median and worst are over the mean PSNR of the clips. The
share of frames that lose to ``blend`` is over all scored frames. |texture| is the mean
distance of the clips' texture from 0, and "its worst" is the texture with the greatest
distance. PSNR and texture of each clip follow, sorted by mean motion between kept frames
(DIS flow), the fastest first.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cloudconv
from cloudconv.images import measured_flow
from cloudconv.media.colour.color import thumbnail
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source

_METRICS = ("psnr", "ssim", "sharpness", "texture")
_FLOW_PAIRS = 8
_FLOW_SIDE = 320


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Help)
    parser.add_argument(
        "clips", type=Path, help="a folder of clips and of folders of pictures"
    )
    parser.add_argument(
        "--drop", default="2", help="one or several, with commas: 2,4 (default 2)"
    )
    parser.add_argument(
        "--models", default="cloud-best,cloud-fast,cloud-turbo,rife-4.6", help="with commas"
    )
    parser.add_argument(
        "--against", default="hold", help="with commas; blend is always there"
    )
    parser.add_argument(
        "--frames", type=int, help="most frames that are scored of each clip"
    )
    parser.add_argument(
        "--vmaf", action="store_true", help="measure VMAF, too (cloudconv[vmaf])"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="all figures, to this file"
    )
    options = parser.parse_args()
    clips = sorted(
        path for path in options.clips.iterdir() if not path.name.startswith(".")
    )
    found = {}
    for drop in map(int, options.drop.split(",")):
        results = dict(_compare(clips, drop, options))
        if not results:
            sys.exit("no clip could be compared")
        found[drop] = {"methods": _summary(results), "clips": results}
        print(f"\ndrop {drop}, {len(results)} clips, {_scored(results)} frames")
        print(_table(found[drop]["methods"]), flush=True)
        print(_filmed(results), flush=True)
        print(f"\ndrop {drop}, PSNR of each clip, those that move fastest first")
        print(_clip_table(results, "psnr"), flush=True)
        print(f"\ndrop {drop}, texture of each clip in dB")
        print(_clip_table(results, "texture"), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class _Help(argparse.RawDescriptionHelpFormatter):
    pass


def _compare(
    clips: list[Path], drop: int, options: argparse.Namespace
) -> Iterable[tuple[str, dict[str, Any]]]:
    for clip in clips:
        try:
            result = cloudconv.compare(
                clip,
                drop=drop,
                model=tuple(options.models.split(",")),
                against=tuple(options.against.split(",")),
                metrics=_METRICS + ("vmaf",) * options.vmaf,
                frames=options.frames,
                device=options.device,
                precision=options.precision,
                threads=options.threads,
            )
        except cloudconv.CloudconvError as error:
            print(f"{clip.name}: left out: {error}", file=sys.stderr)
            continue
        print(f"drop {drop}, {clip.name}: {result.verdict}", file=sys.stderr, flush=True)
        yield clip.name, {**result.as_json(), "flow": _mean_flow(clip, drop)}


def _mean_flow(clip: Path, drop: int) -> float | None:
    """Return the mean motion in pixels between the first kept frames of a clip."""
    info = probe(clip)
    width = min(_FLOW_SIDE, info.width)
    height = max(16, round(info.height * width / info.width))
    with Source(info, threads=1) as source:
        kept = islice(source.frames(), 0, (_FLOW_PAIRS + 1) * drop, drop)
        looks = [thumbnail(frame, height, width).mul(255).byte().numpy() for frame in kept]
    flows = [measured_flow(b, a) for a, b in pairwise(looks)]
    lengths = [float(((flow**2).sum(-1) ** 0.5).mean()) for flow in flows]
    return statistics.fmean(lengths) * info.width / width if lengths else None


def _scored(results: dict[str, dict[str, Any]]) -> int:
    return sum(result["scored_frames"] for result in results.values())


def _summary(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the scores of each method over all clips."""
    methods = next(iter(results.values()))["methods"]
    return {name: _of(name, results) for name in methods}


def _filmed(results: dict[str, dict[str, Any]]) -> str:
    """Return a line about the texture of the true frames."""
    texture = {clip: result["filmed"]["texture"] for clip, result in results.items()}
    worst = max(texture, key=lambda clip: abs(texture[clip]))
    mean = statistics.fmean(map(abs, texture.values()))
    return f"as filmed: |texture| {mean:.2f} dB, its worst {texture[worst]:+.2f} on {worst}"


def _of(name: str, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    def means(metric: str) -> dict[str, float]:
        scores = {
            clip: result["methods"][name].get(metric) for clip, result in results.items()
        }
        return {clip: score for clip, score in scores.items() if score is not None}

    psnr = means("psnr")
    ssim = means("ssim")
    seconds = means("seconds_per_frame")
    texture = means("texture")
    worst = min(psnr, key=psnr.__getitem__, default=None)
    lost = total = 0
    for result in results.values():
        for row in result["per_frame"]:
            own = row[name]["psnr"]
            other = row["blend"]["psnr"]
            if own is not None and other is not None:
                total += 1
                lost += own < other
    return {
        "psnr": _mean(psnr),
        "psnr_median": statistics.median(psnr.values()) if psnr else None,
        "psnr_worst": None if worst is None else psnr[worst],
        "worst_clip": worst,
        "ssim": _mean(ssim),
        "sharpness": _mean(means("sharpness")),
        "vmaf": _mean(means("vmaf")),
        "texture": _mean(texture),
        "texture_off": _mean({clip: abs(score) for clip, score in texture.items()}),
        "texture_worst": max(texture.values(), key=abs, default=None),
        "loses_to_blend": lost / total if total else None,
        "seconds_per_frame": _mean(seconds),
    }


def _mean(scores: dict[str, float]) -> float | None:
    return statistics.fmean(scores.values()) if scores else None


def _table(methods: dict[str, dict[str, Any]]) -> str:
    header = [
        "method",
        "mean",
        "median",
        "worst",
        "SSIM",
        "sharp",
        "VMAF",
        "|texture|",
        "its worst",
        "loses",
        "s/frame",
        "worst clip",
    ]
    rows = [
        [
            name,
            _text(row["psnr"], ".2f"),
            _text(row["psnr_median"], ".2f"),
            _text(row["psnr_worst"], ".2f"),
            _text(row["ssim"], ".4f"),
            _text(row["sharpness"], ".3f"),
            _text(row["vmaf"], ".2f"),
            _text(row["texture_off"], ".2f"),
            _text(row["texture_worst"], "+.2f"),
            "-" if name == "blend" else _text(row["loses_to_blend"], ".1%"),
            _text(row["seconds_per_frame"], ".3f"),
            row["worst_clip"] or "-",
        ]
        for name, row in methods.items()
    ]
    return _aligned(header, rows)


def _clip_table(results: dict[str, dict[str, Any]], score: str) -> str:
    names = list(next(iter(results.values()))["methods"])
    ordered = sorted(results.items(), key=lambda item: -(item[1]["flow"] or 0))
    rows = [
        [
            clip,
            _text(result["flow"], ".1f"),
            *(_text(result["methods"][name][score], ".2f") for name in names),
        ]
        for clip, result in ordered
    ]
    return _aligned(["clip", "flow", *names], rows)


def _aligned(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in (header, *rows)
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    main()
