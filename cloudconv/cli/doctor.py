"""Define the command ``cloudconv doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, megabytes, print_json, print_result, table
from cloudconv.events import Event, Measured, watched
from cloudconv.settings import DoctorSettings

if TYPE_CHECKING:
    from cloudconv.jobs.doctor import Diagnosis

EXAMPLES = examples(
    "cloudconv doctor",
    "cloudconv doctor --check --device cuda",
    "cloudconv doctor --check --json > report.json",
)

_STATUS = {"ok": "ok", "failed": "failed", "absent": "not here"}


@with_options(DoctorSettings)
def doctor(console: Console, **given: Any) -> None:
    """Describe this machine and the choices of auto, for bug reports.

    Print FFmpeg, encoders, devices, weights and memory; write nothing. The exit code is 1 if
    a problem is found.
    """
    settings = DoctorSettings(**given)
    from cloudconv.jobs.doctor import run

    def show(event: Event) -> None:
        if isinstance(event, Measured):
            console.detail(f"{event.values.name}: {_STATUS[event.values.status]}")

    found = watched(run(settings), show)
    if console.json:
        print_json(asdict(found))
    elif not console.quiet:
        rows = _rows(found)
        print_result(table(rows[0], rows[1:]))
        rows = [[each.name, _STATUS[each.status], each.detail] for each in found.checks]
        print_result(table(["check", "", ""], rows) if rows else "")
    failed = [f"{each.name}: {each.detail}" for each in found.checks if each.status == "failed"]
    for problem in (*found.problems, *failed):
        console.error(problem)
    if found.problems or failed:
        raise typer.Exit(1)


def _rows(found: Diagnosis) -> list[list[str]]:
    memory, auto = found.memory_free_bytes, found.auto
    works, fails = (
        ", ".join(name for name, state in found.encoders.items() if state == wanted)
        for wanted in ("works", "fails")
    )
    rows = [
        ["cloudconv", found.cloudconv],
        ["Python", found.python],
        ["system", found.system],
        ["processor", f"{found.processor}, {found.cores} cores to use"],
        ["free memory", "unknown" if memory is None else megabytes(memory)],
        ["free disk", megabytes(found.disk_free_bytes)],
        ["packages", _listed(found.packages)],
        ["extras", _listed(found.extras)],
        ["FFmpeg", _listed(found.ffmpeg)],
        ["encoders", works],
        ["without hardware", fails],
        ["filters", _listed(found.filters)],
        *(["device", _device(device)] for device in found.devices),
        ["weights", ", ".join(f"{count} {state}" for state, count in found.weights.items())],
        ["auto: model", auto["model"]],
        ["auto: threads", str(auto["threads"])],
        ["auto: device", f"{auto['device']}, {auto['precision']}" if "device" in auto else ""],
        *([f"auto: {name}", _size(size)] for name, size in auto.get("sizes", {}).items()),
        ["auto: encoders", _listed(auto["encoders"])],
    ]
    return [row for row in rows if row[1]]


def _device(device: dict[str, Any]) -> str:
    free = f", {megabytes(device['free_bytes'])} free" if device.get("free_bytes") else ""
    bf16 = ", fast bf16" if device.get("fast_bf16") else ""
    return f"{device['name']}: {device['description']}{free}{bf16}"


def _size(size: dict[str, Any]) -> str:
    how = "whole frames" if size["tile"] is None else f"tiles of {size['tile']} pixels"
    return f"batch {size['batch']}, {how}, about {megabytes(size['memory_bytes'])}"


def _listed(values: dict[str, str] | dict[str, bool]) -> str:
    return ", ".join(
        (name if value else f"no {name}") if isinstance(value, bool) else f"{name} {value}"
        for name, value in values.items()
    )
