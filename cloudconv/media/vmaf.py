"""Measure VMAF, Netflix's estimate of perceived quality (Li et al. 2016), by an FFmpeg program.

PyAV's FFmpeg lacks ``libvmaf``. The wheel of imageio-ffmpeg contains a program with ``libvmaf`` and
its models.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import suppress
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import IO
from weakref import finalize

from cloudconv.errors import ModelError
from cloudconv.media.filters import Luma
from cloudconv.media.frame import Frame

_LOG, _ERRORS = "vmaf.json", "errors.txt"


class VmafMeter:
    """A measurement of VMAF by its default model, which uses luma and motion.

    The model needs every frame of the output in order, because it uses motion.

    Raises:
        ModelError: there is no FFmpeg program.
    """

    def __init__(self, rate: Fraction) -> None:
        """Prepare the measurement; ``rate`` is in frames per second."""
        self._program = _ffmpeg()
        self._rate = rate
        self._luma: Luma | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def push(self, truth: Frame, test: Frame) -> None:
        """Add the next frame.

        Raises:
            ModelError: the program fails.
            ValueError: the two frames differ in time, size or pixel format, or the size or format
                changes.
        """
        if truth.time != test.time:
            raise ValueError(f"frames at {truth.time} s and {test.time} s cannot be compared")
        if self._luma is None:
            self._luma = Luma(truth)
            self._start(truth.width, truth.height)
        both = self._luma.of(test) + self._luma.of(truth)
        try:
            pipe = self._pipe()
            pipe.write(both)
            # The program needs chroma planes. Its model ignores them.
            pipe.write(b"\x80" * (2 * len(both)))
        except OSError as error:
            raise self._failure() from error

    def finish(self) -> list[float]:
        """Return the score of every frame, 0 to 100, which the program writes when it ends.

        Raises:
            ModelError: the program fails.
        """
        if self._process is None:
            return []
        assert self._folder is not None
        try:
            self._pipe().close()  # writes the last data
        except OSError as error:
            raise self._failure() from error
        log = Path(self._folder.name) / _LOG
        if self._process.wait() or not log.exists():
            raise self._failure()
        frames = json.loads(log.read_text("utf-8"))["frames"]
        self._folder.cleanup()
        self._luma = self._process = self._folder = None
        return [float(frame["metrics"]["vmaf"]) for frame in frames]

    def _start(self, width: int, height: int) -> None:
        # Both pictures use one pipe, one above the other. The filter's first input is the picture
        # to be scored.
        graph = (
            f"split[a][b];[a]crop={width}:{height}:0:0[test];[b]crop={width}:{height}:0:{height}"
            f"[truth];[test][truth]libvmaf=log_fmt=json:log_path={_LOG}"
        )
        self._folder = tempfile.TemporaryDirectory(prefix="cloudconv-")
        with (Path(self._folder.name) / _ERRORS).open("wb") as errors:
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
                cwd=self._folder.name,
            )
        # An interrupted run must not leave the program running.
        finalize(self, _stop, self._process, self._folder)

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    def _failure(self) -> ModelError:
        assert self._folder is not None
        errors = (Path(self._folder.name) / _ERRORS).read_text("utf-8", "replace").strip()
        if not errors:
            return ModelError(
                f"vmaf-failed-silently: {self._program} could not measure VMAF (it gave no "
                "reason): leave vmaf out of --metrics."
            )
        return ModelError(
            f"vmaf-failed: {self._program} could not measure VMAF ({errors.splitlines()[-1]}): "
            "leave vmaf out of --metrics."
        )


def _ffmpeg() -> str:
    """Return the path of the FFmpeg program.

    Raises:
        ModelError: there is none.
    """
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
