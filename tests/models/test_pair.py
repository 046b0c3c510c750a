"""Results of pictures and of pairs are computed once, all that are missing in one call."""

import torch

from cloudconv.models.pair import Pair, PairPicture


def test_only_what_is_missing_is_computed():
    pictures = [PairPicture(torch.full((1, 3, 2, 2), float(k))) for k in range(4)]
    calls = []

    def difference(x0, x1):
        calls.append(len(x0))
        return [x1 - x0, x0]

    def doubled(x):
        calls.append(len(x))
        return 2 * x

    for numbers, new in (([0, 0, 1], [2, 1, 1, 1]), ([1, 2], [1, 1]), ([2], [])):
        calls.clear()
        sides = [tuple(pictures[k + away] for k in numbers) for away in (0, 1)]
        pair = Pair(sides, torch.full((len(numbers),), 0.5))
        found, first = pair.once("difference", difference)
        two, _ = pair.of_each("doubled", doubled)
        assert (found == 1).all()
        assert first[:, 0, 0, 0].tolist() == numbers
        assert torch.equal(two, 2 * pair.x0)
        assert calls == new
