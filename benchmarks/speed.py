"""Compare the time of models alone with a plain loop.

    python benchmarks/speed.py --sizes 960x720,1920x1080 --json speed.json

The plain loop is RIFE 4.6 as in its authors' project on a CPU: float32, one frame at a
time, all at full size, from ``weights/make_rife46.py``. In each round all methods run in
turn on the same pictures, and a ratio compares two times of one round, so other work on the
machine affects both. The output has the medians over the rounds and, for ratios, the middle
half. On a busy machine, ``--cpu-time`` compares processor time instead of time on the
clock. ``benchmarks/whole.py`` measures from file to file.
"""

import argparse
import json
import platform
import runpy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv import weights
from cloudconv.host import processor_name
from cloudconv.models import registry
from cloudconv.render.device import (
    choose_device,
    choose_precision,
    set_threads,
)

PLAIN = "plain float32 loop"
_REFERENCE = Path(__file__).resolve().parent.parent / "weights" / "make_rife46.py"
_MOTION = 6  # pixels


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds on the clock, and seconds of the processors, of one run."""

    wall: float
    cpu: float


Run = Callable[[], Taken]


def main() -> None:
    """Run the command that the docstring of the module shows."""
    options = _arguments()
    device = choose_device(options.device)
    set_threads(options.threads)
    threads = torch.get_num_threads()
    machine = f"{platform.machine()}, {processor_name()}, {device}, {threads} threads"
    print(f"{machine}, PyTorch {torch.__version__}")
    report: dict[str, Any] = {}
    for size in options.sizes.split(","):
        width, height = map(int, size.split("x"))
        report[size] = _measured(_models(options, device, width, height), options)
        print(f"\n{size}\n{_table(report[size])}", flush=True)
        if options.json:
            result = {"machine": machine, "torch": torch.__version__, "sizes": report}
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="854x480,960x720,1920x1080", help="WxH, with commas"
    )
    parser.add_argument("--models", default="cloud-best,cloud-fast,cloud-turbo,rife-4.6")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="compare processor time, not the time on the clock",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="all figures, to this file"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("at least one round is needed")
    return options


def _models(
    options: argparse.Namespace, device: torch.device, width: int, height: int
) -> dict[str, Run]:
    x0, x1 = (picture.to(device) for picture in _pictures(width, height))
    half = torch.tensor([0.5])
    methods: dict[str, Run] = {PLAIN: _plain(x0, x1, device)}
    for name in options.models.split(","):
        dtype = choose_precision(
            options.precision, device, registry.spec(name, "interpolate")
        )
        model = registry.load(name, device, dtype)
        methods[name] = partial(_timed, partial(model.interpolate, x0, x1, half), device)
    return methods


def _plain(x0: Tensor, x1: Tensor, device: torch.device) -> Run:
    network = runpy.run_path(str(_REFERENCE))["reference"]
    tensors = {k: v.float().to(device) for k, v in weights.load_state("rife-4.6").items()}

    def run() -> None:
        with device:
            network(tensors, x0, x1, 0.5, 1.0)

    return partial(_timed, run, device)


def _pictures(width: int, height: int) -> tuple[Tensor, Tensor]:
    """Return a soft texture, and the same moved by pixels: (1, 3, height, width) each."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, height // 6 + 8, width // 6 + 8)
    texture = F.interpolate(coarse, scale_factor=6, mode="bicubic").clamp(0, 1)
    first = texture[..., :height, :width]
    second = texture[..., _MOTION : height + _MOTION, _MOTION : width + _MOTION]
    return first.contiguous(), second.contiguous()


def _timed(run: Callable[[], object], device: torch.device) -> Taken:
    wall = time.perf_counter()
    cpu = time.process_time()
    with torch.inference_mode():
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def _measured(
    methods: dict[str, Run], options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    runs: dict[str, list[Taken]] = {name: [] for name in methods}
    for number in range(options.rounds + 1):
        for name, run in methods.items():
            taken = run()
            if number:  # the first round prepares the libraries
                runs[name].append(taken)
    rows: dict[str, dict[str, Any]] = {}
    for name, all_taken in runs.items():
        pairs = zip(all_taken, runs[PLAIN], strict=True)
        ratios = [a.cpu / b.cpu if options.cpu_time else a.wall / b.wall for a, b in pairs]
        rows[name] = {
            "seconds": statistics.median(taken.wall for taken in all_taken),
            "cpu_seconds": statistics.median(taken.cpu for taken in all_taken),
            "ratio": _quartiles(ratios),
        }
    return rows


def _quartiles(values: list[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return (
        statistics.quantiles(values, n=4, method="inclusive")
        if len(values) > 1
        else values * 3
    )


def _table(measured: dict[str, dict[str, Any]]) -> str:
    wide = max(map(len, measured))
    lines = [f"{'method':{wide}}  {'s/frame':>8}  {'CPU s':>8}  {'ratio':>6}  middle half"]
    for name, row in measured.items():
        low, middle, high = row["ratio"]
        lines.append(
            f"{name:{wide}}  {row['seconds']:8.4f}  {row['cpu_seconds']:8.4f}  "
            f"{middle:6.3f}  {low:.3f} to {high:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
