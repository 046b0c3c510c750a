"""Write the parts of warnings and errors.

A message begins with its code, a colon and a space: ``raise InputError(f"no-file: There is
no file {path}: check the name.")``. An option stands in it as the command line takes it,
``--crf`` or ``--no-resume``; :func:`in_python` writes keywords instead.
"""

import os
import re
from collections import deque
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

# Control characters that :func:`plain` escapes: C0 without the newline, DEL, C1, the marks
# that change the direction of text, and lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# A command in quotes, which stays, or a flag with or without a value.
_FLAG = re.compile(
    r"'(?:cloudconv|ray) [^']*'"
    r"|(?<![^\s(])--(no-)?([a-zA-Z][a-zA-Z-]*)(?:=([^\s,;)]*[^\s,;:.)]))?"
)


def flag(name: str) -> str:
    """Return the flag of an option from its name: ``--scene-cut``."""
    return f"--{name.replace('_', '-')}"


# Names of files that contain what looks like a flag, the latest of them.
_names = deque[str](maxlen=1000)


def keep_name(name: Path | str) -> None:
    """Keep a file name as it is in all texts, such as ``my --crf 5.mp4``."""
    if _FLAG.search(text := str(name)) and text not in _names:
        _names.append(text)


def in_python(text: str) -> str:
    """Return a text with flags as keywords: ``resume=False`` for ``--no-resume``.

    Names of files stay as they are, and their control characters are escaped.
    """
    named = [re.escape(name) for name in sorted(_names, key=len, reverse=True)]
    parts = re.split(f"({'|'.join(named)})", text) if named else [text]
    parts[::2] = [_FLAG.sub(_keyword, part) for part in parts[::2]]
    return plain("".join(parts)).replace("\n", "\\n")


def as_argument(name: Path | str) -> str:
    """Return a name as one word of a command, for the shell of this system."""
    import shlex
    import subprocess

    text = f"{name}"
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def _keyword(flag: re.Match[str]) -> str:
    off, name, value = flag.groups()
    if name is None:
        return flag[0]
    text = f"={value!r}" if value else ""
    if off:
        text = "=False"
    return f"`{name.replace('-', '_')}{text}`"


def clock(seconds: float) -> str:
    """Return a length of time for people: 8.3 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(size: float) -> str:
    """Return a number of bytes for people: 48.6 kB, 0.3 MB, 1.2 GB."""
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    if size < 1e9:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e9:.1f} GB"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 frame``, ``2 frames``."""
    return f"{number} {noun}{'s'[: number != 1]}"


def plural(number: int, one: str, several: str) -> str:
    """Return the word for the number: ``is`` or ``are``."""
    return one if number == 1 else several


def listed(items: Sequence[str], word: str) -> str:
    """Return a list for people: ``a, b or c``."""
    return f" {word} ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def shortened(items: Sequence[Any], most: int = 3) -> str:
    """Return the first ``most`` items and the number of the others: ``a, b and 3 more``."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def short(number: float) -> str:
    """Return a number without needless digits; users do not write a million as 1e+06."""
    return f"{number:.0f}" if 1e6 <= abs(number) < 1e15 else f"{number:g}"


def rate_name(rate: Fraction) -> str:
    """Return the rate as a decimal number of at most three places, such as ``119.88``.

    A rate below 1/1000 is a fraction.
    """
    if rate < Fraction(1, 1000):
        return str(rate)
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question that names the most similar known name, or nothing."""
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def plain(text: str) -> str:
    """Return the text with escapes for control characters: a terminal would act on them."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
