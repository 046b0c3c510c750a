"""Limit and end processes as the operating system does, also on Windows where possible."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of files, as a stand-in for a full disk: the write fails with an errno.

    On a system without such limits the test is skipped.
    """
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


def kill_this_process() -> None:
    """End this process at once, without any cleaning up."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
