"""Interpret the name of an input or output: standard streams, and patterns of numbered pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NUMBER = re.compile(r"((?:[^%]|%%)*)%0?(\d{0,2})d((?:[^%]|%%)*)")


class Numbered(NamedTuple):
    """The parts of a pattern such as ``%05d.png``: the number has ``width`` digits or more."""

    before: str
    width: int
    after: str

    def name(self, number: int) -> str:
        """Return the file name of picture ``number``."""
        return f"{self.before}{number:0{self.width or 1}d}{self.after}"

    def matching(self) -> re.Pattern[str]:
        """Return an expression for the file names of all pictures."""
        return re.compile(
            rf"{re.escape(self.before)}(\d{{{self.width or 1},}}){re.escape(self.after)}"
        )


def is_stdout(path: Path) -> bool:
    """Return whether the output is ``-``, standard output."""
    return str(path) == "-"


def numbered(path: Path) -> Numbered | None:
    """Return the pattern of a name with exactly one number field; ``%%`` stands for a ``%``."""
    if (match := _NUMBER.fullmatch(path.name)) is None:
        return None
    before, width, after = match.groups()
    return Numbered(before.replace("%%", "%"), int(width or 0), after.replace("%%", "%"))


def pictures_of(path: Path) -> Iterator[Path]:
    """Yield the existing files that match an output's pattern, unsorted."""
    pattern = numbered(path)
    if pattern is not None and path.parent.is_dir():
        for file in path.parent.iterdir():
            match = pattern.matching().fullmatch(file.name)
            if match and pattern.name(int(match[1])) == file.name:
                yield file
