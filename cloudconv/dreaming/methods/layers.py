"""Stack the layers of a collage: footage over older footage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.methods.footage import Footage, LayerPicture
from cloudconv.dreaming.methods.thumbs import Arrangement
from cloudconv.dreaming.methods.transition import Front
from cloudconv.models.ops import warp


@dataclass(slots=True)
class Layer:
    """Footage over the layers below.

    ``front``: the times at which points change to the footage; None for the first layer. The points
    move with the ``wind``, (2, h, w) backward flow per frame. ``lasts``: the number of frames until
    all points have changed. ``arrangement``: the placements of the footage; None if no other layer
    follows. ``beside``: the second footage of the arrangement, and the times at which points change
    to this footage. ``age``: in frames.
    """

    footage: Footage
    wind: Tensor
    front: Front | None = None
    lasts: int = 1
    arrangement: Arrangement | None = None
    beside: tuple[Footage, Front] | None = None
    age: int = 0
    _displacement: Tensor | None = None  # (2, h, w), from each pixel back to its point's start

    def advance(self) -> tuple[list[LayerPicture], list[Tensor], Tensor | None]:
        """Go to the next frame.

        Returns:
            The pictures of the footage; their weights within the layer, (h, w) each; and the
            weight of the layer over those below, (h, w), None for 1.
        """
        before, arrives = self._displacement, None
        here = self.wind if before is None else self.wind + warp(before[None], self.wind[None])[0]
        self._displacement = here
        if self.front is not None:
            arrives = self.front.weights(here, self.age + 1, self.lasts)
        shots = [self.footage.at(self.age)]
        weights = [torch.ones_like(shots[0].covers)]
        if self.beside is not None and self.arrangement is not None:
            footage, cut = self.beside
            second = footage.at(self.age)
            weight = cut.weights(here, self.age, self.arrangement.life)
            weight = weight.clamp(1 - shots[0].covers, second.covers)
            if bool((weight > 0).any()):
                shots.append(second)
                weights = [1 - weight, weight]
        self.age += 1
        return shots, weights, arrives


class Stack:
    """The layers that are visible. ``top``: the newest layer."""

    def __init__(self, first: Layer) -> None:
        """Begin with a layer that covers the whole picture."""
        self._first = first
        self._layers = [first]

    @property
    def top(self) -> Layer:
        """The newest layer."""
        return self._layers[-1]

    @property
    def forecasts(self) -> bool:
        """True if the first layer, a forecast, is visible."""
        return self._layers[0] is self._first

    def add(self, layer: Layer) -> None:
        """Put a layer over the others."""
        self._layers.append(layer)

    def advance(self) -> tuple[list[LayerPicture], list[Tensor]]:
        """Go to the next frame, and return its pictures and their weights, (h, w) each."""
        shots: list[LayerPicture] = []
        weights: list[Tensor] = []
        covered = torch.zeros(())
        for layer in list(self._layers):
            pictures, parts, shown = layer.advance()
            covers = torch.stack([one.covers for one in pictures]).amax(0)
            if shown is None:
                shown = torch.ones_like(covers)
            # Where only one of two pictures is known, this picture is shown.
            shown = torch.maximum(shown * covers, (covers - covered).clamp_min(0))
            if shots and bool((shown == 1).all()):
                # This layer hides all layers below.
                self._layers = self._layers[self._layers.index(layer) :]
                shots, weights = [], []
            if not shots:
                shown = torch.ones_like(shown)
            covered = torch.maximum(covered.to(covers.device), covers)
            weights = [weight * (1 - shown) for weight in weights] + [shown * one for one in parts]
            shots += pictures
        return shots, weights
