"""Progress of steps that tell the share of them that is done, in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event as Flag
from typing import TypeVar

import torch

from cloudconv.events import Progress

Result = TypeVar("Result")
Tell = Callable[[float], None]


class _Cancelled(Exception):  # noqa: N818 - no error
    """Nobody waits for the result any more."""


def analysed(
    step: Callable[[Tell], Result], begin: float, end: float
) -> Generator[Progress, None, Result]:
    """Do a step of an analysis; yield how far that is, and return what the step returns.

    Args:
        step: gets a function that is to be called with the share of it that is done, from 0 to 1.
        begin: the share of the whole analysis that is done when the step begins.
        end: the same for the end of the step.
    """
    shares: SimpleQueue[float | None] = SimpleQueue()
    cancelled = Flag()

    def tell(share: float) -> None:
        if cancelled.is_set():
            raise _Cancelled
        shares.put(share)

    def work() -> Result:
        torch.get_num_threads()  # the first question sets a thread's count to the default
        with torch.inference_mode():
            return step(tell)

    with ThreadPoolExecutor(1, thread_name_prefix="cloudconv-analysis") as worker:
        done = worker.submit(work)
        done.add_done_callback(lambda _: shares.put(None))
        try:
            while (share := shares.get()) is not None:
                percent = round(100 * (begin + (end - begin) * share))
                yield Progress("analysing", percent, 100, unit="%")
        finally:
            cancelled.set()
        return done.result()
