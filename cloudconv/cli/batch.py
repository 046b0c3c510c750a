"""Define ``cloudconv interp IN… --out-dir DIR``: many inputs with one command."""

from __future__ import annotations

from typing import Any

import typer

from cloudconv.cli import interrupts
from cloudconv.cli import output as outputs
from cloudconv.cli.console import Console, print_error, print_json
from cloudconv.cli.streams import print_result
from cloudconv.cli.text import format_value, table
from cloudconv.errors import CloudconvError, SettingsError
from cloudconv.events import Ended
from cloudconv.jobs.outcome import as_json
from cloudconv.settings import InterpManySettings


def interp_all(console: Console, inputs: list[str], given: dict[str, Any]) -> None:
    """Interpolate or estimate every input and print each outcome.

    Exit with 1 if an input failed, but not in a dry run.
    """
    if "output" in given:
        raise SettingsError("for-one-input: --output is for a single input: leave --out-dir out.")
    settings = InterpManySettings(inputs, **given)

    from cloudconv.jobs.interp import batch

    every = batch.each_input(settings)
    done = 0

    def ended(event: Ended) -> str:
        nonlocal done
        interrupts.check()
        done += 1
        if isinstance(event.outcome, CloudconvError):
            message = event.outcome.text
            print_error(message if event.input in message else f"{event.input}: {message}")
        return f"{done} of {len(every)} inputs"

    if console.dry_run:
        for warned in batch.left_out(settings):
            console.warning(warned)
        outcomes = batch.estimate_all(every)
    else:
        outcomes = outputs.run_with_progress(console, "interpolating", batch.run(settings), ended)
    outcome_of = dict(zip((str(each.input) for each in every), outcomes, strict=True))
    failed = sum(isinstance(outcome, CloudconvError) for outcome in outcomes)
    if not console.dry_run:
        written = {"size": "output_bytes", "bit rate": "bits_per_second"}
        shown = _table(outcome_of, encoder="encoder", **written, time="wall_seconds")
        for line in shown.splitlines():
            console.info(line)
    elif not console.json:
        _print_plans(console, outcome_of)
    if console.json:
        kind = "plans" if console.dry_run else "results"
        print_json({kind: [_data(*each) for each in outcome_of.items()], "failed": failed})
    if failed and not console.dry_run:
        raise typer.Exit(1)


def _print_plans(console: Console, outcome_of: dict[str, Any]) -> None:
    for name, outcome in outcome_of.items():
        if hasattr(outcome, "refusals"):
            outputs.print_warnings(console, outcome, name)
    print_result(_table(outcome_of, new="new_frames", time="seconds", memory="memory_bytes"))


def _table(outcome_of: dict[str, Any], **columns: str) -> str:
    """Return a row for each input; ``columns`` maps headers to the names of result fields."""
    columns = {"frames": "output_frames", **columns}
    rows = []
    for name, outcome in outcome_of.items():
        data = _data(name, outcome)
        cells = [format_value(field, data.get(field)) for field in columns.values()]
        last = data["error"].partition("\n")[0] if "error" in data else data["output"]
        rows.append([name, _state(outcome), *cells, last])
    return table(["input", "result", *columns, "output"], rows)


def _state(outcome: Any) -> str:
    if isinstance(outcome, CloudconvError):
        return "failed"
    if hasattr(outcome, "refusals"):
        return "planned"
    return ("resumed" if outcome.resumed else "done") if hasattr(outcome, "resumed") else "exists"


def _data(name: str, outcome: Any) -> dict[str, Any]:
    if isinstance(outcome, CloudconvError):
        return {"input": name, "error": outcome.text}
    return {**as_json(outcome), "exists": not hasattr(outcome, "duration")}
