"""How a video's frames are shared out among segments, and all it takes to render any of them."""

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

    def renderer(self) -> Renderer:
        """The model on its device; see :class:`~cloudconv.render.renderer.Renderer`."""
        device, dtype = torch.device(self.device), PRECISIONS[self.precision]
        renderer = Renderer(
            registry.load(self.model, device, dtype),
            device=device,
            dtype=dtype,
            scale=self.scale,
            fallback=self.fallback,
            exact=partial(registry.load, self.model, device) if self.may_raise else None,
        )
        self.prepare(renderer)
        return renderer

    def prepare(self, renderer: Renderer) -> None:
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
