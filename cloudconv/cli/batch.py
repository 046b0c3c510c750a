"""``cloudconv interp IN… --out-dir DIR``: many inputs through one command."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cloudconv.cli import film
from cloudconv.cli.console import Console, clock, print_json, table

if TYPE_CHECKING:
    from cloudconv.jobs.interp import InterpResult, InterpSettings


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
    from cloudconv.jobs import batch, interp

    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    failed = 0
    every = batch.each_input(settings, inputs, Path(folder))

    def run(one: InterpSettings) -> InterpResult:
        label = f"{len(rows) + 1}/{len(every)} {Path(str(one.input)).name}"
        return film.under_bar(console, label, partial(interp.run, one))

    for name, came in batch.attempts(every, run):
        if isinstance(came, CloudconvError):
            failed += 1
            console.error(f"{name}: {came}")
            rows.append([name, "failed", "", "", str(came).split("\n")[0]])
            results.append({"input": name, "error": str(came)})
        else:
            assert isinstance(came, interp.InterpResult)
            for message in came.warnings:
                console.warning(f"{name}: {message}")
            rows.append(
                [
                    name,
                    "resumed" if came.resumed else "done",
                    str(came.output_frames),
                    clock(came.wall_seconds),
                    came.output,
                ]
            )
            results.append(asdict(came))
    shown = table(["input", "result", "frames", "time", "output"], rows)
    for line in shown.splitlines():
        console.info(line)
    if json:
        print_json({"results": results, "failed": failed})
    if failed:
        raise typer.Exit(1)
