"""Define what plans and results share; name the output, and check that it is no input."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cloudconv import checkpoints, files, weights
from cloudconv.errors import InputError, ModelError
from cloudconv.events import Warned
from cloudconv.media.carried.tracks import PRIMING
from cloudconv.media.containers.input import Copy, is_stdout
from cloudconv.media.frames.clock import Part
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading import pictures as images
from cloudconv.media.reading.probe import probe
from cloudconv.media.writing.encoding import EncodingDraft, EncodingPlan
from cloudconv.media.writing.output import check_output, check_rate, written_by
from cloudconv.messages import short
from cloudconv.models import registry
from cloudconv.render.device import precision_name
from cloudconv.settings.option import Settings
from cloudconv.settings.values import exact, names_folder


@dataclass(frozen=True)
class VideoPlan(ABC):
    """The decisions of a command before it writes a video.

    The clock of the encoding, and the times of what is carried, follow from the first
    frame: :meth:`encoding`.
    """

    settings: Any
    info: MediaInfo
    output: Path
    device: torch.device
    dtype: torch.dtype
    draft: EncodingDraft

    @property
    @abstractmethod
    def probable_start(self) -> Fraction:
        """Return the time of the output's first frame by the probe, in source time."""

    @abstractmethod
    def encoding(self, first: Fraction) -> EncodingPlan:
        """Return the encoding for the time of the first frame on the source's clock."""

    @property
    @abstractmethod
    def begins_with_frame(self) -> bool:
        """Return whether the output begins with a frame, also if sound begins earlier."""

    def zero(self, first: Fraction) -> Fraction:
        """Return the source time that becomes 0 in the output.

        The result is the time of the first frame, or of earlier audio.
        """
        streams = self.info.streams
        begins = [start for kind, start in streams if kind == "audio" and start is not None]
        earliest = min([first, *begins])
        is_early = first - earliest > PRIMING and not self.begins_with_frame
        return earliest if is_early else first

    @property
    def common(self) -> dict[str, Any]:
        """Return the fields of all results that are decided."""
        timing = self.info.timing
        return {
            "input": str(self.settings.input),
            "output": str(self.output),
            "device": str(self.device),
            "precision": precision_name(self.dtype),
            "encoder": self.draft.choice.encoder,
            "source_fps": None if timing.rate is None else str(timing.rate),
            "source_timing": timing.in_words,
        }


def probed(settings: Any, part: Part = (None, None), *, live: bool = False) -> MediaInfo:
    """Probe the input of a command, as far as a ``part`` of it needs that.

    ``live``: read the input as it arrives.
    """
    return probe(
        settings.input,
        exact(settings.input_fps),
        live=live,
        deinterlace=settings.deinterlace,
        stream=settings.stream,
        part=part,
    )


def check_target(
    settings: Any,
    output: Path,
    rate: Fraction | None,
    fastest: Fraction | None,
    inputs: list[Path],
) -> None:
    """Raise OutputError if the output cannot be written, or is a file that is read."""
    check_outputs(settings, written_by(output), inputs)
    check_output(output, overwrite=settings.overwrite, inputs=inputs[:1])
    check_rate(output, rate, fastest)


def size_of(output: Path, duration: Fraction | float) -> dict[str, Any]:
    """Return the fields of a finished output that only its file shows.

    They are ``output_bytes`` and ``bits_per_second``, and ``output_frames`` of a WebP.
    """
    size = None
    fields: dict[str, Any] = {}
    if not is_stdout(output):
        with suppress(OSError):  # the output may be moved at once
            size = sum(file.stat().st_size for file in written_by(output))
            if (frames := images.stored_frames(output)) is not None:
                fields["output_frames"] = frames
    rate = None if size is None or duration <= 0 else round(8 * size / duration)
    return fields | {"output_bytes": size, "bits_per_second": rate}


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Hold what every job reports; the fields of a result are keys of its JSON."""

    device: str
    precision: str
    wall_seconds: float
    warnings: list[Warned]


@dataclass(frozen=True, kw_only=True)
class VideoResult(JobResult):
    """The result of a run that wrote a video.

    Rates are exact rationals as text, such as ``30000/1001``, and None for a variable rate.
    ``source_timing`` is the source's rate in words, which name a single gap.
    ``output_bytes`` and ``bits_per_second`` (with sound) are None for standard output.
    """

    input: str
    output: str
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
    frames_per_second: float


def output_path(output: Path | str | None, input: Path, tag: str, suffix: str) -> Path:
    """Return the output's name, by default ``<stem>_<tag><suffix>`` beside the input.

    In a given folder the name is the default one too, shortened if it is too long for a
    file.
    """
    if output is not None and not names_folder(output):
        return Path(output)
    name = f"{stem_of(input)}_{tag}{suffix}"
    return files.fitting(
        _named_after(input).with_name(name) if output is None else Path(output) / name
    )


def stem_of(input: Path) -> str:
    """Return the start of default names: the file's stem, or the pictures' folder."""
    named = _named_after(input)
    return named.name if named.is_dir() else named.stem


def _named_after(input: Path) -> Path:
    named = images.folder_of(input) or input
    return named if named.name else named.resolve()


def check_begin(info: MediaInfo, time: Fraction | None) -> None:
    """Raise InputError if a time, in seconds from the first frame, is after the end."""
    length = info.timing.end - info.timing.start
    if time is not None and info.timing.at(time) > info.timing.end:
        raise InputError(
            f"at-after-end: {info.path} lasts {short(float(length))} s, so it has no frame "
            f"at {short(float(time))} s: choose an earlier time."
        )


def check_outputs(
    settings: Settings, outputs: Iterable[Path | str | None], read: Iterable[Path]
) -> None:
    """Refuse an output that is one of the files ``read``, or the weights of a model."""
    written = [Path(path) for path in outputs if path is not None]
    files.check_apart(written, chain(_existing(read), _weights(settings)))


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if isinstance(path, Copy):
            yield Path("-")
        with suppress(InputError):  # the reader of that input raises the error again
            yield from images.files_of(path)


def _weights(settings: Settings) -> Iterator[Path]:
    for name in settings.named_models:
        file = checkpoints.file_of(name)
        if file is not None:
            yield file
            continue
        with suppress(ModelError):  # the command refuses an unknown model
            shipped = registry.spec(name).weights
            if shipped is not None:
                yield weights.weights_folder() / weights.entry(shipped).file
