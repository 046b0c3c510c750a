"""Declare groups of options that several commands share.

A field keeps the value that the caller gave. Only the class of a command has a generated
``__eq__`` and ``__repr__``, because generating both for each group takes import time.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from cloudconv.errors import SettingsError
from cloudconv.messages import short
from cloudconv.settings import values
from cloudconv.settings.numbers import parse_rate, parse_time
from cloudconv.settings.option import Settings, declared, option
from cloudconv.settings.values import File, Pairs, Rational, exact

FRAMES = "Frames"
MODEL = "Model"
ENCODING = "Encoding"
MACHINE = "Machine"
RUN = "Run"
"""Headings of the options in ``--help``."""

# Declarations of options under these headings.
of_frames = partial(option, group=FRAMES)
_of_model = partial(option, group=MODEL)
_encoding = partial(option, group=ENCODING)
on_machine = partial(option, group=MACHINE)
of_device = partial(on_machine, metavar="NAME", parse=values.device, pinned=False)
of_run = partial(option, group=RUN, pinned=False)

DEFAULT_MODEL = "cloud-best"  # the interpolator that is used by default

INPUT = "Read a video, an animation, a folder or pattern of pictures, or - for stdin."

SceneCut = Literal["auto", "off"] | float
"""``auto``, ``off``, or a threshold from 0 (cut everywhere) to 1 (never)."""

DEINTERLACE = """Make two frames of each interlaced picture, one for each field (bwdif):
25 pictures become 50 source frames."""


@dataclass(frozen=True, repr=False, eq=False)
class Input(Settings):
    """The option that names the input."""

    input: File = field(metadata=declared(INPUT, "IN", pinned=False, hidden=True))


@dataclass(frozen=True, repr=False, eq=False)
class Output(Input):
    """The options that name the input and the output."""

    output: File | None = option(
        """Write this file, or into this folder under the default name; frames/%05d.png
        writes pictures, - writes Matroska to stdout.""",
        "OUT",
        also="-o",
        shown="a name beside IN",
        pinned=False,
    )

    @property
    def names_output(self) -> bool:
        """Return whether the output needs a name."""
        return True

    def _check(self) -> None:
        # Reading standard input may take long, so a missing name is an error before the
        # reading.
        is_unnamed = self.output is None or values.names_folder(self.output)
        if str(self.input) == "-" and self.names_output and is_unnamed:
            raise SettingsError(
                "stdin-without-name: stdin has no file name from which to name the output: "
                "name the output, or an input file."
            )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Overwrite(Settings):
    """The permission to replace an existing output."""

    overwrite: bool = option(
        "Replace an output that exists.", also="-y", pinned=False, default=False
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PlacesReport(Settings):
    """The page of doubtful places."""

    report: File | None = option(
        "Write a page of the worst doubtful places.", "DIR", pinned=False
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Reading(Settings):
    """The reading of the input: the stream, the rate if it has no times, and its fields."""

    input_fps: Rational | None = of_frames(
        "Read pictures at this frame rate.", "RATE", parse=parse_rate, shown="25"
    )
    deinterlace: bool = of_frames(DEINTERLACE, default=False)
    stream: int | None = of_frames(
        "Read the video stream with this number; the file's first stream is 0.",
        "N",
        least=0,
        most=10_000,
        shown="the best",
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class InputPart(Settings):
    """The part of the input that is used, in seconds from its first frame."""

    start: Rational | None = option(
        "Begin at this time: seconds, 1m30s or h:mm:ss.", "T", parse=parse_time
    )
    end: Rational | None = option("Stop before this time.", "T", parse=parse_time)

    def _check(self) -> None:
        start, end = exact(self.start), exact(self.end)
        if end is not None and end <= (start or 0):
            raise SettingsError(
                f"end-before-start: --end ({short(float(end))} s) must come after --start."
            )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cuts(Settings):
    """The detection of scene changes."""

    scene_cut: SceneCut = of_frames(
        "Find scene changes: auto, off, or a threshold from 0 (everywhere) to 1 (nowhere).",
        "S",
        default="auto",
        least=0,
        most=1,
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Machine(Settings):
    """The device, the number format and the threads of the computation."""

    device: str = of_device(
        "Compute on this device: auto, cpu, cuda, cuda:N or mps.", default="auto"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = on_machine(
        "Compute in this number format: auto, fp32, bf16 or fp16.", "NAME", default="auto"
    )
    threads: int | None = on_machine(
        f"Use N CPU threads, at most {values.MOST_AT_ONCE}.",
        "N",
        least=1,
        most=values.MOST_AT_ONCE,
        shown="all cores",
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Rendering(Settings):
    """The options of an interpolator."""

    timesteps: Literal["any", "middle"] | None = _of_model(
        """Say whether a published network makes frames at any time, or was trained for the
        middle of two frames only.""",
        "HOW",
        shown="any, or a key of the file",
    )
    scale: float | None = _of_model(
        "Estimate motion in pictures of this relative size: 0.25, 0.5, 1, 2 or 4.",
        "S",
        parse=values.scale,
        shown="1",
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EncodeSettings(Machine):
    """The encoding of the output; where a value is None or empty, cloudconv chooses."""

    encoder: str | None = _encoding(
        "Use this encoder of FFmpeg.", "NAME", shown="by container and pixel format"
    )
    crf: float | None = option(
        "Set the quality: lower is better, and makes a larger file.",
        "N",
        least=0,
        shown="17, visually lossless",
    )
    preset: str | None = _encoding("Use this preset of the encoder.", "NAME")
    pix_fmt: str | None = _encoding(
        "Write this pixel format.", "NAME", shown="the source's"
    )
    encoder_option: Pairs = _encoding(
        "Set any other option of the encoder; repeat for several.",
        "KEY=VALUE",
        default=(),
        parse=values.pairs,
        repeats=True,
    )
