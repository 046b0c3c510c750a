"""What can be asked of an interpolation: of one video, of many, and of pictures in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from cloudconv.settings import values
from cloudconv.settings.groups import (
    FRAMES,
    MACHINE,
    RUN,
    Adapting,
    Cuts,
    Encoding,
    InputRate,
    InterpolatorModel,
    Machine,
    Output,
    Overwrite,
    Part,
    SavedModel,
    Workers,
)
from cloudconv.settings.option import Option, refused
from cloudconv.settings.values import File, Rational, exact
from cloudconv.timeline import parse_factor, parse_rate

MOST_FPS, MOST_FACTOR = 10_000, 1000


@dataclass(frozen=True, kw_only=True)
class _Scheduling(InterpolatorModel, Cuts, Machine):
    """Which frames are new, for files and for pictures in memory."""

    duplicates: Annotated[
        Literal["keep", "refill"],
        Option(
            "Repeated source frames: keep them, or (refill) put new ones in their place.",
            group=FRAMES,
            metavar="HOW",
        ),
    ] = "keep"
    loop: Annotated[bool, Option("Also fill between the last and first frame.", group=FRAMES)] = (
        False
    )


def _check_factor(name: str, value: Rational | None, least: int, most: int) -> None:
    factor = exact(value)
    if factor is not None and not least < factor <= most:
        raise refused(f"`{name}` must be above {least} and at most {most}, got {float(factor):g}.")


@dataclass(frozen=True, kw_only=True)
class Interpolation(Part, InputRate, Workers, Adapting, Overwrite, _Scheduling, Encoding):
    """What one video and many have in common."""

    factor: Annotated[
        Rational | None,
        Option(
            "N times the frames; a whole N keeps every source frame.",
            flags=("--factor", "--multi"),
            metavar="N",
            parse=parse_factor,
        ),
    ] = None
    fps: Annotated[
        Rational | None,
        Option("This frame rate: 60, 60000/1001 or 59.94.", metavar="RATE", parse=parse_rate),
    ] = None
    slowmo: Annotated[
        Rational | None,
        Option(
            "N times longer at the same frame rate, or at --fps; audio: see --audio.",
            metavar="N",
            parse=parse_factor,
        ),
    ] = None
    audio: Annotated[
        Literal["drop", "stretch", "copy"] | None,
        Option(
            "With --slowmo: drop the audio, or stretch it at its own pitch. Else: copy fails "
            "where it would have to be encoded again.",
            group=FRAMES,
            metavar="HOW",
            default_text="drop in slow motion, else kept",
        ),
    ] = None
    deinterlace: Annotated[
        bool, Option("Make whole frames from interlaced fields first (bwdif).", group=FRAMES)
    ] = False
    hwaccel: Annotated[
        Literal["none", "nvdec"],
        Option(
            "nvdec: let an NVIDIA GPU decode h264, hevc and vp9; what it can't, the CPU decodes.",
            group=MACHINE,
            metavar="NAME",
            pinned=False,
        ),
    ] = "none"
    resume: Annotated[
        bool,
        Option(
            "Carry on with what an interrupted run has finished, or throw it away.",
            flags=("--resume/--no-resume",),
            group=RUN,
            pinned=False,
        ),
    ] = True

    def _check(self) -> None:
        self._resolve_model()
        self._check_part()
        self._check_workers()
        chosen = [name for name in ("factor", "fps", "slowmo") if getattr(self, name) is not None]
        if len(chosen) != 1 and chosen != ["fps", "slowmo"]:
            given = " and ".join(f"`{name}`" for name in chosen) or "none of them"
            raise refused(
                "Give exactly one of `factor`, `fps` and `slowmo`, or `slowmo` with `fps`; "
                f"got {given}."
            )
        _check_factor("factor", self.factor, 1, MOST_FACTOR)
        _check_factor("slowmo", self.slowmo, 1, MOST_FACTOR)
        _check_factor("fps", self.fps, 0, MOST_FPS)
        if self.audio in ("drop", "stretch") and self.slowmo is None:
            raise refused(f"`audio` {self.audio} is for slow motion: add `slowmo`.")
        if self.audio == "copy" and self.slowmo is not None:
            raise refused("In slow motion audio is dropped or stretched, never copied.")
        if self.hwaccel == "nvdec" and self.deinterlace:
            raise refused("`deinterlace` works on what the CPU decodes: leave `hwaccel` out.")


@dataclass(frozen=True, kw_only=True)
class InterpSettings(Output, Interpolation, SavedModel):
    """What to do with one video.

    Give exactly one of ``factor``, ``fps`` and ``slowmo``, or ``slowmo`` with ``fps``. Times are
    seconds from the first frame; ``end`` is exclusive.

    Raises :class:`~cloudconv.errors.SettingsError` on values that cannot be.
    """

    preview: Annotated[
        File | None,
        Option(
            "A small JPEG of the newest frame, written anew every second.",
            group=RUN,
            metavar="FILE",
            parse=values.jpeg_file,
            pinned=False,
        ),
    ] = None

    @property
    def preview_file(self) -> Path | None:
        """The picture of the newest frame; in a folder, its name is made from the input's."""
        if self.preview is None:
            return None
        return values.in_folder(self.preview, f"{Path(self.input).stem}_preview.jpg")

    def _check(self) -> None:
        Interpolation._check(self)
        self._check_save_model()
        if self.preview is not None and (self.workers != "local" or self.device == "cuda:all"):
            raise refused("`preview` shows what this process makes: leave `workers` out.")


@dataclass(frozen=True, kw_only=True)
class InterpManySettings(Interpolation):
    """What to do with many videos, each into the folder ``out_dir``."""

    inputs: Annotated[
        Sequence[File],
        Option(
            "Videos, and folders of them.",
            metavar="IN",
            parse=values.files,
            pinned=False,
            on_command_line=False,
        ),
    ] = field(kw_only=False)
    out_dir: Annotated[
        File,
        Option(
            "Take any number of inputs and write their outputs here. What an earlier run has "
            "finished with the same settings is passed over.",
            metavar="DIR",
            pinned=False,
        ),
    ]

    def each(self) -> list[InterpSettings]:
        """Return the settings for every input, in order; each goes into the folder."""
        shared = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("inputs", "out_dir")
        }
        folder = f"{Path(self.out_dir)}/"
        return [InterpSettings(name, folder, **shared) for name in self.inputs]


@dataclass(frozen=True, kw_only=True)
class FramesSettings(_Scheduling):
    """What to do with pictures in memory: ``factor`` times as many of them."""

    factor: Annotated[
        Rational,
        Option("N times the pictures.", metavar="N", parse=parse_factor),
    ] = field(default=2, kw_only=False)

    def _check(self) -> None:
        self._resolve_model()
        _check_factor("factor", self.factor, 1, MOST_FACTOR)
