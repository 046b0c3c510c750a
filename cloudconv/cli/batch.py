"""Define ``cloudconv interp IN… --out-dir DIR``: many inputs with one command."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import typer

from cloudconv.cli import interrupts
from cloudconv.cli import output as outputs
from cloudconv.cli.console import (
    Console,
    as_json,
    clock,
    megabytes,
    print_json,
    print_result,
    table,
)
from cloudconv.errors import CloudconvError, SettingsError
from cloudconv.events import Ended
from cloudconv.messages import Setting, flag
from cloudconv.settings import InterpManySettings

if TYPE_CHECKING:
    from cloudconv.jobs.interp.batch import Exists
    from cloudconv.jobs.interp.settings import InterpEstimate, InterpResult

    Outcome = InterpResult | InterpEstimate | Exists | CloudconvError


def interp_all(
    console: Console, inputs: list[str], given: dict[str, Any], *, dry_run: bool
) -> None:
    """Interpolate every input and print each outcome; exit with 1 if any input failed."""
    for name in ("output", "preview", "save_model"):
        if name in given:
            raise SettingsError("for-one-input", option=Setting(name))
    settings = InterpManySettings(inputs, **given)

    from cloudconv.jobs.interp import batch

    every = batch.each_input(settings)
    inputs = [str(each.input) for each in every]
    done = 0

    def ended(event: Ended) -> str:
        nonlocal done
        interrupts.check()
        done += 1
        if isinstance(event.outcome, CloudconvError):
            message = event.outcome.text(flag)
            console.error(message if event.input in message else f"{event.input}: {message}")
        return f"{done} of {len(every)} inputs"

    if dry_run:
        for warned in batch.subfolders_ignored(settings):
            console.warning(warned)
        outcomes = batch.estimate_all(every)
    else:
        outcomes = outputs.under_bar(console, "interpolating", batch.run(settings), ended=ended)
    found: list[tuple[str, Outcome]] = list(zip(inputs, outcomes, strict=True))
    failed = sum(isinstance(outcome, CloudconvError) for outcome in outcomes)
    if dry_run and not console.json:
        _print_plans(console, found)
    elif not dry_run:
        header = ["input", "result", "frames", "time", "output"]
        for line in table(header, [_row(*each) for each in found]).splitlines():
            console.info(line)
    if console.json:
        kind = "plans" if dry_run else "results"
        print_json({kind: [_data(*each) for each in found], "failed": failed})
    if failed and not dry_run:
        raise typer.Exit(1)


def _print_plans(console: Console, found: list[tuple[str, Outcome]]) -> None:
    from cloudconv.jobs.interp.settings import InterpEstimate

    rows = []
    for name, plan in found:
        if isinstance(plan, InterpEstimate):
            for warned in outputs.remarks(plan):
                console.warning(replace(warned, about=name))
            counts = str(plan.output_frames), str(plan.new_frames)
            needs = outputs.about(plan.seconds, clock), outputs.about(plan.memory_bytes, megabytes)
            rows.append([name, *counts, *needs, plan.output])
        else:
            rows.append([name, "", "", "", "", _row(name, plan)[-1]])
    print_result(table(["input", "frames", "new", "time", "memory", "output"], rows))


def _row(name: str, outcome: Any) -> list[str]:
    if isinstance(outcome, CloudconvError):
        return [name, "failed", "", "", outcome.text(flag).split("\n")[0]]
    if not hasattr(outcome, "resumed"):
        return [name, "exists", "", "", outcome.output]
    counts = [str(outcome.output_frames), clock(outcome.wall_seconds)]
    return [name, "resumed" if outcome.resumed else "done", *counts, outcome.output]


def _data(name: str, outcome: Any) -> dict[str, Any]:
    if isinstance(outcome, CloudconvError):
        return {"input": name, "error": outcome.text(flag)}
    if not hasattr(outcome, "duration"):
        return {**asdict(outcome), "exists": True}
    return {**as_json(outcome), "exists": False}
