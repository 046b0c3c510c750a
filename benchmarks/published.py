"""Memory and equality of published networks.

    python -m benchmarks.published rife_4_25 ema_vfi --memory
    python -m benchmarks.published all --equality

The weights are computed, see ``tests/helpers/published.py``. ``--memory`` prints the peak
of a new process for a picture, without what the process has after a small picture.
``--equality`` prints the largest difference to a sample of the picture that the authors'
code made, and the difference of 16 bits to float32.
"""

import argparse
import resource
import subprocess
import sys

import torch

from cloudconv.models.base import Interpolator
from cloudconv.models.engines import Engines
from cloudconv.models.pair import Pair
from cloudconv.models.published import normalised, recognise
from cloudconv.models.registry import fuse
from tests.helpers import published

TIMESTEP = 0.25
SMALL = 128
KIB = 1024


def loaded(name: str, dtype: torch.dtype = torch.float32) -> Interpolator:
    """Return a network as the registry loads a model."""
    state = normalised(published.recorded(name).state())
    spec = recognise(state)
    assert spec is not None
    model = spec.build()
    assert isinstance(model, Interpolator)
    model.load_state_dict(state)
    model.requires_grad_(False).eval()
    fuse(model, Engines().of)
    return model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


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
    pictures = published.pair(*recorded.size)

    def middle(dtype: torch.dtype) -> torch.Tensor:
        network = loaded(name, dtype)
        # The recorded pictures are in the authors' order.
        network.reads_bgr = False  # type: ignore[assignment]
        result: torch.Tensor = network(Pair.of(pictures, recorded.timestep))
        return result

    with torch.no_grad():
        exact = middle(torch.float32)
        row = f"{name:16} {(recorded.shown(exact) - recorded.sample).abs().max():.1e}"
        for dtype in (torch.bfloat16, torch.float16):
            error = middle(dtype) - exact
            psnr = -10 * error.square().mean().log10()
            row += f"  {str(dtype)[6:]} largest {error.abs().max():.4f}, PSNR {psnr:.1f} dB"
    print(row, flush=True)


def main() -> None:
    """Print a row for each variant of each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", choices=("all", *published.networks()))
    parser.add_argument("--size", default="960x540")
    parser.add_argument("--threads", type=int, default=2)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--memory", action="store_true")
    what.add_argument("--equality", action="store_true")
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
        else:
            memory(name, width, height)


if __name__ == "__main__":
    main()
