"""VMAF, Netflix's estimate of seen quality (Li et al. 2016), by an FFmpeg program beside PyAV.

PyAV's own FFmpeg lacks ``libvmaf``; the wheel of imageio-ffmpeg carries a program that has it, its
models built in.
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

from ..errors import ModelError
from .filters import Luma
from .frame import Frame

_LOG, _ERRORS = "vmaf.json", "errors.txt"


class VmafMeter:
    """VMAF by its default model, which looks at luma. It looks at motion too, so it must see every
    frame of the output in order.

    Raises:
        ModelError: there is no FFmpeg program.
    """

    def __init__(self, rate: Fraction) -> None:
        self._program = _ffmpeg()
        self._rate = rate
        self._luma: Luma | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def push(self, truth: Frame, test: Frame) -> None:
        """Take in the next frame.

        Raises:
            ModelError: the program fails.
            ValueError: the two differ in time, size or pixel format, or from those before.
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
            # The program wants colours, and its model does not look at them.
            pipe.write(b"\x80" * (2 * len(both)))
        except OSError as error:
            raise ModelError(self._failure()) from error

    def finish(self) -> list[float]:
        """The score of every frame, 0 to 100. The program tells them only when it ends.

        Raises:
            ModelError: the program fails.
        """
        if self._process is None:
            return []
        assert self._folder is not None
        self._pipe().close()
        log = Path(self._folder.name) / _LOG
        if self._process.wait() or not log.exists():
            raise ModelError(self._failure())
        frames = json.loads(log.read_text("utf-8"))["frames"]
        self._folder.cleanup()
        self._luma = self._process = self._folder = None
        return [float(frame["metrics"]["vmaf"]) for frame in frames]

    def _start(self, width: int, height: int) -> None:
        # Both pictures come through one pipe, one above the other; the filter's first input is the
        # one that is judged.
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
        # Whoever is interrupted leaves no program behind.
        finalize(self, _stop, self._process, self._folder)

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    def _failure(self) -> str:
        assert self._folder is not None
        said = (Path(self._folder.name) / _ERRORS).read_text("utf-8", "replace").strip()
        reason = said.splitlines()[-1] if said else "it told no reason"
        return f"VMAF could not be measured by {self._program}: {reason}."


def _ffmpeg() -> str:
    """The program's path.

    Raises:
        ModelError: there is none.
    """
    try:
        return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            "VMAF needs an FFmpeg with libvmaf: install it with \"pip install 'cloudconv[vmaf]'\"."
        ) from error


def _stop(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    if process.stdin is not None:
        # What was not written yet is not wanted any more.
        with suppress(OSError):
            process.stdin.close()
    process.wait()
    folder.cleanup()
