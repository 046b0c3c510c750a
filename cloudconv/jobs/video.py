"""Define what the plans and results of all commands that write a video share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from cloudconv.events import Warned
from cloudconv.jobs.naming import check_outputs
from cloudconv.media.encoding import EncodingPlan
from cloudconv.media.info import MediaInfo
from cloudconv.media.input import is_stdout
from cloudconv.media.output import check_output, check_rate, written_by
from cloudconv.media.probe import probe
from cloudconv.render.device import precision_name
from cloudconv.settings.values import exact


@dataclass(frozen=True)
class VideoPlan:
    """Hold the decisions of each command before it writes a video.

    The clock of ``encoding``, and the times of what is carried, follow from the first frame.
    """

    settings: Any
    info: MediaInfo
    output: Path
    device: torch.device
    dtype: torch.dtype
    encoding: EncodingPlan

    @property
    def common(self) -> dict[str, Any]:
        """Return the fields of all results that are decided."""
        timing = self.info.timing
        return {
            "input": str(self.settings.input),
            "output": str(self.output),
            "device": str(self.device),
            "precision": precision_name(self.dtype),
            "encoder": self.encoding.choice.encoder,
            "source_fps": None if timing.rate is None else str(timing.rate),
            "source_timing": timing.in_words,
        }


def probed(settings: Any, *, live: bool = False) -> MediaInfo:
    """Probe the input of a command; ``live``: standard input may be read as it arrives."""
    return probe(
        *(settings.input, exact(settings.input_fps)),
        live=live,
        deinterlace=settings.deinterlace,
        stream=settings.stream,
    )


def check_target(
    settings: Any,
    output: Path,
    rate: Fraction | None,
    fastest: Fraction | None,
    inputs: Sequence[Path],
) -> None:
    """Raise OutputError if the output cannot be written, or replaces a file that is read."""
    check_output(output, overwrite=settings.overwrite, inputs=inputs[:1])
    check_outputs(settings, written_by(output), inputs)
    check_rate(output, rate, fastest)


def size_of(output: Path, duration: Fraction | float) -> dict[str, Any]:
    """Return the fields ``output_bytes`` and ``bits_per_second`` of a finished output."""
    size = None
    if not is_stdout(output):
        with suppress(OSError):  # the output may be moved at once
            size = sum(file.stat().st_size for file in written_by(output))
    rate = None if size is None or duration <= 0 else round(8 * size / duration)
    return {"output_bytes": size, "bits_per_second": rate}


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """The result of a run that wrote a video; the fields are keys of the command's JSON.

    Rates are exact rationals as text, such as ``30000/1001``, and None for a variable rate.
    ``source_timing`` is the source's rate in words, which name a single gap.
    ``output_bytes`` and ``bits_per_second`` (with sound) are None for standard output.
    """

    input: str
    output: str
    device: str
    precision: str
    source_frames: int
    new_frames: int
    output_frames: int
    source_fps: str | None
    source_timing: str
    output_fps: str | None
    duration: float
    encoder: str
    output_bytes: int | None
    bits_per_second: int | None
    wall_seconds: float
    frames_per_second: float
    warnings: list[Warned]
