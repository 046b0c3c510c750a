"""Run the filters of FFmpeg that ``compare`` needs: minterpolate and VMAF."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from itertools import chain
from math import ceil, lcm
from pathlib import Path
from typing import Any
from weakref import finalize

import av

from cloudconv.errors import ModelError
from cloudconv.media.frames.filters import Chain
from cloudconv.media.frames.frame import Frame
from cloudconv.media.writing.output import writing

# Pixels; minterpolate needs two of its 16-pixel blocks along each side.
MINTERPOLATE_SIDE = 32
_TICK_LIMIT = 2**31  # FFmpeg's limit of a time base's denominator
_LOG = "vmaf.json"
_COMPARED = ("test.mkv", "truth.mkv")


class VmafMeter:
    """A measurement of VMAF, Netflix's estimate of perceived quality (Li et al. 2016).

    PyAV's FFmpeg lacks ``libvmaf``. The wheel of imageio-ffmpeg contains a program with it.
    Its default model uses luma and motion, so it needs every frame of the output in order.
    The luma is kept in temporary files, without loss. Raises ModelError if there is no
    FFmpeg program.
    """

    def __init__(self) -> None:
        try:
            self._program = str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
        except (ImportError, RuntimeError) as error:
            raise ModelError(
                "no-vmaf: VMAF needs an FFmpeg with libvmaf: "
                'run pip install "cloudconv[vmaf]".'
            ) from error
        self._luma: Chain | None = None
        self._files: list[Any] = []
        self._folder = Path(tempfile.mkdtemp(prefix="cloudconv-"))
        finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def push(self, truth: Frame, test: Frame) -> None:
        """Add the next frame."""
        if self._luma is None:
            self._luma = Chain(truth.picture, *_to_eight_bit(truth), ("extractplanes", "y"))
            self._files = [av.open(str(self._folder / name), "w") for name in _COMPARED]
            for file in self._files:
                stream = file.add_stream("ffv1", rate=25, options={"level": "1"})
                stream.width = truth.width
                stream.height = truth.height
                stream.pix_fmt = "gray"
        with writing(self._folder):
            for file, frame in zip(self._files, (test, truth), strict=True):
                for luma in self._luma.push(frame.picture):
                    file.mux(file.streams.video[0].encode(luma))

    def finish(self) -> list[float]:
        """Return the score of every frame, 0 to 100.

        Raise ModelError if the program fails.
        """
        if self._luma is None:
            return []
        self._luma = None
        folder = self._folder
        with writing(self._folder):
            for file in self._files:
                file.mux(file.streams.video[0].encode(None))
                file.close()
        # The model ignores chroma, so both chroma planes are copies of the luma.
        plane = "mergeplanes=format=yuv444p:map1p=0:map2p=0"
        graph = f"[0]{plane}[a];[1]{plane}[b];[a][b]libvmaf=log_fmt=json:log_path={_LOG}"
        inputs = [*chain.from_iterable(("-i", name) for name in _COMPARED)]
        command = [self._program, "-v", "error", "-nostdin", *inputs, "-lavfi", graph]
        done = subprocess.run(
            [*command, "-f", "null", "-"], cwd=folder, capture_output=True
        )
        if done.returncode or not (folder / _LOG).exists():
            errors = done.stderr.decode("utf-8", "replace").splitlines()
            raise ModelError(
                f"vmaf-failed: {self._program} could not measure VMAF "
                f"({errors[-1] if errors else 'it gave no reason'}): leave vmaf out of "
                "--metrics."
            )
        frames = json.loads((folder / _LOG).read_text("utf-8"))["frames"]
        return [float(frame["metrics"]["vmaf"]) for frame in frames]


def minterpolate(frames: Iterable[Frame], rate: Fraction) -> Iterator[Frame]:
    """Yield frames at ``rate``, made by FFmpeg's motion-compensated interpolation.

    The options are those that FFmpeg users usually choose, with the filter's own scene
    detection. Output frame k has exactly the time ``first.time + k / rate``. The output
    ends at the last input frame. The filter alone would end at the second-last, so the
    filter receives the last one twice. The filter works on 8-bit YUV: an input frame on the
    grid keeps its samples, above 8 bits and in RGB approximately. Raises ModelError if a
    side is under 32 pixels.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    if min(first.width, first.height) < MINTERPOLATE_SIDE:
        raise ModelError(
            f"minterpolate-too-small: minterpolate needs at least {MINTERPOLATE_SIDE} "
            f"pixels a side, and these pictures are {first.width}x{first.height}: leave it "
            "out of --against."
        )
    # On this time base the output grid and usually all input times are whole numbers.
    # Rounding of the others to a microsecond changes no pixel: the filter blends in 1/1024
    # of a gap.
    steps = lcm(rate.numerator, first.duration.denominator, first.time.denominator)
    steps *= ceil(1_000_000 / steps)
    tick = Fraction(1, steps if steps < _TICK_LIMIT else 1_000_000_000)
    options = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
    filters = Chain(
        first.picture,
        *_to_eight_bit(first),
        ("minterpolate", f"fps={rate.numerator}/{rate.denominator}:{options}"),
        ("format", first.pix_fmt),
        tick=tick,
        rate=1 / first.duration,
    )

    def send(frame: Frame, time: Fraction) -> Iterator[Frame]:
        for picture in filters.push(frame.picture, pts=round((time - first.time) / tick)):
            when = first.time + Fraction(picture.pts or 0) / rate
            yield replace(first, picture=picture, time=when, duration=1 / rate)

    yield from send(first, first.time)
    last = first
    gap = Fraction(0)
    for frame in source:
        gap = frame.time - last.time
        yield from send(frame, frame.time)
        last = frame
    if gap:
        yield from send(last, last.time + gap)
    else:
        yield first.at(first.time, 1 / rate)


def _to_eight_bit(like: Frame) -> tuple[tuple[str, str], ...]:
    """Return the filters that convert frames to 8-bit gray or YUV.

    Subsampling and alpha remain.
    """
    layout = like.picture.format
    if layout.is_rgb:
        # Without a given matrix the filter would choose one by the size of the picture.
        alpha = "a" if len(layout.components) == 4 else ""
        return (
            ("scale", "out_color_matrix=bt709:out_range=full:sws_dither=none"),
            ("format", f"yuv{alpha}444p"),
        )
    if layout.components[0].bits == 8:
        return ()
    narrow = like.pix_fmt.removesuffix("le").rstrip("0123456789")
    return ("scale", "sws_dither=none"), ("format", narrow)
