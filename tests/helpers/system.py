"""Limit and end processes as the operating system does, also on Windows where possible."""

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Self

import pytest


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of files, as a full disk would: the write fails with an errno.

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
    """A stand-in for ``Popen`` of :mod:`cloudconv.foreign`: a process's copy with PyTorch.

    This process has threads (PyTorch, pytest-xdist), and a copy of it would wait for ever
    for a lock that one of them holds at the moment of the copy. The server of processes has
    none.
    """

    def __init__(self, command: list[str], *, stderr: IO[bytes], **_: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["cloudconv.foreign"])
        said = f"/proc/{os.getpid()}/fd/{stderr.fileno()}"
        self._process = context.Process(target=_convert, args=(said, *command[-2:]))
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self._process.kill()


def _convert(said: str, *words: str) -> None:
    from cloudconv import foreign  # not in workers, which import this module, too

    faulthandler.disable()  # a damaged file may crash the reader
    os.dup2(os.open(said, os.O_WRONLY), 2)
    sys.stderr = open(2, "w")  # noqa: SIM115 - for the traceback
    foreign.main(*words)
