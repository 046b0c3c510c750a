"""``cloudconv doctor``."""

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
    from cloudconv.jobs.self_test import Check as Checked

EXAMPLES = examples(
    "cloudconv doctor",
    "cloudconv doctor --check --device cuda",
    "cloudconv doctor --check --json > report.json",
)


@with_options(DoctorSettings)
def doctor(console: Console, **given: Any) -> None:
    """Show what this machine has, and what auto would choose.

    FFmpeg, encoders, devices, weights and memory. For bug reports: nothing is written. The exit
    code is 1 if something is amiss.
    """
    settings = DoctorSettings(**given)
    from cloudconv.jobs.doctor import run

    def show(event: Event) -> None:
        if isinstance(event, Measured):
            _tell(console, event.values)

    found = watched(run(settings), show)
    if console.json:
        print_json(asdict(found))
    elif not console.quiet:
        print_result(_in_full(found))
        rows = [[each.name, _SHOWN[each.status], each.detail] for each in found.checks]
        print_result(table(["check", "", ""], rows) if rows else "")
    failed = [f"{each.name}: {each.detail}" for each in found.checks if each.status == "failed"]
    for problem in (*found.problems, *failed):
        console.error(problem)
    if found.problems or failed:
        raise typer.Exit(1)


_SHOWN = {"ok": "ok", "failed": "failed", "absent": "not here"}


def _tell(console: Console, check: Checked) -> None:
    console.detail(f"{check.name}: {_SHOWN[check.status]}")


def _in_full(found: Diagnosis) -> str:
    memory = found.memory_free_bytes
    rows = [
        ["cloudconv", found.cloudconv],
        ["Python", found.python],
        ["system", found.system],
        ["processor", f"{found.processor}, {found.cores} cores to use"],
        ["free memory", "unknown" if memory is None else megabytes(memory)],
        ["free disk", megabytes(found.disk_free_bytes)],
        ["packages", _listed(found.packages)],
        ["extras", _named(found.extras)],
        ["FFmpeg", _listed(found.ffmpeg)],
        *_encoders(found.encoders),
        ["filters", _named(found.filters)],
        *(["device", _device(device)] for device in found.devices),
        ["weights", ", ".join(f"{count} {state}" for state, count in found.weights.items())],
        *_auto(found.auto),
    ]
    return table(rows[0], rows[1:])


def _encoders(states: dict[str, str]) -> list[list[str]]:
    lines = []
    for label, state in (("encoders", "works"), ("without hardware", "fails")):
        names = [name for name, found in states.items() if found == state]
        if names:
            lines.append([label, ", ".join(names)])
    return lines


def _device(device: dict[str, Any]) -> str:
    text = f"{device['name']}: {device['description']}"
    if device.get("free_bytes"):
        text += f", {megabytes(device['free_bytes'])} free"
    if device.get("fast_bf16"):
        text += ", fast bf16"
    return text


def _auto(auto: dict[str, Any]) -> list[list[str]]:
    rows = [["auto: model", auto["model"]], ["auto: threads", str(auto["threads"])]]
    if "device" in auto:
        rows.append(["auto: device", f"{auto['device']}, {auto['precision']}"])
    for name, size in auto.get("sizes", {}).items():
        how = "whole frames" if size["tile"] is None else f"tiles of {size['tile']} pixels"
        rows.append(
            [
                f"auto: {name}",
                f"batch {size['batch']}, {how}, about {megabytes(size['memory_bytes'])}",
            ]
        )
    rows.append(["auto: encoders", _listed(auto["encoders"])])
    return rows


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _named(values: dict[str, bool]) -> str:
    return ", ".join(name if here else f"no {name}" for name, here in values.items())
