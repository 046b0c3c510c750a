"""Limit and end processes as the operating system does, also on Windows where possible."""

import ctypes
import faulthandler
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

import pytest

SERVER: Any = multiprocessing.get_context(
    "forkserver" if sys.platform == "linux" else "spawn"
)
"""Starts copies of a process that has imported all that a command needs.

An import of PyTorch takes two seconds of processor time, a copy none. The process that
starts tests has threads (PyTorch, pytest-xdist), and a copy of it would wait for ever for a
lock that one of them holds at the moment of the copy. The server has none.
"""
_IMPORTED = """
cloudconv.foreign cloudconv.jobs.interp.run cloudconv.cli.commands
cloudconv.models.baselines rich.live rich.progress typer._adapters ncnn
pytest tests.helpers.factory
"""
if sys.platform == "linux":
    SERVER.set_forkserver_preload(_IMPORTED.split())

FILL = "MALLOC_PERTURB_"
"""Names the value with which the C library of Linux fills new memory."""
_M_PERTURB = -6


def copied(work: Callable[..., object], *given: object, **options: Any) -> BaseProcess:
    """Start a process with this one's environment that has imported PyTorch; return it.

    ``work`` and ``given`` are pickled. ``options`` are those of a process.
    """
    sent = dict(os.environ), work, given
    process: BaseProcess = SERVER.Process(target=_in_environment, args=sent, **options)
    process.start()
    return process


def _in_environment(environment: dict[str, str], work: Any, given: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if FILL in environment and sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_PERTURB, int(environment[FILL]))
    work(*given)


def command(*words: object) -> None:
    """Run the command ``cloudconv`` to its end; for :func:`copied` and :func:`finished`."""
    from cloudconv.__main__ import main  # not in workers, which import this module, too

    sys.argv = ["cloudconv", *map(str, words)]
    main()


class Running:
    """A command that runs with a pipe for each stream, as ``Popen`` starts one.

    On Linux it is a copy that has imported PyTorch.
    """

    def __new__(cls, *words: object) -> Any:
        """Start the command ``cloudconv`` with these words."""
        if sys.platform == "linux":
            return super().__new__(cls)
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([sys.executable, "-m", "cloudconv", *words], **pipes)

    def __init__(self, *words: object) -> None:
        (given, to), (made, out), (said, err) = (os.pipe() for _ in range(3))
        theirs = [_Descriptor(number) for number in (given, out, err)]
        self._process = copied(_with_pipes, theirs, words)
        for number in (given, out, err):
            os.close(number)
        self.stdin = os.fdopen(to, "wb")
        self.stdout = os.fdopen(made, "rb")
        self.stderr = os.fdopen(said, "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self.stdin.close()
        for stream in (self.stdout, self.stderr):
            stream.close()
        self._process.join()

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, seconds: float) -> int | None:
        """Return the exit code; None if the command still runs after so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode


class _Descriptor:
    """A number of an open file, which has another number in the process that gets it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _detach, (reduction.DupFd(self.number),)


def _detach(copy: Any) -> int:
    number: int = copy.detach()
    return number


def _with_pipes(numbers: list[int], words: tuple[object, ...]) -> None:
    for target, number in enumerate(numbers):
        os.dup2(number, target)
        os.close(number)
    # Those of the server may be files, which can seek.
    sys.stdin, sys.stdout, sys.stderr = map(open, range(3), "rww")
    command(*words)


def script(root: Path, *words: str) -> None:
    """Run a script or, after ``-m``, a module of a project, as Python does."""
    os.chdir(root)
    is_module = words[0] == "-m"
    name, *sys.argv[1:] = words[is_module:]
    sys.path.insert(0, str(root if is_module else (root / name).parent))
    run = runpy.run_module if is_module else runpy.run_path
    run(name, run_name="__main__")


def finished(
    work: Callable[..., object], *given: object, seconds: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Call ``work`` in a process that has imported PyTorch, and return what it has printed.

    After ``seconds`` the process is killed.
    """
    with TemporaryDirectory() as name:
        paths = Path(name, "out"), Path(name, "err")
        for path in paths:
            path.touch()
        process = copied(_print_into, paths, work, given)
        process.join(seconds)
        process.kill()
        process.join()
        code = process.exitcode
        assert code is not None
        said = [path.read_text("utf-8", "replace") for path in paths]
    return subprocess.CompletedProcess([*map(str, given)], code, *said)


def _print_into(paths: tuple[Path, Path], work: Any, given: Any) -> None:
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    work(*given)


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
    """A stand-in for ``Popen`` of :mod:`cloudconv.foreign`: a process with PyTorch."""

    def __init__(self, command: list[str], *, stderr: IO[bytes], **_: Any) -> None:
        said = f"/proc/{os.getpid()}/fd/{stderr.fileno()}"
        self._process = copied(_convert, said, *command[-3:])

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
