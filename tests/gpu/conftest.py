"""Fixtures for the tests of this folder: a real GPU, or a simulated one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from tests.gpu import simulation

Gpu = Callable[..., AbstractContextManager[simulation.Record | None]]


@pytest.fixture(scope="session")
def gpu() -> Iterator[Gpu]:
    """Return a context manager that gives a record of the device's use, or None on a real GPU."""
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        yield lambda **_: nullcontext()
        return
    reason = simulation.missing()
    if reason is not None:
        pytest.skip(reason)
    simulation.install()
    yield simulation.device


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder: a process with a simulated GPU cannot run other tests."""
    for item in items:
        if "/gpu/" in item.nodeid:
            item.add_marker(pytest.mark.cuda)
