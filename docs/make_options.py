"""Update the tables of options in the documents from the commands themselves.

Usage: python docs/make_options.py

The text between ``<!-- options of NAME -->`` and ``<!-- end -->`` is replaced by the
options of ``cloudconv NAME --help``. A test compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from cloudconv.cli.app import app
from cloudconv.cli.command import HEADINGS, OPTIONS

PLACE = re.compile(r"(<!-- options of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
DOCUMENTS = sorted(Path(__file__).parent.glob("*.md"))


def table(command: str) -> str:
    """Return the table of a command's options, in the order of ``--help``.

    Each row has an option's names and value, and its help text.
    """
    commands: Any = typer.main.get_command(app)
    options = [
        option
        for option in commands.commands[command].params
        if option.param_type_name == "option" and option.name != "help"
    ]
    options.sort(key=lambda option: HEADINGS.index(option.rich_help_panel or OPTIONS))
    rows = map(row, options)
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def row(option: Any) -> str:
    """Return the row of one option: its names with the value, and its help text."""
    value = "" if option.is_flag else f" {option.metavar}"
    names = [*sorted(option.opts, key=len, reverse=True), *option.secondary_opts]
    written = [f"`{name}{value if name[:2] == '--' else ''}`" for name in names]
    cells = ", ".join(written), " ".join((option.help or "").split())
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def renewed(text: str) -> str:
    """Return a document with updated tables."""
    return PLACE.sub(
        lambda found: found[1] + "\n" + table(found[2]) + "\n" + found[3], text
    )


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(renewed(document.read_text("utf-8")), "utf-8")
