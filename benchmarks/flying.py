"""Score new frames with and without the search for fast objects, on film.

    python benchmarks/flying.py clip.mp4 other.mp4 --frames 32

Every second frame of a clip is made again from the others. A row has, for each pair with an
object, the time in seconds, the change of PSNR of the whole frame by the search in dB, and
the number of objects. Frames that repeat a neighbour do not count: they show no middle.
The last row has the mean change of all pairs, the worst, and the best.

    python benchmarks/flying.py examples/stream.mp4 --draw balls.jpg

draws three balls over the frames of a clip, and a sheet: the first frame, the new frame
without and with the search, the second frame.

    python benchmarks/flying.py clip.mp4 other.mp4 --discs

draws a textured disc over 18 frames of each clip, at most 640 pixels wide, with the motion
blur of a shutter of half a step: radius 3 to 20 pixels, 8 to 80 in two frames, by the
clip's name; one of three bounces. Two of every second frame are made again. A row has the
radius, the step, and of both whether the disc was found, and the change of PSNR.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from av.video.frame import VideoFrame

from cloudconv.fastobjects import FastObject
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

_WIDEST = 640  # pixels, of a clip with a disc
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
    parser.add_argument("--discs", action="store_true")
    options = parser.parse_args()
    cpu = torch.device("cpu")
    renderer = renderer_for(options.model, FramesSettings(), cpu, torch.float32)
    changes = []
    if options.draw is not None:
        cv2.imwrite(str(options.draw), sheet(options.clips[0], renderer))
        return
    if options.discs:
        print_discs(options.clips, renderer)
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
        change = gain(task, middle, renderer) if task.objects else 0.0
        yield float(task.left.time), change, len(task.objects)


def gain(task: FrameTask, middle: Frame, renderer: Renderer) -> float:
    """Return the change of PSNR by the search, in dB."""
    plain = replace(task, objects=())
    new, old = (next(renderer.frames([each])) for each in (task, plain))
    truth = rgb_of(middle)[None]
    with_search, without = (
        float(psnr(rgb_of(x)[None].clamp(0, 1), truth.clamp(0, 1))) for x in (new, old)
    )
    return with_search - without


@dataclass
class Disc:
    """A disc that flies: its radius, its step, its texture, and its place at each time."""

    radius: float
    step: float
    texture: np.ndarray
    bounces: bool
    place: Callable[[float], np.ndarray]


def disc_of(name: str, width: int, height: int) -> Disc:
    """Return a random disc, by the name of a clip."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    radius = random.uniform(3, max(4, min(20, height / 18)))
    step = min(random.uniform(max(8, 1.8 * radius), 80), 0.15 * width)
    angle = random.uniform(-0.5, 0.5) + np.pi * random.integers(2)
    move = np.array([np.cos(angle), 0.6 * np.sin(angle)]) * step
    fall = np.array([0, random.uniform(-0.05, 0.05) * step])
    bounces, turn, axis = (
        random.random() < 1 / 3,
        random.uniform(3.2, 4.8),
        random.integers(2),
    )
    texture = cv2.GaussianBlur(random.normal(size=(24, 24, 3)), (0, 0), 3)
    texture = random.uniform(20, 235, 3) + 35 * texture / np.abs(texture).max()

    def free(time: float) -> np.ndarray:
        return (width / 2, height / 2) + move * (time - 4) + fall * (time - 4) ** 2

    def place(time: float) -> np.ndarray:
        centre = free(time)
        if bounces and time > turn:
            centre[axis] = 2 * free(turn)[axis] - centre[axis]
        return centre

    return Disc(radius, step, texture.astype(np.float32), bounces, place)


def with_disc(frame: Frame, time: float, disc: Disc) -> Frame:
    """Draw a disc with motion blur on a frame."""
    picture = rgb_of(frame).clamp(0, 1).permute(1, 2, 0).numpy() * 255
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    moments = np.linspace(time - 0.25, time + 0.25, max(6, int(disc.step / 2)))
    cover, shown = 0.0, 0.0
    for x, y in map(disc.place, moments):
        inside = np.clip(disc.radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[
            ..., None
        ]
        across = [((z - c) / disc.radius * 11 + 12) for z, c in ((columns, x), (rows, y))]
        colours = cv2.remap(
            disc.texture,
            *(z.astype(np.float32) for z in across),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cover += inside / len(moments)
        shown += inside * colours / len(moments)
    drawn = (picture * (1 - cover) + shown).clip(0, 255).round().astype(np.uint8)
    made = VideoFrame.from_ndarray(drawn, "rgb24").reformat(format="yuv420p")
    return Frame(made, frame.time, frame.duration)


def print_discs(clips: list[Path], renderer: Renderer) -> None:
    """Print how often discs over clips are found, and what that changes."""
    rows = []
    for clip in clips:
        with Source(probe(clip)) as source:
            frames = [_small(frame) for frame in islice(source.frames(), 18)]
        if len(frames) < 18:
            continue
        disc = disc_of(clip.name, frames[0].width, frames[0].height)
        drawn = [with_disc(frame, k / 2, disc) for k, frame in enumerate(frames)]
        times = {frame.time: k for k, frame in enumerate(drawn[::2])}
        own = []
        for task in schedule(drawn[::2], request(clip)):
            k = times[task.left.time]
            if not task.is_new or k not in (3, 4):
                continue
            found = any(_is_at(thing, k, disc) for thing in task.objects)
            middle = drawn[2 * k + 1]
            own.append((found, gain(task, middle, renderer) if task.objects else 0.0))
        rows += [(*each, disc.bounces) for each in own]
        said = ", ".join(
            f"{'found' if found else '-'} {change:+.1f}" for found, change in own
        )
        kind = "bounces" if disc.bounces else ""
        print(f"{clip.stem}: {disc.radius:.0f}, {disc.step:.0f} {kind} {said}", flush=True)
    are_found, changes, bounced = (np.array(column) for column in zip(*rows, strict=True))
    print(
        f"{len(rows)} pairs: {are_found.sum()} found, {are_found[bounced].sum()} of "
        f"{bounced.sum()} beside a bounce; {changes.mean():+.3f}, {changes.min():+.2f}"
    )


def _small(frame: Frame) -> Frame:
    width = min(_WIDEST, frame.width)
    height = round(frame.height * width / frame.width / 2) * 2
    small = frame.picture.reformat(width, height, interpolation="AREA")
    return replace(frame, picture=small)


def _is_at(thing: FastObject, number: int, disc: Disc) -> bool:
    apart = [
        np.hypot(*np.subtract(matte.centre, disc.place(number + k)))
        for k, matte in enumerate(thing.ends)
    ]
    return bool(max(apart) < max(6, 1.2 * disc.radius))


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
