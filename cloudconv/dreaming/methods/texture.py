"""texture: the clip's own frames, forwards and backwards, each as it was filmed.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000; regions that go their own
ways: Liao, Joshi and Hoppe, Automated Video Looping with Progressive Dynamism, SIGGRAPH 2013. It
turns where motion rests, and jumps only where no place of the picture tells. Where a loop must be
closed that no such way closes, each place turns to the other frames at the moment when the two
differ least there (Kwatra et al., Graphcut Textures, SIGGRAPH 2003, with costs summed over areas
instead of a cut). Nothing is ever faded.
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
from cloudconv.dreaming.methods.jumps import GIVEN, Graph, Step, motion_of
from cloudconv.dreaming.pictures import blurred, resized, small_copy
from cloudconv.events import Warned

_SWITCHES = 24  # frames within which each place turns, where nothing else leads on
_AREA = 0.02  # of the longer side: over which differences are summed
_PLANNED = 4  # of a loop, the last so many lengths of the clip are planned exactly
_LEAST_FRAMES = 8  # below which all is back and forth anyway
_TRIED = 400  # frames that tell how much will run backwards …
_SEEN = 0.1  # … and the share from which that is said
_SAME = 2.0  # levels: a picture that near to a frame is that frame

_Numbers = NDArray[np.intp]


class Texture:
    """Plays real frames; see the module."""

    def __init__(self) -> None:
        self._frames = 0
        self._backwards = 0.0

    @property
    def backwards(self) -> float | None:
        """See :class:`~cloudconv.dreaming.methods.base.Method`."""
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
        """See :class:`~cloudconv.dreaming.methods.base.Method`."""
        count = len(material)
        plan = _plan_of(material)
        labels, graphs = plan.labels, plan.graphs
        random = np.random.default_rng(seed)
        start = Step(count - 1, True)
        if loop and loop_to is None:
            # Nothing comes before the first frame.
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
class _Plan:
    """The regions of a material, (h, w), and of each its graph and its share of the picture."""

    labels: _Numbers
    graphs: list[Graph]
    sizes: NDArray[np.float64]


# It is looked at before the work begins, and then used.
_PLANS: WeakKeyDictionary[Material, _Plan] = WeakKeyDictionary()


def _plan_of(material: Material) -> _Plan:
    plan = _PLANS.get(material)
    if plan is None:
        count = len(material)
        labels = regions_of(count, material.glance)
        found = likeness_of(count, material.glance, labels)
        graphs = [Graph(one.unlike, motion_of(one.changes)) for one in found]
        sizes = np.bincount(labels.ravel(), minlength=len(graphs)) / labels.size
        plan = _PLANS[material] = _Plan(labels, graphs, sizes)
    return plan


def doubt_of(material: Material) -> Warned | None:
    """Return a warning where frames run backwards, and that will be seen; None elsewhere."""
    if len(material) < _LEAST_FRAMES:
        return None
    plan = _plan_of(material)
    share = 0.0
    for graph, size in zip(plan.graphs, plan.sizes, strict=True):
        if graph.rests:
            continue
        walk = graph.walk(np.random.default_rng(0), Step(graph.count - 1, True))
        share += size * np.mean([not next(walk).forward for _ in range(_TRIED)])
    return Warned("runs-backwards", {"share": float(share)}) if share > _SEEN else None


def _leads_to(material: Material, picture: Tensor | None, begins: int) -> tuple[int, bool]:
    """The frame that a loop leads to, and whether that is what it begins with."""
    if picture is None:
        return begins, True
    row = thumbnail(small_copy(picture, material.small_size))
    away = distances(thumbnails(material), row[None])[:, 0]
    return int(away.argmin()), bool(away.min() < _SAME)


def _numbers(steps: list[Step], labels: _Numbers) -> _Numbers:
    """Which frame is shown where, (h, w), if each region shows one."""
    return np.array([step.frame for step in steps])[labels]


def _shown(material: Material, numbers: _Numbers, given: Tensor | None = None) -> Tensor:
    """A picture (3, H, W) put together from frames: ``numbers``, (h, w), says which is where."""
    parts, sizes = np.unique(numbers, return_counts=True)
    parts = parts[np.argsort(-sizes)]

    def whole(number: int) -> Tensor:
        if number == GIVEN and given is not None:
            return given
        return material.real(material.place(number)[0])

    picture = whole(int(parts[0]))
    if len(parts) == 1:
        return picture
    picture = picture.clone()
    for number in parts[1:]:
        small = torch.from_numpy((numbers == number).astype(np.float32))
        # As soft as one pixel of the small picture: no more than what is between two regions.
        share = resized(small[None], material.size)[0].to(picture.device)
        rows, columns = (torch.nonzero(share.amax(axis) > 0)[:, 0] for axis in (1, 0))
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        picture[:, *box].lerp_(whole(int(number))[:, *box], share[box])
    return picture


def _planned(
    material: Material, labels: _Numbers, paths: list[list[Step]], given: Tensor | None
) -> Iterator[Tensor]:
    """The pictures along paths, one for each region, each but for its last step.

    Where a step is forced, every place turns at its own time around it.
    """
    total = len(paths[0]) - 1
    switches = [_Switch(material, path, at, given) for path, at in _forced(paths)]
    owners = [region for region, path in enumerate(paths) for s in path if s.forced]
    for number in range(total):
        shown = _numbers([path[number] for path in paths], labels)
        for region, switch in zip(owners, switches, strict=True):
            if switch.begins <= number < switch.ends:
                shown = np.where(labels == region, switch.numbers(number), shown)
        yield _shown(material, shown, given)


def _forced(paths: list[list[Step]]) -> list[tuple[list[Step], int]]:
    return [(path, at) for path in paths for at, step in enumerate(path) if step.forced]


class _Switch:
    """From what a path shows before step ``at`` to what it shows from there on, place by place."""

    def __init__(self, material: Material, path: list[Step], at: int, given: Tensor | None) -> None:
        reach = min(_SWITCHES // 2, len(path) // 2)
        last = len(path) - 1
        # The end of a loop is all on one side.
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
        """Which frame is shown where: (h, w)."""
        place = step - self.begins
        return np.where(self._turns <= place, self._new[place], self._old[place])


def _small(material: Material, number: int, given: Tensor | None) -> Tensor:
    """(3, h, w) in levels."""
    if number == GIVEN and given is not None:
        levels = small_copy(given, material.small_size)
    else:
        levels = material.glance(number)
    return torch.from_numpy(levels).permute(2, 0, 1).float()


def _beside(step: Step, away: int, count: int) -> int:
    """The frame so many steps later, or earlier, if nothing turned but at the clip's ends."""
    if step.frame == GIVEN or count == 1:
        return step.frame
    place = (step.frame + (away if step.forward else -away)) % (2 * count - 2)
    return min(place, 2 * count - 2 - place)
