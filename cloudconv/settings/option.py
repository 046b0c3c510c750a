"""Declare options; everything else about an option derives from its declaration.

A settings class is a frozen dataclass whose fields are ``option(…)``. The option of the
command line, the keyword of the Python call, the row in the documents and the check of the
value all read the same field.
"""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from fractions import Fraction
from functools import cache
from itertools import chain
from numbers import Rational
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from cloudconv.errors import SettingsError
from cloudconv.messages import did_you_mean, flag, keep_name, listed
from cloudconv.settings.numbers import MOST
from cloudconv.settings.values import as_file, check_name, names, split_path

_MOST_BITS = 256  # of a number, or of numerator and denominator of a fraction


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of one option, and from ``name`` on the facts from its field.

    ``also`` is one more flag, and ``off`` one that turns a switch off. ``parse`` reads a
    value which the field's type does not describe. ``above`` is an excluded bound.
    ``shown`` is the default in words. With another value of a ``pinned`` option an
    interrupted run cannot be resumed. A ``hidden`` option has no flag.
    """

    help: str
    metavar: str = ""
    group: str = ""
    also: str = ""
    off: str = ""
    parse: Callable[[Any], Any] | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    shown: str = ""
    repeats: bool = False
    pinned: bool = True
    hidden: bool = False
    name: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    number: type[int] | type[float] | None = None
    is_switch: bool = False
    is_required: bool = False
    takes_files: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the flags on the command line; messages use the first flag."""
        name = flag(self.name)
        return (f"{name}/{self.off}" if self.off else name, *filter(None, [self.also]))

    @property
    def text(self) -> str:
        """Return the help text, with the default."""
        default = self.default
        words = self.shown
        if not words and not self.is_switch and default is not None and default != ():
            words = f"{default:g}" if isinstance(default, float) else str(default)
        text = " ".join(self.help.split())
        return f"{text} Default: {words}." if words else text

    @property
    def as_parameter(self) -> str:
        """Return the field as a part of a message: a flag, or the name if it is hidden."""
        return self.name if self.hidden else flag(self.name)

    @property
    def _is_text(self) -> bool:
        return not (self.parse or self.number or self.choices or self.is_switch)

    def _accepted(self) -> str:
        if self.is_switch or self._is_text:
            return "True or False" if self.is_switch else "text or a path"
        least = self.least
        above = self.above
        most = self.most
        number = "a whole number" if self.number is int else "a number"
        if above is not None:
            number += f" above {above}{f' and at most {most}' if most else ''}"
        else:
            number += f" of {least} or more" if most is None else f" from {least} to {most}"
        return listed(
            [*self.choices, *([number] if self.number or self.parse else [])], "or"
        )

    def _is_within(self, number: float | Fraction) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
        )

    def read(self, value: Any) -> Any:
        """Return a given value, checked and converted to its exact form.

        None gives the default.
        """
        if value is None and not self.is_required:
            return self.default
        self._check_form(value)
        if self.parse is not None:
            try:
                read = self.parse(value)
            except SettingsError as error:
                raise SettingsError(
                    f"{error.code}: {self.as_parameter}: {error.text}"
                ) from error
            except (ValueError, TypeError, OverflowError) as error:
                raise SettingsError(f"bad-value: {self.as_parameter}: {error}") from error
            if not isinstance(read, Fraction) or self._is_within(read):
                return read
        if self.is_switch and isinstance(value, bool):
            return value
        if isinstance(value, str) and value in self.choices:
            return value
        if self._is_text and isinstance(value, str | os.PathLike):
            return as_file(value) if self.takes_files else value
        number = None if self.number is None else _number(self.number, value)
        if number is not None and self._is_within(number):
            return number
        raise SettingsError(
            f"not-accepted: {self.as_parameter} must be {self._accepted()}, got "
            f"{value!s:.60}{did_you_mean(str(value), self.choices)}."
        )

    def _check_form(self, value: Any) -> None:
        if isinstance(value, Rational):
            largest = max(abs(int(value.numerator)), int(value.denominator))
            if largest.bit_length() > _MOST_BITS:
                raise SettingsError(
                    f"number-too-long: {self.as_parameter} has too many digits: give a "
                    "shorter number."
                )
        for text in _texts(value):
            try:
                content = os.fsencode(text) if self.takes_files else text.encode()
                if b"\0" in content or (self.takes_files and not content):
                    raise ValueError
            except ValueError as error:
                wrong = f"has a NUL or a character that cannot be stored, got {text!r}"
                raise SettingsError(
                    f"not-a-text: {self.as_parameter} {wrong if text else 'is empty'}: "
                    "type it again."
                ) from error
            if self.takes_files:
                keep_name(text)
                for name in names(text) if self.parse is names else [text]:
                    check_name(split_path(name)[0])


def declared(help: str, metavar: str = "", **facts: Any) -> dict[str, Option]:
    """Return the metadata of a field that is an option; see :func:`option`."""
    return {"option": Option(help, metavar, **facts)}


def option(help: str, metavar: str = "", *, default: Any = None, **facts: Any) -> Any:
    """Return a field of a settings class; ``facts`` are fields of :class:`Option`."""
    return field(default=default, metadata=declared(help, metavar, **facts))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | os.PathLike):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts(item)


def _number(kind: type[int] | type[float], value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = kind(value)
    except (ValueError, TypeError, OverflowError):
        return None
    is_usable = isinstance(number, int) or math.isfinite(number)
    return number if is_usable and (isinstance(value, str) or number == value) else None


@dataclass(frozen=True, repr=False, eq=False)
class Settings:
    """Base class of all settings, which reads and checks every value as its field declares.

    Settings with the same meaning are equal: ``fps="59.94"`` is ``fps="60000/1001"``.
    """

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """Record the names of the arguments, to which ``__init__`` adds the defaults."""
        self = super().__new__(cls)
        self._set("_arguments", (*cls.__match_args__[: len(values)], *named))
        return self

    def __post_init__(self) -> None:
        for option in fields_of(type(self)):
            self._set(option.name, option.read(getattr(self, option.name)))
        for base in reversed(type(self).__mro__):
            if "_check" in vars(base):
                vars(base)["_check"](self)

    def _check(self) -> None:
        """Raise SettingsError if two values contradict each other.

        Base classes check first.
        """

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def changed(self, **values: Any) -> Self:
        """Return a copy with other values; values that the caller gave stay given."""
        return type(self)(**{**self.passed, **values})

    @property
    def passed(self) -> dict[str, Any]:
        """Return the values that the caller has given, by name.

        :func:`dataclasses.replace` passes all values to the copy; those that differ from
        the defaults then count as given.
        """
        options = fields_of(type(self))
        given = {name: getattr(self, name) for name in vars(self)["_arguments"]}
        if len(given) < len(options):
            return given
        return {o.name: given[o.name] for o in options if given[o.name] != o.default}

    models_task: ClassVar[Any] = None
    """The task of all models that the values name; None for any."""

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return the models that the values name: names, or files of weights."""
        return ()

    def pinned(self) -> dict[str, str]:
        """Return the values that determine the result, by name, as text."""
        named = [option.name for option in fields_of(type(self)) if option.pinned]
        return {name: str(getattr(self, name)) for name in named}

    def with_defaults(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of an earlier run, with the options that it does not name.

        These options are newer than the run; their defaults have the effect that it had.
        """
        now = self.pinned()
        options = fields_of(type(self))
        usual = [o.name for o in options if getattr(self, o.name) == o.default]
        return {name: now[name] for name in usual if name in now} | dict(recorded)


def _read_fields(kind: Any) -> tuple[Option, ...]:
    hints = get_type_hints(kind)
    declared = {field.name: field for field in fields(kind)}
    annotations = map(inspect.get_annotations, kind.__mro__)
    names = dict.fromkeys(chain.from_iterable(annotations))
    return tuple(_option(declared[name], hints[name]) for name in names if name in declared)


fields_of: Callable[[Any], tuple[Option, ...]] = cache(_read_fields)
"""A function that returns the options of a settings class: its own, then the inherited
ones."""


def _option(declared: Field[Any], base: Any) -> Option:
    option: Option = declared.metadata["option"]
    kinds = get_args(base) if get_origin(base) in (Union, UnionType) else (base,)
    words = (get_args(kind) for kind in kinds if get_origin(kind) is Literal)
    number: type[int] | type[float] | None = None
    if float in kinds:
        number = float
    elif int in kinds:
        number = int
    is_required = declared.default is MISSING
    return replace(
        option,
        name=declared.name,
        default=None if is_required else declared.default,
        most=MOST if number is int and option.most is None else option.most,
        choices=tuple(chain.from_iterable(words)),
        number=number,
        is_switch=bool in kinds,
        is_required=is_required,
        takes_files=_takes_files(base),
    )


def _takes_files(kind: Any) -> bool:
    return kind is Path or any(map(_takes_files, get_args(kind)))
