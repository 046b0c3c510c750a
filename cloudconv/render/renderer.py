"""New frames, in order: batched, on any device, in tiles where memory is short."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from queue import SimpleQueue
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
    to_rgb,
)
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.media.pictures import Pictures, Sources
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
from cloudconv.render.pipeline import drained
from cloudconv.render.tiling import round_up, smallest_tile, tiled
from cloudconv.render.transfer import Arriving, Transfers
from cloudconv.timeline import FramePlan

_MAX_WAITING = 16
"""Frames that pass through wait at most for so many others before an unfilled batch is run."""


class _Task(NamedTuple):
    """A planned frame, and the source frames that it names."""

    plan: FramePlan
    sources: Sources


@dataclass(frozen=True, slots=True)
class _Seen:
    """A source frame as a network takes it: RGB and opacity, if any, (3 or 4, H, W) float32; None
    where memory was short. ``trials``: what came of making it from its neighbours, by their times.
    """

    frame: Frame
    channels: Future[Tensor | None]
    trials: dict[tuple[Fraction, Fraction], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Trial:
    """``seen``, to be made from ``before`` and ``after``, ``timestep`` of their gap from before."""

    before: _Seen
    seen: _Seen
    after: _Seen
    timestep: Fraction

    @property
    def key(self) -> tuple[Fraction, Fraction]:
        return self.before.frame.time, self.after.frame.time


@dataclass(frozen=True, slots=True)
class _Doubted:
    """New frames that the network has made, (B, C, H, W), before trials and blends.

    ``doubts``: (B,) on the device, and ``known``, the same on their way to main memory.
    """

    tasks: list[_Task]
    looks: list[list[_Seen]]
    made: Tensor
    timestep: Tensor
    doubts: Tensor
    known: Arriving


_Work = Future[Arriving | _Doubted | None]
_Way = tuple[int, int | None, torch.dtype]
"""Batch, tile and the network's type."""


@dataclass(slots=True)
class _Batch:
    """What is handed on together: frames that pass, and tasks whose frames are being made: by
    ``work``, which comes to None where memory was short.

    ``way`` was in force when the work began.
    """

    items: list[_Task | Frame]
    tasks: list[_Task]
    work: _Work | None
    way: _Way


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
        exact: loads the model in float32, which takes over from the first picture on that has
            values that are not finite. For 16 bits that nobody asked for.

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
        exact: Callable[[], Interpolator] | None = None,
    ) -> None:
        self._model = model
        self._exact = exact if dtype != torch.float32 else None
        self._device = device
        self._transfers = Transfers(device)
        self._dtype = dtype
        self._asked_batch = batch
        self._asked_tile = tile
        self._asked_cpu_streams = cpu_streams
        self._scale = scale
        self._looks_at = model.spec.frames(fallback=fallback)
        self._falls_back = fallback and model.spec.fallback
        self._warned: SimpleQueue[Warned] = SimpleQueue()
        self._multiple, self._overlap = grid(model, scale)
        self._seen: dict[int, _Seen] = {}
        self._alike: tuple[Frame, Frame, bool] | None = None
        self._size: tuple[int, int] | None = None
        self._batch = 1
        self._tile: int | None = None
        self._cpu_streams = 1
        self.plan(64, 64)  # so that settings out of range are refused before any work

    def plan(
        self, width: int, height: int, renderers: int = 1, *, free_bytes: int | None = None
    ) -> MemoryPlan:
        """Return batch, tiles, CPU streams and memory for frames of that size.

        Args:
            width: of the frames, in pixels.
            height: of the frames, in pixels.
            renderers: number of renderers that will use the device at the same time.
            free_bytes: free memory of the device; None for what is free now.
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
            free_bytes=free_bytes,
            renderers=renderers,
            cpu_streams=self._asked_cpu_streams,
        )

    def plan_once(
        self, width: int, height: int, renderers: int = 1, *, free_bytes: int | None = None
    ) -> tuple[int, int | None, int]:
        """Choose batch, tiles and CPU streams for frames of that size; see :meth:`plan`.

        Returns:
            The batch; the side of the tiles in pixels, None for whole frames; the CPU streams.
        """
        self._start(width, height, renderers, free_bytes)
        return self._batch, self._tile, self._cpu_streams

    def use_plan(
        self, width: int, height: int, batch: int, tile: int | None, cpu_streams: int = 1
    ) -> None:
        """Work on frames of that size as was settled before; only a lack of memory changes it."""
        self._size = width, height
        self._batch, self._tile, self._cpu_streams = batch, tile, cpu_streams

    def warnings(self) -> list[Warned]:
        """Return what is new of where memory or numbers made the work go another way."""
        return list(drained(self._warned))

    def render(
        self, plans: Iterable[FramePlan], pictures: Pictures
    ) -> Generator[Frame, None, None]:
        """Make the planned frames, in their order.

        The device works on the next batch, or those of all streams, while the one before them is
        copied back and handed on. With a fallback a GPU works on the next batch but one: whether
        trials are needed is known only when a batch is done. Frames that pass through wait for the
        batches in front of them, but never for more than a few frames. ``plans`` is closed with
        this generator, if it can be.

        Raises:
            DeviceError: the device's memory is too small for even one small tile.
        """
        use_device(self._device)
        # A thread that has not asked for PyTorch's thread count yet lets oneDNN take every core.
        torch.get_num_threads()
        waiting: list[_Task | Frame] = []
        begun: deque[_Batch] = deque()
        new = 0
        source = iter(plans)
        try:
            with closing(CpuStreams(self._cpu_streams)) as cpu_streams:
                for plan in source:
                    task = _Task(plan, pictures.take(plan))
                    passed = self._passed(task)
                    new += passed is None
                    waiting.append(task if passed is None else passed)
                    del plan, task, passed
                    if new and new < self._batch and len(waiting) < _MAX_WAITING + self._batch:
                        continue
                    begun.append(self._begin(waiting, cpu_streams))
                    waiting, new = [], 0
                    while begun and self._is_due(begun, cpu_streams):
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

    def _is_due(self, begun: deque[_Batch], cpu_streams: CpuStreams) -> bool:
        """Whether the first batch is to be handed on; begins the trials of those that follow."""
        if begun[0].work is None or len(begun) > _MAX_WAITING:
            return True
        if not self._transfers.queues:
            return len(begun) > cpu_streams.count
        working = [batch for batch in begun if batch.work is not None]
        # The device has the newest batch to work on, while the CPU waits for the doubts.
        for batch in working[:-1]:
            batch.work = self._continued(batch.work, cpu_streams)
        return len(working) > 1 + self._falls_back

    def _passed(self, task: _Task) -> Frame | None:
        """The left frame at the task's time if no model is needed."""
        plan, (left, right, *_) = task
        if right is None or plan.timestep == 0:
            return left.at(plan.time, plan.duration)
        known = self._alike
        if known is None or (left.picture, right.picture) != (known[0].picture, known[1].picture):
            known = self._alike = (left, right, left.same_picture(right))
        if known[2]:
            return left.at(plan.time, plan.duration)
        if self._size != (left.width, left.height):
            self._start(left.width, left.height)
        return None

    def _start(
        self, width: int, height: int, renderers: int = 1, free_bytes: int | None = None
    ) -> None:
        self._size = width, height
        plan = self.plan(width, height, renderers, free_bytes=free_bytes)
        self._batch, self._tile, self._cpu_streams = plan.batch, plan.tile, plan.cpu_streams
        known = {
            "width": width,
            "height": height,
            "free": gibibytes(plan.free_bytes or 0),
            "device": str(self._device),
        }
        if self._tile is not None and self._asked_tile == "auto":
            self._warned.put(Warned("tiles", {**known, "tile": self._tile}))
        if self._asked_batch != "auto" and self._batch < self._asked_batch:
            sizes = {"asked": self._asked_batch, "batch": self._batch}
            self._warned.put(Warned("batch-reduced", {**known, **sizes}))

    def _begin(self, items: list[_Task | Frame], cpu_streams: CpuStreams) -> _Batch:
        tasks = [item for item in items if isinstance(item, _Task)]
        work = self._work(tasks, cpu_streams) if tasks else None
        return _Batch(items, tasks, work, self._way)

    @property
    def _way(self) -> _Way:
        return self._batch, self._tile, self._dtype

    def _work(self, tasks: list[_Task], cpu_streams: CpuStreams) -> _Work:
        """Have the planes of the tasks' frames made."""
        looks = [
            [self._look(frame, cpu_streams) for frame in self._sources(task)] for task in tasks
        ]
        # The next batch begins where this one ends; earlier frames are not looked at again.
        self._seen = {id(seen.frame.picture): seen for seen in looks[-1]}
        return cpu_streams.call(within_memory, self._infer, self._dtype, tasks, looks)

    def _continued(self, work: _Work | None, cpu_streams: CpuStreams) -> _Work | None:
        """The work, with trials and blends where the doubts call for them."""
        done = None if work is None else work.result()
        if not isinstance(done, _Doubted):
            return work
        return cpu_streams.call(within_memory, self._settled, self._dtype, done)

    def _sources(self, task: _Task) -> list[Frame]:
        """What the model looks at: the pair, then the frames around it, or the pair again."""
        left, right, *beside = task.sources
        assert right is not None
        pair = [left, right]
        if self._looks_at < FOUR:
            return pair
        outer = zip(beside, pair, strict=True)
        return [*pair, *(own if other is None else other for other, own in outer)]

    def _finished(self, batch: _Batch, cpu_streams: CpuStreams) -> Iterator[Frame]:
        """The frames, each let go of once it is handed on."""
        made = deque(self._made(batch, cpu_streams))
        items = deque(batch.items)
        del batch
        while items:
            item = items.popleft()
            yield made.popleft() if isinstance(item, _Task) else item
            del item

    def _made(self, batch: _Batch, cpu_streams: CpuStreams) -> list[Frame]:
        tasks, work, way = batch.tasks, batch.work, batch.way
        made: list[Frame] = []
        while work is not None:
            part = tasks[len(made) : len(made) + way[0]]
            work = self._continued(work, cpu_streams)
            assert work is not None
            done = work.result()
            if done is None:
                self._step_back(way, cpu_streams)
            else:
                assert not isinstance(done, _Doubted)
                *planes, totals = done.planes()
                each = len(planes) // len(part)
                if self._is_exact(totals, way):
                    for number, (task, total) in enumerate(zip(part, totals, strict=True)):
                        own = planes[number * each : (number + 1) * each]
                        made.append(_frame(task, own, total))
            way = self._way
            rest = tasks[len(made) : len(made) + self._batch]
            work = self._work(rest, cpu_streams) if rest else None
        return made

    @torch.inference_mode()
    def _infer(self, tasks: list[_Task], looks: list[list[_Seen]]) -> Arriving | _Doubted:
        # A caching allocator keeps memory for each size of batch: only powers of two are used.
        count = len(tasks)
        whole = min(self._batch, 1 << (count - 1).bit_length())
        over = whole - count if self._device.type != "cpu" else 0
        filled, seen = [*tasks, *tasks[-1:] * over], [*looks, *looks[-1:] * over]
        columns = islice(zip(*seen, strict=True), self._model.spec.context)
        pictures = [_stack([each.channels.result() for each in column]) for column in columns]
        reaches = [
            [0.0 if o is None else float(o.reach) for o in (task.plan.before, task.plan.after)]
            for task in filled
        ]
        timesteps = [float(task.plan.timestep) for task in filled]
        timestep, reach = self._transfers.up([torch.tensor(timesteps), torch.tensor(reaches)])
        result = self._network(pictures, timestep, reach, leftover=self._falls_back)[:count]
        if not self._falls_back:
            return self._down(tasks, result)
        doubts = blending.doubts(result, *(picture[:count] for picture in pictures[:2]))
        known = self._transfers.down([doubts])
        made = _Doubted(tasks, looks, result[:, :-1], timestep[:count], doubts, known)
        # Where copies don't queue up, the doubts are known by now.
        return made if self._transfers.queues else self._settled(made)

    def _down(self, tasks: list[_Task], result: Tensor) -> Arriving:
        """Start the copy of the planes of all frames, then of the sums of their values.

        Planes of pictures that are on the device stay there. The sums show on arrival whether all
        values are finite, so that the device need not stop for the check.
        """
        like = tasks[0].sources.left
        planes = [plane for each in result for plane in _planes(like, each)]
        totals = result.sum((1, 2, 3))
        if like.planes()[0].device.type == "cpu":
            return self._transfers.down([*planes, totals])
        return self._transfers.down([totals], stay=planes)

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

    @torch.inference_mode()
    def _settled(self, doubted: _Doubted) -> Arriving:
        """The frames, blended where trials say so."""
        tasks, looks, made = doubted.tasks, doubted.looks, doubted.made
        found = [
            _trials(task, look) if doubt else []
            for task, look, doubt in zip(
                tasks, looks, doubted.known.planes()[0].tolist(), strict=True
            )
        ]
        self._try([trial for trials in found for trial in trials])
        for some in self._groups([bool(trials) for trials in found]):
            shown = [
                torch.stack([trial.seen.trials[trial.key] for trial in trials]).sum(0)
                for trials in found[some]
                if trials
            ]
            nothing = torch.zeros_like(shown[0])
            each = [shown.pop(0) if trials else nothing for trials in found[some]]
            part = blending.share(torch.cat(each)) * doubted.doubts[some].view(-1, 1, 1, 1)
            x0, x1 = (
                _stack([look[side].channels.result() for look in looks[some]]) for side in (0, 1)
            )
            blending.blend_untrusted(
                made[some],
                x0,
                x1,
                doubted.timestep[some],
                part,
                sharpen=self._model.spec.restores_texture,
            )
        return self._down(tasks, made)

    def _groups(self, tried: list[bool]) -> list[slice]:
        """Frames that are blended together: on a CPU each alone, on a GPU the whole batch."""
        if self._device.type == "cpu":
            return [slice(n, n + 1) for n, is_tried in enumerate(tried) if is_tried]
        return [slice(None)] if any(tried) else []

    def _try(self, trials: list[_Trial]) -> None:
        """Make the trials that are not made yet: on a CPU each alone, on a GPU all in one batch."""
        missing = {
            (id(trial.seen), *trial.key): trial
            for trial in trials
            if trial.key not in trial.seen.trials
        }
        waiting = list(missing.values())
        # Tiles are as many pixels as memory is for.
        step = 1 if self._device.type == "cpu" or self._tile is not None else len(waiting)
        for start in range(0, len(waiting), max(step, 1)):
            some = waiting[start : start + step]
            frames = {
                id(seen): seen for each in some for seen in (each.before, each.seen, each.after)
            }
            small = {
                key: resize(_stack([seen.channels.result()])[:, :COLOURS], blending.SHRINK, 2)
                for key, seen in frames.items()
            }
            first, filmed, last = (
                _joined([small[id(seen)] for seen in column])
                for column in zip(
                    *((each.before, each.seen, each.after) for each in some), strict=True
                )
            )
            moments = [float(trial.timestep) for trial in some]
            (timestep,) = self._transfers.up([torch.tensor(moments)])
            made = self._network([first, last], timestep)[:, :COLOURS]
            errors = blending.errors(made, first, filmed, last, timestep)
            for trial, error in zip(some, torch.split(errors, 1), strict=True):
                trial.seen.trials[trial.key] = error

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

    def _is_exact(self, totals: Tensor, way: _Way) -> bool:
        """Return whether all values are finite; if not, float32 takes over from now on."""
        if bool(totals.isfinite().all()):
            return True
        if self._exact is not None:
            self._model, self._dtype, self._exact = self._exact(), torch.float32, None
            self._seen.clear()
            empty_cache(self._device)
            self._warned.put(Warned("precision-raised", {"device": str(self._device)}))
        # What another batch made in 16 bits can be made again; what float32 made cannot.
        return way[2] == self._dtype

    def _step_back(self, way: _Way, cpu_streams: CpuStreams) -> None:
        """After a lack of memory: alone, then half the batch, then tiles, then smaller ones.

        Args:
            way: that failed; where another batch has stepped back from it, that may do.
            cpu_streams: narrowed to one.
        """
        self._seen.clear()
        self._cpu_streams = 1
        first = not cpu_streams.narrow() and way == self._way
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
                "tiles-off-too-large" if side > smallest else "smallest-tile-too-large",
                device=self._device,
                width=self._size[0],
                height=self._size[1],
                free=None if free is None else gibibytes(free),
            )
        now = {"device": str(self._device), "batch": self._batch, "tile": tile}
        self._warned.put(Warned("out-of-memory", now))


def _stack(pictures: list[Tensor | None]) -> Tensor:
    there = [picture for picture in pictures if picture is not None]
    if len(there) < len(pictures):
        raise MemoryError("a source frame did not fit")
    # One picture alone is not copied: at 3840x2160 that would be 100 MB.
    return there[0][None] if len(there) == 1 else torch.stack(there)


def _joined(pictures: list[Tensor]) -> Tensor:
    return pictures[0] if len(pictures) == 1 else torch.cat(pictures)


def _trials(task: _Task, look: list[_Seen]) -> list[_Trial]:
    """Making the pair's frames from those beside them."""
    left, right, before, after = look
    plan = task.plan
    trials = []
    if plan.before is not None:
        reach = plan.before.reach
        trials.append(_Trial(before, left, right, reach / (1 + reach)))
    if plan.after is not None:
        trials.append(_Trial(left, right, after, 1 / (1 + plan.after.reach)))
    return trials


def _planes(like: Frame, channels: Tensor) -> list[Tensor]:
    """Return the planes of a picture (3 or 4, H, W) in the pixel format of another frame."""
    form = layout(like.pix_fmt)
    space = color_space(like.tags, form, like.width, like.height)
    planes = list(from_rgb(channels[:COLOURS], form, space))
    if form.alpha:
        planes.append(alpha_from_float(channels[COLOURS:], form))
    return planes


def _frame(task: _Task, planes: list[Tensor], total: Tensor) -> Frame:
    plan = task.plan
    check_finite(total, plan.time)
    return task.sources.left.like(planes, plan.time, plan.duration)
