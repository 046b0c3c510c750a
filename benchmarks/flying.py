"""Score new frames with and without the search for fast objects, on film.

    python benchmarks/flying.py clip.mp4 other.mp4 --frames 32

Every second frame of a clip is made again from the others. A row has, for each pair with an
object, the time in seconds, the change of PSNR of the whole frame by the search in dB, and
the number of objects. Frames that repeat a neighbour do not count: they show no middle.
The last row has the mean change of all pairs, the worst, and the best.

    python benchmarks/flying.py examples/stream.mp4 --draw balls.jpg

draws three balls over the frames of a clip, and a sheet: the first frame, the new frame
without and with the search, the second frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from av.video.frame import VideoFrame

from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.metrics import psnr
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.tasks import Request, schedule
from cloudconv.settings import FramesSettings
from cloudconv.timeline import Multiply

BALLS = [
    ((0.72, 0.6), (38, -4), 5, (1.0, 1.0, 0.9)),
    ((0.5, 0.5), (-40, 3), 6, (1.0, 0.95, 0.5)),
    ((0.75, 0.25), (36, 6), 5, (0.1, 0.05, 0.3)),
]
"""Of each ball: its place in the frame, steps in pixels, radius and colour."""

_REPEATED = 0.15  # of the change between both neighbours


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--model", default="cloud-best")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args()
    cpu = torch.device("cpu")
    renderer = renderer_for(options.model, FramesSettings(), cpu, torch.float32)
    changes = []
    if options.draw is not None:
        cv2.imwrite(str(options.draw), sheet(options.clips[0], renderer))
        return
    for clip in options.clips:
        scored = [*scores(clip, renderer, options.frames)]
        changes += [change for _, change, _ in scored]
        found = [f"{time:.2f} s {change:+.2f} ({n})" for time, change, n in scored if n]
        print(f"{clip.stem}, {len(scored)} pairs: {', '.join(found)}", flush=True)
    mean = sum(changes) / len(changes)
    print(f"{len(changes)} pairs: {mean:+.4f}, {min(changes):+.2f}, {max(changes):+.2f}")


def request(clip: Path) -> Request:
    """Return the request of twice as many frames."""
    return Request(
        name=f"{clip}",
        rate=Multiply(2),
        scene_cut="auto",
        duplicates="keep",
        loop=False,
        context=4,
        tracks=True,
    )


def scores(clip: Path, renderer: Renderer, most: int) -> Iterator[tuple[float, float, int]]:
    """Yield the time, the change of PSNR, and the number of objects of each pair."""
    with Source(probe(clip)) as source:
        frames = [*islice(source.frames(), most)]
    middles = dict(zip((frame.time for frame in frames[::2]), frames[1::2], strict=False))
    for task in schedule(frames[::2], request(clip)):
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


def sheet(clip: Path, renderer: Renderer) -> np.ndarray:
    """Return a row of four pictures, BGR, of three balls that are drawn over a clip."""
    with Source(probe(clip)) as source:
        frames = [with_balls(k, each) for k, each in enumerate(islice(source.frames(), 9))]
    task = [task for task in schedule(frames, request(clip)) if task.is_new][4]
    assert task.right is not None
    plain, new = renderer.frames([replace(task, objects=()), task])
    views = [rgb_of(frame).clamp(0, 1) for frame in (task.left, plain, new, task.right)]
    height, width = views[0].shape[1:]
    rows = []
    for place, *_ in BALLS:
        x, y = (int(part * side) for part, side in zip(place, (width, height), strict=True))
        area = slice(max(y - 40, 0), y + 40), slice(max(x - 48, 0), x + 48)
        rows.append(torch.cat([view[(..., *area)] for view in views], 2))
    picture = (255 * torch.cat(rows, 1)).round().permute(1, 2, 0).numpy()
    return cv2.resize(picture[..., ::-1].astype(np.uint8), None, fx=2, fy=2)


def with_balls(number: int, frame: Frame) -> Frame:
    """Draw three balls with motion blur on the frame of a number."""
    picture = rgb_of(frame).clamp(0, 1).permute(1, 2, 0).numpy()
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    for place, step, radius, colour in BALLS:
        covers = []
        for moment in np.linspace(number - 0.15, number + 0.15, 9):
            x, y = np.multiply(place, (width, height)) + (moment - 4.5) * np.array(step)
            y += 0.6 * (moment - 4.5) ** 2
            covers.append(np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1))
        cover = np.mean(covers, 0)[..., None]
        picture = picture * (1 - cover) + np.array(colour) * cover
    drawn = VideoFrame.from_ndarray((255 * picture).round().astype(np.uint8), "rgb24")
    drawn = drawn.reformat(format="yuv444p")
    return Frame(drawn, frame.time, frame.duration)


def _repeats(task: FrameTask, middle: Frame) -> bool:
    assert task.right is not None
    first, last, own = (
        frame.planes()[0].to(torch.float32) for frame in (task.left, task.right, middle)
    )
    nearest = min((own - other).abs().mean() for other in (first, last))
    return bool(nearest < _REPEATED * (first - last).abs().mean())


if __name__ == "__main__":
    main()
