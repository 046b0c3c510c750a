"""Declare the options of the commands that continue a video: extrapolate and dream."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from cloudconv.errors import SettingsError
from cloudconv.messages import flag, listed
from cloudconv.settings import values
from cloudconv.settings.groups import (
    Cuts,
    EncodeSettings,
    Output,
    Overwrite,
    PlacesReport,
    Reading,
    of_frames,
)
from cloudconv.settings.numbers import parse_time
from cloudconv.settings.option import option
from cloudconv.settings.values import File, Rational, exact

DEFAULT_PREDICTOR = "voxelflow"
AUTO_PREDICTOR = "auto"  # the choice of a predictor by a trial on the last known frames

Mode = Literal["auto", "collage", "texture", "flow", "rollout"]
"""The modes of dreaming; ``auto`` chooses one for the material."""

Audio = Literal["continue", "copy", "drop"]
"""The ways to treat the sound of a film that goes on."""

AUTO: Mode = "auto"
MOST_HELD = 15
"""The largest number of known frames that a trial forecasts, and of new frames by
default."""
MOST_FORECAST = 10_000  # the largest number of new frames of a forecast
_USUAL_DREAM = Fraction(10)  # seconds

_OF_A_DREAM = {
    *("output", "frames", "seconds", "only_new", "loop", "audio", "leave", "report"),
    *("encoder", "crf", "preset", "pix_fmt", "encoder_option"),
}
"""The options of a dream that a preview does not have."""

_FRAMES = "Make N new frames."
_SECONDS = "Make new frames for S seconds, or for 1m30s."


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ExtendSettings(Output, Overwrite, Reading, Cuts, EncodeSettings):
    """The length and the start of the new frames.

    ``frames`` and ``seconds`` exclude each other.
    """

    frames: int | None = option(_FRAMES, "N", least=1)
    seconds: Rational | None = option(_SECONDS, "S", parse=parse_time, above=0)
    at: Rational | None = option(
        """Continue from this time instead of the end, by the film before this time only:
        seconds, 1m30s or h:mm:ss.""",
        "T",
        parse=parse_time,
        above=0,
    )
    only_new: bool = option("Leave the source's frames out.", default=False)

    def _check(self) -> None:
        if self.frames is not None and self.seconds is not None:
            raise SettingsError(
                "frames-and-seconds: --frames and --seconds both give the length: give one "
                "of them."
            )

    models_task = "predict"

    @property
    def length(self) -> Fraction | None:
        """Return the length of the new frames in seconds; None if no length is given."""
        return exact(self.seconds)

    @property
    def sound(self) -> Audio | None:
        """Return how the sound is treated; None: until the film ends, encoded if needed."""
        return None


@dataclass(frozen=True, kw_only=True)
class ExtrapolateSettings(ExtendSettings):
    """The options of :func:`cloudconv.extrapolate`."""

    frames: int | None = option(
        _FRAMES,
        "N",
        least=1,
        most=MOST_FORECAST,
        shown=f"as long as the forecast holds, at most {MOST_HELD}",
    )
    model: File = option(
        """Use a predictor from 'cloudconv models', or a file that 'cloudconv train' wrote;
        auto takes the one that looks best in a trial.""",
        "NAME",
        default=AUTO_PREDICTOR,
    )

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return the models that the values name: names, or files of weights."""
        return (str(self.model),)


@dataclass(frozen=True, kw_only=True)
class DreamSettings(ExtendSettings, PlacesReport):
    """The options of :func:`cloudconv.dream`. ``wind`` is (dx, dy) in pixels a frame."""

    seconds: Rational | None = option(
        _SECONDS, "S", parse=parse_time, above=0, shown=str(_USUAL_DREAM)
    )
    mode: Mode = option(
        "Continue by collage, texture, flow or rollout; auto chooses by the clip.",
        "NAME",
        default="auto",
    )
    preview: File | None = option(
        """Write the modes side by side, small and for 8 seconds, as a picture (.jpg, .png)
        or a video (.mp4), and no dream; the rollout only with --mode rollout.""",
        "FILE",
        parse=values.preview,
    )
    seed: int = option(
        "Seed the random choices; the same seed repeats the dream.",
        "N",
        default=0,
        least=0,
        most=2**63 - 1,
    )
    loop: bool = option("Let the last frame lead into the first.", default=False)
    audio: Audio = of_frames(
        """Let the sound of the film go on with the new frames (continue), copy the sound,
        which then ends with the film, or drop the sound.""",
        "HOW",
        default="continue",
    )
    leave: Literal["auto", "end"] = of_frames(
        """Begin at the end of the film (end), or, if the first jump of a texture is seen
        there, up to a second earlier, where a jump is seen less (auto).""",
        "HOW",
        default="auto",
    )
    wind: str | tuple[float, float] | None = of_frames(
        "Move the picture by DX,DY pixels a frame, in the mode flow; for stills.",
        "DX,DY",
        parse=values.wind,
    )
    model: File | None = of_frames(
        "Use a predictor from 'cloudconv models', for the mode rollout.", "NAME"
    )

    def _check(self) -> None:
        unused = [
            flag(name)
            for name, value in self.passed.items()
            if name in _OF_A_DREAM and value
        ]
        if self.preview is not None and unused:
            raise SettingsError(
                "preview-and-dream: With --preview no dream is written, so "
                f"{listed(unused, 'and')} would do nothing: leave out the one or the other."
            )

    @property
    def length(self) -> Fraction | None:
        """Return the length of the new frames in seconds; None if a number is given."""
        is_open = self.frames is None and self.seconds is None
        return _USUAL_DREAM if is_open else super().length

    @property
    def names_output(self) -> bool:
        """Return whether the output needs a name; a preview has a name of its own."""
        return self.preview is None

    @property
    def leaves_early(self) -> bool:
        """Return whether the dream may begin before the end of the film."""
        stays = self.only_new or self.at is not None or self.loop or self.audio == "copy"
        return self.leave == "auto" and not stays

    @property
    def given(self) -> tuple[str, ...]:
        """Return the names of the given options that belong to one mode."""
        values = {"wind": self.wind, "model": self.model}
        return tuple(name for name, value in values.items() if value)

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return the models that the values name: names, or files of weights."""
        return () if self.model is None else (str(self.model),)

    @property
    def predictor(self) -> str:
        """Return the predictor for the mode ``rollout``."""
        return str(self.model or DEFAULT_PREDICTOR)

    @property
    def sound(self) -> Audio:
        """Return how the sound is treated."""
        return self.audio

    @property
    def direction(self) -> tuple[float, float] | None:
        """Return the given motion, (dx, dy) in pixels a frame, or None."""
        return None if self.wind is None else values.wind(self.wind)
