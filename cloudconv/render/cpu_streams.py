"""Run several computations at once on one processor, each with some of the threads."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import ParamSpec, TypeVar

import torch

_MOST = 8

Given = ParamSpec("Given")
Result = TypeVar("Result")


def useful_cpu_streams(device: torch.device, threads: int) -> int:
    """Return the fastest number of streams for ``threads`` threads.

    See :class:`CpuStreams`.
    """
    return min(threads, _MOST) if device.type == "cpu" else 1


class CpuStreams:
    """Threads (streams) that start calls in order and share PyTorch's own threads equally.

    Single steps of a network are too short to be divided well among cores, but whole
    pictures are not: on two cores, two frames of 960x720 at once take 0.85 to 0.93 of the
    time of one after the other. If the system refuses more threads, there is one stream.
    With one stream the caller's thread runs each call at once, with all of PyTorch's
    threads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        if count == 1:
            return
        threads = torch.get_num_threads()
        ready = Barrier(count + 1)

        def begin() -> None:
            torch.get_num_threads()  # the first call sets a thread's count to the default
            torch.set_num_threads(max(1, threads // count))
            with suppress(BrokenBarrierError):
                ready.wait()

        self._pool = ThreadPoolExecutor(count, "cloudconv-cpu", begin)
        try:
            for _ in range(count):
                self._pool.submit(int)
            ready.wait()
        # No more threads: those that started must not wait for the others.
        except RuntimeError:
            ready.abort()
            self.narrow()
        # The count of a stream also becomes the default of threads that start later.
        torch.set_num_threads(threads)

    def call(
        self,
        function: Callable[Given, Result],
        *arguments: Given.args,
        **named: Given.kwargs,
    ) -> Future[Result]:
        """Start a call, which may wait for results of earlier calls; return its future."""
        if self._pool is not None:
            return self._pool.submit(function, *arguments, **named)
        done: Future[Result] = Future()
        try:
            done.set_result(function(*arguments, **named))
        except (RuntimeError, MemoryError) as error:
            done.set_exception(error)
        return done

    def narrow(self) -> bool:
        """Wait for all calls and continue with one stream.

        Return False if there was only one.
        """
        pool = self._pool
        self._pool = None
        self.count = 1
        if pool is not None:
            pool.shutdown()
        return pool is not None

    def close(self) -> None:
        """Wait for the calls that run and drop the others; to close again has no effect."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
