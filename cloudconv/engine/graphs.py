"""CUDA graphs: the kernels of a whole network, launched at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[..., Tensor]
Recorder = Callable[[Function, tuple[Tensor, ...]], Function]

_SETTLED = 3
"""From so many calls in a row on, shapes are taken for those that will come again and again."""


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
    picture takes the GPU. Calls of other shapes, until those have settled, and all where recording
    fails, are made as they are. A result is good until the next call.

    Args:
        function: of tensors, without side effects.
        recorder: makes the recorded function.
    """

    def __init__(self, function: Function, recorder: Recorder = record) -> None:
        self._function, self._recorder = function, recorder
        self._shapes: tuple[torch.Size, ...] = ()
        self._streak = 0  # calls of these shapes in a row
        self._recorded: tuple[tuple[torch.Size, ...], Function] | None = None
        self._failed = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(each.shape for each in inputs)
        self._streak = self._streak + 1 if shapes == self._shapes else 1
        self._shapes = shapes
        if self._recorded is not None and self._recorded[0] == shapes:
            return self._recorded[1](*inputs)
        if self._streak < _SETTLED or self._failed:
            return self._function(*inputs)
        self._recorded = None  # its memory may be needed for the next one
        try:
            self._recorded = shapes, self._recorder(self._function, inputs)
        except RuntimeError:
            self._failed = True
            return self._function(*inputs)
        return self._recorded[1](*inputs)

    def forget(self) -> None:
        """The function does something else from now on: what was recorded is no longer it."""
        self._recorded, self._streak = None, 0
