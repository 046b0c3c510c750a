"""Report the progress of analysis steps."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import torch

from cloudconv.events import Progress, mapped

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

    @torch.inference_mode()
    def inferred() -> Generator[float, None, Result]:
        return (yield from step)

    def progress(part: float) -> Progress:
        percent = round(100 * (begin + (end - begin) * part))
        return Progress("analysing", percent, 100, unit="%")

    # Inference mode does not apply to the consumer, although both run in one thread.
    return mapped(inferred(), progress)
