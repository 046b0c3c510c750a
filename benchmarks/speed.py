"""Measure the time of a new frame: models alone, and the whole command with each of its parts.

    python benchmarks/speed.py --sizes 960x720,1920x1080 --json speed.json
    python benchmarks/speed.py --clip clip.mp4 --sizes 854x480,3840x2160 --factors 2,4

The plain loop is RIFE 4.6 as in its authors' project on a CPU: float32, one frame at a time, all at
full size, from ``weights/make_rife46.py``. In each round all methods run in turn on the same
pictures, and a ratio compares two times of one round, so other work on the machine affects both.
The output has the medians over the rounds and, for ratios, the middle half. On a busy machine,
``--cpu-time`` compares processor time instead of time on the clock.

With ``--clip``, the first frames of a clip are interpolated from file to file at each size.
``decode``, ``new frames`` (colour conversion and model) and ``encode`` are the parts alone; ``end
to end`` is all of them in this process; ``command`` is a new process with its start, as is ``ffmpeg
minterpolate``. All times are for one new frame. ``wall x cores`` is the time of end to end times
the number of cores, relative to the processor time of the three parts: 1 is a pipeline without
losses.
"""

from __future__ import annotations

import argparse
import json
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv import weights
from cloudconv.events import watched
from cloudconv.jobs.interp import run as interp
from cloudconv.media.frame import Frame, FrameTask
from cloudconv.media.plan import plan_encoding
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.models import registry
from cloudconv.models.catalogue import FOUR
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import (
    choose_device,
    choose_precision,
    cores,
    processor_name,
    set_threads,
)
from cloudconv.render.memory import WantedSizes
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Request, schedule
from cloudconv.settings import InterpSettings
from cloudconv.timeline import Multiply

PLAIN = "plain float32 loop"
_REFERENCE = Path(__file__).resolve().parent.parent / "weights" / "make_rife46.py"
_MOTION = 6  # pixels
_LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
_MINTERPOLATE = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds on the clock, seconds of the processors, and bytes of memory of one run."""

    wall: float
    cpu: float
    memory: int = 0


Run = Callable[[], Taken]


def main() -> None:
    """Run the command that the docstring of the module shows."""
    options = _arguments()
    device = choose_device(options.device)
    threads = set_threads(options.threads)
    machine = f"{platform.machine()}, {processor_name()}, {device}, {threads} threads"
    print(f"{machine}, PyTorch {torch.__version__}")
    found: dict[str, Any] = {}
    for size in options.sizes.split(","):
        width, height = map(int, size.split("x"))
        for factor in map(int, options.factors.split(",") if options.clip else ["2"]):
            with tempfile.TemporaryDirectory() as folder:
                parts = (
                    _whole(options, device, width, height, factor, Path(folder))
                    if options.clip
                    else _models(options, device, width, height)
                )
                title = f"{size} x{factor}" if options.clip else size
                found[title] = _measured(parts, options)
            print(f"\n{title}\n{_table(found[title])}", flush=True)
            if options.json:
                result = {"machine": machine, "torch": torch.__version__, "sizes": found}
                options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="854x480,960x720,1920x1080", help="WxH, with commas")
    parser.add_argument("--models", default="cloud-best,cloud-fast,cloud-turbo,rife-4.6")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--cpu-time", action="store_true", help="compare processor time, not the time on the clock"
    )
    parser.add_argument("--clip", type=Path, help="measure from file to file, on this clip")
    parser.add_argument("--frames", type=int, default=24, help="frames of the clip")
    parser.add_argument("--factors", default="2", help="with commas, for the clip")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, to this file")
    options = parser.parse_args()
    if options.rounds < 1 or options.frames < 2:
        parser.error("at least one round and two frames are needed")
    return options


def _models(
    options: argparse.Namespace, device: torch.device, width: int, height: int
) -> dict[str, Run]:
    x0, x1 = (picture.to(device) for picture in _pictures(width, height))
    half = torch.tensor([0.5])
    methods: dict[str, Run] = {PLAIN: _plain(x0, x1, device)}
    for name in options.models.split(","):
        dtype = choose_precision(options.precision, device, registry.spec(name, "interpolate"))
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
    """Return a soft texture, and the same moved by some pixels: (1, 3, height, width) each."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, height // 6 + 8, width // 6 + 8)
    texture = F.interpolate(coarse, scale_factor=6, mode="bicubic").clamp(0, 1)
    first = texture[..., :height, :width]
    second = texture[..., _MOTION : height + _MOTION, _MOTION : width + _MOTION]
    return first.contiguous(), second.contiguous()


def _whole(
    options: argparse.Namespace,
    device: torch.device,
    width: int,
    height: int,
    factor: int,
    folder: Path,
) -> dict[str, Run]:
    """Return the parts of the way from file to file, each timed for one new frame."""
    clip = _shrunk(options.clip, width, height, options.frames, folder)
    with Source(clip) as source:
        info, frames = source.info, list(source.frames())
    assert info.timing.rate is not None  # _shrunk wrote a constant rate
    rate = factor * info.timing.rate
    new = (factor - 1) * (len(frames) - 1)
    tasks = _tasks(frames, factor)
    methods: dict[str, Run] = {PLAIN: _plain(*_pictures(width, height), device)}
    methods["decode"] = partial(_timed, partial(_decode, clip), device, new)
    for name in options.models.split(","):
        settings = InterpSettings(
            input=clip,
            output=folder / "made.mp4",
            factor=Fraction(factor),
            model=name,
            overwrite=True,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
        )
        spec = registry.spec(name, "interpolate")
        dtype = choose_precision(options.precision, device, spec)
        model = registry.load(name, device, dtype)
        renderer = Renderer(
            model,
            device=device,
            wanted=WantedSizes(cpu_streams=useful_cpu_streams(device, torch.get_num_threads())),
            fallback=True,
        )
        rendered = _render(renderer, tasks)
        encoding = plan_encoding(folder / "encoded.mp4", info, rate=rate, time_base=1 / rate)
        sink = partial(Sink, encoding, overwrite=True)
        methods[f"{name}: new frames"] = partial(
            _timed, partial(_render, renderer, tasks), device, new
        )
        methods[f"{name}: encode"] = partial(_timed, partial(_encode, sink, rendered), device, new)
        methods[f"{name}: end to end"] = partial(
            _timed, partial(_interpolate, settings), device, new
        )
        methods[f"{name}: command"] = partial(_process, _command(settings, options), new)
    methods["ffmpeg minterpolate"] = partial(_process, _minterpolate(clip, rate, folder), new)
    return methods


def _shrunk(clip: Path, width: int, height: int, frames: int, folder: Path) -> Path:
    """Write the clip's first frames at a size, cropped to its shape, at a high quality."""
    made = folder / "source.mp4"
    fitted = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
    encoded = ["-an", "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p"]
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-vf", fitted, "-frames:v", str(frames)]
    subprocess.run([*command, *encoded, str(made)], check=True)
    return made


def _tasks(frames: list[Frame], factor: int) -> list[FrameTask]:
    """Return the tasks, each with its outer frames for models that use them."""
    request = Request(
        name="clip",
        rate=Multiply(factor),
        slowdown=Fraction(1),
        scene_cut="off",
        duplicates="keep",
        loop=False,
        context=FOUR,
    )
    return list(schedule(frames, request))


def _decode(clip: Path) -> None:
    with Source(clip) as source:
        for _ in source.frames():
            pass


def _render(renderer: Renderer, tasks: list[FrameTask]) -> list[Frame]:
    frames = list(renderer.render(tasks))
    for warned in renderer.new_warnings():
        print(warned, file=sys.stderr)
    return frames


def _encode(sink: Callable[[], Sink], frames: list[Frame]) -> None:
    with sink() as target:
        for frame in frames:
            target.write(frame)


def _interpolate(settings: InterpSettings) -> None:
    watched(interp.run(settings))


def _command(settings: InterpSettings, options: argparse.Namespace) -> list[str]:
    given = {
        "--factor": str(settings.factor),
        "--model": settings.chosen_model,
        "--device": options.device,
        "--precision": options.precision,
        "-o": str(settings.output),
    }
    if options.threads:
        given["--threads"] = str(options.threads)
    flat = [word for pair in given.items() for word in pair]
    words = ["-m", "cloudconv", "interp", str(settings.input), *flat, "--overwrite", "--quiet"]
    return [sys.executable, *words]


def _minterpolate(clip: Path, rate: Fraction, folder: Path) -> list[str]:
    way = f"minterpolate=fps={rate}:{_MINTERPOLATE}"
    made = str(folder / "minterpolate.mp4")
    return ["ffmpeg", "-v", "error", "-y", "-i", str(clip), "-vf", way, "-an", made]


def _timed(run: Callable[[], object], device: torch.device, new: int = 1) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Taken((time.perf_counter() - wall) / new, (time.process_time() - cpu) / new)


def _process(command: list[str], new: int) -> Taken:
    """Run a command in a process of its own and measure its peak of memory, too."""
    # A launcher starts the process, because a process inherits the memory peak of its parent.
    launcher = [sys.executable, "-c", _LAUNCHER, *command]
    said = subprocess.run(launcher, check=True, stdout=subprocess.PIPE, text=True).stdout
    wall, cpu, memory = map(float, said.split())
    unit = 1 if sys.platform == "darwin" else 1024
    return Taken(wall / new, cpu / new, int(memory) * unit)


def _measured(methods: dict[str, Run], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
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
        if memory := max(taken.memory for taken in all_taken):
            rows[name]["memory_bytes"] = memory
        if name.endswith(": end to end"):
            model = name.partition(":")[0]
            parts = ("decode", f"{model}: new frames", f"{model}: encode")
            by_round = zip(all_taken, *(runs[part] for part in parts), strict=True)
            shares = [
                whole.wall * cores() / sum(p.cpu for p in alone) for whole, *alone in by_round
            ]
            rows[name]["wall_x_cores"] = _quartiles(shares)
    return rows


def _quartiles(values: list[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def _table(measured: dict[str, dict[str, Any]]) -> str:
    wide = max(map(len, measured))
    lines = [
        f"{'method':{wide}}  {'s/frame':>8}  {'CPU s':>8}  {'ratio':>6}  "
        f"{'middle half':14}  {'wall x cores':>12}  {'memory':>8}"
    ]
    for name, row in measured.items():
        low, middle, high = row["ratio"]
        share = f"{row['wall_x_cores'][1]:.3f}" if "wall_x_cores" in row else ""
        memory = f"{row['memory_bytes'] / 2**20:.0f} MB" if "memory_bytes" in row else ""
        lines.append(
            f"{name:{wide}}  {row['seconds']:8.4f}  {row['cpu_seconds']:8.4f}  {middle:6.3f}  "
            f"{low:.3f} to {high:.3f}  {share:>12}  {memory:>8}".rstrip()
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
