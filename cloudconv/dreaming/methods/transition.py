"""How a segment comes in over what is there: where first, where last, carried by the wind."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.wind import outside
from cloudconv.dreaming.pictures import blurred, resized
from cloudconv.models.ops import warp

_SOFT = 0.18  # of the progress: how long a pixel takes
_EDGE = 20 / 480  # of the longer side: how deep the edge is from which the wind blows
_GRID = 64  # longest side of the grid that a front is followed on
_GRAIN = 0.1  # of the longer side: size of the patches that come in
_RESISTS = 0.2  # against the mean difference: lets a front through where the two are the same
_UNEVEN = 0.6  # how much chance changes a front's pace
_ALIKE = 0.02  # of the longer side: over which pictures are held against each other
_LEAST_CHANGE = 0.5  # of the mean difference: what a pixel counts for beside its own
_STARTS = 3  # places within the picture where a front starts, beside the edge upwind
_LATER = 0.3  # of the way: by how much they start later at most


class Transition:
    """Says how much of a segment is seen, frame by frame.

    ``order``, (h, w) in [0, 1], says when each pixel turns; it travels with the ``wind``, (2, h,
    w) backward. What the wind brings in from outside turns at once. ``lasts``: frames until all
    have turned; ``delay``: frames before the first do, but for those that the wind brings in.
    """

    def __init__(self, order: Tensor, wind: Tensor, lasts: int, delay: int = 0) -> None:
        self._order = order
        self._wind = wind
        self._way = torch.zeros_like(wind)
        self._lasts = lasts
        self._age = -delay
        self._edge = max(1.0, _EDGE * max(order.shape))

    @property
    def done(self) -> bool:
        """Whether nothing else is seen any more."""
        return self._age >= self._lasts

    def begin(self, lasts: int) -> None:
        """Wait no longer, and be all there ``lasts`` frames from now."""
        self._age, self._lasts = max(self._age, 0), lasts

    def advance(self) -> Tensor:
        """One frame on: (h, w) float32, from 0 to 1 where the segment is all there."""
        self._age += 1
        self._way = self._wind + warp(self._way[None], self._wind[None])[0]
        order = warp(self._order[None, None], self._way[None])[0, 0]
        blown_in = ((outside(self._way) + self._ahead(order)) / self._edge).clamp(0, 1)
        # What has is there at once, however late it would turn otherwise.
        order = torch.lerp(order, torch.full_like(order, -_SOFT), blown_in)
        progress = max(0.0, self._age / self._lasts) * (1 + _SOFT)
        shown = ((progress - order) / _SOFT).clamp(0, 1)
        return shown * shown * (3 - 2 * shown)

    def _ahead(self, order: Tensor) -> Tensor:
        """How far within the picture the inflow turns already, by place: no edge is straight.

        Where the order is early, the deeper, but no deeper into what is known than the edge is
        soft; minus how deep a place lies.
        """
        height, width = order.shape
        ahead = torch.full_like(order, -float(max(height, width)))
        for axis, (way, side) in enumerate(((self._way[0], width), (self._way[1], height))):
            place = torch.arange(side, device=order.device, dtype=order.dtype)
            place = place[None] if axis == 0 else place[:, None]
            inside = torch.where(way < 0, place + way, side - 1 - place - way)
            reach = (1 - order) * way.abs().clamp_max(self._edge)
            ahead = torch.maximum(ahead, torch.where(way.abs() > 0.5, reach - inside, ahead))
        return ahead


def order_of(
    seen: Tensor,
    coming: Tensor,
    wind: Tensor,
    random: np.random.Generator,
    size: tuple[int, int],
    *,
    alike_first: bool = False,
) -> Tensor:
    """In which order the pixels turn from one picture to another.

    A front runs from the edge upwind, and from a few places within, fast where the two pictures
    differ and slowly where they are alike: so it rests where it is not seen, and a cloud comes or
    goes as a whole. Related: the seams of least difference of Kwatra et al., Graphcut Textures,
    SIGGRAPH 2003; times of arrival, Sethian, A fast marching level set method, PNAS 1996.

    Args:
        seen, coming: (3, H, W) float32.
        wind: (2, h, w) backward flow.
        random: says where fronts start, and how unevenly they run.
        size: (h, w) of the result.
        alike_first: of places that a front reaches at about the same time, those turn first where
            the two pictures are alike.

    Returns:
        (h, w) float32, the time of arrival in [0, 1], at an even pace of change.
    """
    factor = min(1.0, _GRID / max(size))
    grid = (max(2, round(size[0] * factor)), max(2, round(size[1] * factor)))
    unlike = (resized(seen, grid) - resized(coming, grid)).abs().mean(0)
    resists = 1 / (_RESISTS + (unlike / unlike.mean().clamp_min(1e-6)).cpu().numpy())
    noise = random.standard_normal((1, *grid)).astype(np.float32)
    smooth = blurred(torch.from_numpy(noise), _GRAIN * max(grid))[0].numpy()
    resists *= np.exp(_UNEVEN * smooth / max(float(smooth.std()), 1e-6))
    times = _times(resists, _upwind(resized(wind, grid).cpu().numpy()), random)
    if alike_first:
        near = blurred(unlike[None].cpu(), _ALIKE * max(grid))[0].numpy()
        times = _ranks(times) + _ranks(near)
    order = torch.from_numpy(_evened(times, unlike.cpu().numpy())).to(seen.device)
    return resized(order[None], size)[0]


def _evened(times: np.ndarray, unlike: np.ndarray) -> np.ndarray:
    """Times of arrival, stretched so that as much changes at any time: (h, w) float32 in [0, 1]."""
    sequence = times.argsort(axis=None, kind="stable")
    change = unlike.ravel()[sequence].astype(np.float64) + _LEAST_CHANGE * unlike.mean() + 1e-6
    done = np.cumsum(change) - change
    order = np.empty(times.size, np.float32)
    order[sequence] = done / max(done[-1], 1e-6)
    return order.reshape(times.shape)


def _upwind(wind: np.ndarray) -> np.ndarray:
    """The pixels of the edge that the wind blows in over: (h, w) bool."""
    edge = np.zeros(wind.shape[1:], bool)
    edge[:, 0] |= wind[0, :, 0] < 0
    edge[:, -1] |= wind[0, :, -1] > 0
    edge[0] |= wind[1, 0] < 0
    edge[-1] |= wind[1, -1] > 0
    return edge


def _times(resists: np.ndarray, edge: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """When a front reaches each pixel, (h, w) float64."""
    height, width = resists.shape
    times = np.full((height + 2, width + 2), np.inf)
    inner = times[1:-1, 1:-1]
    inner[edge] = 0.0
    far = float(resists.mean()) * max(height, width)
    for _ in range(_STARTS):
        y, x = random.integers(height), random.integers(width)
        inner[y, x] = min(inner[y, x], far * _LATER * random.random())
    shifts = [
        (dy, dx, (dy * dy + dx * dx) ** 0.5)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    for _ in range(4 * max(height, width)):
        before = inner.copy()
        for dy, dx, length in shifts:
            reached = times[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] + length * resists
            np.minimum(inner, reached, out=inner)
        if np.array_equal(before, inner):
            break
    return inner


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = np.empty(values.size)
    ranks[values.argsort(axis=None, kind="stable")] = np.arange(values.size)
    ranks /= max(1, values.size - 1)
    return ranks.reshape(values.shape)
