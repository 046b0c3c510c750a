"""Lanes: calls side by side, in order, with PyTorch's threads divided among them."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
import torch

from cloudconv.engine.lanes import Lanes, useful_lanes


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_and_errors_come_back(count: int) -> None:
    with closing(Lanes(count)) as lanes:
        calls = [lanes.call(divmod, number, 3) for number in range(20)]
        failed = lanes.call(torch.ones(2).reshape, 3)
        assert [call.result() for call in calls] == [divmod(number, 3) for number in range(20)]
        with pytest.raises(RuntimeError, match="shape"):
            failed.result()


def test_calls_run_side_by_side_and_share_the_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        meeting = threading.Barrier(2, timeout=20)
        with closing(Lanes(2)) as lanes:

            def meet() -> int:
                meeting.wait()
                return torch.get_num_threads()

            assert [call.result() for call in [lanes.call(meet) for _ in range(4)]] == [2] * 4
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)


def test_a_call_may_wait_for_those_before_it() -> None:
    with closing(Lanes(2)) as lanes:
        first = lanes.call(int, "1")
        for _ in range(50):
            first = lanes.call(lambda before=first: before.result() + 1)
        assert first.result(timeout=20) == 51


def test_narrowed_lanes_work_in_the_callers_thread() -> None:
    with closing(Lanes(3)) as lanes:
        call = lanes.call(threading.get_ident)
        assert lanes.narrow()
        assert call.result() != threading.get_ident()
        assert lanes.call(threading.get_ident).result() == threading.get_ident()
        assert not lanes.narrow()


def test_only_a_processor_has_several() -> None:
    assert useful_lanes(torch.device("cpu"), 1) == 1
    assert useful_lanes(torch.device("cpu"), 6) == 6
    assert useful_lanes(torch.device("cpu"), 64) == 8
    assert useful_lanes(torch.device("cuda"), 6) == 1
