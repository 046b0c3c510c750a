"""Print results on stdout, and everything for people on stderr."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cloudconv.cli.progress import Reporter, clock, reporting
from cloudconv.cli.streams import print_result, say
from cloudconv.errors import SettingsError
from cloudconv.events import Warned
from cloudconv.messages import flag
from cloudconv.settings import Settings
from cloudconv.settings.groups import of_run

__all__ = [
    "Console",
    "as_json",
    "clock",
    "megabytes",
    "print_error",
    "print_json",
    "print_result",
    "say",
    "table",
]

_PROGRESS = """Show progress: auto is a bar, or without a terminal a line every 10 s; json is an
object a second on stderr, for programs; off."""


def as_json(result: Any) -> dict[str, Any]:
    """Return the JSON of a result or an estimate: its fields, with messages as sentences."""
    messages = {
        name: [each.text(flag) for each in getattr(result, name)]
        for name in ("warnings", "refusals")
        if hasattr(result, name)
    }
    return asdict(result) | messages


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False))


def print_error(error: str, kind: str, exit_code: int) -> None:
    """Write the error that ends a command to stdout, as JSON."""
    print_json({"error": error, "kind": kind, "exit_code": exit_code})


@dataclass(frozen=True, kw_only=True)
class Console(Settings):
    """The options of the output of every command, and the output itself."""

    progress: Annotated[Literal["auto", "json", "off"], of_run(_PROGRESS, "HOW")] = "auto"
    json: Annotated[bool, of_run("Print one JSON object on stdout, and nothing else there.")] = (
        False
    )
    quiet: Annotated[bool, of_run("Print warnings and errors only.", also=("-q",))] = False
    verbose: Annotated[
        bool, of_run("Print versions too, and the traceback of an error.", also=("-v",))
    ] = False

    def _check(self) -> None:
        if self.quiet and self.verbose:
            raise SettingsError("quiet-and-verbose")

    def info(self, text: str) -> None:
        """Print a line for people, unless the console is quiet."""
        if not self.quiet:
            say(text)

    def detail(self, text: str) -> None:
        """Print a line that only ``--verbose`` shows."""
        if self.verbose:
            say(text)

    def warning(self, warned: Warned) -> None:
        """Print a warning in one line, with the input's name once."""
        text = warned.text(flag)
        known = warned.about is None or warned.about in text
        say(f"warning: {text if known else f'{warned.about}: {text}'}")

    def error(self, text: str) -> None:
        """Print the reason for the end of a command in one line."""
        say(f"error: {text}")

    def reporting(self, label: str) -> AbstractContextManager[Reporter]:
        """Return a context that shows the progress in the form that was chosen."""
        return reporting(label, self.progress, quiet=self.quiet)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return columns aligned with spaces, for people and for ``awk`` alike."""
    lines = [header, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def megabytes(size: float) -> str:
    """Return a size for people: 10.6 MB."""
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
