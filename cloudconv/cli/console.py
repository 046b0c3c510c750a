"""Declare options for the printed output; print results on stdout and all else on stderr."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from cloudconv.cli.progress import ProgressMode
from cloudconv.cli.streams import print_message, print_result
from cloudconv.errors import SettingsError
from cloudconv.events import Warned
from cloudconv.settings import Option, Settings
from cloudconv.settings.groups import of_run

_PROGRESS = """Show progress: auto is a bar, or without a terminal a line every 10 s; json is an
object a second on stderr, for programs; off."""
_DRY_RUN = "Print the plan and stop."


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False))


@dataclass(frozen=True, kw_only=True)
class Console(Settings):
    """The options that only the command line has, and the output of every command."""

    dry_run: Annotated[bool, Option(_DRY_RUN)] = False
    progress: Annotated[ProgressMode, of_run(_PROGRESS, "HOW")] = "auto"
    json: Annotated[bool, of_run("Print one JSON object on stdout, and nothing else there.")] = (
        False
    )
    quiet: Annotated[bool, of_run("Print warnings and errors only.", also=("-q",))] = False
    verbose: Annotated[
        bool, of_run("Print versions too, and the traceback of an error.", also=("-v",))
    ] = False

    def _check(self) -> None:
        if self.quiet and self.verbose:
            raise SettingsError(
                "quiet-and-verbose: --quiet and --verbose contradict each other: give one of them."
            )

    def info(self, text: str) -> None:
        """Print a line for people, unless the console is quiet."""
        if not self.quiet:
            print_message(text)

    def detail(self, text: str) -> None:
        """Print a line that only ``--verbose`` shows."""
        if self.verbose:
            print_message(text)

    def warning(self, warned: Warned, about: str | None = None) -> None:
        """Print a warning in one line, after the name ``about`` unless the text has that name."""
        text = warned.text
        print_message(f"warning: {text if about is None or about in text else f'{about}: {text}'}")


def print_error(text: str) -> None:
    """Print a reason for the end of a command in one line."""
    print_message(f"error: {text}")
