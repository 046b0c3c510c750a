"""Make new frames in order: in batches, on any device, in tiles where memory is short."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Literal

import torch

from cloudconv.errors import DeviceError
from cloudconv.events import Warned
from cloudconv.media.frame import Frame
from cloudconv.media.pictures import Pictures
from cloudconv.models.base import FOUR, Interpolator, check_finite
from cloudconv.render.cpu_streams import CpuStreams
from cloudconv.render.device import use_device
from cloudconv.render.inference import DoubtedBatch, Inference, SourcePicture, Task
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
from cloudconv.render.tiling import round_up, smallest_tile
from cloudconv.render.transfer import Arriving, Transfers
from cloudconv.timeline import FramePlan

_MAX_WAITING = 16
"""The most source frames that wait for an incomplete batch before the batch is run."""

_Work = Future[Arriving | DoubtedBatch | None]
"""The result of a batch; None after a lack of memory."""


@dataclass(slots=True)
class _Batch:
    """Output frames in order: source frames that pass through, and tasks of new frames.

    ``work`` is the pending result of the tasks, started by ``inference``; None without tasks.
    """

    items: list[Task | Frame]
    tasks: list[Task]
    work: _Work | None
    inference: Inference


class Renderer:
    """A maker of output frames: one model on one device.

    Args:
        model: a model on ``device`` whose network computes in ``dtype``.
        device: the device of the model.
        dtype: the type that the network computes in.
        batch: new frames per batch; ``auto`` depends on frame size and free memory.
        tile: side of tiles in pixels; ``auto`` uses tiles only where a whole frame does not fit
            into memory, ``off`` never.
        scale: the model's own option, 1 for models without.
        cpu_streams: on a CPU, the most batches at the same time, as far as memory allows.
        fallback: blend where the motion fails on filmed frames.
        exact: loads the model in float32, which replaces the model after the first picture with
            values that are not finite. For 16 bits that the user did not choose.

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
        """Create a renderer; see the class for the arguments."""
        self._inference = Inference(
            model,
            device,
            dtype,
            Transfers(device),
            scale=scale,
            fallback=fallback and model.spec.fallback,
            fills=device.type != "cpu",
        )
        self._device = device
        self._exact = exact if dtype != torch.float32 else None
        self._asked_batch = batch
        self._asked_tile = tile
        self._asked_cpu_streams = cpu_streams
        self._context = model.spec.frames(fallback=fallback)
        self._warned: SimpleQueue[Warned] = SimpleQueue()
        self._pictures: dict[int, SourcePicture] = {}
        self._alike: tuple[Frame, Frame, bool] | None = None
        self._size: tuple[int, int] | None = None
        self._cpu_streams = 1
        self.plan(64, 64)  # refuses settings out of range before any work

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
            self._inference.model,
            width,
            height,
            device=self._device,
            dtype=self._inference.dtype,
            batch=self._asked_batch,
            tile=self._asked_tile,
            scale=self._inference.scale,
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
        plan = self.plan(width, height, renderers, free_bytes=free_bytes)
        self.use_plan(width, height, plan.batch, plan.tile, plan.cpu_streams)
        known = {
            "width": width,
            "height": height,
            "free": gibibytes(plan.free_bytes or 0),
            "device": str(self._device),
        }
        if plan.tile is not None and self._asked_tile == "auto":
            self._warned.put(Warned("tiles", {**known, "tile": plan.tile}))
        if self._asked_batch != "auto" and plan.batch < self._asked_batch:
            sizes = {"asked": self._asked_batch, "batch": plan.batch}
            self._warned.put(Warned("batch-reduced", {**known, **sizes}))
        return plan.batch, plan.tile, plan.cpu_streams

    def use_plan(
        self, width: int, height: int, batch: int, tile: int | None, cpu_streams: int = 1
    ) -> None:
        """Use these sizes for frames of that size; only a lack of memory changes them."""
        self._size, self._cpu_streams = (width, height), cpu_streams
        self._inference = replace(self._inference, batch=batch, tile=tile)

    def warnings(self) -> list[Warned]:
        """Return the new warnings about memory and precision."""
        return list(drained(self._warned))

    def render(
        self, plans: Iterable[FramePlan], pictures: Pictures
    ) -> Generator[Frame, None, None]:
        """Yield the planned frames, in their order.

        While a batch is copied back and yielded, the device computes the next one, or one per CPU
        stream. With a fallback a GPU computes the next but one: the end of a batch shows whether
        trials are needed. Source frames wait for the batches before them, but never for more than
        a few frames. ``plans`` is closed with this generator.

        Raises:
            DeviceError: the device's memory is too small for a single small tile.
            ModelError: a picture has values that are not finite.
        """
        use_device(self._device)
        # Without this question oneDNN uses every core in a new thread.
        torch.get_num_threads()
        waiting: list[Task | Frame] = []
        started: deque[_Batch] = deque()
        new = 0
        source = iter(plans)
        try:
            with closing(CpuStreams(self._cpu_streams)) as cpu_streams:
                for plan in source:
                    task = Task(plan, pictures.take(plan))
                    passed = self._passed(task)
                    new += passed is None
                    waiting.append(task if passed is None else passed)
                    del plan, task, passed
                    batch = self._inference.batch
                    if new and new < batch and len(waiting) < _MAX_WAITING + batch:
                        continue
                    started.append(self._start(waiting, cpu_streams))
                    waiting, new = [], 0
                    while started and self._is_due(started, cpu_streams):
                        yield from self._finish(started.popleft(), cpu_streams)
                started.append(self._start(waiting, cpu_streams))
                while started:
                    yield from self._finish(started.popleft(), cpu_streams)
        finally:
            self._pictures.clear()
            self._alike = None
            close: Callable[[], None] | None = getattr(source, "close", None)
            if close is not None:
                close()

    def _is_due(self, started: deque[_Batch], cpu_streams: CpuStreams) -> bool:
        """Return whether the first batch is yielded now; start the trials of later batches."""
        if started[0].work is None or len(started) > _MAX_WAITING:
            return True
        if not self._inference.transfers.queues:
            return len(started) > cpu_streams.count
        working = [batch for batch in started if batch.work is not None]
        # While the CPU waits for the doubts, the device computes the newest batch.
        for batch in working[:-1]:
            batch.work = self._settled(batch.inference, batch.work, cpu_streams)
        return len(working) > 1 + self._inference.fallback

    def _passed(self, task: Task) -> Frame | None:
        """Return the left frame at the task's time if no model is needed, else None."""
        plan, (left, right, *_) = task
        if right is None or plan.timestep == 0:
            return left.at(plan.time, plan.duration)
        known = self._alike
        if known is None or (left.picture, right.picture) != (known[0].picture, known[1].picture):
            known = self._alike = (left, right, left.same_picture(right))
        if known[2]:
            return left.at(plan.time, plan.duration)
        if self._size != (left.width, left.height):
            self.plan_once(left.width, left.height)
        return None

    def _start(self, items: list[Task | Frame], cpu_streams: CpuStreams) -> _Batch:
        tasks = [item for item in items if isinstance(item, Task)]
        work = self._work(tasks, cpu_streams) if tasks else None
        return _Batch(items, tasks, work, self._inference)

    def _work(self, tasks: list[Task], cpu_streams: CpuStreams) -> _Work:
        """Start the computation of the tasks' frames."""
        sources = [
            [self._picture(frame, cpu_streams) for frame in self._sources(task)] for task in tasks
        ]
        # The next batch begins where this one ends; earlier frames are not needed again.
        self._pictures = {id(picture.frame.picture): picture for picture in sources[-1]}
        made = self._inference
        return cpu_streams.call(within_memory, made.make, made.dtype, tasks, sources)

    @staticmethod
    def _settled(made: Inference, work: _Work | None, cpu_streams: CpuStreams) -> _Work | None:
        """Return the work, with trials and blends where the doubts require them."""
        done = None if work is None else work.result()
        if not isinstance(done, DoubtedBatch):
            return work
        return cpu_streams.call(within_memory, made.settle, made.dtype, done)

    def _sources(self, task: Task) -> list[Frame]:
        """Return the frames that the model reads: the pair, then the frames beside it.

        A frame of the pair replaces a missing frame beside it.
        """
        left, right, *beside = task.sources
        assert right is not None
        pair = [left, right]
        if self._context < FOUR:
            return pair
        outer = zip(beside, pair, strict=True)
        return [*pair, *(own if other is None else other for other, own in outer)]

    def _picture(self, frame: Frame, cpu_streams: CpuStreams) -> SourcePicture:
        key = id(frame.picture)  # unique as long as the entry keeps the picture alive
        if key not in self._pictures:
            used = self._inference
            channels = cpu_streams.call(within_memory, used.channels, used.dtype, frame)
            self._pictures[key] = SourcePicture(frame, channels)
        return self._pictures[key]

    def _finish(self, batch: _Batch, cpu_streams: CpuStreams) -> Iterator[Frame]:
        """Yield the frames of a batch; each is released as soon as it is yielded."""
        made = deque(self._made(batch, cpu_streams))
        items = deque(batch.items)
        del batch
        while items:
            item = items.popleft()
            yield made.popleft() if isinstance(item, Task) else item
            del item

    def _made(self, batch: _Batch, cpu_streams: CpuStreams) -> list[Frame]:
        """Wait for the new frames of a batch; compute them again after a lack of memory."""
        tasks, work, used = batch.tasks, batch.work, batch.inference
        made: list[Frame] = []
        while work is not None:
            part = tasks[len(made) : len(made) + used.batch]
            work = self._settled(used, work, cpu_streams)
            assert work is not None
            done = work.result()
            if done is None:
                self._step_back(used, cpu_streams)
            else:
                assert not isinstance(done, DoubtedBatch)
                *planes, totals = done.planes()
                each = len(planes) // len(part)
                if self._is_exact(totals, used):
                    for number, (task, total) in enumerate(zip(part, totals, strict=True)):
                        plan, left = task.plan, task.sources.left
                        check_finite(total, plan.time)
                        own = planes[number * each : (number + 1) * each]
                        made.append(left.like(own, plan.time, plan.duration))
            used = self._inference
            rest = tasks[len(made) : len(made) + used.batch]
            work = self._work(rest, cpu_streams) if rest else None
        return made

    def _is_exact(self, totals: torch.Tensor, used: Inference) -> bool:
        """Return whether pictures can be used; otherwise continue in float32 if that is possible.

        Pictures that 16 bits made are computed again in float32. Those that float32 made are not.
        """
        if bool(totals.isfinite().all()):
            return True
        if self._exact is not None:
            model, self._exact = self._exact(), None
            self._inference = replace(self._inference, model=model, dtype=torch.float32)
            self._pictures.clear()
            empty_cache(self._device)
            self._warned.put(Warned("precision-raised", {"device": str(self._device)}))
        return used.dtype == self._inference.dtype

    def _step_back(self, failed: Inference, cpu_streams: CpuStreams) -> None:
        """Use less memory: one CPU stream, then half the batch, then tiles, then smaller tiles.

        Nothing changes if another batch has already stepped back from ``failed``.

        Raises:
            DeviceError: the smallest tile does not fit.
        """
        self._pictures.clear()
        self._cpu_streams = 1
        first = not cpu_streams.narrow() and failed is self._inference
        empty_cache(self._device)
        if not first:
            return
        assert self._size is not None
        multiple, overlap = grid(failed.model, failed.scale)
        smallest = smallest_tile(overlap, multiple)
        side = round_up(max(self._size), multiple) if failed.tile is None else failed.tile
        tile = None
        if failed.batch > 1:
            self._inference = replace(failed, batch=failed.batch // 2)
        elif self._asked_tile != "off" and side > smallest:
            tile = max(smallest, round_up(side // 2, multiple))
            self._inference = replace(failed, tile=tile)
        else:
            free = free_memory(self._device)
            raise DeviceError(
                "tiles-off-too-large" if side > smallest else "smallest-tile-too-large",
                device=self._device,
                width=self._size[0],
                height=self._size[1],
                free=None if free is None else gibibytes(free),
            )
        now = {"device": str(self._device), "batch": self._inference.batch, "tile": tile}
        self._warned.put(Warned("out-of-memory", now))
