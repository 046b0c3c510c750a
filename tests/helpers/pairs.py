"""Pairs that share pictures, as those of consecutive frames do."""

import torch

from cloudconv.models.base import Interpolator
from cloudconv.models.pair import Pair, PairPicture

BATCHES = [1], [1, 1, 2], [2], [2, 2, 3]
"""The first pictures of the pairs of consecutive batches, of one and of three new
frames."""


def difference_of_shared(model: Interpolator) -> float:
    """Return the most that results kept from earlier batches change new pictures."""
    generator = torch.Generator().manual_seed(0)
    differences = []
    pictures = [PairPicture(x) for x in torch.rand(6, 1, 3, 70, 90, generator=generator)]
    for numbers in BATCHES:
        sides = [tuple(pictures[k + away] for k in numbers) for away in (0, 1, -1, 2)]
        sides = sides[: model.spec.context]
        times = torch.arange(1, len(numbers) + 1) / 4
        reach = torch.ones(len(numbers), 2)
        shared = Pair(sides, times, reach)
        alone = Pair.of(
            [torch.cat([x.channels for x in side]) for side in sides], times, reach
        )
        made, expected = (model.between(each, maps=True) for each in (shared, alone))
        differences.append(float((made - expected).abs().max()))
    assert all(picture.kept for picture in pictures[1:4])
    return max(differences)
