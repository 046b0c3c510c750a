"""What can be asked of ``interp``, how far it has come, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from cloudconv.errors import OutputError, SettingsError
from cloudconv.jobs.interp.adapt import Adapted, check_settings
from cloudconv.jobs.outcome import Outcome
from cloudconv.jobs.outcome import Progress as CommonProgress
from cloudconv.media.write.encoder_options import EncodeSettings
from cloudconv.models import registry
from cloudconv.schedule.frames import SceneCut
from cloudconv.workers.pool import parse_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpSettings:
    """What to do; exactly one of ``factor``, ``fps`` and ``slowmo``, or ``slowmo`` at ``fps``.

    Times are seconds from the first frame; ``end`` is exclusive. ``out_dir`` is where an output
    without a name goes. ``input_fps``: the rate of pictures that keep no times (default 25).
    ``adapt``: minutes for fine-tuning the model on this video first, which is used if it gains;
    ``save_model``: where the weights are kept.

    Raises :class:`SettingsError` on values out of range.
    """

    input: Path | str
    output: Path | str | None = None
    out_dir: Path | str | None = None
    factor: Fraction | None = None
    fps: Fraction | None = None
    slowmo: Fraction | None = None
    input_fps: Fraction | None = None
    model: str = registry.DEFAULT
    scale: float = 1.0
    fallback: Literal["blend", "off"] = "blend"
    scene_cut: SceneCut = "auto"
    duplicates: Literal["keep", "refill"] = "keep"
    batch: int | Literal["auto"] = "auto"
    tile: int | Literal["auto", "off"] = "auto"
    loop: bool = False
    deinterlace: bool = False
    start: Fraction | None = None
    end: Fraction | None = None
    audio: Literal["drop", "stretch", "copy"] = "drop"
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    overwrite: bool = False
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    preview: Path | str | None = None
    resume: bool = True
    workers: str = "local"
    hwaccel: Literal["none", "nvdec"] = "none"
    adapt: float | None = None
    save_model: Path | str | None = None

    def __post_init__(self) -> None:
        check_settings(self.adapt, self.save_model)
        chosen = [n for n in ("factor", "fps", "slowmo") if getattr(self, n) is not None]
        if len(chosen) != 1 and chosen != ["fps", "slowmo"]:
            given = " and ".join(f"`{name}`" for name in chosen) or "none of them"
            raise SettingsError(
                f"give exactly one of `factor`, `fps` and `slowmo`, or `slowmo` with `fps`; "
                f"got {given}"
            )
        for name in chosen:
            value: Fraction = getattr(self, name)
            least, most = (0, 10_000) if name == "fps" else (1, 1000)
            if not least < value <= most:
                raise SettingsError(
                    f"`{name}` must be above {least} and at most {most}, got {float(value):g}"
                )
        self._check_ways()
        if self.start is not None and self.start < 0:
            raise SettingsError(f"`start` must not be negative, got {float(self.start):g}")
        if self.end is not None and self.end <= (self.start or 0):
            raise SettingsError(f"`end` ({float(self.end):g} s) must come after `start`")
        if self.audio == "stretch" and self.slowmo is None:
            raise SettingsError("audio can only be stretched in slow motion: add `slowmo`")
        if self.audio == "copy" and self.slowmo is not None:
            raise SettingsError("in slow motion audio is dropped or stretched, never copied")

    def _check_ways(self) -> None:
        """How the frames are looked at and made."""
        if not 0.25 <= self.scale <= 4:
            raise SettingsError(f"`scale` must be between 0.25 and 4, got {self.scale:g}")
        if not isinstance(self.scene_cut, str) and not 0 <= self.scene_cut <= 1:
            raise SettingsError(
                f"`scene_cut` must be auto, off or between 0 and 1, got {self.scene_cut:g}"
            )
        if self.hwaccel not in ("none", "nvdec"):
            raise SettingsError(f"`hwaccel` must be none or nvdec, got {self.hwaccel}")
        if self.hwaccel == "nvdec" and self.deinterlace:
            raise SettingsError("`deinterlace` works on what the CPU decodes: leave `hwaccel` out")
        if parse_workers(self.workers, self.device).kind != "inline" and self.preview is not None:
            raise SettingsError("`preview` shows what this process makes: leave `workers` out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(CommonProgress):
    """How far a run has come; ``frames_found`` of its frames were made by an earlier run.

    ``adapting``: the seconds that adapting has taken, and those that it is given; None afterwards.
    """

    frames_found: int
    new_frames: int
    cuts: int
    seconds: float
    adapting: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpOutcome(Outcome):
    """What a plan and a result both say.

    ``cuts``: the time of each new scene's first frame, in seconds from the input's first frame.
    """

    model: str
    held_frames: int
    cuts: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpPlan(InterpOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` were measured on a few frames.

    They are None where the run would end before its first frame. ``memory_bytes``: of the whole
    process in the host's memory; 0 where the system does not tell.
    ``disk_bytes``: about what it takes on the disk, by the input's size; until its segments are
    joined, a video is there twice. ``refusals``: why the run would refuse to write the output.
    ``adapt``: minutes that the model would be adapted for first, None for not at all.
    """

    pix_fmt: str
    memory_bytes: int | None
    disk_bytes: int
    seconds: float | None
    refusals: list[OutputError]
    adapt: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpResult(InterpOutcome):
    """What was done. ``frames_per_second`` leaves out the frames that an earlier run had made."""

    wall_seconds: float
    frames_per_second: float
    resumed: bool
    adapted: Adapted | None = None
