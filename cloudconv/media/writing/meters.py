"""Measure VMAF by FFmpeg, for ``compare``."""

import json
import shutil
import subprocess
import tempfile
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import finalize

import av

from cloudconv.errors import ModelError
from cloudconv.files import storing_temporarily
from cloudconv.media.frames.filters import Chain
from cloudconv.media.frames.frame import Frame

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
        with storing_temporarily():
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
        with storing_temporarily():
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
        with storing_temporarily():
            for file in self._files:
                file.mux(file.streams.video[0].encode(None))
                file.close()
        # The model ignores chroma, so both chroma planes are copies of the luma.
        plane = "mergeplanes=format=yuv444p:map1p=0:map2p=0"
        graph = f"[0]{plane}[a];[1]{plane}[b];[a][b]libvmaf=log_fmt=json:log_path={_LOG}"
        inputs = [*chain.from_iterable(("-i", name) for name in _COMPARED)]
        command = [self._program, "-v", "error", "-nostdin", *inputs, "-lavfi", graph]
        done = subprocess.run(
            [*command, "-f", "null", "-"], cwd=self._folder, capture_output=True
        )
        if done.returncode or not (self._folder / _LOG).exists():
            errors = done.stderr.decode("utf-8", "replace").splitlines()
            raise ModelError(
                f"vmaf-failed: {self._program} could not measure VMAF "
                f"({errors[-1] if errors else 'it gave no reason'}): leave vmaf out of "
                "--metrics."
            )
        frames = json.loads((self._folder / _LOG).read_text("utf-8"))["frames"]
        return [float(frame["metrics"]["vmaf"]) for frame in frames]


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
    return (
        ("scale", "sws_dither=none"),
        ("format", like.pix_fmt.removesuffix("le").rstrip("0123456789")),
    )
