"""Groups of options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cloudconv.settings import values
from cloudconv.settings.option import Option, Settings, refused
from cloudconv.settings.values import File, Pairs, Rational, exact
from cloudconv.timeline import parse_rate, parse_time

FRAMES, MODEL, ENCODING, MACHINE, RUN = "Frames", "Model", "Encoding", "Machine", "Run"

MOST_THREADS = 256
"""More threads than this exhaust a system before they compute anything."""

DEFAULT_MODEL = "cloud-best"
"""The interpolator that is used where none is named."""

QUALITIES = {"best": "cloud-best", "fast": "cloud-fast", "turbo": "cloud-turbo"}
"""The interpolator that each ``quality`` chooses."""

SceneCut = Literal["auto", "off"] | float
"""``auto``, ``off``, or a threshold from 0 (cut everywhere) to 1 (never)."""


@dataclass(frozen=True)
class EncodeSettings:
    """What the user asked of the encoding; None and empty mean our own choice."""

    encoder: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    threads: int | None = None


@dataclass(frozen=True)
class Input(Settings):
    """What is read. ``input_fps``: the rate of pictures, which keep no times."""

    input: Annotated[
        File,
        Option(
            "A video, an animation, a folder or pattern of pictures, or - for stdin.",
            metavar="IN",
            pinned=False,
            on_command_line=False,
        ),
    ]


@dataclass(frozen=True)
class Output(Input):
    """What is read, and where the result goes."""

    output: Annotated[
        File | None,
        Option(
            "File to write, or a folder for the default name; frames/%05d.png for pictures; "
            "- for Matroska on stdout.",
            flags=("--output", "-o"),
            metavar="OUT",
            default_text="a name beside IN",
            pinned=False,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Overwrite(Settings):
    """Whether an output that exists is replaced."""

    overwrite: Annotated[
        bool,
        Option("Replace OUT if it exists.", flags=("--overwrite", "-y"), pinned=False),
    ] = False


@dataclass(frozen=True, kw_only=True)
class InputRate(Settings):
    """The rate of pictures as input."""

    input_fps: Annotated[
        Rational | None,
        Option(
            "Frame rate of pictures as input.",
            flags=("--input-fps", "--framerate"),
            group=FRAMES,
            metavar="RATE",
            parse=parse_rate,
            default_text="25",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Part(Settings):
    """The part of the input that is used, in seconds from its first frame."""

    start: Annotated[
        Rational | None,
        Option("Begin here: seconds or h:mm:ss.", metavar="T", parse=parse_time),
    ] = None
    end: Annotated[
        Rational | None,
        Option("Stop before this time.", metavar="T", parse=parse_time),
    ] = None

    def _check_part(self) -> None:
        start, end = exact(self.start), exact(self.end)
        if end is not None and end <= (start or 0):
            raise refused(f"`end` ({float(end):g} s) must come after `start`.")


@dataclass(frozen=True, kw_only=True)
class Cuts(Settings):
    """Where one scene ends and another begins."""

    scene_cut: Annotated[
        SceneCut,
        Option(
            "Where scenes change: auto, off, or a threshold from 0 (everywhere) to 1 (nowhere).",
            group=FRAMES,
            metavar="S",
            least=0,
            most=1,
        ),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Machine(Settings):
    """What computes."""

    device: Annotated[
        str,
        Option(
            "auto, cpu, cuda, cuda:N or mps; interp, compare: also cuda:all, every GPU.",
            group=MACHINE,
            metavar="NAME",
            parse=values.device,
            pinned=False,
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Option(
            "Number format of the network: auto, fp32, bf16 or fp16.",
            group=MACHINE,
            metavar="NAME",
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        Option(
            f"CPU threads, at most {MOST_THREADS}.",
            group=MACHINE,
            metavar="N",
            least=1,
            most=MOST_THREADS,
            default_text="all cores",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Workers(Machine):
    """Who computes."""

    workers: Annotated[
        str,
        Option(
            "local: this process; local:N: N processes; ray or ray:ADDRESS: a Ray cluster.",
            group=MACHINE,
            metavar="WHO",
            parse=values.workers,
            pinned=False,
        ),
    ] = "local"

    def _check_workers(self) -> None:
        if self.device == "cuda:all" and self.workers.startswith("local:"):
            raise refused("cuda:all already means one worker for each GPU: leave `workers` out.")
        if self.device.startswith("cuda:") and self.workers.startswith("ray"):
            raise refused(
                f"A cluster gives each worker its own GPU: use cuda as `device`, not {self.device}."
            )


@dataclass(frozen=True, kw_only=True)
class Rendering(Settings):
    """How an interpolator is used."""

    quality: Annotated[
        Literal["best", "fast", "turbo"] | None,
        Option(
            "Choose the model: best is cloud-best, fast is cloud-fast (0.6 of its time), turbo is "
            "cloud-turbo (0.5).",
            metavar="LEVEL",
            pinned=False,
        ),
    ] = None
    scale: Annotated[
        float,
        Option(
            "At which size motion is looked for: 0.25, 0.5, 1, 2 or 4.",
            group=MODEL,
            metavar="S",
            parse=values.scale,
        ),
    ] = 1.0
    UHD: Annotated[
        bool,
        Option(
            "Same as --scale 0.5: for 4K and large motion.",
            flags=("--UHD",),
            group=MODEL,
            pinned=False,
        ),
    ] = False
    fallback: Annotated[
        Literal["blend", "off"],
        Option(
            "What to show where motion explains little: blend the source frames there, or (off) "
            "show the model's picture all the same.",
            group=MODEL,
            metavar="HOW",
        ),
    ] = "blend"
    batch: Annotated[
        int | Literal["auto"],
        Option("New frames made at once.", group=MACHINE, metavar="N", least=1, most=100_000),
    ] = "auto"
    tile: Annotated[
        int | Literal["auto", "off"],
        Option(
            "Work in tiles of N pixels, to save memory; or off.",
            group=MACHINE,
            metavar="N",
            least=1,
            most=1_000_000,
        ),
    ] = "auto"

    def _resolve_scale(self) -> None:
        """Put ``scale`` in the place of ``UHD``."""
        if self.UHD:
            if self.scale not in (1.0, 0.5):
                raise refused(f"`UHD` means a `scale` of 0.5, which contradicts {self.scale:g}.")
            self._set("scale", 0.5)
            self._set("UHD", False)


@dataclass(frozen=True, kw_only=True)
class InterpolatorModel(Rendering):
    """Which interpolator is used, and how."""

    model: Annotated[
        File | None,
        Option(
            "A name from 'cloudconv models', or a file that 'cloudconv train' wrote.",
            metavar="NAME",
            default_text="the best that ships",
            complete="interpolate",
        ),
    ] = None

    def _resolve_model(self) -> None:
        """Put ``model`` and ``scale`` in the place of the shorthands for them."""
        if self.quality is not None and self.model is not None:
            raise refused("`quality` chooses a model, and so does `model`: give one.")
        self._set("model", self.model or QUALITIES[self.quality or "best"])
        self._set("quality", None)
        self._resolve_scale()

    @property
    def chosen_model(self) -> str:
        """The name or file of the model that is used."""
        return str(self.model)


@dataclass(frozen=True, kw_only=True)
class Adapting(Settings):
    """Fine-tuning on the input itself."""

    adapt: Annotated[
        float | None,
        Option(
            "Fine-tune the model on this video first, for so many minutes; used if that gains "
            "0.05 dB on a part of the video that was held back.",
            group=MODEL,
            metavar="MINUTES",
            above=0,
            most=10_000,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SavedModel(Adapting, Input):
    """Where the fine-tuned weights are kept."""

    save_model: Annotated[
        File | None,
        Option(
            "With --adapt: keep the weights, for --model.",
            group=MODEL,
            metavar="FILE",
            parse=values.weights_file,
            pinned=False,
        ),
    ] = None

    @property
    def saved_model(self) -> Path | None:
        """The file for the fine-tuned weights; in a folder, its name is made from the input's."""
        if self.save_model is None:
            return None
        return values.in_folder(self.save_model, f"{Path(self.input).stem}_adapted.safetensors")

    def _check_save_model(self) -> None:
        if self.save_model is not None and self.adapt is None:
            raise refused("`save_model` keeps what `adapt` has learnt: give `adapt` with it.")


@dataclass(frozen=True, kw_only=True)
class Encoding(Machine):
    """How the result is encoded."""

    encoder: Annotated[
        str | None,
        Option(
            "FFmpeg's name of it.",
            group=ENCODING,
            metavar="NAME",
            default_text="by container and pixel format",
        ),
    ] = None
    crf: Annotated[
        float | None,
        Option(
            "Quality, lower is better, on libx264's scale for every encoder.",
            metavar="N",
            least=0,
            default_text="17, visually lossless",
        ),
    ] = None
    preset: Annotated[
        str | None, Option("The encoder's preset.", group=ENCODING, metavar="NAME")
    ] = None
    pix_fmt: Annotated[
        str | None,
        Option(
            "Pixel format of the output.",
            group=ENCODING,
            metavar="NAME",
            default_text="the source's",
        ),
    ] = None
    encoder_option: Annotated[
        Pairs,
        Option(
            "Any other option of the encoder; may be repeated.",
            group=ENCODING,
            metavar="KEY=VALUE",
            parse=values.pairs,
            repeats=True,
        ),
    ] = ()

    @property
    def encode(self) -> EncodeSettings:
        """What is asked of the encoder."""
        return EncodeSettings(
            encoder=self.encoder,
            crf=self.crf,
            preset=self.preset,
            pix_fmt=self.pix_fmt,
            options=values.pairs(self.encoder_option),
            threads=self.threads,
        )
