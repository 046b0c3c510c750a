"""Describe how the segments of a job are rendered; workers receive this description."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.sink import Sink
from cloudconv.render.device import PRECISIONS
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.settings import InterpSettings


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """Everything that is needed to render any segment of a job, in any process.

    ``settings`` has the model and the number of threads that the run uses. ``offset`` is the time
    of the first frame, in seconds. ``batch``, ``tile`` (None for whole frames) and ``cpu_streams``
    are the same for all segments. ``device`` is a type of device; each worker sees one device
    of that type. ``precision`` is a key of :data:`~cloudconv.render.device.PRECISIONS`. The
    segments' files are written to ``folder``. ``token`` identifies the folder's content: a machine
    that finds another token at that path does not see the same folder. ``rate`` is None for a
    variable rate.
    """

    settings: InterpSettings
    info: MediaInfo
    output: Path
    folder: Path
    rate: Fraction | None
    time_base: Fraction
    offset: Fraction
    device: str
    precision: str
    batch: int
    tile: int | None
    cpu_streams: int
    nvdec: bool
    token: str = ""

    @property
    def model_key(self) -> tuple[object, ...]:
        """Return a key that is equal for plans that can use the same model."""
        settings = self.settings
        options = settings.chosen_model, settings.scale, settings.fallback, settings.tile
        return self.device, self.precision, *options

    def renderer(self) -> Renderer:
        """Load the model on its device, and return a renderer for frames of this plan."""
        settings, dtype = self.settings, PRECISIONS[self.precision]
        renderer = renderer_for(
            settings.chosen_model, settings, torch.device(self.device), dtype, self.cpu_streams
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
            settings=self.settings,
            segment=segment,
        )
