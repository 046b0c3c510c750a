"""New frames, in order: batched, on any device, in tiles where memory is short."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cloudconv.errors import DeviceError
from cloudconv.events import Warned
from cloudconv.media.color import (
    alpha_from_float,
    alpha_to_float,
    color_space,
    from_rgb,
    make_picture,
    to_rgb,
)
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.messages import option
from cloudconv.models import fallback as blending
from cloudconv.models.base import COLOURS, FOUR, Around, Interpolator, check_finite
from cloudconv.models.ops import resize
from cloudconv.render.cpu_streams import CpuStreams
from cloudconv.render.device import use_device
from cloudconv.render.memory import (
    MemoryPlan,
    empty_cache,
    free_memory,
    gibibytes,
    grid,
    plan_memory,
    within_memory,
)
from cloudconv.render.tiling import round_up, smallest_tile, tiled
from cloudconv.render.transfer import Arriving, Transfers

_MAX_WAITING = 16
"""Frames that pass through wait at most for so many others before an unfilled batch is run."""


class OuterFrame(NamedTuple):
    """A source frame on the other side of one of a pair; ``reach`` of the pair's gaps from it."""

    frame: Frame
    reach: Fraction


@dataclass(frozen=True, slots=True)
class FrameTask:
    """One output frame: the picture at ``timestep`` between two source frames.

    With ``timestep`` 0 or no ``right`` it is ``left`` itself, untouched. ``time`` and ``duration``
    are the output frame's, in seconds. ``opens_scene``: no frame before it is of its scene.
    ``before`` and ``after``: for models that look at four frames, where the scene has them.
    """

    left: Frame
    right: Frame | None
    timestep: Fraction
    time: Fraction
    duration: Fraction
    opens_scene: bool = False
    before: OuterFrame | None = None
    after: OuterFrame | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A source frame as a network takes it: RGB and opacity, if any, (3 or 4, H, W) float32; None
    where memory was short. ``trials``: what came of making it from its neighbours, by their times.
    """

    frame: Frame
    channels: Future[Tensor | None]
    trials: dict[tuple[Fraction, Fraction], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is handed on together: frames that pass, and tasks whose frames are being made: by
    ``work``, which comes to None where memory was short.

    ``way`` is the batch and the tile that were in force when the work began.
    """

    items: list[FrameTask | Frame]
    tasks: list[FrameTask]
    work: Future[list[Arriving] | None] | None
    way: tuple[int, int | None]


class Renderer:
    """Makes output frames from tasks with one model on one device.

    Args:
        model: on ``device`` already, its network at ``dtype``.
        batch: new frames that are made at once; ``auto`` by frame size and free memory.
        tile: side in pixels of the tiles that frames are cut into; ``auto`` only where a whole
            frame does not fit into memory, ``off`` never.
        scale: the model's own option, 1 for models without.
        cpu_streams: on a CPU, how many batches are worked on at once, as far as memory allows.
        fallback: blend where a model's motion leaves much over, and fails on filmed frames.
        on_warning: told when memory makes the work go another way than asked for.

    Raises:
        ModelError: the model does not take that scale.
        SettingsError: ``batch`` or ``tile`` is too small.
    """

    def __init__(
        self,
        model: Interpolator,
        *,
        device: torch.device,
        dtype: torch.dtype,
        batch: int | Literal["auto"] = "auto",
        tile: int | Literal["auto", "off"] = "auto",
        scale: float = 1.0,
        cpu_streams: int = 1,
        fallback: bool = False,
        on_warning: Callable[[Warned], None],
    ) -> None:
        self._model = model
        self._device = device
        self._transfers = Transfers(device)
        self._dtype = dtype
        self._asked_batch = batch
        self._asked_tile = tile
        self._asked_cpu_streams = cpu_streams
        self._scale = scale
        self._looks_at = model.spec.frames(fallback=fallback)
        self._falls_back = fallback and model.spec.fallback
        self._warn = on_warning
        self._multiple, self._overlap = grid(model, scale)
        # An allocator that keeps memory for later has none kept for batches of another size.
        self._fills = device.type != "cpu"
        self._seen: dict[int, _Seen] = {}
        self._alike: tuple[Frame, Frame, bool] | None = None
        self._size: tuple[int, int] | None = None
        self._batch = 1
        self._tile: int | None = None
        self._cpu_streams = 1
        self.plan(64, 64)  # so that settings out of range are refused before any work

    def plan(self, width: int, height: int, share: int = 1) -> MemoryPlan:
        """Batch, tiles, CPU streams and memory for frames of that size, with what is free now.

        ``share``: how many renderers will work on the device at once.
        """
        return plan_memory(
            self._model,
            width,
            height,
            device=self._device,
            dtype=self._dtype,
            batch=self._asked_batch,
            tile=self._asked_tile,
            scale=self._scale,
            share=share,
            cpu_streams=self._asked_cpu_streams,
        )

    def plan_once(self, width: int, height: int, share: int = 1) -> tuple[int, int | None, int]:
        """Decide now, and say in warnings, how frames of that size are worked on.

        Args:
            width: of the frames, in pixels.
            height: likewise.
            share: how many renderers will work on the device at once.

        Returns:
            The batch; the side of the tiles in pixels, None for whole frames; the CPU streams.
        """
        self._start(width, height, share)
        return self._batch, self._tile, self._cpu_streams

    def use_plan(
        self, width: int, height: int, batch: int, tile: int | None, cpu_streams: int = 1
    ) -> None:
        """Work on frames of that size as was settled before; only a lack of memory changes it."""
        self._size = width, height
        self._batch, self._tile, self._cpu_streams = batch, tile, cpu_streams

    def render(self, tasks: Iterable[FrameTask]) -> Generator[Frame, None, None]:
        """The tasks' frames, in their order.

        The device works on the next batch, or those of all streams, while the one before them is
        copied back and handed on. Frames that pass through wait for the batches in front of them,
        but never for more than a few frames. ``tasks`` is closed with this generator, if it can be.

        Raises:
            DeviceError: the device's memory is too small for even one small tile.
        """
        use_device(self._device)
        # A thread that has not asked for PyTorch's thread count yet lets oneDNN take every core.
        torch.get_num_threads()
        waiting: list[FrameTask | Frame] = []
        begun: deque[_Batch] = deque()
        new = 0
        source = iter(tasks)
        try:
            with closing(CpuStreams(self._cpu_streams)) as cpu_streams:
                for task in source:
                    passed = self._passed(task)
                    new += passed is None
                    waiting.append(task if passed is None else passed)
                    del task, passed
                    if new and new < self._batch and len(waiting) < _MAX_WAITING + self._batch:
                        continue
                    begun.append(self._begin(waiting, cpu_streams))
                    waiting, new = [], 0
                    while begun and (len(begun) > cpu_streams.count or begun[0].work is None):
                        yield from self._finished(begun.popleft(), cpu_streams)
                begun.append(self._begin(waiting, cpu_streams))
                while begun:
                    yield from self._finished(begun.popleft(), cpu_streams)
        finally:
            self._seen.clear()
            self._alike = None
            close: Callable[[], None] | None = getattr(source, "close", None)
            if close is not None:
                close()

    def _passed(self, task: FrameTask) -> Frame | None:
        """The left frame at the task's time if no model is needed."""
        left, right = task.left, task.right
        if right is None or task.timestep == 0:
            return left.at(task.time, task.duration)
        known = self._alike
        if known is None or (left.picture, right.picture) != (known[0].picture, known[1].picture):
            known = self._alike = (left, right, left.same_picture(right))
        if known[2]:
            return left.at(task.time, task.duration)
        if self._size != (left.width, left.height):
            self._start(left.width, left.height)
        return None

    def _start(self, width: int, height: int, share: int = 1) -> None:
        self._size = width, height
        plan = self.plan(width, height, share)
        self._batch, self._tile, self._cpu_streams = plan.batch, plan.tile, plan.cpu_streams
        known = {
            "width": width,
            "height": height,
            "free": gibibytes(plan.free_bytes or 0),
            "device": str(self._device),
        }
        if self._tile is not None and self._asked_tile == "auto":
            self._warn(Warned("tiles", {**known, "tile": self._tile}))
        if self._asked_batch != "auto" and self._batch < self._asked_batch:
            sizes = {"asked": self._asked_batch, "batch": self._batch}
            self._warn(Warned("batch-reduced", {**known, **sizes}))

    def _begin(self, items: list[FrameTask | Frame], cpu_streams: CpuStreams) -> _Batch:
        tasks = [item for item in items if isinstance(item, FrameTask)]
        work = self._work(tasks, cpu_streams) if tasks else None
        return _Batch(items, tasks, work, (self._batch, self._tile))

    def _work(
        self, tasks: list[FrameTask], cpu_streams: CpuStreams
    ) -> Future[list[Arriving] | None]:
        """Have the planes of the tasks' frames made."""
        looks = [
            [self._look(frame, cpu_streams) for frame in self._sources(task)] for task in tasks
        ]
        # The next batch begins where this one ends; earlier frames are not looked at again.
        self._seen = {id(seen.frame.picture): seen for seen in looks[-1]}
        return cpu_streams.call(within_memory, self._infer, self._dtype, tasks, looks)

    def _sources(self, task: FrameTask) -> list[Frame]:
        """What the model looks at: the pair, then the frames around it, or the pair again."""
        assert task.right is not None
        pair = [task.left, task.right]
        if self._looks_at < FOUR:
            return pair
        outer = zip((task.before, task.after), pair, strict=True)
        return [*pair, *(own if other is None else other.frame for other, own in outer)]

    def _finished(self, batch: _Batch, cpu_streams: CpuStreams) -> Iterator[Frame]:
        """The frames, each let go of once it is handed on."""
        made = deque(self._made(batch, cpu_streams))
        items = deque(batch.items)
        del batch
        while items:
            item = items.popleft()
            yield made.popleft() if isinstance(item, FrameTask) else item
            del item

    def _made(self, batch: _Batch, cpu_streams: CpuStreams) -> list[Frame]:
        tasks, work, way = batch.tasks, batch.work, batch.way
        made: list[Frame] = []
        while work is not None:
            part = tasks[len(made) : len(made) + way[0]]
            done = work.result()
            if done is None:
                self._step_back(way, cpu_streams)
            else:
                made += [_frame(*each) for each in zip(part, done, strict=True)]
            way = self._batch, self._tile
            rest = tasks[len(made) : len(made) + self._batch]
            work = self._work(rest, cpu_streams) if rest else None
        return made

    @torch.inference_mode()
    def _infer(self, tasks: list[FrameTask], looks: list[list[_Seen]]) -> list[Arriving]:
        # The last batch is filled up with its last frame where another size would cost memory.
        over = self._batch - len(tasks) if self._fills else 0
        tasks, looks = [*tasks, *tasks[-1:] * over], [*looks, *looks[-1:] * over]
        columns = islice(zip(*looks, strict=True), self._model.spec.context)
        pictures = [_stack([seen.channels.result() for seen in column]) for column in columns]
        reaches = [
            [0.0 if o is None else float(o.reach) for o in (task.before, task.after)]
            for task in tasks
        ]
        timesteps = [float(task.timestep) for task in tasks]
        timestep, reach = self._transfers.up([torch.tensor(timesteps), torch.tensor(reaches)])
        result = self._network(pictures, timestep, reach, leftover=self._falls_back)
        if self._falls_back:
            result = self._settled(result, pictures, timestep, tasks, looks)
        result = result[: len(tasks) - over]
        return [
            self._planes(task.left, channels) for task, channels in zip(tasks, result, strict=False)
        ]

    def _network(
        self,
        pictures: list[Tensor],
        timestep: Tensor,
        reach: Tensor | None = None,
        *,
        leftover: bool = False,
    ) -> Tensor:
        """What the model makes of the pair that comes first, and the frames around it, if any."""
        x0, x1 = pictures[:2]
        if x0.shape[1] > COLOURS and not self._model.spec.carries_alpha:
            colours = [x[:, :COLOURS] for x in pictures]
            made = self._network(colours, timestep, reach, leftover=leftover)
            alpha = x0[:, COLOURS:].lerp(x1[:, COLOURS:], timestep.view(-1, 1, 1, 1))
            return torch.cat((made[:, :COLOURS], alpha, made[:, COLOURS:]), 1)

        def run(a: Tensor, b: Tensor, *outer: Tensor) -> Tensor:
            around = None if reach is None or not outer else Around(outer[0], outer[1], reach)
            return self._model.interpolate(
                a, b, timestep, scale=self._scale, around=around, leftover=leftover
            )

        if self._tile is None:
            return run(*pictures)
        return tiled(
            run, *pictures, tile=self._tile, overlap=self._overlap, multiple=self._multiple
        )

    def _settled(
        self,
        result: Tensor,
        pictures: list[Tensor],
        timestep: Tensor,
        tasks: list[FrameTask],
        looks: list[list[_Seen]],
    ) -> Tensor:
        """The result, without what it tells is left over, blended where trials say so."""
        x0, x1 = pictures[:2]
        made = result[:, :-1]
        # A GPU has to wait for the answer here; trials for all would cost it more.
        for number, doubt in enumerate(blending.doubts(result, x0, x1).tolist()):
            trials = self._trials(tasks[number], looks[number]) if doubt else []
            if trials:
                one = slice(number, number + 1)
                part = doubt * blending.share(torch.stack(trials).sum(0))
                blending.blend_untrusted(
                    made[one],
                    x0[one],
                    x1[one],
                    timestep[one],
                    part,
                    sharpen=self._model.spec.restores_texture,
                )
        return made

    def _trials(self, task: FrameTask, look: list[_Seen]) -> list[Tensor]:
        """What comes of making the pair's frames from those beside them."""
        left, right, before, after = look
        trials = []
        if task.before is not None:
            reach = task.before.reach
            trials.append(self._trial(before, left, right, reach / (1 + reach)))
        if task.after is not None:
            trials.append(self._trial(left, right, after, 1 / (1 + task.after.reach)))
        return trials

    def _trial(self, before: _Seen, seen: _Seen, after: _Seen, timestep: Fraction) -> Tensor:
        key = before.frame.time, after.frame.time
        if key not in seen.trials:
            first, filmed, last = (
                resize(_stack([each.channels.result()])[:, :COLOURS], blending.SHRINK, 2)
                for each in (before, seen, after)
            )
            (moment,) = self._transfers.up([torch.tensor([float(timestep)])])
            made = self._network([first, last], moment)[:, :COLOURS]
            seen.trials[key] = blending.errors(made, first, filmed, last, float(timestep))
        return seen.trials[key]

    def _look(self, frame: Frame, cpu_streams: CpuStreams) -> _Seen:
        key = id(frame.picture)  # unique as long as the entry keeps the picture alive
        if key not in self._seen:
            self._seen[key] = _Seen(
                frame, cpu_streams.call(within_memory, self._channels, self._dtype, frame)
            )
        return self._seen[key]

    @torch.inference_mode()
    def _channels(self, frame: Frame) -> Tensor:
        form = layout(frame.pix_fmt)
        planes = self._transfers.up(frame.planes())
        alpha = [alpha_to_float(planes.pop(), form)] if form.alpha else []
        space = color_space(frame.tags, form, frame.width, frame.height)
        rgb = to_rgb(planes, form, space)
        return torch.cat((rgb, *alpha)) if alpha else rgb

    def _planes(self, frame: Frame, channels: Tensor) -> Arriving:
        """Those of a picture like the frame's, on their way back."""
        form = layout(frame.pix_fmt)
        space = color_space(frame.tags, form, frame.width, frame.height)
        planes = list(from_rgb(channels[:COLOURS], form, space))
        if form.alpha:
            planes.append(alpha_from_float(channels[COLOURS:], form))
        # Looked at when it is here: the device need not stop for it.
        return self._transfers.down([*planes, channels.sum()])

    def _step_back(self, way: tuple[int, int | None], cpu_streams: CpuStreams) -> None:
        """After a lack of memory: alone, then half the batch, then tiles, then smaller ones.

        Args:
            way: that failed; where another batch has stepped back from it, that may do.
            cpu_streams: narrowed to one.
        """
        self._seen.clear()
        self._cpu_streams = 1
        first = not cpu_streams.narrow() and way == (self._batch, self._tile)
        empty_cache(self._device)
        if not first:
            return
        assert self._size is not None
        smallest = smallest_tile(self._overlap, self._multiple)
        side = round_up(max(self._size), self._multiple) if self._tile is None else self._tile
        tile = None
        if self._batch > 1:
            self._batch //= 2
        elif self._asked_tile != "off" and side > smallest:
            tile = self._tile = max(smallest, round_up(side // 2, self._multiple))
        else:
            free = free_memory(self._device)
            raise DeviceError(
                f"{self._device} ran out of memory on a {self._size[0]}x{self._size[1]} frame"
                + (f" with {gibibytes(free)} free. " if free is not None else ". ")
                + (
                    f"Allow tiles ({option('tile', 'auto')}), or close other programs."
                    if side > smallest
                    else "Even the smallest tiles do not fit: close other programs, or use "
                    f"another {option('device')}."
                )
            )
        now = {"device": str(self._device), "batch": self._batch, "tile": tile}
        self._warn(Warned("out-of-memory", now))


def _stack(pictures: list[Tensor | None]) -> Tensor:
    there = [picture for picture in pictures if picture is not None]
    if len(there) < len(pictures):
        raise MemoryError("a source frame did not fit")
    # One picture alone is not copied: at 3840x2160 that would be 100 MB.
    return there[0][None] if len(there) == 1 else torch.stack(there)


def _frame(task: FrameTask, planes: Arriving) -> Frame:
    like = task.left
    *arrived, total = planes.planes()
    check_finite(total, task.time)
    picture = make_picture(arrived, like.pix_fmt, like.width, like.height)
    return Frame(picture, task.time, task.duration, like.tags)
