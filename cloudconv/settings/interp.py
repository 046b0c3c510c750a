"""Declare the options of an interpolation: of a video, of many, of pictures in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cloudconv.errors import SettingsError
from cloudconv.messages import flag
from cloudconv.settings import groups, values
from cloudconv.settings.framelist import parse_frames
from cloudconv.settings.groups import (
    DEFAULT_MODEL,
    of_device,
    of_frames,
    of_run,
    on_machine,
)
from cloudconv.settings.numbers import parse_factor, parse_rate, parse_speed
from cloudconv.settings.option import declared, option
from cloudconv.settings.values import File, Rational
from cloudconv.timemap import Point

_factor = partial(option, parse=parse_factor, above=1, most=1000)
_size = partial(on_machine, metavar="N", least=1)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Scheduling(groups.Rendering, groups.Cuts, groups.Machine):
    """The interpolator and the choice of new frames, for files and pictures in memory."""

    refill: bool = of_frames(
        "Put new frames in the place of repeated source frames, such as animation on twos.",
        default=False,
    )
    loop: bool = of_frames(
        "Make new frames between the last and the first frame too.", default=False
    )
    batch: int | Literal["auto"] = _size("Compute N new frames at once.", default="auto")
    tile: int | Literal["auto", "off"] = _size(
        "Work in tiles of N pixels, to save memory; or off.", default="auto"
    )
    model: File | None = option(
        """Use cloud-fast (0.6 times the time of cloud-best), cloud-turbo (0.5 times),
        another model from 'cloudconv models', a file that 'cloudconv train' wrote, or a
        published network's file, such as flownet.pkl.""",
        "NAME",
        shown=DEFAULT_MODEL,
    )

    models_task = "interpolate"

    @property
    def chosen_model(self) -> str:
        return str(self.model or DEFAULT_MODEL)

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return the models that the values name: names, or files of weights."""
        return (self.chosen_model,)

    def pinned(self) -> dict[str, str]:
        chosen = {"model": self.chosen_model, "scale": str(self.scale or 1.0)}
        return {**super().pinned(), **chosen}


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Interpolation(
    groups.InputPart, groups.Reading, groups.Overwrite, _Scheduling, groups.EncodeSettings
):
    """The options that one video and many share."""

    factor: Rational | None = option(
        """Make N times the frames; a whole N keeps every source frame. With --replace or
        --shutter alone, N is 1.""",
        "N",
        parse=parse_factor,
        least=1,
        most=1000,
    )
    fps: Rational | None = option(
        "Make this frame rate: 60, 60000/1001 or 59.94.",
        "RATE",
        parse=parse_rate,
        above=0,
        most=10_000,
    )
    slowmo: Rational | None = _factor(
        "Play N times longer at the same frame rate, or at --fps; for sound see --audio.",
        "N",
    )
    speed: str | Sequence[Point] | None = option(
        """Change the speed along points TIME=SPEED, such as 0=1,4=1,4=0.25,6=1, evenly from
        point to point; at the same frame rate, or at --fps; for sound see --audio.""",
        "POINTS",
        parse=parse_speed,
    )
    replace: str | int | Sequence[Any] | None = of_frames(
        """Make these source frames again: numbers from 0, times with a colon or a unit, and
        ranges, such as 100-104,0:12.48.""",
        "FRAMES",
        parse=parse_frames,
    )
    shutter: float = of_frames(
        """Blur motion by a shutter that is open for N of 360 degrees of each frame's
        duration.""",
        "N",
        default=0.0,
        least=0,
        most=360,
    )
    many_frames: bool = of_frames(
        """Fill long gaps of the source, also with over 100,000 frames and ten times the
        number that its frames make at their usual rate.""",
        pinned=False,
        default=False,
    )
    audio: Literal["drop", "stretch", "copy"] | None = of_frames(
        """In slow motion (--slowmo, or --speed up to 1), drop the sound or stretch the
        sound at its own pitch. At normal speed, copy is an error if the sound would have to
        be encoded again.""",
        "HOW",
        shown="drop in slow motion, else kept",
    )
    device: str = of_device(
        "Compute on this device: auto, cpu, cuda, cuda:N, mps, or cuda:all for every GPU.",
        default="auto",
        parse=values.device_or_all,
    )
    workers: str = on_machine(
        """Compute in this process (local), in N processes (local:N), or on a Ray cluster
        (ray, ray:ADDRESS). All but local need the extra cluster.""",
        "WHO",
        default="local",
        parse=values.workers,
        pinned=False,
    )
    nvdec: bool = on_machine(
        """Decode h264, hevc, vp9 and av1 on an NVIDIA GPU; the CPU decodes what the GPU
        cannot.""",
        pinned=False,
        default=False,
    )
    resume: bool = of_run(
        "Resume the work of an interrupted run, or delete that work and start again.",
        default=True,
        off="--no-resume",
    )

    def _check(self) -> None:
        chosen = [
            name
            for name in ("factor", "fps", "slowmo", "speed")
            if getattr(self, name) is not None
        ]
        if not chosen and (self.replace is not None or self.shutter):
            self._set("factor", Fraction(1))
            chosen = ["factor"]
        if len(chosen) != 1 and chosen not in (["fps", "slowmo"], ["fps", "speed"]):
            raise SettingsError(
                "factor-fps-or-slowmo: Give exactly one of --factor, --fps, --slowmo and "
                "--speed, or --fps beside --slowmo or --speed; got "
                f"{', '.join(map(flag, chosen)) or 'none of them'}."
            )
        makes_new = self.replace is not None or self.refill or self.shutter
        if self.factor == 1 and not makes_new:
            raise SettingsError(
                "factor-of-1: A --factor of 1 makes no new frame, except with --replace, "
                "--refill and --shutter: give a larger factor."
            )
        speeds = [speed for _, speed in parse_speed(self.speed or [(0, 1)])]
        if self.audio == "stretch" and max(speeds) > 1:
            raise SettingsError(
                "stretch-above-1: --audio=stretch only lengthens sound, and --speed has a "
                "point above 1: leave one of them out."
            )
        is_normal = self.slowmo is None and self.speed is None
        if self.audio is not None and is_normal != (self.audio == "copy"):
            other = "normal speed" if self.audio == "copy" else "slow motion"
            raise SettingsError(
                f"audio-of-other-speed: --audio={self.audio} is for {other}: leave it out, "
                "or change --slowmo or --speed. In slow motion audio is dropped or "
                "stretched, never copied."
            )
        if self.device == "cuda:all" and self.workers.startswith("local:"):
            raise SettingsError(
                "workers-with-all-gpus: --device=cuda:all already means one worker for "
                "each GPU: leave --workers out."
            )
        if self.device.startswith("cuda:") and self.workers.startswith("ray"):
            raise SettingsError(
                "device-of-cluster: A cluster gives each worker its own GPU: give "
                f"--device=cuda, not {self.device}."
            )
        if self.nvdec and self.deinterlace:
            raise SettingsError(
                "deinterlace-with-nvdec: --deinterlace works on frames that the CPU "
                "decodes: leave --nvdec out."
            )


@dataclass(frozen=True, kw_only=True)
class InterpSettings(groups.Output, Interpolation, groups.PlacesReport):
    """The options of :func:`cloudconv.interpolate`; ``end`` is exclusive."""


@dataclass(frozen=True, kw_only=True)
class InterpManySettings(Interpolation):
    """The options of :func:`cloudconv.interpolate_many`: all outputs go to ``out_dir``."""

    inputs: Sequence[File] = field(
        kw_only=False,
        metadata=declared(
            "Read videos, and folders of them.", parse=values.files, hidden=True
        ),
    )
    out_dir: File = field(
        metadata=declared(
            """Take any number of inputs and write their outputs to this folder. An input is
            skipped if its output was made of it, as it is now, with the same options.""",
            "DIR",
            pinned=False,
        )
    )
    recursive: bool = option(
        "Read all subfolders too, and keep them in --out-dir.", pinned=False, default=False
    )

    def of(self, name: File, subfolder: Path) -> InterpSettings:
        """Return the settings for one input.

        The output goes to a subfolder of ``out_dir``.
        """
        shared = {field.name: getattr(self, field.name) for field in fields(Interpolation)}
        return InterpSettings(name, f"{Path(self.out_dir) / subfolder}/", **shared)


@dataclass(frozen=True, kw_only=True)
class FramesSettings(_Scheduling):
    """The options of :func:`cloudconv.interpolate_frames`; ``factor`` raises the count."""

    factor: Rational = field(
        default=2,
        kw_only=False,
        metadata=_factor("Make N times the pictures.", "N").metadata,
    )
