"""Define the command ``cloudconv extrapolate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console
from cloudconv.messages import counted
from cloudconv.settings import ExtrapolateSettings

if TYPE_CHECKING:
    from cloudconv.jobs.extrapolate import ExtrapolateResult

EXAMPLES = examples(
    "cloudconv extrapolate clouds.mp4 --frames 30",
    "cloudconv extrapolate clouds.mp4 more.mp4 --seconds 2 --only-new",
    "cloudconv extrapolate video.mkv --at 1:02.5 --seconds 1 --model flow",
)


@with_options(ExtrapolateSettings)
def extrapolate(
    console: Console,
    source: outputs.InputArgument,
    out: outputs.OutputArgument = None,
    **given: Any,
) -> None:
    """Forecast the frames after the last frame of IN. Give one of --frames and --seconds."""
    settings = ExtrapolateSettings(source, outputs.chosen_output(console, out, given), **given)
    outputs.run_job(console, "forecasting", settings, _summary)


def _summary(result: ExtrapolateResult) -> str:
    more = f"; repeats as in the source: {result.cadence}" if result.cadence else ""
    if result.tried_ahead:
        known = counted(result.tried_ahead, "known frame")
        more += f"; in a trial the forecast held for {result.held_ahead} of {known}"
    return outputs.describe_video(result, more)
