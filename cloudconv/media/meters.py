"""Run the filters of FFmpeg that ``compare`` needs: minterpolate and VMAF."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from math import ceil, lcm
from pathlib import Path
from typing import IO
from weakref import finalize

import numpy as np
from av.video.frame import VideoFrame

from cloudconv.errors import ModelError
from cloudconv.media.filters import FFMPEG, Chain, has_filter
from cloudconv.media.frame import Frame

MINTERPOLATE_SIDE = 32
"""The smallest side for minterpolate, which needs two of its 16-pixel blocks along each side."""
_TICK_LIMIT = 2**31  # FFmpeg's limit of a time base's denominator
_LOG, _ERRORS = "vmaf.json", "errors.txt"


class VmafMeter:
    """A measurement of VMAF, Netflix's estimate of perceived quality (Li et al. 2016).

    PyAV's FFmpeg lacks ``libvmaf``. The wheel of imageio-ffmpeg contains a program with it. Its
    default model needs every frame of the output in order, because it uses luma and motion. Raises
    ModelError if there is no FFmpeg program.
    """

    def __init__(self, rate: Fraction) -> None:
        self._program = _ffmpeg()
        self._rate = rate
        self._filters: Chain | None = None  # which make 8-bit luma
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    def push(self, truth: Frame, test: Frame) -> None:
        """Add the next frame; raise ModelError if the program fails.

        Raises ValueError if the frames differ in size or pixel format.
        """
        if self._filters is None:
            self._filters = Chain(truth.picture, *_to_eight_bit(truth))
            self._start(truth.width, truth.height)
        both = b"".join(_first_plane(*self._filters.push(each.picture)) for each in (test, truth))
        try:
            pipe = self._pipe()
            pipe.write(both)
            # The program needs chroma planes. Its model ignores them.
            pipe.write(b"\x80" * (2 * len(both)))
        except OSError as error:
            raise self._failure() from error

    def finish(self) -> list[float]:
        """Return the score of every frame, 0 to 100, which the program writes when it ends."""
        if self._process is None:
            return []
        try:
            self._pipe().close()  # writes the last data
        except OSError as error:
            raise self._failure() from error
        log = self._folder / _LOG
        if self._process.wait() or not log.exists():
            raise self._failure()
        frames = json.loads(log.read_text("utf-8"))["frames"]
        self._filters = self._process = None
        return [float(frame["metrics"]["vmaf"]) for frame in frames]

    def _start(self, width: int, height: int) -> None:
        # Both pictures use one pipe, one above the other. The filter's first input is the picture
        # to be scored.
        graph = (
            f"split[a][b];[a]crop={width}:{height}:0:0[test];[b]crop={width}:{height}:0:{height}"
            f"[truth];[test][truth]libvmaf=log_fmt=json:log_path={_LOG}"
        )
        folder = tempfile.TemporaryDirectory(prefix="cloudconv-")
        self._folder = Path(folder.name)
        with (self._folder / _ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *(self._program, "-v", "error", "-nostdin", "-f", "rawvideo"),
                    *("-pix_fmt", "yuv444p", "-s", f"{width}x{2 * height}"),
                    *("-r", str(self._rate), "-i", "pipe:0"),
                    *("-filter_complex", graph, "-f", "null", "-"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self._folder,
            )
        # An interrupted run must not leave the program running.
        finalize(self, _stop, self._process, folder)

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    def _failure(self) -> ModelError:
        errors = (self._folder / _ERRORS).read_text("utf-8", "replace").splitlines()
        return ModelError(
            f"vmaf-failed: {self._program} could not measure VMAF "
            f"({errors[-1] if errors else 'it gave no reason'}): leave vmaf out of --metrics."
        )


def _ffmpeg() -> str:
    try:
        return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            'no-vmaf: VMAF needs an FFmpeg with libvmaf: run pip install "cloudconv[vmaf]".'
        ) from error


def _stop(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    if process.stdin is not None:
        # Unwritten data is not needed any more.
        with suppress(OSError):
            process.stdin.close()
    process.wait()
    folder.cleanup()


def minterpolate(frames: Iterable[Frame], rate: Fraction) -> Iterator[Frame]:
    """Yield frames at ``rate``, made by FFmpeg's motion-compensated interpolation.

    The options are those that FFmpeg users usually choose, with the filter's own scene detection.
    Output frame k has exactly the time ``first.time + k / rate``. The output ends at the last input
    frame, which is included if its time is on this grid. The filter alone would end at the
    second-last input frame, so the filter receives the last one twice. An input frame on the grid
    keeps its own samples, above 8 bits and in RGB approximately, because the filter works on 8-bit
    YUV. A single input frame keeps its picture and time, and lasts ``1 / rate``. Only the last of
    ``frames``, all of one size and pixel format, is stored. Raises ModelError if this FFmpeg lacks
    the filter, or a side is under 32 pixels.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    if not has_filter("minterpolate"):
        raise ModelError(
            f"no-filter: This build of FFmpeg ({FFMPEG}) has no filter minterpolate: leave it out, "
            "or install PyAV's own wheel, which has the filter."
        )
    if min(first.width, first.height) < MINTERPOLATE_SIDE:
        raise ModelError(
            f"minterpolate-too-small: minterpolate needs at least {MINTERPOLATE_SIDE} pixels a "
            f"side, and these pictures are {first.width}x{first.height}: leave it out of "
            "--against."
        )
    tick = _tick(first, rate)
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
    last, gap = first, Fraction(0)
    for frame in source:
        gap = frame.time - last.time
        if gap <= 0:
            raise ValueError(f"frame at {frame.time} s does not follow the one at {last.time} s")
        yield from send(frame, frame.time)
        last = frame
    if gap:
        yield from send(last, last.time + gap)
    else:
        yield first.at(first.time, 1 / rate)


def _tick(first: Frame, rate: Fraction) -> Fraction:
    """Return a time base on which the output grid and usually all input times are whole numbers.

    Rounding of the others to a microsecond changes no pixel: the filter blends in 1/1024 of a gap.
    """
    steps = lcm(rate.numerator, first.duration.denominator, first.time.denominator)
    steps *= ceil(1_000_000 / steps)
    return Fraction(1, steps if steps < _TICK_LIMIT else 1_000_000_000)


def _first_plane(picture: VideoFrame) -> bytes:
    """Return luma, row by row; with the filters RGB becomes full-range luma of BT.709."""
    plane = picture.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width].tobytes()


def _to_eight_bit(like: Frame) -> tuple[tuple[str, str], ...]:
    """Return the filters that convert frames to 8-bit gray or YUV; subsampling and alpha remain."""
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
