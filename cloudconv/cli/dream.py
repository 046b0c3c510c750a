"""Define the command ``cloudconv dream``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console
from cloudconv.events import Measured
from cloudconv.settings import DreamSettings

if TYPE_CHECKING:
    from cloudconv.dreaming.vitals.vitals import Vitals
    from cloudconv.jobs.dream.results import DreamResult

EXAMPLES = examples(
    "cloudconv dream clouds.mp4 --seconds 20",
    "cloudconv dream waves.mov endless.gif --frames 90 --loop --only-new",
    "cloudconv dream sky.jpg sky.mp4 --seconds 10 --wind 1.5,0",
)


@with_options(DreamSettings)
def dream(
    console: Console,
    source: outputs.InputArgument,
    out: outputs.OutputArgument = None,
    **given: Any,
) -> None:
    """Continue IN with new frames for any length of time.

    Give one of --frames and --seconds.
    """
    settings = DreamSettings(source, outputs.chosen_output(console, out, given), **given)
    outputs.run_job(console, "dreaming", settings, _summary, _words)


def _words(measured: Measured) -> str:
    """Return the newest measurements in a few words."""
    from cloudconv.dreaming.vitals.words import failures, in_words

    vitals: Vitals = measured.values
    if not vitals.alive:
        return f"unlike the clip: {', '.join(failures(vitals).values())}"
    motion = vitals.values["motion"]
    return "like the clip" if motion is None else f"like the clip: {in_words('motion', motion)}"


def _summary(result: DreamResult) -> str:
    said = f"; {result.why.removesuffix('.')}; {result.verdict}"
    return outputs.describe_video(result, said)
