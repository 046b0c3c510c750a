"""What can be asked of the commands that go on where a video ends: ``extrapolate``, ``dream``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cloudconv.settings import values
from cloudconv.settings.groups import FRAMES, RUN, Cuts, Encoding, InputRate, Output, Overwrite
from cloudconv.settings.option import Option, refused
from cloudconv.settings.values import File, Rational, exact
from cloudconv.timeline import parse_time

MOST_FRAMES = 1_000_000_000
"""Frames that may be asked for: more than a year at 30 fps."""

DEFAULT_PREDICTOR = "voxelflow"
"""The predictor that is used where none is named."""

AUTO = "auto"
"""The mode that looks at the material to choose one."""


@dataclass(frozen=True, kw_only=True)
class ExtendSettings(Output, Overwrite, InputRate, Cuts, Encoding):
    """How long, and from where on. Give exactly one of ``frames`` and ``seconds``."""

    frames: Annotated[
        int | None,
        Option("Make so many new frames.", metavar="N", least=1, most=MOST_FRAMES),
    ] = None
    seconds: Annotated[
        Rational | None,
        Option("Go on for so long.", metavar="S", parse=parse_time),
    ] = None
    at: Annotated[
        Rational | None,
        Option(
            "Go on from here instead of the end: seconds or h:mm:ss.",
            metavar="T",
            parse=parse_time,
        ),
    ] = None
    only_new: Annotated[bool, Option("Leave the source's frames out.")] = False

    def _check(self) -> None:
        if (self.frames is None) == (self.seconds is None):
            given = "both" if self.frames is not None else "neither"
            raise refused(f"Give exactly one of `frames` and `seconds`; got {given}.")
        for name in ("seconds", "at"):
            value = exact(getattr(self, name))
            if value is not None and value <= 0:
                raise refused(f"`{name}` must be above 0, got {float(value):g}.")


@dataclass(frozen=True, kw_only=True)
class ExtrapolateSettings(ExtendSettings):
    """What to forecast.

    Raises :class:`~cloudconv.errors.SettingsError` on values that cannot be.
    """

    model: Annotated[
        File,
        Option(
            "A predictor from 'cloudconv models', or a file that 'cloudconv train' wrote.",
            metavar="NAME",
            complete="predict",
        ),
    ] = DEFAULT_PREDICTOR

    @property
    def chosen_model(self) -> str:
        """The name or file of the model that is used."""
        return str(self.model)


@dataclass(frozen=True, kw_only=True)
class DreamSettings(ExtendSettings):
    """What to dream.

    ``wind``: where things move, (dx, dy) in pixels a frame. ``model``: a predictor, for a mode that
    takes one. ``audio``: whether sound ends where the source does, or begins again.

    Raises :class:`~cloudconv.errors.SettingsError` on values that cannot be.
    """

    mode: Annotated[
        str,
        Option(
            "How: collage, texture, flow or rollout; auto chooses by the material.",
            metavar="NAME",
            complete="modes",
        ),
    ] = AUTO
    seed: Annotated[
        int, Option("Another seed, another dream.", metavar="N", least=0, most=2**63 - 1)
    ] = 0
    loop: Annotated[bool, Option("Let the last frame lead into the first.")] = False
    wind: Annotated[
        str | tuple[float, float] | None,
        Option(
            "Where things move, in pixels a frame: for stills, with the mode flow.",
            group=FRAMES,
            metavar="DX,DY",
            parse=values.wind,
        ),
    ] = None
    model: Annotated[
        File | None,
        Option(
            "A predictor from 'cloudconv models', for the mode rollout.",
            group=FRAMES,
            metavar="NAME",
            complete="predict",
        ),
    ] = None
    texture_keep: Annotated[
        bool, Option("Hold a rollout to the source's detail and colours.", group=FRAMES)
    ] = False
    audio: Annotated[
        Literal["end", "loop"],
        Option(
            "Where the source ends, end its sound, or (loop) begin it again.",
            group=FRAMES,
            metavar="HOW",
        ),
    ] = "end"
    report: Annotated[
        File | None,
        Option(
            "A folder for a page with the video, its frames, and charts of the vitals.",
            group=RUN,
            metavar="DIR",
        ),
    ] = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the modes' own options that were given."""
        known = {"wind": self.wind, "model": self.model, "texture_keep": self.texture_keep}
        return tuple(name for name, value in known.items() if value)

    @property
    def predictor(self) -> str:
        """The predictor of a mode that takes one."""
        return str(self.model or DEFAULT_PREDICTOR)

    @property
    def direction(self) -> tuple[float, float] | None:
        """Where things move, (dx, dy) in pixels a frame, if that was given."""
        return None if self.wind is None else values.wind(self.wind)
