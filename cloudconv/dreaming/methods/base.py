"""What every way of dreaming shares: its description as data, and how frames are asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.events import Warned


class Method(Protocol):
    """A way to go on from the last frame of the material for as long as is asked."""

    @property
    def backwards(self) -> float | None:
        """The share of the frames dreamt so far that run backwards; None where none ever do."""
        ...

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """The frames that follow ``material.last``, one after the other.

        The first lies one ``material.step`` after the material's last frame. The same material,
        seed and machine give the same frames. Memory does not grow with ``frames``.

        Args:
            material: what the dream is made of; at least the spec's ``least_frames``.
            frames: how many, at least 1.
            seed: any integer from 0.
            loop: whether the last frame shall lead into the first frame of the output.
            loop_to: that frame, (3, H, W) RGB on ``material.device``, where the source's frames
                come first; None where the output begins with the dream's own first frame.

        Yields:
            Exactly ``frames`` pictures, (3, H, W) float32 RGB on ``material.device``, nominally in
            [0, 1], not clamped.
        """
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a method may be told; its spec names those that it listens to.

    ``wind``: where things move, (dx, dy) in pixels of the picture a frame. ``model``: a predictor's
    name or weights file. ``texture_keep``: hold the pictures to the source's detail and colours.
    ``dtype``: what networks compute in.
    """

    wind: tuple[float, float] | None = None
    model: str | None = None
    texture_keep: bool = False
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """What a method needs and does. Jobs read this; nothing branches on a method's name.

    ``least_frames``: how many frames of material it needs. ``repeats``: it shows the same pictures
    again by design. ``static``: it pastes what stands still from the last real frame. ``options``:
    the names of those :class:`Options` that it listens to, which a user may give. ``as_filmed``:
    it shows frames as they are, repeated ones too. ``skies``: it is for skies alone. ``doubt``:
    returns a warning of what will be seen to be wrong with a material, None if nothing is known.
    """

    name: str
    description: str
    least_frames: int
    build: Callable[[Options], Method]
    repeats: bool
    static: bool
    options: tuple[str, ...] = ()
    as_filmed: bool = False
    skies: bool = False
    doubt: Callable[[Material], Warned | None] = lambda _: None
