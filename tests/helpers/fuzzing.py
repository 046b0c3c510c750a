"""Damage for files, and a quick way to run the command on thousands of them.

Run as a program, this module is the server that :class:`Commands` starts. The server has imported
everything and forks for each command, so a new process is ready within a tenth of a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

GIBIBYTE = 2**30
_HEADER = 768
_NASTY = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x01",
    b"\xff\xff\xff\x7f",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a command.

    ``code`` is None if the process was killed at the time limit, and negative for any other signal.
    ``peak_bytes`` is its peak of memory.
    """

    code: int | None
    peak_bytes: int
    stdout: str
    stderr: str


def damaged(data: bytes, other: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """Return the name of a random kind of damage, and the damaged data."""
    kind = str(
        random.choice(("header", "packet", "truncation", "splice", "number", "gap", "twice"))
    )
    made = bytearray(data)
    size = len(made)
    if kind == "header":
        for place in random.integers(0, min(size, _HEADER), int(random.integers(1, 24))):
            made[place] = int(random.integers(256))
    elif kind == "packet":
        begin = int(random.integers(size))
        span = int(random.integers(1, max(size // 8, 2)))
        noise = random.integers(0, 256, span, dtype=np.uint8).tobytes()
        made[begin : begin + span] = noise[: size - begin]
    elif kind == "truncation":
        del made[int(random.integers(1, size)) :]
    elif kind == "splice":
        made = bytearray(
            data[: int(random.integers(1, size))] + other[int(random.integers(len(other))) :]
        )
    elif kind == "number":
        for _ in range(int(random.integers(1, 4))):
            # Sizes, counts, rates and times are stored in the headers at both ends of a file.
            near = int(random.integers(0, min(size - 4, 2 * _HEADER)))
            place = near if random.random() < 0.6 else size - 4 - near
            made[place : place + 4] = _NASTY[int(random.integers(len(_NASTY)))]
    elif kind == "gap":
        begin = int(random.integers(size))
        del made[begin : begin + int(random.integers(1, max(size // 4, 2)))]
    else:
        begin = int(random.integers(size))
        made[begin:begin] = data[begin : begin + int(random.integers(1, max(size // 4, 2)))]
    return kind, bytes(made)


class Commands:
    """A server that runs ``cloudconv`` with given arguments, each time in a new process."""

    def __init__(self, folder: Path, *, seconds: float, memory: int = 3 * GIBIBYTE) -> None:
        self._out, self._err = folder / "stdout.txt", folder / "stderr.txt"
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def run(self, *arguments: str) -> Ended:
        """Run a command to its end or to the time limit."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(arguments) + "\n")
        self._server.stdin.flush()
        code, peak = json.loads(self._server.stdout.readline())
        return Ended(
            code,
            peak,
            self._out.read_text("utf-8", "replace"),
            self._err.read_text("utf-8", "replace"),
        )


def _serve(folder: Path, seconds: float, memory: int) -> None:
    import resource

    import torch

    import cloudconv.jobs.interp.run
    from cloudconv.__main__ import main

    # No network has run yet, so there are no threads that a fork would lose.
    assert cloudconv.jobs.interp.run
    assert torch.get_num_threads() > 0
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
                file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # The limit on address space is generous, since libraries reserve more than they use.
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            sys.argv = ["cloudconv", *json.loads(line)]
            main()
        print(json.dumps(_wait(child, seconds)), flush=True)  # noqa: T201


def _wait(child: int, seconds: float) -> tuple[int | None, int]:
    """Wait for a process; return its exit code (None after the time limit) and its peak memory."""
    end = time.monotonic() + seconds
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            _, _, used = os.wait4(child, 0)
            return None, used.ru_maxrss * 1024
        time.sleep(0.005)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
