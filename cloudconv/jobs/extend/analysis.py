"""Report the progress of analysis steps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

import torch

from cloudconv.events import Progress

Result = TypeVar("Result")


def analysed(
    step: Generator[float, None, Result], begin: float, end: float
) -> Generator[Progress, None, Result]:
    """Run a step of an analysis, yield its progress, and return the step's result.

    Args:
        step: yields the part of the step that is done, from 0 to 1.
        begin: the part of the whole analysis that is done before the step.
        end: the part that is done after the step.
    """
    with closing(step):
        while True:
            # Inference mode applies to the whole thread. The block ends before the yield, so that
            # the consumer does not run in this mode.
            with torch.inference_mode():
                try:
                    part = next(step)
                except StopIteration as stop:
                    result: Result = stop.value
                    return result
            percent = round(100 * (begin + (end - begin) * part))
            yield Progress("analysing", percent, 100, unit="%")
