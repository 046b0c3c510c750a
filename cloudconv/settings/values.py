"""Parse values of options that are not plain words or numbers, in all accepted forms."""

import errno
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, overload

from cloudconv.errors import CloudconvError, SettingsError

File: TypeAlias = Path | str  # the name of a file or folder
Files: TypeAlias = Path | str | Sequence[Path | str]  # one name, or several

Rational: TypeAlias = Fraction | float | str
"""A rate, factor or time: a number, or text as on the command line (``60000/1001``,
``1:02``)."""

Pairs: TypeAlias = Mapping[str, Any] | Sequence[str | tuple[str, Any]] | str
"""``{"level": 3}``, ``["level=3"]`` or ``"level=3"``."""


@overload
def exact(value: Rational) -> Fraction: ...
@overload
def exact(value: Rational | None) -> Fraction | None: ...
def exact(value: Rational | None) -> Fraction | None:
    """Return a rate, factor or time of checked settings as a Fraction."""
    return None if value is None else Fraction(value)


def names(value: Files) -> tuple[str, ...]:
    """Return the names in texts that commas separate, each once, in order.

    The name of an existing file is not split.
    """
    parts: list[str] = []
    for item in files(value):
        parts += [item] if os.path.isfile(item) else map(str.strip, item.split(","))
    return tuple(dict.fromkeys(filter(None, parts)))


def files(value: Files) -> tuple[str, ...]:
    """Return the names of one file or of several."""
    values = [value] if isinstance(value, str | os.PathLike) else value
    return tuple(os.fspath(path) for path in values)


def pairs(value: Pairs) -> tuple[tuple[str, str], ...]:
    """Return ``key=value`` options as pairs of text."""
    if isinstance(value, Mapping):
        return tuple((str(key), str(item)) for key, item in value.items())
    items: Iterable[Any] = [value] if isinstance(value, str) else value
    return tuple(_pair(item) for item in items)


def _pair(value: Any) -> tuple[str, str]:
    try:
        key, text = value.split("=", 1) if isinstance(value, str) else value
    except (TypeError, ValueError):
        key = text = ""
    if not str(key):
        raise SettingsError(f"not-a-pair: {value!r} is not of the form key=value.")
    return str(key), str(text)


MOST_WIND = 1000
"""The largest wind along an axis, in pixels per frame; faster objects show in one frame
only."""


def wind(value: str | Sequence[float]) -> tuple[float, float]:
    """Return ``dx,dy`` as two numbers, in pixels per frame."""
    parts = value.split(",") if isinstance(value, str) else list(value)
    try:
        across, down = (float(number) for number in parts)
        if not max(abs(across), abs(down)) <= MOST_WIND or math.isnan(across + down):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"not-a-wind: {value!r} is not of the form dx,dy: two numbers from "
            f"-{MOST_WIND} to {MOST_WIND}, in pixels per frame."
        ) from error
    return across, down


def interval(value: int | str | Sequence[int]) -> tuple[int, int]:
    """Return the smallest and the largest step: (2, 2) for ``2``, (1, 3) for ``1-3``."""
    parts: Sequence[int | str] = (value, value) if isinstance(value, int) else value
    if isinstance(value, str):
        low, dash, high = value.partition("-")
        parts = (low, high if dash else low)
    try:
        least, most = (int(number) for number in parts)
        if not 1 <= least <= most <= 1000:
            raise ValueError
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"not-an-interval: {value!r} is not a whole number from 1 to 1000, or a range "
            "of these such as 1-3."
        ) from error
    return least, most


ADVERSARIAL = "adversarial"  # the term of a loss that discriminators compute

LOSSES = ("l1", "l2", "charbonnier", "ssim", "gdl", "laplacian", "psnr", ADVERSARIAL)
"""The terms of a loss."""


def loss_terms(text: str) -> dict[str, float]:
    """Return the weight of each term of a loss: ``charbonnier+gdl`` or ``l2:1,gdl:0.5``."""
    weights: dict[str, float] = {}
    for term in text.replace("+", ",").split(","):
        name, colon, number = term.strip().partition(":")
        try:
            weight = float(number) if colon else 1.0
        except ValueError:
            weight = -1.0
        if name not in LOSSES or name in weights or not 0 < weight < float("inf"):
            raise SettingsError(
                f"unknown-loss: {term.strip()!r} is no loss: choose from "
                f"{', '.join(LOSSES)}, each once, and with a weight above 0 such as l2:0.5."
            )
        weights[name] = weight
    if [*weights] == [ADVERSARIAL]:
        raise SettingsError(
            f"adversarial-alone: The loss {ADVERSARIAL} alone judges only whether a "
            "picture looks real, not whether it is the right one: add another loss, such "
            "as l2:1,gdl:1,adversarial:0.05."
        )
    return weights


def checked(parse: Callable[[str], object]) -> Callable[[Any], str]:
    """Return a function that returns a text which ``parse`` accepts, unchanged."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"text is needed, got {value!r:.60}")
        parse(value)
        return value

    return read


def check_name(name: File) -> None:
    """Refuse the name of a file or folder that the file system does not take."""
    # On Python 3.14 Path.exists and the like are False for such names, and raise no error.
    try:
        os.lstat(name)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise CloudconvError(
                f"name-too-long: The name {name} is too long for a file: give a shorter "
                "one."
            ) from error


def as_file(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the name, or the absolute path of a file called ``-``, such as ``./-``."""
    # Path("./-") is "-", which means standard input or output.
    return name if str(name) == "-" or str(Path(name)) != "-" else Path(name).absolute()


def weights_file(value: File) -> File:
    """Return the name of a weights file, or of a folder for one."""
    if Path(value).suffix != ".safetensors" and not names_folder(value):
        raise SettingsError(
            f"not-safetensors: Weights are written as .safetensors: {value} needs that "
            "ending."
        )
    return value


PREVIEW_VIDEO = ".mp4"
PREVIEWS = (".jpg", ".jpeg", ".png", PREVIEW_VIDEO)
"""The endings of a preview: a picture, or a video."""


def preview(value: File) -> File:
    """Check and return the name of a preview."""
    if Path(value).suffix.lower() not in PREVIEWS:
        raise SettingsError(
            "not-a-preview: A preview is a picture (.jpg, .png) or a video (.mp4): "
            f"{value} needs one of these endings."
        )
    return value


def names_folder(value: File) -> bool:
    """Return whether an output is a folder: it ends in a slash, or the folder exists."""
    text = os.fspath(value)
    return text.endswith(("/", os.sep)) or os.path.isdir(text)


SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""The accepted scales; with other scales the sizes inside a network are not whole
numbers."""


def scale(value: float | str) -> float:
    """Return one of :data:`SCALES`."""
    number = float(value)
    if number not in SCALES:
        raise SettingsError(
            f"unknown-scale: The scale {value} is not one of "
            f"{', '.join([f'{accepted:g}' for accepted in SCALES])}: choose one of these."
        )
    return number


MOST_AT_ONCE = 256
"""The most threads, or processes; more may exhaust a system before the work starts."""


def workers(value: object) -> str:
    """Check and return ``local``, ``local:N``, ``ray`` or ``ray:ADDRESS``."""
    match = re.fullmatch(r"local(?::([0-9]{1,6}))?|ray(?::(.+))?", str(value))
    if match is None or (match[1] and not 1 <= int(match[1]) <= MOST_AT_ONCE):
        raise SettingsError(
            f"unknown-workers: There are no workers called {value!r}: use local, local:N "
            f"(1 to {MOST_AT_ONCE} processes on this machine), ray or ray:ADDRESS."
        )
    return str(value)


def device(value: object, choices: str = "auto, cpu, cuda, cuda:N or mps") -> str:
    """Check the form of a device's name and return the name; the device may be absent.

    A ``torch.device`` stands for its name. ``cuda:all`` stands for every GPU, where that is
    one of the ``choices``.
    """
    name = str(value)
    is_all = name == "cuda:all" and name in choices
    if not is_all and not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:[0-9]{1,4})?", name):
        raise SettingsError(
            f'unknown-device: There is no device "{name}": choose {choices}.'
        )
    return name


device_or_all = partial(device, choices="auto, cpu, cuda, cuda:N, cuda:all or mps")


Span = tuple[Fraction, Fraction]

WHOLE: tuple[Span, ...] = ((Fraction(0), Fraction(1)),)

HELD_BACK: tuple[Span, ...] = tuple(
    (Fraction(begin, 100), Fraction(begin + 6, 100)) for begin in (30, 64, 94)
)
"""Parts of each clip to validate on, if no others were given."""

HELD_LAST: tuple[Span, ...] = (
    (1 - sum((b - a for a, b in HELD_BACK), Fraction()), Fraction(1)),
)
"""The same length in one part, for clips in which three parts would be too short for a
window."""


def parse_spans(text: str) -> tuple[Span, ...]:
    """Parse one part, ``0:0.75``, or several, ``0:0.3,0.5:1``."""
    try:
        parts = (piece.split(":") for piece in text.split(","))
        spans = tuple((Fraction(begin or 0), Fraction(end or 1)) for begin, end in parts)
        edges = [*chain.from_iterable(spans)]
        if (
            edges != sorted(edges)
            or edges[0] < 0
            or edges[-1] > 1
            or any(a == b for a, b in spans)
        ):
            raise ValueError
    except (ValueError, ZeroDivisionError) as error:
        raise SettingsError(
            f"not-a-part: {text!r} is no part of a clip: give fractions of its length from "
            "0 to 1, such as 0:0.75, or several, such as 0:0.3,0.5:1."
        ) from error
    return spans


def without(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the parts of a clip that are outside of ``spans``."""
    edges = [Fraction(0), *chain.from_iterable(spans), Fraction(1)]
    return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)


def clip_files(value: Files) -> Iterator[str]:
    """Yield the path of each clip to train on, without its part and size."""
    return (split_path(text)[0] for text in files(value))


def split_path(text: str) -> tuple[str, str | None, int | None]:
    """Split ``clips[0:0.75]@480`` into path, part and size; None for what is missing.

    The name of an existing file is not split.
    """
    match = re.fullmatch(r"(.+?)(?:\[([\d.,:/]+)\])?(?:@(\d+))?", text, re.DOTALL)
    # Unlike Path.exists, this is False for a text that is too long for a file.
    if match is None or os.path.exists(text):
        return text, None, None
    return match[1], match[2], int(match[3]) if match[3] else None
