"""CUDA graphs: the kernels of a whole network, launched at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[..., Tensor]
Recorder = Callable[[Function, tuple[Tensor, ...]], Function]

_SETTLED = 3
"""From that call on, the inputs' shapes are taken for those that will come again and again."""


def record(function: Function, inputs: tuple[Tensor, ...]) -> Function:
    """``function`` as a CUDA graph, for inputs of these shapes.

    What a call returns is overwritten by the next one.

    Raises:
        RuntimeError: it does something that cannot be recorded, such as to wait for a result, or
            memory is short.
    """
    torch.cuda.empty_cache()
    held = tuple(each.clone() for each in inputs)
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on allocating page-locked memory meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function(*held)

    def replay(*given: Tensor) -> Tensor:
        for mine, new in zip(held, given, strict=True):
            mine.copy_(new)
        graph.replay()
        return result

    return replay


class Replayed:
    """A function on a GPU that is recorded once its inputs' shapes have settled.

    A network is some hundred kernels, and launching each takes the processor as long as a small
    picture takes the GPU. Calls of other shapes, and all where recording fails, are made as they
    are. A result is good until the next call.

    Args:
        function: of tensors, without side effects.
        recorder: makes the recorded function.
    """

    def __init__(self, function: Function, recorder: Recorder = record) -> None:
        self._function, self._recorder = function, recorder
        self._calls: Counter[tuple[torch.Size, ...]] = Counter()
        self._recorded: tuple[tuple[torch.Size, ...], Function] | None = None
        self._failed = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(each.shape for each in inputs)
        if self._recorded is not None and self._recorded[0] == shapes:
            return self._recorded[1](*inputs)
        self._calls[shapes] += 1
        if self._calls[shapes] < _SETTLED or self._recorded is not None or self._failed:
            return self._function(*inputs)
        try:
            self._recorded = shapes, self._recorder(self._function, inputs)
        except RuntimeError:
            self._failed = True
            return self._function(*inputs)
        return self._recorded[1](*inputs)

    def forget(self) -> None:
        """Give the recording's memory back, and make all calls as they are from now on."""
        self._recorded, self._failed = None, True
