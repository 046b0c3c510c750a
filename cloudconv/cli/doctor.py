"""Define the command ``cloudconv doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, print_error, print_json
from cloudconv.cli.streams import print_result
from cloudconv.cli.text import field_rows, table
from cloudconv.events import Event, Measured, watched
from cloudconv.settings import DoctorSettings

EXAMPLES = examples(
    "cloudconv doctor",
    "cloudconv doctor --check --device cuda",
    "cloudconv doctor --check --json > report.json",
)


@with_options(DoctorSettings, runs_job=False)
def doctor(console: Console, **given: Any) -> None:
    """Describe this machine, for bug reports.

    Print versions, encoders, devices, weights, memory, and what --device auto and --precision auto
    would choose. Leave no file behind. The exit code is 1 if a problem is found.
    """
    settings = DoctorSettings(**given)
    from cloudconv.jobs.doctor import run

    def show(event: Event) -> None:
        if isinstance(event, Measured):
            console.detail(f"{event.values.name}: {event.values.status}")

    diagnosis = watched(run(settings), show)
    shown = asdict(diagnosis)
    if console.json:
        print_json(shown)
    elif not console.quiet:
        states = shown.pop("encoders")
        for label, state in {"encoders": "works", "encoders without hardware": "fails"}.items():
            shown[label] = [name for name in states if states[name] == state]
        del shown["problems"], shown["checks"]
        print_result(field_rows(shown))
        if diagnosis.checks:
            rows = [[each.name, each.status, each.detail] for each in diagnosis.checks]
            print_result(table(["check", "", ""], rows))
    failed = [f"{each.name}: {each.detail}" for each in diagnosis.checks if each.status == "failed"]
    for problem in (*diagnosis.problems, *failed):
        print_error(problem)
    if diagnosis.problems or failed:
        raise typer.Exit(1)
