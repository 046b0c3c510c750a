"""Define the interface of the modes of dreaming: base class, options and description."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.vitals.vitals import DreamKind


@dataclass(frozen=True, slots=True)
class Options:
    """The options of all modes; a mode uses those that its :class:`MethodSpec` names.

    ``wind``: the motion of the sky, (dx, dy) in full-size pixels per frame. ``model``: the name or
    weights file of a predictor. ``dtype``: the precision of networks.
    """

    wind: tuple[float, float] | None = None
    model: str | None = None
    dtype: torch.dtype = torch.float32


_DEFAULTS = Options()


class DreamMethod(ABC):
    """A method that continues the last frame of the material for any number of frames."""

    def __init__(self, options: Options = _DEFAULTS) -> None:
        """Store the options; a method ignores those that its spec does not name."""
        self.options = options

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

        The first frame follows ``material.last`` by one ``material.step``, in seconds. The same
        material, seed and machine give the same frames. Memory does not grow with ``frames``.

        Args:
            material: the material, with at least the spec's ``least_frames``.
            frames: the number of frames, at least 1.
            seed: any integer from 0.
            loop: whether the first frame of the output follows smoothly after the last one.
            loop_to: the first frame of the output, (3, H, W) RGB on ``material.device``, if the
                output begins with the source's frames; None if the output begins with the dream.

        Yields:
            Exactly ``frames`` pictures, (3, H, W) float32 RGB on ``material.device``, nominally in
            [0, 1], not clamped.
        """


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """The description of a mode. Jobs read the description and never branch on a mode's name.

    ``build``: returns a method with the given options. ``least_frames``: the number of frames that
    the material needs. ``kind``: the properties of the mode's dreams; ``sky`` states here whether
    the mode is for skies only. ``options``: the names of the :class:`Options` that a user may give.
    ``note``: a sentence for the user about every dream in the mode.
    """

    name: str
    least_frames: int
    build: Callable[[Options], DreamMethod]
    kind: DreamKind
    options: tuple[str, ...] = ()
    note: str = ""
