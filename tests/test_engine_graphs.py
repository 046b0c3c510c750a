"""When calls are recorded, when a recording is replayed, and when not. No GPU is needed."""

from __future__ import annotations

import torch
from torch import Tensor

from cloudconv.engine.graphs import Function, Replayed


class Recordings:
    """Stands for a GPU: counts, and replays into one and the same result, as CUDA graphs do."""

    def __init__(self, *, fails: bool = False) -> None:
        self.made = self.replayed = 0
        self._fails = fails

    def __call__(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        self.made += 1
        if self._fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        held = tuple(each.clone() for each in inputs)
        result = function(*held)

        def replay(*given: Tensor) -> Tensor:
            self.replayed += 1
            for mine, new in zip(held, given, strict=True):
                mine.copy_(new)
            return result.copy_(function(*held))

        return replay


def total(a: Tensor, b: Tensor) -> Tensor:
    return a + 2 * b


def calls(run: Function, count: int, side: int = 4) -> None:
    for k in range(count):
        a, b = torch.full((side,), float(k)), torch.rand(side)
        assert torch.equal(run(a, b), total(a, b))


def test_shapes_that_come_again_are_recorded_and_all_results_are_right() -> None:
    recordings = Recordings()
    run = Replayed(total, recordings)
    calls(run, 2)
    assert recordings.made == 0
    calls(run, 8)
    assert (recordings.made, recordings.replayed) == (1, 8)
    calls(run, 1, side=3)  # the last batch of a film is smaller
    calls(run, 2)
    assert (recordings.made, recordings.replayed) == (1, 10)


def test_what_cannot_be_recorded_is_called_as_it_is() -> None:
    recordings = Recordings(fails=True)
    calls(Replayed(total, recordings), 9)
    assert (recordings.made, recordings.replayed) == (1, 0)


def test_a_film_of_another_size_is_recorded_in_its_turn() -> None:
    recordings = Recordings()
    run = Replayed(total, recordings)
    calls(run, 5)
    calls(run, 5, side=3)
    assert (recordings.made, recordings.replayed) == (2, 6)
    calls(run, 1)  # the first one's memory has been given back
    assert (recordings.made, recordings.replayed) == (2, 6)


def test_what_was_forgotten_is_not_replayed() -> None:
    recordings = Recordings()
    run = Replayed(total, recordings)
    calls(run, 4)
    run.forget()
    calls(run, 2)
    assert (recordings.made, recordings.replayed) == (1, 2)
    calls(run, 1)
    assert (recordings.made, recordings.replayed) == (2, 3)
