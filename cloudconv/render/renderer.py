"""Make new frames in order: in batches, on any device, in tiles where memory is short."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch

from cloudconv.doubts import LEAST, Box, box_of, size_of, unexplained
from cloudconv.errors import DeviceError
from cloudconv.events import Warned, Warnings
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.models import registry
from cloudconv.models.base import Interpolator, check_finite
from cloudconv.models.engines import Engines
from cloudconv.pipeline import close_iterator
from cloudconv.render.cpu_streams import CpuStreams
from cloudconv.render.device import exact_arithmetic, use_device
from cloudconv.render.inference import Inference, SourcePicture
from cloudconv.render.memory import (
    AUTOMATIC,
    Sizes,
    WantedSizes,
    empty_cache,
    grid,
    plan_memory,
    within_memory,
)
from cloudconv.render.tiling import round_up, smallest_tile
from cloudconv.settings.groups import Rendering
from cloudconv.timeline import Task
from cloudconv.transfer import QUEUES, Arriving

_END: Any = object()
_MAX_WAITING = 16
"""More items than the batch size that may wait: new frames, and source frames after
them."""


class Rendered(NamedTuple):
    """An output frame, its task, and the size and the box of its doubt, None for none."""

    frame: Frame
    task: FrameTask
    doubt: tuple[float, Box] | None = None


Item = FrameTask | Rendered
"""A new frame to make, or a source frame that passes through."""


@dataclass(slots=True)
class _Batch:
    """Items and the future result: their planes, or None without memory."""

    items: deque[Item]
    work: Future[Arriving | None]


class _Line:
    """The output frames of a run on their way through a renderer, in their order.

    A new frame is ``collected`` until a batch starts. A source frame waits behind the new
    frames before it: those that are collected, or else those of the newest of the
    ``batches`` in work. With none before it, the frame is ``ready``.
    """

    def __init__(self, tasks: Iterable[FrameTask]) -> None:
        self.ready: deque[Rendered] = deque()
        self.batches: deque[_Batch] = deque()  # the oldest first
        self.collected: deque[Item] = deque()  # the first one is new
        self.has_ended = False  # whether all items were taken
        self._tasks = iter(tasks)
        self._again: deque[Item] = deque()  # items of batches without enough memory

    def take(self) -> Item | None:
        """Return the next item, None at the end."""
        if self._again:
            return self._again.popleft()
        item = next(self._tasks, _END)
        self.has_ended = item is _END
        return None if self.has_ended else item

    def add(self, item: Item) -> None:
        """Let an item follow all others."""
        if isinstance(item, Task) or self.collected:
            self.collected.append(item)
        elif self.batches:
            self.batches[-1].items.append(item)
        else:
            self.ready.append(item)

    def repeat(self) -> None:
        """Let the items of all batches come again, and the end after them."""
        unfinished = chain.from_iterable(batch.items for batch in self.batches)
        self._again = deque(chain(unfinished, self.collected, self._again))
        self.batches.clear()
        self.collected.clear()
        self.has_ended = False

    def close(self) -> None:
        close_iterator(self._tasks)


class Renderer:
    """A maker of output frames: one model on one device.

    ``wanted`` are the batch, the tiles and the CPU streams that the user wants. ``scale``
    is that of the motion estimation, 1 for models without this option. ``judges``: measure
    where new frames are a guess. ``engines`` are those with which the model was loaded.
    ``warnings`` get those about memory.
    Raises ModelError or SettingsError if scale, batch or tile cannot be used.
    """

    def __init__(
        self,
        model: Interpolator,
        *,
        device: torch.device,
        wanted: WantedSizes = AUTOMATIC,
        scale: float = 1.0,
        judges: bool = False,
        engines: Engines,
        warnings: Warnings | None = None,
    ) -> None:
        self.engines = engines
        self._inference = Inference(
            model, device, scale, judges, fills=device.type != "cpu"
        )
        self._device = device
        self._dtype = model.dtype
        self._wanted = wanted
        self._context = model.spec.frames
        self.warnings = Warnings() if warnings is None else warnings
        self._pictures: dict[int, SourcePicture] = {}
        self._size: tuple[int, int] | None = None
        self.judges = judges
        self.plan = partial(
            plan_memory,
            model,
            device=device,
            wanted=wanted,
            scale=scale,
        )
        self.plan(64, 64)  # raises an error for settings out of range before any work

    def choose_sizes(
        self, width: int, height: int, renderers: int = 1, *, free_bytes: int | None = None
    ) -> Sizes:
        """Choose the sizes for frames of that size, and use them.

        See :func:`plan_memory`.
        """
        plan = self.plan(width, height, renderers=renderers, free_bytes=free_bytes)
        sizes = plan.sizes
        self.use_sizes(width, height, sizes)
        free = (
            f"{(plan.free_bytes or 0) / 2**30:.1f} GiB of memory that {self._device} has "
            "free"
        )
        if sizes.tile is not None and self._wanted.tile == "auto":
            self.warnings.add(
                Warned(
                    f"tiles: A whole {width}x{height} frame does not fit into the {free}: "
                    f"frames are computed in tiles of {sizes.tile} pixels."
                )
            )
        asked = self._wanted.batch
        if asked != "auto" and sizes.batch < asked:
            self.warnings.add(
                Warned(
                    f"batch-reduced: A batch of {asked} frames of {width}x{height} does "
                    f"not fit into the {free}: the batch is {sizes.batch}."
                )
            )
        return sizes

    def use_sizes(self, width: int, height: int, sizes: Sizes) -> None:
        """Use these sizes for frames of that size.

        Only a lack of memory changes them later.
        """
        self._size = width, height
        self._inference = replace(self._inference, sizes=sizes)

    def frames(self, tasks: Iterable[FrameTask]) -> Iterator[Frame]:
        """Return the planned frames, in their order; see :meth:`render`."""
        return (made.frame for made in self.render(tasks))

    def render(self, tasks: Iterable[FrameTask]) -> Generator[Rendered, None, None]:
        """Yield the planned frames, in their order.

        While a batch is copied back and yielded, a GPU with queued copies computes the next
        one. A CPU with several streams meanwhile computes one batch per stream. Source
        frames wait for the new frames before them; the number of waiting frames is limited.
        ``tasks`` is closed with this generator. Raises DeviceError if the memory is too
        small for a single small tile, and ModelError if a picture has values that are not
        finite.
        """
        use_device(self._device)
        # Without this call oneDNN uses every core in a new thread.
        torch.get_num_threads()
        line = _Line(tasks)
        try:
            with (
                exact_arithmetic(),
                closing(CpuStreams(self._inference.sizes.cpu_streams)) as cpu_streams,
            ):
                while not line.has_ended:
                    if self._collect(line):
                        self._start(line, cpu_streams)
                    while line.ready or self._must_finish(line, cpu_streams):
                        if line.ready:
                            yield line.ready.popleft()
                        elif line.batches[0].work.result() is None:
                            line.repeat()
                            self._step_back(cpu_streams)
                        else:
                            line.ready += self._frames(line.batches.popleft())
        finally:
            self._pictures.clear()
            line.close()

    def _collect(self, line: _Line) -> bool:
        """Take the next item; return whether the collected ones are a batch."""
        item = line.take()
        if isinstance(item, Task) and item.is_new:
            size = item.left.width, item.left.height
            if self._size != size:
                self.choose_sizes(*size)
            line.add(item)
        elif isinstance(item, Task):
            frame = item.left.at(item.time, item.duration)
            line.add(Rendered(replace(frame, captions=item.captions), item))
        elif item is not None:
            line.add(item)
        if isinstance(item, Task) and item.seen:
            return True
        batch = self._inference.sizes.batch
        new = sum(isinstance(item, Task) for item in line.collected)
        is_full = new >= batch or len(line.collected) >= batch + _MAX_WAITING
        return is_full or (item is None and bool(line.collected))

    def _must_finish(self, line: _Line, cpu_streams: CpuStreams) -> bool:
        """Return whether the oldest batch must end before the next item is taken."""
        if not line.batches:
            return False
        ahead = cpu_streams.count * (cpu_streams.count > 1)
        if line.has_ended or self._device.type in QUEUES:
            ahead = int(not line.has_ended)
        most = self._inference.sizes.batch + _MAX_WAITING
        return len(line.batches) > ahead or len(line.batches[-1].items) > most

    def _start(self, line: _Line, cpu_streams: CpuStreams) -> None:
        """Begin a batch of the collected items."""
        items = line.collected
        line.collected = deque()
        tasks = [item for item in items if isinstance(item, Task)]
        pictures = []
        for task in tasks[0].seen or tasks:  # an exposure is a batch of its own
            pair = task.left, task.right or task.left
            # A frame of the pair replaces a missing frame beside it.
            outer = zip((task.before, task.after), pair, strict=True)
            frames = [*pair, *(own if other is None else other[0] for other, own in outer)]
            # An id stays unique while its entry keeps the decoded picture in memory.
            needed = [(id(frame.picture), frame) for frame in frames[: self._context]]
            pictures.append(
                [self._pictures.setdefault(k, SourcePicture(f)) for k, f in needed]
            )
        # The next batch begins at the last pair of this batch or later. It can only reuse
        # the pictures of this batch's last task.
        self._pictures = {id(picture.frame.picture): picture for picture in pictures[-1]}
        if tasks[0].seen:
            make = partial(self._inference.expose, tasks[0], pictures)
        else:
            make = partial(self._inference.make, tasks, pictures)
        work = cpu_streams.call(within_memory, make, self._dtype)
        line.batches.append(_Batch(items, work))

    def _frames(self, batch: _Batch) -> list[Rendered]:
        """Return the frames of a batch that is complete."""
        done = batch.work.result()
        assert done is not None
        *planes, totals, places = done.planes()
        count = len(planes) // len(totals)
        number = 0
        frames: list[Rendered] = []
        for item in batch.items:
            if isinstance(item, Rendered):
                frames.append(item)
                continue
            check_finite(totals[number], item.time)
            own = planes[number * count : (number + 1) * count]
            frame = item.left.like(own, item.time, item.duration)
            doubt = _doubt(places[number], float(item.t)) if len(places) else None
            frames.append(Rendered(replace(frame, captions=item.captions), item, doubt))
            number += 1
        return frames

    def _step_back(self, cpu_streams: CpuStreams) -> None:
        """Use less memory: one CPU stream, then smaller batches, tiles, smaller tiles."""
        self._pictures.clear()
        empty_cache(self._device)
        if cpu_streams.narrow():
            one = replace(self._inference.sizes, cpu_streams=1)
            self._inference = replace(self._inference, sizes=one)
            return
        assert self._size is not None
        multiple, overlap = grid(self._inference.model, self._inference.scale)
        smallest = smallest_tile(overlap, multiple)
        sizes = self._inference.sizes
        side = round_up(max(self._size), multiple) if sizes.tile is None else sizes.tile
        if sizes.batch > 1:
            sizes = replace(sizes, batch=sizes.batch // 2)
            less = (
                f"out-of-memory: {self._device} ran out of memory: the batch is now "
                f"{sizes.batch}."
            )
        elif self._wanted.tile != "off" and side > smallest:
            sizes = replace(sizes, tile=max(smallest, round_up(side // 2, multiple)))
            less = (
                f"out-of-memory-tiles: {self._device} ran out of memory: frames are now "
                f"computed in tiles of {sizes.tile} pixels."
            )
        else:
            width, height = self._size
            tiles = "allow tiles with --tile=auto, " if side > smallest else ""
            raise DeviceError(
                f"frame-fills-memory: {self._device} ran out of memory on a "
                f"{width}x{height} frame: {tiles}close other programs, or use another "
                "--device or a smaller copy of the video."
            )
        self._inference = replace(self._inference, sizes=sizes)
        self.warnings.add(Warned(less))


def _doubt(places: torch.Tensor, timestep: float) -> tuple[float, Box] | None:
    levels = unexplained(places.numpy(), timestep)
    size = size_of(levels)
    return None if size < LEAST else (size, box_of(levels))


def renderer_for(
    model: str,
    settings: Rendering,
    device: torch.device,
    dtype: torch.dtype,
    wanted: WantedSizes = AUTOMATIC,
    *,
    lenient: bool = False,
    judges: bool = False,
    sha256: str | None = None,
    warnings: Warnings | None = None,
) -> Renderer:
    """Load a model for a renderer with the options; ``lenient`` skips those it lacks.

    ``sha256`` is the hash that its weights must have, None for any.
    """
    engines = Engines()
    network = registry.load(
        model,
        device,
        dtype,
        timesteps=settings.timesteps,
        sha256=sha256,
        engine_of=engines.of,
        warnings=warnings,
    )
    return Renderer(
        network,
        device=device,
        wanted=wanted,
        scale=((network.scale_option or not lenient) and settings.scale) or 1.0,
        judges=judges and network.has_maps,
        engines=engines,
        warnings=warnings,
    )
