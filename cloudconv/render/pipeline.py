"""Stages that overlap: an iterator moved into a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class _End(Enum):
    END = 0


class prefetch(Iterator[Item], Generic[Item]):  # noqa: N801 - used like a function
    """The items of ``iterable``, which a thread makes up to ``depth`` items ahead.

    Order is kept. An exception in ``iterable`` is raised here in its turn, with its own traceback.
    The thread starts with the first item asked for, and is gone when the items end, when one fails,
    and after :meth:`close` or the end of the ``with`` block. Items are made, and the iterator's
    ``close`` is called, in that one thread only, as codecs demand.

    Raises:
        ValueError: ``depth`` is below 1.
    """

    def __init__(self, iterable: Iterable[Item], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"prefetch needs a depth of at least 1, not {depth}")
        self._pending: deque[Future[Item | _End]] = deque()
        self._items = _prefetch(iterable, depth, self._pending)
        self._in_use = threading.RLock()

    def __next__(self) -> Item:
        with self._in_use:
            return next(self._items)

    @property
    def ready(self) -> bool:
        """Whether the next item is there, or nothing has been asked for."""
        return not self._pending or self._pending[0].done()

    def arriving(self) -> Iterator[Item | None]:
        """The items; after the first one, None in place of each that is not there yet."""
        while True:
            if not self.ready:
                yield None
                continue
            try:
                item = next(self)
            except StopIteration:
                return
            yield item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread: wait for the item that it is making, close the iterator. Idempotent.

        Another thread may be taking an item, where an interrupt has kept that one from its end.
        """
        with self._in_use:
            self._items.close()


def _prefetch(
    iterable: Iterable[Item], depth: int, pending: deque[Future[Item | _End]]
) -> Generator[Item, None, None]:
    # One worker runs its calls in order, so the pending calls are the bounded queue.
    iterator = iter(iterable)
    with ExitStack() as undo:
        undo.callback(_close, iterator)
        worker = one_thread("cloudconv-prefetch")
        undo.pop_all()

    def take() -> Item | _End:
        item = pending.popleft().result()
        if item is not _End.END:
            pending.append(worker.submit(_advance, iterator))
        return item

    try:
        for _ in range(depth):
            pending.append(worker.submit(_advance, iterator))
        while pending[0].result() is not _End.END:
            # Not bound to a name: that would keep a frame alive while this is suspended.
            yield take()  # type: ignore[misc]
    finally:
        for future in pending:
            future.cancel()
        closed = worker.submit(_close, iterator)
        _wait(worker)
        closed.result()


def one_thread(name: str) -> ThreadPoolExecutor:
    """Return a pool of one thread, which runs already.

    An interrupt while a pool starts a thread makes the pool forget it, and start another one beside
    it: so the thread is started before it gets any work.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix=name)
    with ExitStack() as undo:
        undo.callback(worker.shutdown, wait=False)
        worker.submit(int).result()
        undo.pop_all()
    return worker


def _wait(worker: ThreadPoolExecutor) -> None:
    """Wait for the thread; an interrupt comes afterwards, for what it works on is closed next."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            worker.shutdown(wait=True)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _advance(iterator: Iterator[Item]) -> Item | _End:
    return next(iterator, _End.END)


def _close(iterator: Iterator[Item]) -> None:
    close: Callable[[], None] | None = getattr(iterator, "close", None)
    if close is not None:
        close()


def drained(queue: SimpleQueue[Item]) -> Iterator[Item]:
    """Take what is in a queue by now."""
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return
