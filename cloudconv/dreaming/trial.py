"""Make a small dream of a clip in a mode, and judge the dream by its vitals."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cloudconv.dreaming.material.film import Film
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import MethodSpec, Options
from cloudconv.dreaming.pictures import COARSE_SIDE, reduced, small_copy
from cloudconv.dreaming.vitals.vitals import Values, outside, vitals_meter
from cloudconv.dreaming.vitals.words import in_words
from cloudconv.events import mapped

FRAMES = 150
"""Number of frames of a trial: enough for two changes of footage, and for a replay."""

_REPLAYS = frozenset(("repeat", "novelty", "backwards"))


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial of the mode ``mode``.

    ``faults``: the failed vitals in words, without those of a replay. ``replays``: pictures of the
    clip, or of the dream itself, come again. ``backwards``: the fraction of frames that run
    backwards, None in a mode that never shows real frames as filmed.
    """

    mode: str
    faults: tuple[str, ...]
    replays: bool
    backwards: float | None = None

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """The order of trials; the least is the best.

        Faults are worse than a replay, and a replay backwards is worse than one forwards.
        """
        return bool(self.faults), self.replays, self.backwards or 0.0

    def __str__(self) -> str:
        """Return a clause about the result."""
        if self.faults:
            return f"{self.mode} fails ({', '.join(self.faults[:2])})"
        if self.backwards is not None:
            # The result has the exact fraction; that of a trial would only differ from it.
            order = "forwards and backwards" if self.backwards else "forwards"
            return f"{self.mode} shows real frames {order}"
        shown = "the same pictures again" if self.replays else "new pictures like those of the clip"
        return f"{self.mode} shows {shown}"


def tried(spec: MethodSpec, material: Material, seed: int) -> Generator[float, None, Trial]:
    """Make a small dream in a mode, and judge the dream. ``material`` is a small material.

    Yields:
        The fraction that is done, from 0 to 1.
    """
    kind, meter = replace(spec.kind, frames=FRAMES), None
    if not kind.as_filmed:  # real frames have no faults but their order
        meter = yield from mapped(vitals_meter(material, kind), lambda part: part / 2)
        if kind.sky and (meter.solid or material.unsteady):
            return Trial(spec.name, ("solid things move before a moving camera",), False)
    method = spec.build(Options())
    for number, picture in enumerate(method.dream(material, frames=FRAMES, seed=seed), 1):
        if meter is not None:
            meter.push(small_copy(picture, material.small_size))
        yield (1 + number / FRAMES) / 2
    failed: Values = {}
    if meter is not None:
        for row in meter.rows:
            failed |= {key: row.values[key] for key in outside(row.values, meter.early)}
    # Pictures that are moved melt, which shows in their edges. Footage does not melt.
    ignored = _REPLAYS | ({"anisotropy"} if kind.sky else set())
    return Trial(
        spec.name,
        tuple(in_words(key, value) for key, value in failed.items() if key not in ignored),
        kind.repeats or not _REPLAYS.isdisjoint(failed),
        method.backwards,
    )


def small_material(material: Material) -> Material:
    """Return a material of small pictures, reduced from the copies for analysis.

    No frame is decoded again, and the land is that of the large pictures.
    """
    return material.with_small_film(SmallFilm(material.film))


class SmallFilm(Film):
    """The real frames of a film, reduced from its copies for analysis."""

    def __init__(self, film: Film) -> None:
        """Store the film."""
        height, width = reduced(film.small(0), COARSE_SIDE).shape[:2]
        super().__init__(film.frames, torch.device("cpu"), (height, width))
        self._film = film

    def picture(self, number: int) -> Tensor:
        """Return a frame: (3, h, w) float32 RGB in [0, 1]."""
        small = torch.from_numpy(reduced(self._film.small(number), COARSE_SIDE))
        return small.permute(2, 0, 1).float() / 255
