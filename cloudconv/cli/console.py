"""What the commands say: results on stdout, everything for eyes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


def print_result(text: str) -> None:
    """Write a result to stdout, at once, so that a reader who has gone is noticed here."""
    # A file name need not be text that the terminal can show.
    shown = text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding)
    sys.stdout.write(shown + "\n")
    sys.stdout.flush()


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False))


def say(text: str) -> None:
    """Write one line to stderr."""
    line = " ".join(text.split("\n"))
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Update(Protocol):
    """Moves a progress bar; ``note`` is a few words beside it."""

    def __call__(self, done: int, expected: int | None, note: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Console:
    """How much is said: ``quiet`` leaves warnings and errors, ``verbose`` adds details."""

    quiet: bool = False
    verbose: bool = False

    def info(self, text: str) -> None:
        """Say something that is only good to know."""
        if not self.quiet:
            say(text)

    def detail(self, text: str) -> None:
        """Say what only somebody who looks for a fault wants to know."""
        if self.verbose:
            say(text)

    def warning(self, text: str) -> None:
        """Say what the user should look at, in one line."""
        say(f"warning: {text}")

    def error(self, text: str) -> None:
        """Say why it ended, in one line."""
        say(f"error: {text}")

    @contextmanager
    def progress(self, label: str) -> Iterator[Update | None]:
        """A bar with rate and time left; yields ``update(done, expected, note)``.

        Yields None when nobody would see it: quiet, or stderr is no terminal.
        """
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        # Here and not above: rich costs start-up time that --help shouldn't pay.
        from rich.console import Console as RichConsole
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class RateColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{speed:.1f} frames/s")

        class LeftColumn(TimeRemainingColumn):
            def render(self, task: Task) -> Text:
                shown = super().render(task)
                return Text.assemble(shown, " left") if task.total else Text("")

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            LeftColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=RichConsole(stderr=True),
            transient=True,
        )
        with bar:
            task = bar.add_task(label, total=None, note="")

            def update(done: int, expected: int | None, note: str = "") -> None:
                bar.update(task, completed=done, total=expected, note=note)

            yield update


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
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def clock(seconds: float) -> str:
    """A length of time for people: 8.3 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
