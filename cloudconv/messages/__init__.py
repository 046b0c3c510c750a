"""Build the text of every warning and error from its code and its parameters.

:mod:`cloudconv.messages.texts` has one template for each code. A template is a format string:

- ``{path}`` is a parameter. A sequence is joined with commas, or with the given separator:
  ``{names: and }``. With ``{names:or}`` only the last two are joined with ``or``. A parameter that
  is a message itself gives its text.
- ``{count:frame|frames}`` is ``frame`` if ``count`` is 1, otherwise ``frames``.
- ``{near:? (did you mean *?)}`` is the text after ``?``, with the parameter in the place of ``*``.
  If the parameter is None, False, or an empty text or list, the field is empty.
- ``{unfit:3}`` lists at most three items of a sequence, and the number of the others.
- ``{--crf}`` and ``{--audio=copy}`` are options, not parameters: the text has the flag ``--crf``
  on the command line, and the keyword ``crf`` in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from cloudconv.messages.texts import TEXTS

OptionFormat = Callable[[str, Any], str]
"""A function that formats an option from its name and its value (None: no particular value)."""

# Control characters that :func:`plain` escapes: C0 without the newline, DEL, C1, the marks that
# change the direction of text, and lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Values of options in templates that are not texts: no value, and the two states of a switch.
_SWITCH = {"": None, "yes": True, "no": False}


def keyword(name: str, value: Any = None) -> str:
    """Return an option in Python's form: ``resume=False``."""
    return f"`{name}`" if value is None else f"`{name}={value!r}`"


def flag(name: str, value: Any = None) -> str:
    """Return an option in the command line's form: ``--no-resume``."""
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{words}" if value else f"--no-{words}"
    return f"--{words}" if value is None else f"--{words} {value}"


class Message:
    """A text for users, as the code of a template in :data:`texts.TEXTS` and its parameters."""

    def __init__(self, code: str, /, **parameters: Any) -> None:
        """Create a message; ``code`` is a key of :data:`texts.TEXTS`."""
        self.code = code
        self.parameters: Mapping[str, Any] = parameters

    def text(self, option: OptionFormat = keyword) -> str:
        """Return the text with each option formatted by ``option``."""
        return text(self.code, self.parameters, option)

    def __str__(self) -> str:
        """Return the text with options as Python keywords."""
        return self.text()


@dataclass(frozen=True, slots=True)
class Setting:
    """An option as a parameter of a message; the text includes ``value`` unless it is None."""

    name: str
    value: Any = None

    def text(self, option: OptionFormat = keyword) -> str:
        """Return the text of the option, formatted by ``option``."""
        return option(self.name, self.value)


def text(code: str, parameters: Mapping[str, Any], option: OptionFormat = keyword) -> str:
    """Return the text of a message with each option formatted by ``option``.

    Raises:
        KeyError: the code is unknown, or a parameter is missing.
    """
    return _TemplateFormatter(option).vformat(TEXTS[code], (), parameters)


class _TemplateFormatter(Formatter):
    """A formatter of the fields that the docstring of the module describes."""

    def __init__(self, option: OptionFormat) -> None:
        self._option = option

    def parse(self, format_string: Any) -> Iterator[Any]:
        for literal, name, spec, conversion in super().parse(format_string):
            if name is not None and name.startswith("--") and spec:
                # The colon belongs to the value of an option, as in "--device=cuda:all".
                name, spec = f"{name}:{spec}", ""
            yield literal, name, spec, conversion

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if isinstance(key, str) and key.startswith("--"):
            name, _, value = key[2:].partition("=")
            return self._option(name, _SWITCH.get(value, value))
        return super().get_value(key, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("?"):
            wanted = value is not None and value is not False and value not in ("", [], ())
            return format_spec[1:].replace("*", self.format_field(value, "")) if wanted else ""
        if isinstance(value, list | tuple):
            return self._joined(value, format_spec)
        if "|" in format_spec:
            return format_spec.split("|")[bool(value != 1)]
        if hasattr(value, "text"):
            return str(value.text(self._option))
        if isinstance(value, float) and format_spec in ("", "g"):
            # Users do not write a million as 1e+06.
            return f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:g}"
        return format(value, format_spec)

    def _joined(self, values: Sequence[Any], how: str) -> str:
        shown = [self.format_field(each, "") for each in values]
        if how.isalpha() and len(shown) > 1:
            return f"{', '.join(shown[:-1])} {how} {shown[-1]}"
        if not how.isdigit():
            return (how or ", ").join(shown)
        more = len(shown) - int(how)
        return ", ".join(shown[: int(how)]) + (f" and {more} more" if more > 0 else "")


def fields_of(template: str) -> set[str]:
    """Return the names of a template's parameters."""
    named = (name for _, name, _, _ in Formatter().parse(template))
    return {name for name in named if name and not name.startswith("--")}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 frame``, ``2 frames``."""
    return f"{number} {noun}{'s'[: number != 1]}"


def closest(name: str, known: Collection[str]) -> str | None:
    """Return the most similar known name, or None if no name is similar."""
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1)), None)


def plain(text: str) -> str:
    """Return the text with control characters and undecodable bytes as escape sequences.

    File names and titles may contain such characters, and a terminal would act on them.
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
