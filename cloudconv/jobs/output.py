"""Where a job's output goes, and the clock that its times are told by."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import lcm
from pathlib import Path

from cloudconv.errors import SettingsError
from cloudconv.files import fitting
from cloudconv.media.input.images import folder_of
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.containers import default_suffix
from cloudconv.settings.values import names_folder

_MOST_TICKS = 2**31 - 1
_PRIMING = Fraction(1, 20)
"""Audio that begins at most this much before the picture is decoder priming, not content."""


def output_path(
    given: Path | str | None, input: Path | str, info: MediaInfo, tag: str, rate: Fraction | None
) -> Path:
    """Return the output's name: the given one, or ``<stem>_<tag>`` beside the input.

    A folder, one that exists or a name that ends in a slash, gets the default name. A name
    that would be too long for a file is cut.

    Raises SettingsError if the input is stdin, which has no name to build on.
    """
    if given is not None and not names_folder(given):
        return Path(given)
    if str(input) == "-":
        raise SettingsError("stdin-without-name")
    name = f"{stem_of(info.path)}_{tag}{default_suffix(info, rate)}"
    return fitting(_named_after(info.path).with_name(name) if given is None else Path(given) / name)


def part_tag(start: Fraction | None, end: Fraction | None) -> str:
    """What a default name says of a part of the input: ``_62-65.5``, ``_62-end``."""
    if start is None and end is None:
        return ""
    return f"_{float(start or 0):g}-{'end' if end is None else format(float(end), 'g')}"


def stem_of(input: Path) -> str:
    """What default names begin with: of pictures, their folder's name."""
    named = _named_after(input)
    return named.name if named.is_dir() else named.stem


def _named_after(input: Path) -> Path:
    named = folder_of(input) or input
    return named if named.name else named.resolve()


def origin(info: MediaInfo, first: Fraction) -> Fraction:
    """The source time that becomes 0: the first frame, or audio that really begins earlier."""
    begins = [s.start for s in info.streams if s.kind == "audio" and s.start is not None]
    earliest = min([first, *begins])
    return earliest if first - earliest > _PRIMING else first


def time_base(rate: Fraction | None, spans: Iterable[Fraction], offset: Fraction) -> Fraction:
    """The coarsest clock that tells every output time in whole ticks, if there is one.

    ``spans``: what all times are sums of where the rate varies. ``offset``: when the first frame
    is shown.
    """
    denominator = lcm(*(s.denominator for s in spans)) if rate is None else rate.numerator
    exact = lcm(denominator, offset.denominator)
    return Fraction(1, next((d for d in (exact, denominator) if d <= _MOST_TICKS), 1_000_000))
