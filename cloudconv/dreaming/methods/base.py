"""Define what all modes of dreaming share: the base class, the options, and the description."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.events import Warned


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the modes; the spec of a mode names those that the mode takes.

    ``wind``: the motion of the sky, (dx, dy) in pixels of the picture a frame. ``model``: a
    predictor's name or weights file. ``texture_keep``: keep the source's detail and colours.
    ``dtype``: the precision of networks.
    """

    wind: tuple[float, float] | None = None
    model: str | None = None
    texture_keep: bool = False
    dtype: torch.dtype = torch.float32


_DEFAULTS = Options()


class DreamMethod(ABC):
    """A method that continues the last frame of the material for any number of frames."""

    def __init__(self, options: Options = _DEFAULTS) -> None:
        """Keep the options; a method ignores those that its spec does not name."""
        self.options = options

    @property
    def backwards(self) -> float | None:
        """The share of the frames so far that run backwards; None for a mode without such frames.

        0 to 1.
        """
        return None

    @abstractmethod
    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the frames that follow ``material.last``.

        The first lies one ``material.step`` after the material's last frame. The same material,
        seed and machine give the same frames. Memory does not grow with ``frames``.

        Args:
            material: the material, with at least the spec's ``least_frames``.
            frames: the number of frames, at least 1.
            seed: any integer from 0.
            loop: whether the last frame shall lead into the first frame of the output.
            loop_to: that frame, (3, H, W) RGB on ``material.device``, if the source's frames come
                first; None if the output begins with the dream's own first frame.

        Yields:
            Exactly ``frames`` pictures, (3, H, W) float32 RGB on ``material.device``, nominally in
            [0, 1], not clamped.
        """


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """The description of a mode. Jobs read the description and never branch on a mode's name.

    ``build`` makes the method. ``least_frames``: the least material in frames. ``repeats``: the
    same pictures come again by design. ``static``: still parts are pasted from the last real
    frame. ``options``: the names of the :class:`Options` that a user may give. ``as_filmed``:
    frames are shown as filmed, repeated ones too. ``skies``: the mode is for skies alone.
    ``doubt``: returns a warning about a visible fault that a material will cause, None for no
    such fault.
    """

    name: str
    description: str
    least_frames: int
    build: Callable[[Options], DreamMethod]
    repeats: bool
    static: bool
    options: tuple[str, ...] = ()
    as_filmed: bool = False
    skies: bool = False
    doubt: Callable[[Material], Warned | None] = lambda _: None
