"""How long a new frame takes: the models alone, beside the plain loop of the same network.

    python benchmarks/speed.py --sizes 960x720,1920x1080 --json speed.json

The plain loop is RIFE 4.6 as its authors' project runs it on a CPU: float32, one frame at a time,
everything at full size, from ``weights/make_rife46.py``. All methods take turns in each round, in
one process and on the same pictures, and a ratio is that of two times of one round: what else the
machine does meanwhile falls on all of them. Given are the medians over the rounds and, for ratios,
the middle half of them. Where the machine is busy with other work, ``--cpu-time`` counts only the
time that the processors spend on this.
"""

from __future__ import annotations

import argparse
import json
import platform
import runpy
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv import weights
from cloudconv.engine.device import choose_device, choose_precision, processor_name, set_threads
from cloudconv.models import registry

PLAIN = "plain float32 loop"
_REFERENCE = Path(__file__).resolve().parent.parent / "weights" / "make_rife46.py"
_MOTION = 6  # pixels

Run = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="854x480,960x720,1920x1080", help="WxH, with commas")
    parser.add_argument("--models", default="cloud-best,cloud-fast,cloud-turbo,rife-4.6")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true", help="not the time on the clock")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, to this file")
    options = parser.parse_args()
    device = choose_device(options.device)
    threads = set_threads(options.threads)
    machine = f"{platform.machine()}, {processor_name()}, {device}, {threads} threads"
    print(f"{machine}, PyTorch {torch.__version__}")
    found: dict[str, Any] = {}
    for size in options.sizes.split(","):
        width, height = map(int, size.split("x"))
        with torch.inference_mode():
            methods = _methods(options, device, width, height)
            clock = time.process_time if options.cpu_time else time.perf_counter
            found[size] = _measured(methods, options.rounds, device, clock)
        print(f"\n{size}\n{_table(found[size])}", flush=True)
    if options.json:
        result = {"machine": machine, "torch": torch.__version__, "sizes": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _methods(
    options: argparse.Namespace, device: torch.device, width: int, height: int
) -> dict[str, Run]:
    x0, x1 = (picture.to(device) for picture in _pictures(width, height))
    half = torch.tensor([0.5])
    network = runpy.run_path(str(_REFERENCE))["reference"]
    tensors = {k: v.float().to(device) for k, v in weights.load_state("rife-4.6").items()}

    def plain() -> Tensor:
        with device:
            result: Tensor = network(tensors, x0, x1, 0.5, 1.0)
        return result

    methods: dict[str, Run] = {PLAIN: plain}
    for name in options.models.split(","):
        dtype = choose_precision(options.precision, device, registry.spec(name, "interpolate"))
        model = registry.load(name, device, dtype)
        methods[name] = partial(model.interpolate, x0, x1, half)
    return methods


def _pictures(width: int, height: int) -> tuple[Tensor, Tensor]:
    """A soft texture, and the same moved a little: (1, 3, height, width) each."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, height // 6 + 8, width // 6 + 8)
    texture = F.interpolate(coarse, scale_factor=6, mode="bicubic").clamp(0, 1)
    first = texture[..., :height, :width]
    second = texture[..., _MOTION : height + _MOTION, _MOTION : width + _MOTION]
    return first.contiguous(), second.contiguous()


def _measured(
    methods: dict[str, Run], rounds: int, device: torch.device, clock: Callable[[], float]
) -> dict[str, dict[str, Any]]:
    times: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, run in methods.items():
            began = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first round makes the libraries ready
                times[name].append(clock() - began)
    return {
        name: {
            "seconds": statistics.median(taken),
            "ratio": _quartiles([a / b for a, b in zip(taken, times[PLAIN], strict=True)]),
        }
        for name, taken in times.items()
    }


def _quartiles(values: list[float]) -> list[float]:
    """The lower quartile, the median and the upper one."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def _table(measured: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'method':20}  {'s/frame':>8}  {'ratio':>6}  middle half"]
    for name, row in measured.items():
        low, middle, high = row["ratio"]
        lines.append(f"{name:20}  {row['seconds']:8.4f}  {middle:6.3f}  {low:.3f} to {high:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
