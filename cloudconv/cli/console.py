"""What the commands say: results on stdout, everything for eyes on stderr."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from cloudconv.cli.progress import Mode, Reporter, clock, reporting
from cloudconv.cli.streams import print_result
from cloudconv.cli.streams import tell as say
from cloudconv.events import Warned
from cloudconv.messages import flag

__all__ = [
    "Console",
    "clock",
    "megabytes",
    "print_error",
    "print_json",
    "print_result",
    "say",
    "table",
]


def as_json(result: Any) -> dict[str, Any]:
    """The JSON of a result or a plan: its fields, and its warnings as sentences."""
    data: dict[str, Any] = asdict(result)
    data["warnings"] = [warned.text(flag) for warned in result.warnings]
    if "refusals" in data:
        data["refusals"] = [error.text(flag) for error in result.refusals]
    return data


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False))


def print_error(error: str, kind: str, exit_code: int) -> None:
    """Say on stdout, as JSON, why a command ended."""
    print_json({"error": error, "kind": kind, "exit_code": exit_code})


@dataclass(frozen=True, slots=True)
class Console:
    """How much is said: ``quiet`` leaves warnings and errors, ``verbose`` adds details.

    ``how``: in which way progress is shown. ``json``: whether the result is one JSON object.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    how: Mode = "auto"

    def info(self, text: str) -> None:
        """Say something that is only good to know."""
        if not self.quiet:
            say(text)

    def detail(self, text: str) -> None:
        """Say what only somebody who looks for a fault wants to know."""
        if self.verbose:
            say(text)

    def warning(self, warned: Warned) -> None:
        """Say what the user should look at, in one line."""
        text = warned.text(flag)
        known = warned.about is None or warned.about in text
        say(f"warning: {text if known else f'{warned.about}: {text}'}")

    def error(self, text: str) -> None:
        """Say why it ended, in one line."""
        say(f"error: {text}")

    def progress(self, label: str, unit: str = "frames") -> AbstractContextManager[Reporter]:
        """Tells how far a run has come, as was asked for; see :mod:`cloudconv.cli.progress`."""
        return reporting(label, self.how, quiet=self.quiet, unit=unit)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned with spaces, for people and for ``awk`` alike."""
    lines = [header, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def megabytes(size: int) -> str:
    """A size for people: 10.6 MB."""
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
