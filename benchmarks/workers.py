"""Measure what Ray adds on this machine: seconds to start and to end, and for each segment.

    python benchmarks/workers.py [SEGMENTS]

The segments have no pictures. The memory is that of the processes of Ray and of the
workers, which have not imported PyTorch. It counts what processes share more than once.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from cloudconv.events import Finished
from cloudconv.jobs.interp.pool import WorkerConfig
from cloudconv.jobs.interp.run import start


class Nothing:
    """Work that ends at once."""

    def __call__(self, job: object, segment: object) -> Iterator[Any]:
        """Yield the end of a segment."""
        yield Finished(None)


def megabytes() -> int:
    """Return the memory of all processes that this one started, directly or not."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,rss,comm"], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()[1:]]
    found = {str(os.getpid())}
    for _ in range(4):
        found |= {row[0] for row in rows if row[1] in found}
    found.remove(str(os.getpid()))
    return sum(int(row[2]) for row in rows if row[0] in found and row[3] != "ps") // 1024


def main(count: int) -> None:
    """Let two workers do so many segments."""
    began = time.monotonic()
    work: Any = Nothing()
    segments: Any = (SimpleNamespace(number=number) for number in range(count))
    done = 0
    with start(WorkerConfig("local", 2), work) as workers:
        for _ in workers.map(None, segments, lambda *_: None):  # type: ignore[arg-type]
            done += 1
            if done == 1:
                first = time.monotonic()
                print(f"{first - began:.1f} s to the first, {megabytes()} MB")
        last = time.monotonic()
        each = 1000 * (last - first) / (count - 1)
        print(f"{each:.1f} ms for each of {count}, {megabytes()} MB")
    print(f"{time.monotonic() - last:.1f} s to end")


if __name__ == "__main__":
    main(int(*sys.argv[1:]) if sys.argv[1:] else 2000)
