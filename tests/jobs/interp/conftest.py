"""Fixtures for the tests of workers."""

import pytest


@pytest.fixture(scope="module")
def ray():
    """Start a real cluster on this machine: two workers of one core each."""
    module = pytest.importorskip("ray")
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()
