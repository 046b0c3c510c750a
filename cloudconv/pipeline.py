"""Run the stages of a pipeline at the same time, each in a thread of its own."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar

from cloudconv.files import undone_on_error

Item = TypeVar("Item")


_END: Any = object()  # after the last item


class _Stage:
    """A stage of a pipeline.

    ``taken_by`` is the stage that takes its items, None at the end.
    """

    closing = False
    taken_by: "_Stage | None" = None


_here = threading.local()  # ``stage`` is the stage that this thread runs


def is_closing() -> bool:
    """Return whether nobody takes this thread's results any more: a wait must end."""
    stage: _Stage | None = getattr(_here, "stage", None)
    while stage is not None and not stage.closing:
        stage = stage.taken_by
    return stage is not None


class prefetch(AbstractContextManager["prefetch[Item]"], Iterator[Item]):  # noqa: N801
    """An iterator over ``iterable``, which a thread runs up to ``depth`` items ahead.

    ``name`` is that of the thread, as dumps of stacks show it. Items keep their order. An
    exception of ``iterable`` is raised after the items before it, with its own traceback.
    The thread starts when the first item is requested. The thread ends after the last item,
    after an exception, in :meth:`close`, or at the end of the ``with`` block. One thread
    makes all items and calls the iterator's ``close``, because codecs require this.
    """

    def __init__(self, iterable: Iterable[Item], depth: int, name: str) -> None:
        self._pending: deque[Future[Item]] = deque()
        self._stage = _Stage()
        self._items = _prefetch(iterable, depth, self._pending, self._stage, name)
        self._in_use = threading.RLock()

    def __next__(self) -> Item:
        with self._in_use:
            self._stage.taken_by = getattr(_here, "stage", None)
            return next(self._items)

    def arriving(self) -> Iterator[Item | None]:
        """Yield each item; while the next item is incomplete, yield None instead.

        The call for the first item waits for it.
        """
        while True:
            if self._pending and not self._pending[0].done():
                yield None
                continue
            try:
                item = next(self)
            except StopIteration:
                return
            yield item

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the current item, close the iterator and stop the thread.

        Further calls do nothing. After an interrupt another thread may still be taking an
        item; the call waits for that thread.
        """
        with self._in_use:
            self._items.close()


def _prefetch(
    iterable: Iterable[Item],
    depth: int,
    pending: deque[Future[Item]],
    stage: _Stage,
    name: str,
) -> Generator[Item, None, None]:
    # The only worker runs calls in order, so the pending calls form a bounded queue.
    iterator = iter(iterable)
    with undone_on_error(close_iterator, iterator):
        worker = _one_thread(name)
        worker.submit(setattr, _here, "stage", stage)

    def take() -> Item:
        item = pending.popleft().result()
        if item is not _END:
            pending.append(worker.submit(next, iterator, _END))
        return item

    try:
        for _ in range(depth):
            pending.append(worker.submit(next, iterator, _END))
        while pending[0].result() is not _END:
            # The item has no name: a name would keep a frame in memory while the generator
            # waits.
            yield take()
    finally:
        stage.closing = True
        for future in pending:
            future.cancel()
        closed = worker.submit(close_iterator, iterator)
        _wait(worker)
        closed.result()


@contextmanager
def one_thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """Return a context with a pool of one thread, which has ended when the context ends."""
    worker = _one_thread(name)
    try:
        yield worker
    finally:
        _wait(worker)


def _one_thread(name: str) -> ThreadPoolExecutor:
    """Return a pool of one thread that is already running.

    If an interrupt comes while a pool starts a thread, the pool forgets that thread and
    starts another one later. The thread therefore starts before the pool gets any work.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix=f"cloudconv-{name}")
    with undone_on_error(partial(worker.shutdown, wait=False)):
        worker.submit(int).result()
    return worker


def _wait(worker: ThreadPoolExecutor) -> None:
    """Wait for the end of the thread, and raise an interrupt only afterwards.

    The last call of the thread closes the iterator, also after an interrupt.
    """
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            worker.shutdown(wait=True)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def close_iterator(iterator: Iterator[Item]) -> None:
    """Close an iterator that has ``close``, such as a generator."""
    close: Callable[[], None] | None = getattr(iterator, "close", None)
    if close is not None:
        close()
