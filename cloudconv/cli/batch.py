"""``cloudconv interp IN… --out-dir DIR``: many inputs through one command."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cloudconv.cli import film, interrupts
from cloudconv.cli.console import Console, clock, print_json, table

if TYPE_CHECKING:
    from cloudconv.jobs.batch import Outcome
    from cloudconv.jobs.interp import InterpSettings


def check(inputs: list[str], output: str | None, preview: str | None, *, dry_run: bool) -> None:
    """Raise a usage error where an option makes no sense for many inputs."""
    if output is not None:
        raise typer.BadParameter("--out-dir names the outputs: leave --output out")
    if preview is not None:
        raise typer.BadParameter("--preview is for one input: leave --out-dir out")
    if dry_run:
        raise typer.BadParameter("--dry-run is for one input: leave --out-dir out")


def interp_all(
    console: Console, settings: InterpSettings, inputs: list[str], folder: str, *, json: bool
) -> None:
    """Interpolate every input, say what came of each, and exit with 1 if any failed."""
    from cloudconv.errors import CloudconvError
    from cloudconv.jobs import batch

    every = batch.each_input(settings, inputs, Path(folder))
    outcomes: dict[int, batch.Outcome] = {}

    def came(number: int, outcome: batch.Outcome) -> None:
        interrupts.check()
        outcomes[number] = outcome
        if isinstance(outcome, CloudconvError):
            console.error(f"{inputs[number]}: {outcome}")
        elif not isinstance(outcome, batch.Exists):
            for message in outcome.warnings:
                console.warning(f"{inputs[number]}: {message}")

    film.under_bar(
        console,
        "interpolating",
        lambda update: batch.run(every, came, update),
        lambda progress: f"{progress.inputs_done} of {progress.inputs} inputs",
    )
    told = [(name, outcomes[number]) for number, name in enumerate(inputs)]
    shown = table(["input", "result", "frames", "time", "output"], [_row(*each) for each in told])
    for line in shown.splitlines():
        console.info(line)
    failed = sum(isinstance(outcome, CloudconvError) for _, outcome in told)
    if json:
        print_json({"results": [_data(*each) for each in told], "failed": failed})
    if failed:
        raise typer.Exit(1)


def _row(name: str, outcome: Outcome) -> list[str]:
    from cloudconv.errors import CloudconvError
    from cloudconv.jobs.batch import Exists

    if isinstance(outcome, CloudconvError):
        return [name, "failed", "", "", str(outcome).split("\n")[0]]
    if isinstance(outcome, Exists):
        return [name, "exists", "", "", outcome.output]
    result = "resumed" if outcome.resumed else "done"
    return [
        name, result, str(outcome.output_frames), clock(outcome.wall_seconds), outcome.output
    ]  # fmt: skip


def _data(name: str, outcome: Outcome) -> dict[str, Any]:
    from cloudconv.errors import CloudconvError
    from cloudconv.jobs.batch import Exists

    if isinstance(outcome, CloudconvError):
        return {"input": name, "error": str(outcome)}
    return {**asdict(outcome), "exists": isinstance(outcome, Exists)}
