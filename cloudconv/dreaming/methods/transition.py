"""Bring footage in over older footage, pixel by pixel, along a front that travels with the wind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.methods.front import TIMES, carried, drifts, inside, least_seen
from cloudconv.dreaming.pictures import blurred, resized, resized_flow
from cloudconv.models.ops import warp

_SOFT = 10  # frames in which a pixel changes over …
_SOFTEST = 0.4  # … of the whole at most
_GRID = 64  # longest side of the grid that a front is followed on
_GRAIN = 0.1  # of the longer side: size of the patches that come in
_RESISTS = 0.2  # of the mean difference: least pace of a front where the two are the same
_UNEVEN = 0.6  # random variation of a front's pace
_LEAST_CHANGE = 0.5  # of the mean difference: added to the change that each pixel counts
_STARTS = 3  # places within the picture where a front starts, beside the edge upwind
_LATER = 0.3  # of the way: their latest start


class Transition:
    """The weight of incoming footage, frame by frame.

    ``front``: the times of change, see :func:`front_of`; the front travels with the ``wind``,
    (2, h, w) backward. ``lasts``: frames until all pixels have changed; ``delay``: frames before
    the first change.
    """

    def __init__(self, front: Front, wind: Tensor, lasts: int, delay: int = 0) -> None:
        """Begin before the first frame."""
        self._front = front
        self._wind = wind
        self._way = torch.zeros_like(wind)
        self._lasts = lasts
        self._delay = delay
        self._age = 0

    @property
    def done(self) -> bool:
        """True once the weight is 1 everywhere."""
        return self._age - self._delay >= self._lasts

    def advance(self) -> Tensor:
        """Move on by one frame and return the weight: (h, w) float32, from 0 to 1."""
        self._age += 1
        self._way = self._wind + warp(self._way[None], self._wind[None])[0]
        order = self._front.at(self._way)
        soft = min(_SOFT / self._lasts, _SOFTEST)
        progress = max(0.0, (self._age - self._delay) / self._lasts) * (1 + soft)
        shown = ((progress - order) / soft).clamp(0, 1)
        return shown * shown * (3 - 2 * shown)


@dataclass(frozen=True, slots=True)
class Front:
    """The time at which each point changes, (h + 2 my, w + 2 mx) from 0 to 1.

    Points in the margins (my, mx) are outside the picture when the transition begins.
    """

    order: Tensor
    margins: tuple[int, int]

    def at(self, way: Tensor) -> Tensor:
        """Return the order (h, w) of the points that come by a backward displacement (2, h, w)."""
        height, width = way.shape[-2:]
        my, mx = self.margins
        y = torch.arange(height, device=way.device)[:, None] + way[1] + my
        x = torch.arange(width, device=way.device)[None] + way[0] + mx
        rows, columns = self.order.shape
        grid = torch.stack([2 * x / max(columns - 1, 1) - 1, 2 * y / max(rows - 1, 1) - 1], -1)
        return functional.grid_sample(
            self.order[None, None], grid[None], padding_mode="border", align_corners=True
        )[0, 0]


def front_of(
    old: Callable[[int], Tensor],
    coming: Callable[[int], Tensor],
    wind: Tensor,
    lasts: int,
    random: np.random.Generator,
    *,
    known: bool = True,
) -> Front:
    """Find the time at which each point changes from old to incoming footage.

    Args:
        old: returns the old footage a number of frames from now, (3, gh, gw) float32.
        coming: returns the incoming footage in the same way.
        wind: (2, h, w) backward flow.
        lasts: frames in which all points change.
        random: chooses where fronts start where the choice makes no difference.
        known: whether the old footage also shows the points that the wind brings in; if not, these
            points must have changed before they are seen.
    """
    size = (wind.shape[-2], wind.shape[-1])
    first, new = old(0), coming(lasts // 2)
    grid = (first.shape[-2], first.shape[-1])
    flow = resized_flow(wind[None], grid)[0].cpu().numpy()
    places, (my, mx) = drifts(flow, lasts)
    apart, unknown = [], []
    for number, place in enumerate(places):
        age = round((number + 0.5) * lasts / TIMES)
        pictures = [
            np.ascontiguousarray(p.permute(1, 2, 0).numpy()) for p in (old(age), coming(age))
        ]
        within = inside(place, grid)
        one, two = (carried(p, place) for p in pictures)
        if not known:
            one = carried(pictures[0], places[0])
            unknown.append(within * (1 - inside(places[0], grid)))
        apart.append((np.abs(one - two).sum(-1) + 1e-4) * within)
    wanted = order_of(old(lasts // 2), new, torch.from_numpy(flow), random, grid)
    wanted_wide = np.pad(wanted.numpy(), ((my, my), (mx, mx)), mode="edge")
    times = least_seen(
        np.stack(apart), wanted_wide.astype(np.float32), np.stack(unknown) if unknown else None
    )
    margins = round(my * size[0] / grid[0]), round(mx * size[1] / grid[1])
    wide = (size[0] + 2 * margins[0], size[1] + 2 * margins[1])
    order = resized(torch.from_numpy(times)[None], wide)[0].to(wind.device)
    return Front(order, margins)


def order_of(
    seen: Tensor,
    coming: Tensor,
    wind: Tensor,
    random: np.random.Generator,
    size: tuple[int, int],
) -> Tensor:
    """Return the order in which pixels change from one picture to another.

    A front runs from the edge upwind, and from a few places within, fast where the two pictures
    differ and slowly where they are alike. So the front rests where it is invisible, and a cloud
    comes or goes as a whole. Related: the seams of least difference of Kwatra et al., Graphcut
    Textures, SIGGRAPH 2003; times of arrival, Sethian, A fast marching level set method, PNAS 1996.

    Args:
        seen: the picture now, (3, H, W) float32.
        coming: the other picture, (3, H, W) float32.
        wind: (2, h, w) backward flow.
        random: chooses where fronts start, and their pace.
        size: (h, w) of the result.

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
    order = torch.from_numpy(_evened(times, unlike.cpu().numpy())).to(seen.device)
    return resized(order[None], size)[0]


def _evened(times: np.ndarray, unlike: np.ndarray) -> np.ndarray:
    """Return times of arrival with an even pace of change: (h, w) float32 in [0, 1]."""
    sequence = times.argsort(axis=None, kind="stable")
    change = unlike.ravel()[sequence].astype(np.float64) + _LEAST_CHANGE * unlike.mean() + 1e-6
    done = np.cumsum(change) - change
    order = np.empty(times.size, np.float32)
    order[sequence] = done / max(done[-1], 1e-6)
    return order.reshape(times.shape)


def _upwind(wind: np.ndarray) -> np.ndarray:
    """Return the edge pixels over which the wind blows in: (h, w) bool."""
    edge = np.zeros(wind.shape[1:], bool)
    edge[:, 0] |= wind[0, :, 0] < 0
    edge[:, -1] |= wind[0, :, -1] > 0
    edge[0] |= wind[1, 0] < 0
    edge[-1] |= wind[1, -1] > 0
    return edge


def _times(resists: np.ndarray, edge: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the time at which a front reaches each pixel, (h, w) float64."""
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
