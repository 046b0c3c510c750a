"""Stack the layers of a collage: footage over older footage over the forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.material.wind import EDGE, Carried, inside
from cloudconv.dreaming.methods.footage import Footage, LayerPicture
from cloudconv.dreaming.methods.thumbs import Arrangement
from cloudconv.dreaming.methods.transition import Front, Transition
from cloudconv.dreaming.pictures import resized_flow


@dataclass(frozen=True, slots=True)
class Layer:
    """A sequence of pictures over the layers below.

    ``arrival``: the weights of the pictures; None for 1. ``footage``: the source of the pictures;
    None for pictures made from a single frame. ``arrangement``: the placements of the footage.
    ``beside``: the second footage of the arrangement, and the times at which points change to this
    footage.
    """

    pictures: Iterator[LayerPicture]
    arrival: Transition | None = None
    footage: Footage | None = None
    arrangement: Arrangement | None = None
    beside: tuple[Footage, Front] | None = None

    def advance(self, size: tuple[int, int]) -> tuple[LayerPicture, Tensor]:
        """Return the next picture, and its weight (h, w) over the layers below."""
        shot = next(self.pictures)
        shown = torch.ones(size, device=shot.picture.device)
        if self.arrival is not None:
            shown = self.arrival.advance()
        if self.beside is None and shot.covers is not None:
            shown = shown * shot.covers
        return shot, shown

    def second(self) -> tuple[LayerPicture, Tensor] | None:
        """Return the picture of the second footage, and its weight (h, w) within the layer.

        The result is None if the layer does not show a second footage now.
        """
        if self.beside is None or self.arrival is None or self.arrangement is None:
            return None
        footage, cut = self.beside
        assert self.footage is not None
        age = self.footage.age
        weight = cut.weights(self.arrival.displacement, age, self.arrangement.life)
        weight = weight.clamp(1 - self.footage.known, footage.known)
        return (footage.at(age), weight) if bool((weight > 0).any()) else None


class Stack:
    """The layers that are visible. ``top``: the newest layer."""

    def __init__(
        self, carried: Carried, forecast: Iterator[LayerPicture], size: tuple[int, int]
    ) -> None:
        """Begin with the pictures of the ``forecast``; ``size``: (h, w) of the weights."""
        self._carried = carried
        self._size = size
        self._forecast = Layer(forecast)
        self._layers = [self._forecast]

    @property
    def top(self) -> Layer:
        """The newest layer."""
        return self._layers[-1]

    @property
    def forecasts(self) -> bool:
        """True if the forecast is visible, as the first picture."""
        return self._layers[0] is self._forecast

    def add(self, layer: Layer) -> None:
        """Put a layer over the others."""
        self._layers.append(layer)

    def advance(self) -> tuple[list[LayerPicture], list[Tensor]]:
        """Go to the next frame, and return its pictures and their weights, (h, w) each."""
        shots: list[LayerPicture] = []
        weights: list[Tensor] = []
        for number, layer in enumerate(list(self._layers)):
            shot, shown = layer.advance(self._size)
            if number == 1 and self.forecasts:
                shown = torch.maximum(shown, self._blown_in())
            if number and bool((shown == 1).all()):
                # This layer hides all layers below.
                self._layers = self._layers[self._layers.index(layer) :]
                shots, weights = [], []
            if not shots:
                shown = torch.ones_like(shown)
            shots.append(shot)
            weights = [weight * (1 - shown) for weight in weights] + [shown]
            second = layer.second()
            if second is not None:
                shots.append(second[0])
                weights[-1:] = [shown * (1 - second[1]), shown * second[1]]
        return shots, weights

    def _blown_in(self) -> Tensor:
        """Return 1 where the forecast needs points from far outside the last frame: (h, w)."""
        displacement = resized_flow(self._carried.sampled[None], self._size)[0]
        return 1 - inside(displacement, EDGE * max(self._size))
