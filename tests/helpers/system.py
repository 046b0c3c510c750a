"""Limit and end processes as the operating system does, also on Windows where possible."""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

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


class Fork:
    """A stand-in for the ``Popen`` of :mod:`cloudconv.foreign`: a copy of this process."""

    def __init__(self, command: list[str], *, stderr: IO[bytes], **_: Any) -> None:
        from cloudconv import foreign

        self.returncode: int | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this process may have threads
            self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                faulthandler.disable()  # a damaged file may crash the reader
                os.dup2(stderr.fileno(), 2)
                foreign.main(*command[-2:])
                code = 0
            except BaseException:  # noqa: BLE001 - nothing may return to the caller
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(0)

    def _wait(self, options: int) -> None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, options)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        self._wait(os.WNOHANG)
        return self.returncode

    def kill(self) -> None:
        """End the process if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
