"""Stages in threads keep order and errors, work little ahead, and leave no thread."""

import signal
import threading
import time
import traceback
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.pipeline import prefetch


class Item:
    """An object that a test can see being freed."""


class Source:
    """An iterator over 0, 1, 2 … that records the threads that run and close it."""

    def __init__(self, length=1000):
        self.made = 0
        self.length = length
        self.threads = set()
        self.closed_in = None

    def __iter__(self):
        try:
            while self.made < self.length:
                self.threads.add(threading.get_ident())
                self.made += 1
                yield self.made - 1
        finally:
            self.closed_in = threading.get_ident()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def ctrl_c():
    """Let Ctrl-C raise, which the process that starts the tests may have disabled."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def slowly(source, seconds):
    for item in source:
        time.sleep(seconds)
        yield item


def halting(go):
    """Yield 1, and after the event 2."""
    yield 1
    go.wait(20)
    yield 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers() | st.none(), max_size=20), st.integers(1, 5))
def test_all_items_arrive_in_order(items, depth):
    assert list(prefetch(items, depth, "test")) == items


def test_an_error_is_raised_in_order_with_its_own_traceback():
    def decode_badly():
        yield 1
        raise OSError("broken file")

    items = prefetch(decode_badly(), 4, "test")
    assert next(items) == 1
    with pytest.raises(OSError, match="broken file") as caught:
        next(items)
    trace = traceback.extract_tb(caught.value.__traceback__)
    assert "decode_badly" in [entry.name for entry in trace]
    assert list(items) == []


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_stopping_early_closes_the_source_in_its_own_thread(taken):
    source = Source()
    with prefetch(source, 3, "test") as items:
        assert [next(items) for _ in range(taken)] == list(range(taken))
    if taken:
        assert source.threads == {source.closed_in}
        assert source.closed_in != threading.get_ident()
    assert source.made <= taken + 3


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_waiting_leaves_nothing_running():
    source = Source()

    def consume():
        with prefetch(slowly(source, 0.02), 2, "test") as items:
            for _ in items:
                pass

    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        consume()
    timer.join()
    assert 0 < source.made < 100


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_leaves_nothing_running():
    source = Source()
    waiting = threading.Event()

    def pressing():
        for item in source:
            if item:
                waiting.wait(5)
                # Wait until the main thread waits for the end of this thread.
                time.sleep(0.05)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.05)
            yield item

    def stop_twice():
        with prefetch(pressing(), 1, "test") as items:
            next(items)
            waiting.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_twice()
    assert source.closed_in is not None


def test_ctrl_c_during_the_start_of_the_thread_leaves_nothing_running(monkeypatch):
    """The interrupt comes after the thread has started, before the pool has a record."""
    start = threading.Thread.start
    source = Source()

    def interrupted(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = set(threading.enumerate())
    with (
        pytest.raises(KeyboardInterrupt),
        prefetch(slowly(source, 0.1), 2, "test") as items,
    ):
        next(items)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert source.made == 0


def test_a_stage_can_be_closed_while_another_thread_takes_an_item():
    """After an interrupt, the next stage may still be waiting for an item."""
    go = threading.Event()
    taken = []
    first = prefetch(halting(go), 1, "test")
    assert next(first) == 1
    taker = threading.Thread(target=lambda: taken.append(next(first)))
    taker.start()
    threading.Timer(0.1, go.set).start()
    first.close()
    taker.join()
    assert taken == [2]


def test_a_stage_that_is_deleted_leaves_nothing_running():
    source = Source()
    items = prefetch(source, 2, "test")
    next(items)
    del items
    assert source.closed_in is not None


def test_an_item_is_freed_when_its_consumer_drops_it():
    watched = []

    def items():
        for _ in range(20):
            item = Item()
            watched.append(weakref.ref(item))
            yield item
            del item

    with prefetch(items(), 2, "test") as ahead:
        for number, item in enumerate(ahead):
            assert watched[number]() is item
            assert all(seen() is None for seen in watched[:number])
    assert len(watched) == 20


def test_ready_items_are_returned_without_waiting():
    go = threading.Event()
    with prefetch(halting(go), 2, "test") as items:
        result = items.arriving()
        assert next(result) == 1
        assert [next(result) for _ in range(3)] == [None] * 3
        go.set()
        assert [item for item in result if item is not None] == [2]
