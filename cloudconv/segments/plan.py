"""Describe how the segments of a job are rendered; workers receive this description."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.encode import EncodingPlan
from cloudconv.render.device import PRECISIONS
from cloudconv.render.memory import Sizes
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.settings import InterpSettings


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """Everything that is needed to render any segment of a job, in any process.

    ``model`` is the name or file of the model, and ``threads`` the number of each worker's threads,
    None for all. ``sizes`` are the same for all segments. ``offset`` is the time of the first
    frame, in seconds. ``device`` is a type of device; each worker sees one device of that type.
    ``precision`` is a key of :data:`~cloudconv.render.device.PRECISIONS`. ``encoding`` describes
    the output. The segments' files are written to ``folder``. ``token`` identifies the folder's
    content: a machine that finds another token at that path does not see the same folder.
    """

    settings: InterpSettings
    model: str
    threads: int | None
    sizes: Sizes
    info: MediaInfo
    encoding: EncodingPlan
    folder: Path
    offset: Fraction
    device: str
    precision: str
    nvdec: bool
    token: str = ""

    @property
    def model_key(self) -> tuple[object, ...]:
        """Return a key that is equal for plans that can use the same model."""
        settings = self.settings
        options = settings.given_scale, settings.fallback, settings.tile, settings.timesteps
        return self.device, self.precision, self.model, *options

    def renderer(self) -> Renderer:
        """Load the model on its device, and return a renderer for frames of this plan."""
        device, dtype = torch.device(self.device), PRECISIONS[self.precision]
        streams = self.sizes.cpu_streams
        renderer = renderer_for(self.model, self.settings, device, dtype, streams)
        self.apply_to(renderer)
        return renderer

    def apply_to(self, renderer: Renderer) -> None:
        """Set the sizes of a renderer."""
        renderer.use_sizes(self.info.width, self.info.height, self.sizes)
