"""How a video's frames are shared out among segments, and all it takes to render any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch

from cloudconv.events import Warned
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.sink import Sink
from cloudconv.models import registry
from cloudconv.render.device import PRECISIONS
from cloudconv.render.renderer import FrameTask, Renderer
from cloudconv.segments.segment import OuterTime, PlannedFrame, Segment, Splitter
from cloudconv.segments.store import SegmentStore
from cloudconv.settings import EncodeSettings


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """All that it takes to make any segment of a job; the same wherever that is done.

    ``offset`` is when the first frame is shown, in seconds. ``batch``, ``tile`` and
    ``cpu_streams`` are decided: a segment never decides again. ``device`` is a kind, of which a
    worker sees one, ``precision`` a key of :data:`~cloudconv.render.device.PRECISIONS`. The
    segments' files go into ``folder``, which a machine knows by its ``token``. With ``may_raise``
    float32 takes over where 16 bits fail.
    """

    info: MediaInfo
    output: Path
    folder: Path
    rate: Fraction | None
    time_base: Fraction
    offset: Fraction
    encode: EncodeSettings
    model: str
    device: str
    precision: str
    scale: float
    fallback: bool
    batch: int
    tile: int | None
    cpu_streams: int
    threads: int | None
    deinterlace: bool
    nvdec: bool
    token: str = ""
    may_raise: bool = False

    @property
    def model_key(self) -> tuple[object, ...]:
        """Alike where the same model can be used."""
        return self.model, self.device, self.precision, self.scale, self.fallback

    @property
    def work_key(self) -> tuple[object, ...]:
        """Alike where the model works in the same way."""
        known = self.batch, self.tile, self.cpu_streams, self.threads
        return self.info.width, self.info.height, *known

    def renderer(self, on_warning: Callable[[Warned], None]) -> Renderer:
        """The model on its device; see :class:`~cloudconv.render.renderer.Renderer`."""
        device, dtype = torch.device(self.device), PRECISIONS[self.precision]
        renderer = Renderer(
            registry.load(self.model, device, dtype),
            device=device,
            dtype=dtype,
            scale=self.scale,
            fallback=self.fallback,
            exact=partial(registry.load, self.model, device) if self.may_raise else None,
            on_warning=on_warning,
        )
        self.keep(renderer)
        return renderer

    def keep(self, renderer: Renderer) -> None:
        """Let the renderer work as was decided."""
        renderer.use_plan(
            self.info.width, self.info.height, self.batch, self.tile, self.cpu_streams
        )

    def sink(self, segment: Path) -> Sink:
        """The encoder of one segment."""
        return Sink(
            self.output,
            self.info,
            rate=self.rate,
            time_base=self.time_base,
            settings=self.encode,
            segment=segment,
        )

    def placed(self, frame: Frame) -> Frame:
        """The frame on the output's own clock."""
        lasts = frame.duration if self.rate is None else 1 / self.rate
        return frame.at(frame.time + self.offset, lasts)


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """A segment, and how to make it: all that another process needs."""

    plan: RenderPlan
    segment: Segment


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A frame to render, as part of a segment; the segment's last one ``completes`` it."""

    plan: RenderPlan
    task: FrameTask
    completes: Segment | None


def plan_segments(
    tasks: Iterator[FrameTask], plan: RenderPlan, store: SegmentStore
) -> Iterator[PlannedTask]:
    """The tasks of all segments that are not finished yet, as the plan goes along.

    Raises:
        OutputError: a finished segment is not what is planned now.
    """
    splitter = Splitter()
    held: FrameTask | None = None
    for task in tasks:
        ended = splitter.push(_planned(task), cut=task.opens_scene)
        if ended is not None:
            store.check(ended)
        if held is not None:
            yield PlannedTask(plan, held, ended)
        held = None if splitter.number in store.finished else task
    ended = splitter.finish()
    if ended is not None:
        store.check(ended)
    if held is not None:
        yield PlannedTask(plan, held, ended)


def _planned(task: FrameTask) -> PlannedFrame:
    right = None if task.right is None else task.right.time
    outer = (o and OuterTime(o.frame.time, o.reach) for o in (task.before, task.after))
    return PlannedFrame(task.left.time, right, task.timestep, task.time, task.duration, *outer)
