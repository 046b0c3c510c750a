"""Time of a new frame in float32, by the engine that computes the convolutions.

    python -m benchmarks.convolutions --models cloud-best cloud-turbo --size 960x720

Prints processor time with one thread, and the time on the clock of two frames at once in
two threads; each is the least of several rounds, in which the engines take turns.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812

import cloudconv
from cloudconv.models import registry
from cloudconv.models.base import Interpolator
from cloudconv.models.convolutions import PYTORCH, usual_engine

LEVELS = 255
CHOSEN = "by processor"


def loaded(name: str, engine: str) -> Interpolator:
    """Return a model whose convolutions an engine computes, or the chosen ones."""
    return registry.load(name, engine_of=None if engine == CHOSEN else lambda _: engine)


def least(
    work: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> None:
    """Print the least time of each kind of work, and its ratio to the first kind."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for engine, call in work.items():
            began = clock()
            call()
            best[engine] = min(best[engine], clock() - began)
    first, *_ = best.values()
    row = (f"{engine} {1000 * t:.0f} ms, {t / first:.2f}" for engine, t in best.items())
    print("  " + "; ".join(row), flush=True)


def main() -> None:
    """Print two rows for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["cloud-best", "cloud-turbo"])
    parser.add_argument("--size", default="960x720")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cloudconv.reuse_memory()
    width, height = map(int, options.size.split("x"))
    numbers = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, height // 24, width // 24, generator=numbers)
    x0, x1 = torch.split(
        F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1), 1
    )
    torch.set_num_threads(1)
    for name in options.models:
        engines = dict.fromkeys([PYTORCH, usual_engine(), CHOSEN])
        models = {engine: loaded(name, engine) for engine in engines}
        work = {k: partial(model.interpolate, x0, x1, 0.5) for k, model in models.items()}
        first, *_, last = [call() for call in work.values()]
        off = (first - last).abs().max() * LEVELS
        print(f"{name} {options.size}, results differ by {off:.2f} levels", flush=True)
        least(work, options.rounds, time.process_time)

        def start() -> None:
            torch.get_num_threads()
            torch.set_num_threads(1)

        with ThreadPoolExecutor(2, initializer=start) as pool:

            def both(call: Callable[[], object]) -> None:
                for future in [pool.submit(call) for _ in range(2)]:
                    future.result()

            at_once = {k: partial(both, call) for k, call in work.items()}
            least(at_once, options.rounds, time.perf_counter)


if __name__ == "__main__":
    main()
