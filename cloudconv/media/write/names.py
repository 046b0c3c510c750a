"""Interpret an output's name: standard output, or a pattern of numbered pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_NUMBER = re.compile(r"%(0\d+)?d")


def is_stdout(path: Path) -> bool:
    """Return whether the output is ``-``, standard output."""
    return str(path) == "-"


def has_number(path: Path) -> bool:
    """Return whether the name has exactly one number field, such as ``%05d.png``."""
    return len(_NUMBER.findall(path.name)) == 1


def numbered(path: Path, number: int) -> str:
    """Return the file name of picture ``number``."""
    return _NUMBER.sub(lambda match: f"{number:{match[1] or ''}d}", path.name)


def pictures_of(path: Path) -> Iterator[Path]:
    """Yield the existing files that match the pattern, unsorted."""
    before, _, after = _NUMBER.split(path.name)
    if path.parent.is_dir():
        for file in path.parent.iterdir():
            digits = file.name.removeprefix(before).removesuffix(after)
            if digits.isdecimal() and numbered(path, int(digits)) == file.name:
                yield file
