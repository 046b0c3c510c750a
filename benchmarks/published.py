"""Time and memory of published networks, against a plain loop of the same network.

    python -m benchmarks.published rife_4_25 ifrnet_l --size 960x540 --threads 2 --runs 5
    python -m benchmarks.published rife_4_25 ema_vfi --memory
    python -m benchmarks.published all --equality

The weights are computed, see ``tests/helpers/published.py``. The plain loop is that of
``tests/helpers/plain.py``: PyTorch's functions in the order of the authors' code. All variants run
in turn. Each row has the least time and the median of the paired ratios to the plain loop, also in
time of the CPU with one thread, which other work on the machine changes less. ``--memory`` prints
the peak of a new process for a picture, without what the process has after a small picture.
``--equality`` prints the largest difference to a sample of the picture that the authors' code made,
and the difference of 16 bits to float32.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cloudconv.models.base import Interpolator
from cloudconv.models.blocks import Fusible
from cloudconv.models.ops import pad_to_multiple
from cloudconv.models.published import normalised, recognise
from cloudconv.models.published.rife4 import Rife4Settings
from tests.helpers import plain, published

TIMESTEP = 0.25
SMALL = 128
KIB = 1024


def loaded(name: str, dtype: torch.dtype = torch.float32, layout: str = "channels_last") -> Model:
    """Return a network as the registry loads a model, or with channels first."""
    state = normalised(published.recorded(name).state())
    found = recognise(state)
    assert found is not None
    model = found.spec(name).build()
    assert isinstance(model, Interpolator)
    model.load_state_dict(state)
    model.requires_grad_(False).eval()
    for part in [part for part in model.modules() if isinstance(part, Fusible)]:
        part.fuse()
    memory = getattr(torch, layout)
    return model.to(dtype=dtype, memory_format=memory)  # type: ignore[call-overload, no-any-return]


Model = Interpolator
Pair = tuple[Tensor, Tensor]


def plain_loop(name: str, pair: Pair, layout: str = "contiguous_format") -> Callable[[], Tensor]:
    """Return a call of the plain loop."""
    found = loaded(name)
    memory = getattr(torch, layout)
    state = {
        key: tensor.contiguous(memory_format=memory) if tensor.ndim == 4 else tensor
        for key, tensor in normalised(published.recorded(name).state()).items()
    }
    multiple = found.multiple()
    settings = found.spec.network

    def run() -> Tensor:
        x0, x1 = (pad_to_multiple(x, multiple).contiguous(memory_format=memory) for x in pair)
        if isinstance(settings, Rife4Settings):
            made = plain.rife4(state, settings, (x0, x1), TIMESTEP)
        else:
            made = plain.ifrnet(state, (x0, x1), TIMESTEP)
        return made[..., : pair[0].shape[2], : pair[0].shape[3]]

    return torch.no_grad()(run)


def compare(name: str, pair: Pair, runs: int) -> None:
    """Print times and differences of all variants of a network."""
    variants: dict[str, Callable[[], Tensor]] = {
        "plain": plain_loop(name, pair),
        "plain, channels last": plain_loop(name, pair, "channels_last"),
        "float32, channels first": partial(
            loaded(name, layout="contiguous_format").interpolate, *pair, TIMESTEP
        ),
        "float32": partial(loaded(name).interpolate, *pair, TIMESTEP),
        "bfloat16": partial(loaded(name, torch.bfloat16).interpolate, *pair, TIMESTEP),
    }
    expected = variants["plain"]()
    differences = {key: (run() - expected).abs().max().item() for key, run in variants.items()}
    clocks = {"passed": time.perf_counter, "of the CPU": time.process_time}
    times: dict[tuple[str, str], list[float]] = {(c, v): [] for c in clocks for v in variants}
    for _ in range(runs):
        for key, run in variants.items():
            start = {clock: read() for clock, read in clocks.items()}
            run()
            for clock, read in clocks.items():
                times[clock, key].append(read() - start[clock])
    for key in variants:
        row = f"{name:12} {key:24}"
        for clock in clocks:
            pairs = zip(times[clock, key], times[clock, "plain"], strict=True)
            ratio = statistics.median(own / base for own, base in pairs)
            row += f" {min(times[clock, key]):8.3f} s {clock}, ratio {ratio:5.2f};"
        print(f"{row} difference {differences[key]:.1e}", flush=True)


def memory(name: str, width: int, height: int) -> None:
    """Print the peak memory for a picture, in bytes for each padded pixel."""
    model = loaded(name)
    model.interpolate(*published.pair(SMALL, SMALL), TIMESTEP)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    generator = torch.Generator().manual_seed(0)
    pair = torch.rand(2, 1, 3, height, width, generator=generator)
    model.interpolate(pair[0], pair[1], TIMESTEP)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    multiple = model.multiple()
    pixels = -(-height // multiple) * -(-width // multiple) * multiple**2
    print(f"{name:16} {peak / KIB:7.0f} MiB  {peak * KIB / pixels:6.0f} bytes a pixel")


def equality(name: str) -> None:
    """Print the difference to the authors' picture, and the differences of 16 bits."""
    recorded = published.recorded(name)
    pair, timestep = published.pair(*recorded.size), torch.full((1, 1, 1, 1), recorded.timestep)
    with torch.no_grad():
        exact = loaded(name)(*pair, timestep)
        row = f"{name:16} {(recorded.shown(exact) - recorded.sample).abs().max():.1e}"
        for dtype in (torch.bfloat16, torch.float16):
            error = loaded(name, dtype)(*pair, timestep) - exact
            psnr = -10 * error.square().mean().log10()
            row += f"  {str(dtype)[6:]} largest {error.abs().max():.4f}, PSNR {psnr:.1f} dB"
    print(row, flush=True)


def main() -> None:
    """Print a row for each variant of each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", choices=("all", *published.networks()))
    parser.add_argument("--size", default="960x540")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--equality", action="store_true")
    options = parser.parse_args()
    if "all" in options.networks:
        options.networks = published.networks()
    torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    if options.memory and len(options.networks) > 1:
        for name in options.networks:
            again = [sys.executable, "-m", "benchmarks.published", name, "--memory"]
            subprocess.run([*again, "--size", options.size], check=True)
        return
    for name in options.networks:
        if options.equality:
            equality(name)
        elif options.memory:
            memory(name, width, height)
        else:
            compare(name, published.pair(height, width), options.runs)


if __name__ == "__main__":
    main()
