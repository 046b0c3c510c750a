"""Make new frames in order: in batches, on any device, in tiles where memory is short."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any

import torch

from cloudconv.errors import DeviceError
from cloudconv.events import Warned
from cloudconv.media.frame import Frame, FrameTask
from cloudconv.models import registry
from cloudconv.models.base import Interpolator, check_finite
from cloudconv.models.catalogue import FOUR
from cloudconv.pipeline import close_iterator, drained
from cloudconv.render.cpu_streams import CpuStreams
from cloudconv.render.device import exact_arithmetic, use_device
from cloudconv.render.inference import Inference, SourcePicture, Steps, advance
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


Items = deque[FrameTask | Frame]
"""Output frames in order: source frames that pass through, and tasks of new frames."""


@dataclass(slots=True)
class _Batch:
    """Items and the future result: planes, or remaining steps, or None without memory."""

    items: Items
    work: Future[Arriving | Steps | None]


class Renderer:
    """A maker of output frames: one model on one device.

    ``wanted`` are the batch, the tiles and the CPU streams that the user wants. ``scale``
    is that of the motion estimation, 1 for models without this option. ``fallback``: mix in
    a blend of the two source frames where the model's motion is wrong, tested on known
    source frames. Raises ModelError or SettingsError if scale, batch or tile cannot be
    used.
    """

    def __init__(
        self,
        model: Interpolator,
        *,
        device: torch.device,
        wanted: WantedSizes = AUTOMATIC,
        scale: float = 1.0,
        fallback: bool = False,
    ) -> None:
        self._inference = Inference(
            model, device, scale, fallback and model.fallback, fills=device.type != "cpu"
        )
        self._device = device
        self._dtype = model.dtype
        self._wanted = wanted
        self._context = FOUR if self._inference.fallback else model.spec.context
        self._warned: SimpleQueue[Warned] = SimpleQueue()
        self._pictures: dict[int, SourcePicture] = {}
        self._size: tuple[int, int] | None = None
        self.plan = partial(plan_memory, model, device=device, wanted=wanted, scale=scale)
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
            self._warn(
                f"tiles: A whole {width}x{height} frame does not fit into the {free}: "
                f"frames are computed in tiles of {sizes.tile} pixels."
            )
        asked = self._wanted.batch
        if asked != "auto" and sizes.batch < asked:
            self._warn(
                f"batch-reduced: A batch of {asked} frames of {width}x{height} does not "
                f"fit into the {free}: the batch is {sizes.batch}."
            )
        return sizes

    def _warn(self, text: str) -> None:
        self._warned.put(Warned(text))

    def use_sizes(self, width: int, height: int, sizes: Sizes) -> None:
        """Use these sizes for frames of that size.

        Only a lack of memory changes them later.
        """
        self._size = width, height
        self._inference = replace(self._inference, sizes=sizes)

    def new_warnings(self) -> list[Warned]:
        """Return the new warnings about memory and precision."""
        return list(drained(self._warned))

    def render(self, tasks: Iterable[FrameTask | None]) -> Generator[Frame, None, None]:
        """Yield the planned frames, in their order.

        No batch goes on after None among the tasks.

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
        collected: Items = deque()  # items of the next batch; the first is new
        computed: deque[_Batch] = deque()  # batches in work, the oldest first
        again: Items = deque()  # items of batches without enough memory
        source = iter(tasks)
        try:
            with (
                exact_arithmetic(),
                closing(CpuStreams(self._inference.sizes.cpu_streams)) as cpu_streams,
            ):
                ended = False
                while not ended or again:
                    taken = again.popleft() if again else next(source, _END)
                    ended = taken is _END
                    item: FrameTask | Frame | None = None if ended else taken
                    if isinstance(item, Task) and not item.is_new:
                        frame = item.left.at(item.time, item.duration)
                        item = replace(frame, captions=item.captions)
                    elif isinstance(item, Task):
                        size = item.left.width, item.left.height
                        if self._size != size:
                            self.choose_sizes(*size)
                    ends = item is None
                    if item is not None and (isinstance(item, Task) or collected):
                        collected.append(item)
                    elif item is not None and computed:
                        computed[-1].items.append(item)
                    elif item is not None:
                        yield item
                    del taken, item
                    batch = self._inference.sizes.batch
                    most = _MAX_WAITING + batch
                    new = sum(isinstance(item, Task) for item in collected)
                    if new >= batch or len(collected) >= most or (ends and collected):
                        computed.append(self._start(collected, cpu_streams))
                        collected = deque()
                        if self._device.type in QUEUES and len(computed) > 1:
                            self._advance(computed[-2], cpu_streams)
                    ahead = 0 if ended else self._ahead(cpu_streams)
                    while computed and (
                        len(computed) > ahead or len(computed[-1].items) > most
                    ):
                        if not (yield from self._finish(computed[0], cpu_streams)):
                            again = deque(
                                chain(*(batch.items for batch in computed), again)
                            )
                            computed.clear()
                            self._step_back(cpu_streams)
                            break
                        computed.popleft()
        finally:
            self._pictures.clear()
            close_iterator(source)

    def _ahead(self, cpu_streams: CpuStreams) -> int:
        if self._device.type in QUEUES:
            # With a fallback, the CPU waits until it knows whether a batch's motion is
            # uncertain. The device meanwhile computes the next batch.
            return 1 + self._inference.fallback
        return cpu_streams.count if cpu_streams.count > 1 else 0

    def _start(self, items: Items, cpu_streams: CpuStreams) -> _Batch:
        tasks = [item for item in items if isinstance(item, Task)]
        pictures = []
        for task in tasks:
            assert task.right is not None
            pair = task.left, task.right
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
        steps = self._inference.make(tasks, pictures)
        return _Batch(
            items, cpu_streams.call(within_memory, partial(advance, steps), self._dtype)
        )

    def _advance(self, batch: _Batch, cpu_streams: CpuStreams) -> None:
        steps = batch.work.result()
        if isinstance(steps, Generator):
            batch.work = cpu_streams.call(
                within_memory, partial(advance, steps), self._dtype
            )

    def _finish(
        self, batch: _Batch, cpu_streams: CpuStreams
    ) -> Generator[Frame, None, bool]:
        """Yield and release the frames of a batch.

        Return False if there was too little memory.
        """
        self._advance(batch, cpu_streams)
        items = batch.items
        done = batch.work.result()
        if done is None:
            return False
        assert isinstance(done, Arriving)
        *planes, totals = done.planes()
        planes_per_frame = len(planes) // len(totals)
        number = 0
        while items:
            item = items.popleft()
            if isinstance(item, Task):
                check_finite(totals[number], item.time)
                own = planes[number * planes_per_frame : (number + 1) * planes_per_frame]
                frame = item.left.like(own, item.time, item.duration)
                item = replace(frame, captions=item.captions)
                number += 1
            yield item
            del item
        return True

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
        self._warn(less)


def renderer_for(
    model: str,
    settings: Rendering,
    device: torch.device,
    dtype: torch.dtype,
    wanted: WantedSizes = AUTOMATIC,
    *,
    lenient: bool = False,
    sha256: str | None = None,
) -> Renderer:
    """Load a model for a renderer with the options; ``lenient`` skips those it lacks.

    ``sha256`` is the hash that its weights must have, None for any.
    """
    network = registry.load(
        model, device, dtype, timesteps=settings.timesteps, sha256=sha256
    )
    spec = network.spec
    return Renderer(
        network,
        device=device,
        wanted=wanted,
        scale=((network.scale_option or not lenient) and settings.scale) or 1.0,
        fallback=spec.falls_back(settings.fallback),
    )
