"""Damage for files, and a quick way to run the command on thousands of them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cloudconv.__main__ import main

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
    ``peak_bytes`` is its peak of memory, 0 after a signal.
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
    made, size = bytearray(data), len(data)

    def below(most: int, least: int = 0) -> int:
        return int(random.integers(least, most))

    if kind == "header":
        for place in random.integers(0, min(size, _HEADER), below(24, 1)):
            made[place] = below(256)
    elif kind == "packet":
        begin, span = below(size), below(max(size // 8, 2), 1)
        noise = random.integers(0, 256, span, dtype=np.uint8).tobytes()
        made[begin : begin + span] = noise[: size - begin]
    elif kind == "truncation":
        del made[below(size, 1) :]
    elif kind == "splice":
        made = bytearray(data[: below(size, 1)] + other[below(len(other)) :])
    elif kind == "number":
        for _ in range(below(4, 1)):
            # Sizes, counts, rates and times are stored in the headers at both ends of a file.
            near = below(min(size - 4, 2 * _HEADER))
            place = near if random.random() < 0.6 else size - 4 - near
            made[place : place + 4] = _NASTY[below(len(_NASTY))]
    else:
        begin, span = below(size), below(max(size // 4, 2), 1)
        if kind == "gap":
            del made[begin : begin + span]
        else:
            made[begin:begin] = data[begin : begin + span]
    return kind, bytes(made)


# Each command is a copy of a server that has imported everything, so it starts at once.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "cloudconv.jobs.interp.run"])


def run(*words: str, seconds: float, memory: int = 3 * GIBIBYTE) -> Ended:
    """Run ``cloudconv`` in a new process, to its end or to the time limit."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        process = _context.Process(target=_command, args=(folder, memory, words))
        process.start()
        process.join(seconds)
        code = process.exitcode
        process.kill()
        process.join()
        said = [(folder / each).read_text("utf-8", "replace") for each in ("out", "err", "peak")]
    return Ended(code, int(said[2] or 0), *said[:2])


def _command(folder: Path, memory: int, words: tuple[str, ...]) -> None:
    (folder / "peak").touch()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    # The limit on address space is generous, since libraries reserve more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    sys.argv = ["cloudconv", *words]
    try:
        main()
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        (folder / "peak").write_text(str(peak))
