"""Define the command ``cloudconv interp``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import output as outputs
from cloudconv.cli.batch import interp_all
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console
from cloudconv.errors import OutputError, SettingsError
from cloudconv.messages import counted
from cloudconv.settings import InterpManySettings, InterpSettings
from cloudconv.settings.groups import INPUT

if TYPE_CHECKING:
    from cloudconv.jobs.interp.results import InterpResult

EXAMPLES = examples(
    "cloudconv interp clouds.mp4 --factor 4",
    "cloudconv interp video.mov slow.mov --slowmo 8 --start 1:02 --end 1:05",
    "cloudconv interp one.mp4 two.mkv clips/*.mov --fps 60 --out-dir smooth",
)

_INPUTS = f"{INPUT} With --out-dir all of them are inputs."
Inputs = Annotated[list[str], typer.Argument(metavar="IN [OUT]", help=_INPUTS)]


@with_options(InterpSettings, InterpManySettings)
def interp(console: Console, inputs: Inputs, **given: Any) -> None:
    """Raise the frame rate of IN.

    Give one of --factor, --fps and --slowmo, or --slowmo together with --fps.
    """
    if "out_dir" in given:
        interp_all(console, inputs, given)
        return
    if "recursive" in given:
        raise SettingsError(
            "recursive-alone: --recursive is for folders of videos: give --out-dir too."
        )
    if len(inputs) > 2:
        raise SettingsError(
            "several-inputs: Several inputs need --out-dir, the folder for their outputs."
        )
    out = inputs[1] if len(inputs) == 2 else None
    output = outputs.chosen_output(console, out, given)
    opening = ""
    if out is not None and given.get("overwrite") and Path(out).is_file():
        opening = f"{out} is taken as the output and replaced; with --out-dir both are inputs"
    settings = InterpSettings(inputs[0], output, **given)
    try:
        outputs.run_job(console, "interpolating", settings, _summary, opening=opening)
    except OutputError as error:
        if error.code == "output-exists" and out is not None:
            raise OutputError(
                f"second-name-exists: {error.text} If it is an input too, give --out-dir."
            ) from error
        raise


def _summary(result: InterpResult) -> str:
    cuts = f", no new frames at {counted(len(result.cuts), 'cut')}" if result.cuts else ""
    resumed = "; resumed" if result.resumed else ""
    adapted = f"; {result.adapted}" if result.adapted and result.adapted.kept else ""
    return outputs.describe_video(result, cuts + resumed) + adapted
