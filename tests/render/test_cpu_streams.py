"""CPU streams: each is a thread that runs calls, with its share of PyTorch's threads."""

import threading
from contextlib import closing

import pytest
import torch

from cloudconv.render.cpu_streams import CpuStreams, useful_cpu_streams


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_and_errors_of_calls_are_returned(count):
    with closing(CpuStreams(count)) as cpu_streams:
        calls = [cpu_streams.call(divmod, number, 3) for number in range(20)]
        failed = cpu_streams.call(torch.ones(2).reshape, 3)
        assert [call.result() for call in calls] == [
            divmod(number, 3) for number in range(20)
        ]
        with pytest.raises(RuntimeError, match="shape"):
            failed.result()
        call = cpu_streams.call(int, "1")
        for _ in range(50):  # a call may wait for an earlier one
            call = cpu_streams.call(lambda before=call: before.result() + 1)
        assert call.result(timeout=20) == 51


def test_calls_run_side_by_side_with_divided_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    meeting = threading.Barrier(2, timeout=20)

    def meet():
        meeting.wait()
        return torch.get_num_threads()

    try:
        with closing(CpuStreams(2)) as cpu_streams:
            assert [
                call.result() for call in [cpu_streams.call(meet) for _ in range(4)]
            ] == [2] * 4
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)


def test_after_narrow_calls_run_in_the_thread_of_the_caller():
    with closing(CpuStreams(3)) as cpu_streams:
        call = cpu_streams.call(threading.get_ident)
        assert cpu_streams.narrow()
        assert call.result() != threading.get_ident()
        assert cpu_streams.call(threading.get_ident).result() == threading.get_ident()
        assert not cpu_streams.narrow()


@pytest.mark.parametrize("granted", [0, 3])
def test_too_few_threads_give_one_stream(granted, monkeypatch):
    threads = torch.get_num_threads()
    start = threading.Thread.start
    started = []

    def limited_start(thread):
        if len(started) == granted:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited_start)
    with closing(CpuStreams(4)) as cpu_streams:
        assert cpu_streams.count == 1
        assert cpu_streams.call(threading.get_ident).result() == threading.get_ident()
    for thread in started:
        thread.join(20)
        assert not thread.is_alive()
    assert torch.get_num_threads() == threads


def test_only_the_cpu_has_several_streams():
    assert useful_cpu_streams(torch.device("cpu"), 1) == 1
    assert useful_cpu_streams(torch.device("cpu"), 6) == 6
    assert useful_cpu_streams(torch.device("cpu"), 64) == 8
    assert useful_cpu_streams(torch.device("cuda"), 6) == 1
