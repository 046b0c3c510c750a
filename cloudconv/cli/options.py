"""Every option, declared once; a command takes those that it means."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

import typer

from cloudconv.cli import values

_ENCODING = "Encoding"
_INFERENCE = "Inference"
_GENERAL = "General"


def _interpolators(incomplete: str) -> list[str]:
    from cloudconv.models import registry

    shown = [s for s in registry.specs() if s.task == "interpolate" and not s.hidden]
    return [spec.name for spec in shown if spec.name.startswith(incomplete)]


Input = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="A video, an animation, a folder or pattern of pictures, or - for stdin.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN [OUT]",
        help="A video, an animation, a folder or pattern of pictures, or - for stdin. With "
        "--out-dir all of them are inputs.",
        show_default=False,
    ),
]
OutDir = Annotated[
    str | None,
    typer.Option(
        "--out-dir",
        metavar="DIR",
        help="Take any number of inputs and write their outputs here. What an earlier run has "
        "finished with the same settings is passed over.",
        show_default=False,
    ),
]
OutputArgument = Annotated[
    str | None,
    typer.Argument(metavar="OUT", help="Same as --output.", show_default=False),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File to write; - for Matroska on stdout. Default: a name beside IN.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", "-y", help="Replace OUT if it exists.", show_default=False)
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Carry on with what an interrupted run has finished, or throw it away.",
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="WHO",
        help="local: this process; local:N: N processes; ray or ray:ADDRESS: a Ray cluster.",
        rich_help_panel=_INFERENCE,
    ),
]
Preview = Annotated[
    str | None,
    typer.Option(
        "--preview",
        metavar="PATH",
        help="A small JPEG of the newest frame, written anew every second.",
        show_default=False,
    ),
]
Adapt = Annotated[
    float | None,
    typer.Option(
        "--adapt",
        metavar="MINUTES",
        help="Fine-tune the model on this video first, for so long; used if that gains 0.05 dB on "
        "a part of the video that was held back.",
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
SaveModel = Annotated[
    str | None,
    typer.Option(
        "--save-model",
        metavar="FILE",
        help="With --adapt: keep the weights, for --model.",
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and stop.", show_default=False),
]

Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object on stdout, nothing else there.",
        show_default=False,
        rich_help_panel=_GENERAL,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress and no summary; warnings and errors only.",
        show_default=False,
        rich_help_panel=_GENERAL,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also versions, and the traceback of an error.",
        show_default=False,
        rich_help_panel=_GENERAL,
    ),
]

ShowProgress = Annotated[
    values.ProgressShown,
    typer.Option(
        "--progress",
        help="auto: a bar, or without a terminal a line every 10 s; json: an object a second on "
        "stderr, for programs.",
        rich_help_panel=_GENERAL,
    ),
]

Factor = Annotated[
    Fraction | None,
    typer.Option(
        "--factor",
        "--multi",
        metavar="N",
        parser=values.factor,
        help="N times the frames; a whole N keeps every source frame.",
        show_default=False,
    ),
]
Fps = Annotated[
    Fraction | None,
    typer.Option(
        "--fps",
        metavar="RATE",
        parser=values.rate,
        help="This frame rate: 60, 60000/1001 or 59.94.",
        show_default=False,
    ),
]
InputFps = Annotated[
    Fraction | None,
    typer.Option(
        "--input-fps",
        "--framerate",
        metavar="RATE",
        parser=values.rate,
        help="Frame rate of pictures as input. Default: 25.",
        show_default=False,
    ),
]
Slowmo = Annotated[
    Fraction | None,
    typer.Option(
        "--slowmo",
        metavar="N",
        parser=values.factor,
        help="N times longer at the same frame rate, or at --fps; audio: see --audio.",
        show_default=False,
    ),
]
SlowAudio = Annotated[
    values.Audio | None,
    typer.Option(
        "--audio",
        help="With --slowmo: drop the audio (default), or stretch it at its own pitch. Else: copy "
        "fails where it would have to be encoded again.",
        show_default=False,
    ),
]
SceneCut = Annotated[
    Any,
    typer.Option(
        "--scene-cut",
        metavar="auto|off|0..1",
        parser=values.scene_cut,
        help="Where to hold instead of morph; 0 sees cuts everywhere, 1 nowhere.",
    ),
]
DuplicateFrames = Annotated[
    values.Duplicates,
    typer.Option(
        "--duplicates", help="Repeated source frames: keep them, or put new ones in their place."
    ),
]
Loop = Annotated[
    bool,
    typer.Option("--loop", help="Also fill between the last and first frame.", show_default=False),
]
Deinterlace = Annotated[
    bool,
    typer.Option(
        "--deinterlace",
        help="Make whole frames from interlaced fields first (bwdif).",
        show_default=False,
    ),
]
Start = Annotated[
    Fraction | None,
    typer.Option(
        "--start",
        metavar="T",
        parser=values.time,
        help="Begin here: seconds or h:mm:ss.",
        show_default=False,
    ),
]
End = Annotated[
    Fraction | None,
    typer.Option(
        "--end",
        metavar="T",
        parser=values.time,
        help="Stop before this time.",
        show_default=False,
    ),
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A name from 'cloudconv models'. Default: the best that ships.",
        autocompletion=_interpolators,
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
Quality = Annotated[
    values.QualityLevel | None,
    typer.Option(
        "--quality",
        help="Choose the model by what it is good at: cloud-best, cloud-fast (0.6 of its "
        "time) or cloud-turbo (0.5). Instead of --model.",
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        "--scale",
        metavar="S",
        help="At which size motion is looked for: 0.25, 0.5, 1, 2 or 4. Default: 1.",
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
Uhd = Annotated[
    bool,
    typer.Option(
        "--UHD",
        help="Same as --scale 0.5: for 4K and large motion.",
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
Fallback = Annotated[
    values.FallbackTo,
    typer.Option(
        "--fallback",
        help="What to show where motion explains little and a model makes filmed frames worse than "
        "blending does: so much of a blend, or (off) its own picture all the same.",
        rich_help_panel=_INFERENCE,
    ),
]
Hwaccel = Annotated[
    values.HardwareDecoder,
    typer.Option(
        "--hwaccel",
        help="Let an NVIDIA GPU decode h264, hevc and vp9 (nvdec). What it can't, the CPU decodes.",
        rich_help_panel=_INFERENCE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps; interp, compare: also cuda:all, every GPU.",
        rich_help_panel=_INFERENCE,
    ),
]
ComputePrecision = Annotated[
    values.Precision,
    typer.Option("--precision", help="Number format of the network.", rich_help_panel=_INFERENCE),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=256,
        help="CPU threads, at most 256. Default: all cores.",
        show_default=False,
        rich_help_panel=_INFERENCE,
    ),
]
Batch = Annotated[
    Any,
    typer.Option(
        "--batch",
        metavar="N|auto",
        parser=values.batch,
        help="New frames made at once.",
        rich_help_panel=_INFERENCE,
    ),
]
Tile = Annotated[
    Any,
    typer.Option(
        "--tile",
        metavar="auto|off|N",
        parser=values.tile,
        help="Work in tiles of N pixels, to save memory.",
        rich_help_panel=_INFERENCE,
    ),
]

Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="FFmpeg's name of it. Default: by container and pixel format.",
        show_default=False,
        rich_help_panel=_ENCODING,
    ),
]
Crf = Annotated[
    float | None,
    typer.Option(
        "--crf",
        metavar="N",
        min=0,
        help="Quality, lower is better, on libx264's scale for every encoder. Default: 17, "
        "visually lossless.",
        show_default=False,
        rich_help_panel=_ENCODING,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="The encoder's preset.",
        show_default=False,
        rich_help_panel=_ENCODING,
    ),
]
PixelFormat = Annotated[
    str | None,
    typer.Option(
        "--pix-fmt",
        metavar="NAME",
        help="Pixel format of the output. Default: the source's.",
        show_default=False,
        rich_help_panel=_ENCODING,
    ),
]
EncoderOption = Annotated[
    list[Any] | None,
    typer.Option(
        "--encoder-option",
        metavar="KEY=VALUE",
        parser=values.key_value,
        help="Any other option of the encoder; may be repeated.",
        show_default=False,
        rich_help_panel=_ENCODING,
    ),
]
