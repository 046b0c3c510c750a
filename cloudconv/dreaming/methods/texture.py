"""Mode ``texture``: show the clip's own frames as filmed, forwards and backwards.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000; independent regions:
Liao, Joshi and Hoppe, Automated Video Looping with Progressive Dynamism, SIGGRAPH 2013. The
method reverses where little moves, and jumps only where the jump is invisible everywhere. If no
such path closes a loop, the method makes a forced jump: each pixel switches to the later frames at
the time when the two differ least around the pixel (Kwatra et al., Graphcut Textures, SIGGRAPH
2003, with costs summed over areas instead of a cut). No frames are cross-faded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.regions import likeness_of, regions_of
from cloudconv.dreaming.material.similarity import distances, thumbnail, thumbnails
from cloudconv.dreaming.methods.base import DreamMethod
from cloudconv.dreaming.methods.jumps import GIVEN, Graph, Step, relative_motion
from cloudconv.dreaming.pictures import blurred, bounds, resized, small_copy
from cloudconv.events import Warned, result_of

_SWITCHES = 24  # frames within which each pixel switches at a forced jump
_AREA = 0.02  # sigma of the area over which differences are summed, of the longer side
_PLANNED = 4  # the end of a loop that is planned exactly, in lengths of the clip
_TRIED = 400  # frames of a trial that measures how many run backwards …
_SEEN = 0.1  # … and the fraction from which the user is warned
_SAME = 2.0  # difference in levels below which a picture and a frame are the same

_Numbers = NDArray[np.intp]


class Texture(DreamMethod):
    """A method that plays real frames as filmed, in each region of the picture separately."""

    _frames = 0
    _backwards = 0.0

    @property
    def backwards(self) -> float | None:
        """The fraction of the frames so far that run backwards; None before the first frame."""
        return self._backwards / self._frames if self._frames else None

    def _count(self, steps: list[Step], sizes: NDArray[np.float64]) -> None:
        self._frames += 1
        self._backwards += float(sum(sizes[[not step.forward for step in steps]]))

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield real frames; see the base class."""
        count = len(material)
        plan = _plan_of(material)
        labels, graphs = plan.labels, plan.graphs
        random = np.random.default_rng(seed)
        start = Step(count - 1, True)
        if loop and loop_to is None:
            # The dream follows no frame, so any frame may be its first.
            start = Step(int(random.integers(count)), bool(random.integers(2)))
            self._count([start] * len(graphs), plan.sizes)
            yield _shown(material, np.full_like(labels, start.frame))
            frames -= 1
        ends = min(frames, _PLANNED * count) if loop else 0
        steps = [start] * len(graphs)
        walks = [graph.walk(random, start) for graph in graphs]
        for _ in range(frames - ends):
            steps = [next(walk) for walk in walks]
            self._count(steps, plan.sizes)
            yield _shown(material, _numbers(steps, labels))
        if ends:
            leads_to = _leads_to(material, loop_to, start.frame)
            paths = [
                graph.path(step, ends, *leads_to) for graph, step in zip(graphs, steps, strict=True)
            ]
            for number in range(ends):
                self._count([path[number] for path in paths], plan.sizes)
            yield from _planned(material, labels, paths, loop_to)


@dataclass(frozen=True, slots=True)
class _TexturePlan:
    """The regions of a material.

    ``labels``: (h, w), the number of each pixel's region. ``graphs`` and ``sizes``: the graph of
    each region, and its fraction of the picture, 0 if nothing moves there.
    """

    labels: _Numbers
    graphs: list[Graph]
    sizes: NDArray[np.float64]


# The warning needs the plan before the dream starts, and the method needs the same plan.
_PLANS: WeakKeyDictionary[Material, _TexturePlan] = WeakKeyDictionary()


def _plan_of(material: Material) -> _TexturePlan:
    plan = _PLANS.get(material)
    if plan is None:
        count = len(material)
        labels = regions_of(count, material.glance)
        found = likeness_of(count, material.glance, labels)
        graphs = [Graph(one.unlike, relative_motion(one.changes)) for one in found]
        sizes = np.bincount(labels.ravel(), minlength=len(graphs)) / labels.size
        # A region in which nothing moves has no direction.
        sizes[[graph.rests for graph in graphs]] = 0
        plan = _PLANS[material] = _TexturePlan(labels, graphs, sizes)
    return plan


def backwards_of(material: Material) -> Warned | None:
    """Return a warning if many frames will visibly run backwards, else None."""
    plan = _plan_of(material)
    fraction = 0.0
    for graph, size in zip(plan.graphs, plan.sizes, strict=True):
        walk = graph.walk(np.random.default_rng(0), Step(graph.count - 1, True))
        fraction += size * np.mean([not next(walk).forward for _ in range(_TRIED)])
    return (
        Warned(
            "runs-backwards: Too few jumps between the frames of this clip go unseen, so many of "
            "the new frames play backwards, and a viewer will see the motion reverse."
        )
        if fraction > _SEEN
        else None
    )


def _leads_to(material: Material, picture: Tensor | None, begins: int) -> tuple[int, bool]:
    """Return the frame nearest to a loop's target, and whether the two are the same picture."""
    if picture is None:
        return begins, True
    row = thumbnail(small_copy(picture, material.small_size))
    away = distances(result_of(thumbnails(material)), row[None])[:, 0]
    return int(away.argmin()), bool(away.min() < _SAME)


def _numbers(steps: list[Step], labels: _Numbers) -> _Numbers:
    """Return the number of the frame at each pixel, (h, w), from one step for each region."""
    return np.array([step.frame for step in steps])[labels]


def _shown(material: Material, numbers: _Numbers, given: Tensor | None = None) -> Tensor:
    """Return a picture (3, H, W) joined from the frames ``numbers``, (h, w), one at each pixel."""
    parts, sizes = np.unique(numbers, return_counts=True)
    parts = parts[np.argsort(-sizes)]

    def whole(number: int) -> Tensor:
        if number == GIVEN and given is not None:
            return given
        return material.film.picture(material.source_of(number)[0])

    picture = whole(int(parts[0]))
    if len(parts) == 1:
        return picture
    picture = picture.clone()
    for number in parts[1:]:
        small = torch.from_numpy((numbers == number).astype(np.float32))
        # The edge is as soft as one pixel of the small picture, and lies between two regions.
        fraction = resized(small[None], material.size)[0].to(picture.device)
        box = bounds(fraction)
        picture[:, *box].lerp_(whole(int(number))[:, *box], fraction[box])
    return picture


def _planned(
    material: Material, labels: _Numbers, paths: list[list[Step]], given: Tensor | None
) -> Iterator[Tensor]:
    """Yield the pictures along paths, one for each region, without each path's last step.

    At a forced step every pixel switches at its own time.
    """
    total = len(paths[0]) - 1
    switches = [
        (region, _Switch(material, path, at, given))
        for region, path in enumerate(paths)
        for at, step in enumerate(path)
        if step.forced
    ]
    for number in range(total):
        shown = _numbers([path[number] for path in paths], labels)
        for region, switch in switches:
            if switch.begins <= number < switch.ends:
                shown = np.where(labels == region, switch.numbers(number), shown)
        yield _shown(material, shown, given)


class _Switch:
    """A switch from the frames of a path before step ``at`` to later frames, pixel by pixel."""

    def __init__(self, material: Material, path: list[Step], at: int, given: Tensor | None) -> None:
        """Find for each pixel the time at which old and new frames differ least."""
        reach = min(_SWITCHES // 2, len(path) // 2)
        last = len(path) - 1
        # At the end of a loop all frames of the switch come before the step.
        self.begins = max(0, at - (2 * reach if at == last else reach))
        self.ends = min(last, at + reach)
        count = len(material)
        before, after = path[max(at - 1, 0)], path[at]
        times = range(self.begins, self.ends)
        self._old = [
            _beside(before, t - at + 1, count) if t >= at else path[t].frame for t in times
        ]
        self._new = [path[t].frame if t >= at else _beside(after, t - at, count) for t in times]
        size = material.small_size
        area = _AREA * max(size)
        costs = []
        for old, new in zip(self._old, self._new, strict=True):
            pair = [_small(material, number, given) for number in (old, new)]
            costs.append(blurred((pair[0] - pair[1]).abs().mean(0, keepdim=True), area)[0])
        turns = torch.stack(costs).argmin(0) if costs else torch.zeros(size)
        self._turns: _Numbers = turns.numpy().astype(np.intp)

    def numbers(self, step: int) -> _Numbers:
        """Return the number of the frame at each pixel: (h, w)."""
        index = step - self.begins
        return np.where(self._turns <= index, self._new[index], self._old[index])


def _small(material: Material, number: int, given: Tensor | None) -> Tensor:
    """Return a frame, or the given picture, in levels: (3, h, w)."""
    if number == GIVEN and given is not None:
        levels = small_copy(given, material.small_size)
    else:
        levels = material.glance(number)
    return torch.from_numpy(levels).permute(2, 0, 1).float()


def _beside(step: Step, away: int, count: int) -> int:
    """Return the frame ``away`` steps from a step, if play turned only at the clip's ends."""
    if step.frame == GIVEN or count == 1:
        return step.frame
    index = (step.frame + (away if step.forward else -away)) % (2 * count - 2)
    return min(index, 2 * count - 2 - index)
