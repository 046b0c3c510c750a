"""Score new frames with and without the search for fast objects, on film.

    python benchmarks/flying.py clip.mp4 other.mp4 --frames 32

Every second frame of a clip is made again from the others. A row has, for each pair with an
object, the time in seconds, the change of PSNR of the whole frame by the search in dB, and
the number of objects. Frames that repeat a neighbour do not count: they show no middle.
The last row has the mean change of all pairs, the worst, and the best.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.metrics import psnr
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.tasks import Request, schedule
from cloudconv.settings import FramesSettings
from cloudconv.timeline import Multiply

_REPEATED = 0.15  # of the change between both neighbours


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--model", default="cloud-best")
    parser.add_argument("--frames", type=int, default=32)
    options = parser.parse_args()
    cpu = torch.device("cpu")
    renderer = renderer_for(options.model, FramesSettings(), cpu, torch.float32)
    changes = []
    for clip in options.clips:
        scored = [*scores(clip, renderer, options.frames)]
        changes += [change for _, change, _ in scored]
        found = [f"{time:.2f} s {change:+.2f} ({n})" for time, change, n in scored if n]
        print(f"{clip.stem}, {len(scored)} pairs: {', '.join(found)}", flush=True)
    mean = sum(changes) / len(changes)
    print(f"{len(changes)} pairs: {mean:+.4f}, {min(changes):+.2f}, {max(changes):+.2f}")


def scores(clip: Path, renderer: Renderer, most: int) -> Iterator[tuple[float, float, int]]:
    """Yield the time, the change of PSNR, and the number of objects of each pair."""
    with Source(probe(clip)) as source:
        frames = [*islice(source.frames(), most)]
    middles = dict(zip((frame.time for frame in frames[::2]), frames[1::2], strict=False))
    request = Request(
        name=f"{clip}",
        rate=Multiply(2),
        scene_cut="auto",
        duplicates="keep",
        loop=False,
        context=4,
        tracks=True,
    )
    for task in schedule(frames[::2], request):
        middle = middles.get(task.left.time)
        if not task.is_new or middle is None or _repeats(task, middle):
            continue
        change = 0.0
        if task.objects:
            plain = replace(task, objects=())
            new, old = (next(renderer.frames([each])) for each in (task, plain))
            truth = rgb_of(middle)[None]
            with_search, without = (
                float(psnr(rgb_of(x)[None].clamp(0, 1), truth.clamp(0, 1)))
                for x in (new, old)
            )
            change = with_search - without
        yield float(task.left.time), change, len(task.objects)


def _repeats(task: FrameTask, middle: Frame) -> bool:
    assert task.right is not None
    first, last, own = (
        frame.planes()[0].to(torch.float32) for frame in (task.left, task.right, middle)
    )
    nearest = min((own - other).abs().mean() for other in (first, last))
    return bool(nearest < _REPEATED * (first - last).abs().mean())


if __name__ == "__main__":
    main()
