"""``cloudconv interp IN… --out-dir DIR``: many inputs through one command."""

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


def interp_all(
    console: Console, inputs: list[str], given: dict[str, Any], *, dry_run: bool
) -> None:
    """Interpolate every input, say what came of each, and exit with 1 if any failed."""
    for name in ("output", "preview", "save_model"):
        if name in given:
            raise SettingsError("for-one-input", option=Setting(name))
    settings = InterpManySettings(inputs, **given)

    from cloudconv.jobs.interp import batch

    every = batch.each_input(settings)
    if dry_run:
        for warned in batch.subfolders_ignored(settings):
            console.warning(warned)
        _tell_plans(console, [str(each.input) for each in every], batch.estimate_all(every))
        return
    inputs = [str(each.input) for each in every]
    done = 0

    def ended(event: Ended) -> str:
        nonlocal done
        interrupts.check()
        done += 1
        if isinstance(event.outcome, CloudconvError):
            console.error(_about(event.input, event.outcome.text(flag)))
        return f"{done} of {len(every)} inputs"

    outcomes = outputs.under_bar(console, "interpolating", batch.run(settings), ended=ended)
    told = list(zip(inputs, outcomes, strict=True))
    shown = table(["input", "result", "frames", "time", "output"], [_row(*each) for each in told])
    for line in shown.splitlines():
        console.info(line)
    failed = sum(isinstance(outcome, CloudconvError) for _, outcome in told)
    if console.json:
        print_json({"results": [_data(*each) for each in told], "failed": failed})
    if failed:
        raise typer.Exit(1)


def _tell_plans(
    console: Console,
    inputs: list[str],
    plans: list[InterpEstimate | Exists | CloudconvError],
) -> None:
    from cloudconv.jobs.interp.settings import InterpEstimate

    told = list(zip(inputs, plans, strict=True))
    failed = sum(isinstance(plan, CloudconvError) for plan in plans)
    if console.json:
        print_json({"plans": [_data(*each) for each in told], "failed": failed})
        return
    rows = [["input", "frames", "new", "time", "memory", "output"]]
    for name, plan in told:
        if isinstance(plan, InterpEstimate):
            for warned in outputs.remarks(plan):
                console.warning(replace(warned, about=name))
            counts = str(plan.output_frames), str(plan.new_frames)
            needs = outputs.about(plan.seconds, clock), outputs.about(plan.memory_bytes, megabytes)
            rows.append([name, *counts, *needs, plan.output])
        else:
            rows.append([name, "", "", "", "", _row(name, plan)[-1]])
    print_result(table(rows[0], rows[1:]))


def _about(name: str, message: str) -> str:
    """The message with the input's name, once."""
    return message if name in message else f"{name}: {message}"


def _row(name: str, outcome: InterpResult | Exists | CloudconvError) -> list[str]:
    from cloudconv.jobs.interp.batch import Exists

    if isinstance(outcome, CloudconvError):
        return [name, "failed", "", "", outcome.text(flag).split("\n")[0]]
    if isinstance(outcome, Exists):
        return [name, "exists", "", "", outcome.output]
    result = "resumed" if outcome.resumed else "done"
    return [
        name, result, str(outcome.output_frames), clock(outcome.wall_seconds), outcome.output
    ]  # fmt: skip


def _data(
    name: str, outcome: InterpResult | InterpEstimate | Exists | CloudconvError
) -> dict[str, Any]:
    from cloudconv.jobs.interp.batch import Exists

    if isinstance(outcome, CloudconvError):
        return {"input": name, "error": outcome.text(flag)}
    if isinstance(outcome, Exists):
        return {**asdict(outcome), "exists": True}
    return {**as_json(outcome), "exists": False}
