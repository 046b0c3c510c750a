"""Find the crf of each encoder that has the same quality as a crf of libx264.

    python benchmarks/encoder_quality.py CLIP... --frames 24

Each clip is encoded with every encoder over a range of its crf and scored by XPSNR (Helmrich et al.
2020), which weights errors by their visibility. For each crf of libx264, the output has the crf of
each other encoder with the same score, the table in ``cloudconv/media/encoders.py``.
The pictures are reduced to half the size first: at full size the codec of the source would score
better than the others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av.filter
import numpy as np

from cloudconv.media.frame import Frame
from cloudconv.media.plan import plan_encoding
from cloudconv.media.probe import probe
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.settings.groups import EncodeSettings

REFERENCE = "libx264"
RANGES = {
    REFERENCE: (8, 12, 17, 22, 28, 34, 40),
    "libx265": (6, 11, 17, 23, 29, 35, 41),
    "libsvtav1": (4, 10, 17, 25, 35, 45, 55),
    "libvpx-vp9": (4, 10, 17, 25, 35, 45, 55),
}
STEPS = (8, 12, 14, 16, 17, 18, 20, 23, 26, 30, 34)


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=24)
    options = parser.parse_args()
    curves: dict[str, list[np.ndarray]] = {name: [] for name in RANGES}
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in RANGES}
    for clip in options.clips:
        frames = list(_frames(clip, options.frames))
        for name, range_ in RANGES.items():
            found = [_encoded(clip, frames, name, crf) for crf in range_]
            curves[name].append(np.array([quality for quality, _ in found]))
            sizes[name].append(np.array([size for _, size in found]))
            scores = "  ".join(f"{c}: {q:.2f} dB" for c, (q, _) in zip(range_, found, strict=True))
            print(f"{clip.stem:40} {name:12} {scores}", flush=True)
    print("\nmedian over the clips: the crf with the same score, and the size relative to libx264")
    print("libx264       " + "".join(f"{crf:>12}" for crf in STEPS))
    for name, range_ in RANGES.items():
        rows = [
            _same(reference, own, range_, name)
            for reference, own in zip(
                zip(curves[REFERENCE], sizes[REFERENCE], strict=True),
                zip(curves[name], sizes[name], strict=True),
                strict=True,
            )
        ]
        crfs, ratios = (np.median([row[k] for row in rows], 0) for k in range(2))
        cells = (f"{c:7.1f} {r:4.2f}" for c, r in zip(crfs, ratios, strict=True))
        print(f"{name:14}" + "".join(cells))


def _frames(clip: Path, count: int) -> Iterator[Frame]:
    with Source(clip) as source:
        for frame in islice(source.frames(), count):
            width, height = frame.width // 4 * 2, frame.height // 4 * 2
            yield replace(frame, picture=frame.picture.reformat(width, height))


def _encoded(clip: Path, frames: list[Frame], name: str, crf: int) -> tuple[float, int]:
    """Encode the frames; return the mean weighted XPSNR and the size in bytes."""
    rate = Fraction(25)
    info = replace(probe(clip), width=frames[0].width, height=frames[0].height)
    settings = EncodeSettings(encoder=name, encoder_option=(("crf", str(crf)), *_fixed(name)))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.mkv"
        plan = plan_encoding(made, info, rate=rate, time_base=1 / rate, settings=settings)
        with Sink(plan) as sink:
            for number, frame in enumerate(frames):
                sink.write(frame.at(number / rate, 1 / rate))
        with Source(made) as source:
            scores = list(_xpsnr(zip(frames, source.frames(), strict=True), rate))
        return float(np.mean(scores)), made.stat().st_size


def _xpsnr(pairs: Iterable[tuple[Frame, Frame]], rate: Fraction) -> Iterator[float]:
    """Yield (4 Y + U + V) / 6 in dB for each pair of 8-bit YUV frames, the true one first."""
    graph = av.filter.Graph()  # must exist as long as its filters
    xpsnr, end = graph.add("xpsnr"), graph.add("buffersink")
    entries: list[av.filter.context.FilterContext] = []
    for number, pair in enumerate(pairs):
        if not entries:
            like = pair[0]
            size = f"video_size={like.width}x{like.height}:pix_fmt={like.pix_fmt}"
            spec = f"{size}:time_base={1 / rate}:frame_rate={rate}:pixel_aspect=1/1"
            entries = [graph.add("buffer", spec) for _ in pair]
            for pad, entry in enumerate(entries):
                entry.link_to(xpsnr, 0, pad)
            xpsnr.link_to(end)
            graph.configure()
        for entry, frame in zip(entries, pair, strict=True):
            frame.picture.pts, frame.picture.time_base = number, 1 / rate
            entry.push(frame.picture)
        made = end.pull()
        assert isinstance(made, av.VideoFrame)
        y, u, v = (float(str(made.metadata[f"lavfi.xpsnr.xpsnr.{name}"])) for name in "yuv")
        yield (4 * y + u + v) / 6


def _fixed(name: str) -> tuple[tuple[str, str], ...]:
    # Without this option libvpx uses crf only as a limit of a bit rate.
    return (("b", "0"),) if name == "libvpx-vp9" else ()


def _same(
    reference: tuple[np.ndarray, np.ndarray],
    own: tuple[np.ndarray, np.ndarray],
    range_: tuple[int, ...],
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    wanted = np.interp(STEPS, RANGES[REFERENCE], reference[0])
    # Scores fall with rising crf, but np.interp needs rising values.
    crfs = np.interp(wanted, own[0][::-1], np.array(range_[::-1], float))
    bytes_ = np.exp(np.interp(crfs, range_, np.log(own[1])))
    reference_bytes = np.exp(np.interp(STEPS, RANGES[REFERENCE], np.log(reference[1])))
    return crfs, bytes_ / reference_bytes


if __name__ == "__main__":
    main()
