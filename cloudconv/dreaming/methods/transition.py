"""How a segment comes in over what is there: where first, where last, carried by the wind."""

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

_SOFT = 10  # frames: how long a pixel takes …
_SOFTEST = 0.4  # … of the whole at most
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

    ``front``: of :func:`front_of`, when each point turns; it travels with the ``wind``, (2, h, w)
    backward. ``lasts``: frames until all have turned; ``delay``: frames before the first do.
    """

    def __init__(self, front: Front, wind: Tensor, lasts: int, delay: int = 0) -> None:
        self._front = front
        self._wind = wind
        self._way = torch.zeros_like(wind)
        self._lasts = lasts
        self._delay = delay
        self._age = 0

    @property
    def done(self) -> bool:
        """Whether nothing else is seen any more."""
        return self._age - self._delay >= self._lasts

    def advance(self) -> Tensor:
        """One frame on: (h, w) float32, from 0 to 1 where the segment is all there."""
        self._age += 1
        self._way = self._wind + warp(self._way[None], self._wind[None])[0]
        order = self._front.at(self._way)
        soft = min(_SOFT / self._lasts, _SOFTEST)
        progress = max(0.0, (self._age - self._delay) / self._lasts) * (1 + soft)
        shown = ((progress - order) / soft).clamp(0, 1)
        return shown * shown * (3 - 2 * shown)


@dataclass(frozen=True, slots=True)
class Front:
    """When each point turns, (h + 2 my, w + 2 mx) from 0 to 1, with margins (my, mx) around.

    Points in the margins are still outside of the picture when the transition begins.
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
    """Find when each point turns from what is seen to what comes.

    Args:
        old, coming: the two at a number of frames from now, (3, gh, gw) float32.
        wind: (2, h, w) backward flow.
        lasts: frames in which all turn.
        random: says where fronts start where it makes no difference.
        known: whether the old goes on to come in at the edge the wind blows over; if not, it is
            the last picture carried on, and what comes in must have turned before.
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


def _rows(picture: Tensor) -> np.ndarray:
    """(C, h, w) to (h, w, C)."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


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
