"""Describe how the segments of a job are rendered; workers receive this description."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch

from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.sink import Sink
from cloudconv.models import registry
from cloudconv.render.device import PRECISIONS
from cloudconv.render.renderer import Renderer
from cloudconv.settings import EncodeSettings


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """Everything that is needed to render any segment of a job, in any process.

    ``offset`` is the time of the first frame, in seconds. ``batch``, ``tile`` and ``cpu_streams``
    are the same for all segments. ``device`` is a type of device; each worker sees one device
    of that type. ``precision`` is a key of :data:`~cloudconv.render.device.PRECISIONS`. The
    segments' files are written to ``folder``. ``token`` identifies the folder's content: a machine
    that finds another token at that path does not see the same folder. With ``may_raise``, frames
    in 16 bits with values that are not finite are made again in float32. ``rate`` is None for a
    variable rate.
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
        """Return a key that is equal for plans that can use the same model."""
        return self.model, self.device, self.precision, self.scale, self.fallback

    @property
    def work_key(self) -> tuple[object, ...]:
        """Return a key that is equal for plans that need the same memory and threads."""
        used = self.batch, self.tile, self.cpu_streams, self.threads
        return self.info.width, self.info.height, *used

    def renderer(self) -> Renderer:
        """Load the model on its device, and return a renderer for frames of this plan."""
        device, dtype = torch.device(self.device), PRECISIONS[self.precision]
        renderer = Renderer(
            registry.load(self.model, device, dtype),
            device=device,
            dtype=dtype,
            scale=self.scale,
            fallback=self.fallback,
            exact=partial(registry.load, self.model, device) if self.may_raise else None,
        )
        self.apply_to(renderer)
        return renderer

    def apply_to(self, renderer: Renderer) -> None:
        """Set the batch, the tiles and the CPU streams of a renderer."""
        renderer.use_plan(
            self.info.width, self.info.height, self.batch, self.tile, self.cpu_streams
        )

    def sink(self, segment: Path) -> Sink:
        """Open the encoder of one segment; ``segment`` is its file."""
        return Sink(
            self.output,
            self.info,
            rate=self.rate,
            time_base=self.time_base,
            settings=self.encode,
            segment=segment,
        )
