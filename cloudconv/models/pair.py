"""Hold pairs of source pictures, and results that are computed once for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from cloudconv.errors import PictureError
from cloudconv.transfer import upload

_MIDDLE = 0.5

PairPictures = tuple["PairPicture", ...]
"""One source picture, or the two of a pair."""


class PairPicture:
    """A source picture on a device, (1, C, H, W) float32, nominally in [0, 1].

    ``kept``: results by name, alone or as a tuple with the later picture of the pair.
    ``lock``: for those that take long, so that two threads do not compute the same.
    """

    def __init__(self, channels: Tensor) -> None:
        self.channels = channels
        self.kept: dict[Any, Any] = {}
        self.lock = Lock()

    def derived(self, name: Any, make: Callable[[Tensor], Tensor]) -> PairPicture:
        """Return the picture of that name, which ``make`` creates at the first call."""
        picture: PairPicture | None = self.kept.get(name)
        if picture is None:  # another thread may do the same meanwhile; both get one object
            picture = self.kept.setdefault(name, PairPicture(make(self.channels)))
        return picture


@dataclass(eq=False)
class Pair:
    """A batch of pairs, and the time at which each is interpolated.

    ``sides``: the pictures x0, x1, and perhaps those before and after the pairs; a picture
    may be in several items. ``times``: B numbers from 0 to 1; ``timestep``: these as (B, 1,
    1, 1) float32 on the device. ``reach``: with four sides, see
    :class:`~cloudconv.models.base.OuterPictures`. ``scale``: that of the estimated motion.
    ``whole``: the pair of which this is a tile.
    """

    sides: Sequence[PairPictures]
    times: Tensor
    reach: Tensor | None = None
    scale: float = 1.0
    whole: Pair | None = None
    _joined: dict[PairPictures, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        reaches = [] if self.reach is None or len(self.sides) == 2 else [self.reach]
        numbers = [self.times.float().view(-1, 1, 1, 1), *reaches]
        self.timestep, *reach = upload(numbers, self.sides[0][0].channels.device)
        self.reach = reach[0] if reach else None

    @classmethod
    def of(cls, pictures: Sequence[Tensor], times: Tensor | float, *others: Any) -> Pair:
        """Return a batch of pairs of tensors, (B, C, H, W) each.

        A single number is the time of all pairs. Raises PictureError if the number of times
        is not B.
        """
        count = len(pictures[0])
        if not isinstance(times, Tensor):
            times = torch.full((count,), float(times))
        if times.numel() != count:
            raise PictureError(
                f"timestep-for-each: A model takes one timestep for each of {count} "
                f"pictures, got {tuple(times.shape)}."
            )
        sides = [tuple(map(PairPicture, torch.split(picture, 1))) for picture in pictures]
        pair = cls(sides, times, *others)
        pair._joined.update(zip(sides, pictures, strict=True))
        return pair

    @property
    def x0(self) -> Tensor:
        """Return the earlier pictures, (B, C, H, W)."""
        return self.joined(self.sides[0])

    @property
    def x1(self) -> Tensor:
        """Return the later pictures, (B, C, H, W)."""
        return self.joined(self.sides[1])

    def derived(self, name: Any, make: Callable[[Tensor], Tensor]) -> Pair:
        """Return the pairs of derived pictures, see :meth:`PairPicture.derived`."""

        def derived(side: PairPictures) -> PairPictures:
            return tuple(picture.derived(name, make) for picture in side)

        return replace(self, sides=[*map(derived, self.sides)])

    def some(self, numbers: Sequence[int]) -> Pair:
        """Return some pairs of the batch, without the pictures around them."""
        sides = [tuple(map(side.__getitem__, numbers)) for side in self.sides[:2]]
        whole = self.whole and self.whole.some(numbers)
        return Pair(sides, self.times[[*numbers]], None, self.scale, whole)

    def at_middle(self) -> list[int]:
        """Return the numbers of the pairs at their middle, if all four sides are known."""
        times = self.times.tolist()
        four = self.reach is not None
        return [number for number, t in enumerate(times) if four and t == _MIDDLE]

    def couples_around(self) -> list[list[PairPictures | None]]:
        """Return x0 of each pair with the picture before, and x1 with the one after.

        The earlier picture is the first of a couple. Without such a picture it is None.
        """
        x0, x1, before, after = self.sides
        return [_couples(before, x0), _couples(x1, after)]

    def joined(self, pictures: PairPictures) -> Tensor:
        """Return the channels of pictures; a single picture is not copied."""
        if len(pictures) == 1:
            return pictures[0].channels
        if pictures not in self._joined:
            self._joined[pictures] = torch.cat([picture.channels for picture in pictures])
        return self._joined[pictures]

    def of_each(self, name: Any, make: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return the results of ``make`` for x0 and x1; each is computed once."""
        columns: list[list[PairPictures]] = [[*zip(side)] for side in self.sides[:2]]
        self._complete(name, lambda x: [make(x)], [*chain.from_iterable(columns)])
        return [_kept(name, column)[0] for column in columns]

    def once(self, name: Any, make: Callable[..., Sequence[Tensor]]) -> Sequence[Tensor]:
        """Return what ``make`` makes of x0 and x1, tensors (B, …); once per pair."""
        pairs: list[PairPictures] = list(zip(*self.sides[:2], strict=True))
        return self._complete(name, make, pairs) or _kept(name, pairs)

    def of_couples(
        self,
        name: Any,
        make: Callable[[Pair], Sequence[Tensor]],
        couples: Sequence[PairPictures],
    ) -> list[Sequence[Tensor]]:
        """Return what ``make`` makes of couples of pictures at their middle, in rows.

        A row, that of a couple, is computed once, on a CPU by one thread; others wait.
        """
        missing = [*dict.fromkeys(c for c in couples if (name, c[1]) not in c[0].kept)]
        alone = missing and missing[0][0].channels.device.type == "cpu"
        for some in zip(missing) if alone else [missing][: len(missing)]:
            with some[0][0].lock:
                if (name, some[0][1]) in some[0][0].kept:
                    continue
                sides: list[PairPictures] = [*zip(*some, strict=True)]
                times = torch.full((len(some),), _MIDDLE)
                columns = make(Pair(sides, times, None, self.scale))
                rows = zip(*(torch.split(column, 1) for column in columns), strict=True)
                for (first, second), row in zip(some, rows, strict=True):
                    first.kept[name, second] = row
        return [first.kept[name, second] for first, second in couples]

    def _complete(
        self, name: Any, make: Callable[..., Sequence[Tensor]], groups: list[PairPictures]
    ) -> Sequence[Tensor]:
        """Compute the results that are missing.

        Return them if they are those of all groups.
        """
        missing = [*dict.fromkeys(g for g in groups if (name, *g[1:]) not in g[0].kept)]
        if not missing:
            return ()
        columns: Sequence[Tensor] = ()
        # A copy of several pictures for a joint call would cost a CPU memory, and save
        # nothing.
        alone = len(groups[0]) == 1 and groups[0][0].channels.device.type == "cpu"
        for some in zip(missing) if alone else [missing]:
            columns = make(*(self.joined(column) for column in zip(*some, strict=True)))
            parts = zip(*(torch.split(column, 1) for column in columns), strict=True)
            for group, row in zip(some, parts, strict=True):
                group[0].kept[name, *group[1:]] = row
        return columns if missing == groups else ()


def _couples(earlier: PairPictures, later: PairPictures) -> list[PairPictures | None]:
    couples = zip(earlier, later, strict=True)
    return [None if one is other else (one, other) for one, other in couples]


def _kept(name: Any, groups: Sequence[PairPictures]) -> list[Tensor]:
    rows = [group[0].kept[name, *group[1:]] for group in groups]
    return [
        column[0] if len(column) == 1 else torch.cat(column)
        for column in zip(*rows, strict=True)
    ]
