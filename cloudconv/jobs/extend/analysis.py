"""Report the progress of analysis steps, each of which runs in another thread."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event as Flag
from typing import TypeVar

import torch

from cloudconv.events import Progress

Result = TypeVar("Result")
Report = Callable[[float], None]
"""A function that a step calls with its finished part, from 0 to 1."""


class _Cancelled(Exception):  # noqa: N818 - no error
    """Nobody waits for the result any more."""


def analysed(
    step: Callable[[Report], Result], begin: float, end: float
) -> Generator[Progress, None, Result]:
    """Run a step of an analysis; yield its progress and return its result.

    Args:
        step: the step; its argument is a function to call with the finished part.
        begin: the finished part of the analysis at the start of the step, from 0 to 1.
        end: the finished part of the analysis at the end of the step.
    """
    parts: SimpleQueue[float | None] = SimpleQueue()
    cancelled = Flag()

    def report(part: float) -> None:
        if cancelled.is_set():
            raise _Cancelled
        parts.put(part)

    def work() -> Result:
        torch.get_num_threads()  # the first call sets a thread's count to the default
        with torch.inference_mode():
            return step(report)

    with ThreadPoolExecutor(1, thread_name_prefix="cloudconv-analysis") as worker:
        done = worker.submit(work)
        done.add_done_callback(lambda _: parts.put(None))
        try:
            while (part := parts.get()) is not None:
                percent = round(100 * (begin + (end - begin) * part))
                yield Progress("analysing", percent, 100, unit="%")
        finally:
            cancelled.set()
        return done.result()
