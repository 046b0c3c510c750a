"""Fixtures for the tests of this folder: a real GPU, or a simulated one."""

from contextlib import nullcontext

import pytest
import torch

from tests.gpu import simulation


@pytest.fixture(scope="session")
def gpu():
    """Return a context manager for a record of the device's use, or None on a real GPU."""
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        yield lambda **_: nullcontext()
        return
    reason = simulation.missing()
    if reason is not None:
        pytest.skip(reason)
    simulation.install()
    yield simulation.device


def pytest_collection_modifyitems(items):
    """Mark this folder's tests: a process with a simulated GPU can run no others."""
    for item in items:
        if "/gpu/" in item.nodeid:
            item.add_marker(pytest.mark.cuda)
