"""Measure ``interp`` from file to file, and which of its stages are busy.

    python benchmarks/whole.py --models cloud-turbo,blend --json whole.json

Each run is a process of its own, which doubles the rate of a generated clip, by default to
1,000 output frames of 1920x1080. ``busy`` is the time on the clock that a stage takes for
each output frame, without the stages inside it. The stages of one thread stand in one row;
``waiting`` is the rest of the thread's time, in which it waits for other threads. On a GPU
``network`` is the time in which the CPU starts the work, ``download`` the wait for the
device, and ``device`` the time that the device takes for the networks. With
``--no-encoder`` the frames are not encoded. FFmpeg's ``minterpolate`` runs in addition if
``ffmpeg`` is installed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any

THREADS = {
    "source": ("read", "decode", "analyse"),
    "render": ("upload", "network", "download", "picture"),
    "sink": ("encode", "mux"),
}
"""The stages of each thread."""
_MINTERPOLATE = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
_RATE = 25


def main() -> None:
    """Run the command that the docstring of the module shows."""
    options = _arguments()
    if options.child:
        print(json.dumps(_child(options)))
        return
    width, height = map(int, options.size.split("x"))
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        _write_clip(clip, width, height, options.frames // 2)
        for name in options.models.split(","):
            for preset in options.presets.split(","):
                command = [sys.executable, __file__, "--child", "--models", name]
                command += [
                    "--presets",
                    preset,
                    "--clip",
                    str(clip),
                    "--device",
                    options.device,
                ]
                command += ["--no-encoder"] * options.no_encoder
                rows[f"{name}, {preset}"] = _process(command)
        if shutil.which("ffmpeg") and not options.no_encoder:
            way = f"minterpolate=fps={2 * _RATE}:{_MINTERPOLATE}"
            command = ["ffmpeg", "-v", "error", "-y", "-i", str(clip), "-vf", way]
            rows["minterpolate"] = _process([*command, str(clip.with_name("other.mp4"))])
    for name, row in rows.items():
        row["frames_per_second"] = options.frames / row["wall"]
        print(_text(name, row, options.frames))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="cloud-turbo,blend", help="with commas")
    parser.add_argument("--presets", default="veryfast", help="of libx264, with commas")
    parser.add_argument("--frames", type=int, default=1000, help="of the output")
    parser.add_argument("--size", default="1920x1080", metavar="WxH")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-encoder", action="store_true", help="drop the frames")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="all figures, to this file"
    )
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _write_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Write a soft, slightly noisy texture that moves right by three pixels a frame."""
    import av
    import numpy as np

    numbers = np.random.default_rng(0)
    step = 3
    wide = width + 3 * frames
    planes = []
    for scale in (1, 2, 2):
        coarse = numbers.random((height // scale // 8 + 2, wide // scale // 8 + 2))
        fine: Any = np.kron(coarse, np.ones((8, 8)))[: height // scale, : wide // scale]
        for axis in (0, 1):
            fine = sum(np.roll(fine, k, axis) for k in range(-4, 4)) / 8
        fine = fine * 150 + 50 + numbers.normal(0, 1, fine.shape)
        planes.append(fine.astype(np.uint8))
    with av.open(str(path), "w") as out:
        stream = out.add_stream(
            "libx264", rate=_RATE, options={"preset": "veryfast", "crf": "17"}
        )
        stream.width = width
        stream.height = height
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            parts = []
            for plane, scale in zip(planes, (1, 2, 2), strict=True):
                start = number * step // scale
                parts.append(plane[:, start : start + width // scale].reshape(-1, width))
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.concatenate(parts), "yuv420p"))
            )
        out.mux(stream.encode(None))


class _Stages:
    """The seconds of each stage, without the stages that it calls."""

    def __init__(self) -> None:
        self.busy: dict[str, float] = defaultdict(float)
        self._here = threading.local()

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count the time in a function, method or generator of ``owner`` for a stage."""
        function = getattr(owner, name)

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if isgeneratorfunction(function):
                return self._each(function(*arguments, **named), stage)
            return self._timed(lambda: function(*arguments, **named), stage)

        setattr(owner, name, call)

    def _each(self, items: Iterator[Any], stage: str) -> Iterator[Any]:
        end = object()
        try:
            while (item := self._timed(lambda: next(items, end), stage)) is not end:
                yield item
                del item
        finally:
            items.close()  # type: ignore[attr-defined]  # a generator has it

    def _timed(self, call: Callable[[], Any], stage: str) -> Any:
        inside = getattr(self._here, "inside", 0.0)
        self._here.inside = 0.0
        began = time.perf_counter()
        try:
            return call()
        finally:
            taken = time.perf_counter() - began
            self.busy[stage] += taken - self._here.inside
            self._here.inside = inside + taken


def _child(options: argparse.Namespace) -> dict[str, Any]:
    from cloudconv import host

    began = time.perf_counter()
    host.reuse_memory()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from cloudconv import transfer
    from cloudconv.events import Progress
    from cloudconv.jobs.interp import run as interp
    from cloudconv.jobs.interp import store
    from cloudconv.media.frames import frame
    from cloudconv.media.reading import demux, source
    from cloudconv.media.writing import packets
    from cloudconv.models.base import Interpolator
    from cloudconv.render import inference
    from cloudconv.settings import InterpSettings

    stages = _Stages()
    events = list[Any]()
    network = Interpolator.between

    def timed_network(*arguments: Any, **named: Any) -> Any:
        marks: Any = [torch.cuda.Event(True) for _ in range(2)]  # type: ignore[no-untyped-call]
        marks[0].record()
        result = network(*arguments, **named)
        marks[1].record()
        events.append(marks)
        return result

    if torch.cuda.is_available():
        Interpolator.between = timed_network  # type: ignore[method-assign]
    stages.watch(demux, "read_packets", "read")
    stages.watch(source.Source, "_pictures", "decode")
    stages.watch(interp, "schedule", "analyse")
    stages.watch(inference.SourcePicture, "on", "upload")
    stages.watch(inference.Inference, "make", "network")
    stages.watch(inference.Inference, "expose", "network")
    stages.watch(transfer.Arriving, "planes", "download")
    stages.watch(frame.Frame, "like", "picture")
    stages.watch(packets.Writer, "write", "encode")
    stages.watch(packets.PacketFile, "store", "mux")
    stages.watch(store, "join", "mux")
    if options.no_encoder:
        write = packets.Writer.write

        def write_first(self: Any, frame: Any) -> None:
            if not self.encoder.shown.frames:  # a segment needs one frame
                write(self, frame)

        packets.Writer.write = write_first  # type: ignore[method-assign]
    settings = InterpSettings(
        input=options.clip,
        output=options.clip.with_name("made.mp4"),
        factor=Fraction(2),
        model=options.models,
        preset=options.presets,
        overwrite=True,
        device=options.device,
    )
    first = 0.0
    for event in interp.run(settings):
        if isinstance(event, Progress) and event.stage == "rendering" and not first:
            first = time.perf_counter()
    ended = time.perf_counter()
    device = sum(a.elapsed_time(b) for a, b in events) / 1e3
    return {
        "start": first - began,
        "running": ended - first,
        "device": device,
    } | stages.busy


def _process(command: list[str]) -> dict[str, Any]:
    """Run a command.

    Return its figures, its time on the clock, and that of the processors.
    """
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        said = running.stdout.read()
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{command} failed")
    row: dict[str, Any] = json.loads(said) if said.strip() else {}
    row |= {
        "wall": time.perf_counter() - began,
        "user": used.ru_utime,
        "system": used.ru_stime,
    }
    return row | {"page_faults": used.ru_minflt, "memory": used.ru_maxrss * 1024}


def _text(name: str, row: dict[str, Any], frames: int) -> str:
    seconds = 1e3 / frames
    lines = [
        f"{name}: {row['frames_per_second']:.1f} output frames a second, {row['wall']:.1f} "
        f"s (user {row['user']:.1f}, system {row['system']:.1f}), {row['page_faults']:,} "
        f"page faults, {row['memory'] / 1e6:.0f} MB"
    ]
    if "running" in row:
        lines.append(f"  start {row['start']:.1f} s, then ms for each output frame:")
        for thread, stages in THREADS.items():
            parts = ", ".join(
                f"{stage} {row.get(stage, 0) * seconds:.2f}" for stage in stages
            )
            rest = row["running"] - sum(row.get(stage, 0) for stage in stages)
            lines.append(f"  {thread}: {parts}, waiting {rest * seconds:.2f}")
        lines.append(f"  device: {row['device'] * seconds:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
