r"""Measure how much faster several workers are: one command with each kind of workers.

    python benchmarks/workers.py --rounds 3 --workers local local:1 local:2 -- \
        interp a.mp4 b.mp4 c.mp4 --factor 2 --model rife-4.6 --threads 1 --encoder ffv1

In each round the command runs with each kind of workers in turn, so other work on the machine
affects all kinds alike. The result is the ratios within each round. The outputs of interp go into a
temporary folder.

With --wait S every new frame takes S seconds longer without any computation. This stands in for
GPUs on a machine that has none: the rest of the time is the cost of sharing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

_WAIT = "CLOUDCONV_BENCHMARK_WAIT"


def stand_in(wait: float) -> None:
    """Let every model wait a number of seconds for each new frame."""
    from cloudconv.models.base import Interpolator

    between = Interpolator.between

    def waiting(self: Interpolator, pictures: Any, *rest: Any, **options: Any) -> Any:
        time.sleep(wait * pictures[0].shape[0])
        return between(self, pictures, *rest, **options)

    Interpolator.between = waiting  # type: ignore[method-assign]


if _WAIT in os.environ:
    stand_in(
        float(os.environ[_WAIT])
    )  # worker processes import this file, so the stand-in applies to them, too


def seconds(command: list[str], workers: str, wait: float) -> tuple[float, float]:
    """Return wall time and processor time of one run of the command, workers included."""
    with tempfile.TemporaryDirectory() as folder:
        start = [__file__] if wait else ["-m", "cloudconv"]
        whole = [sys.executable, *start, *command, "-q", "--workers", workers]
        if command[0] == "interp":
            whole += ["--out-dir", folder]
        environment = {**os.environ, _WAIT: str(wait)} if wait else None
        began, before = time.perf_counter(), _processor()
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, env=environment)
        return time.perf_counter() - began, _processor() - before


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--wait", type=float, default=0.0, help="additional seconds for each new frame"
    )
    parser.add_argument("--workers", nargs="+", default=["local", "local:1", "local:2"])
    parser.add_argument("command", nargs="+", help="interp or compare, with its options")
    asked = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {workers: [] for workers in asked.workers}
    for _ in range(asked.rounds):
        for workers, found in taken.items():
            found.append(seconds(asked.command, workers, asked.wait))
    first = taken[asked.workers[0]]
    print(f"{'workers':>12}{'seconds':>10}{'of processor':>15}{'speed against the first':>28}")
    for workers, found in taken.items():
        wall, processor = (median(each) for each in zip(*found, strict=True))
        ratios = [alone[0] / other[0] for alone, other in zip(first, found, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{workers:>12}{wall:>10.1f}{processor:>15.1f}{spread:>28}")


if __name__ == "__main__" and _WAIT in os.environ:
    from cloudconv.__main__ import main as command

    command()
elif __name__ == "__main__":
    main()
