"""The keywords of the Python functions: named as the commands' options, and read as these are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from cloudconv.errors import SettingsError
from cloudconv.media.write.encoder_options import EncodeSettings
from cloudconv.models import registry
from cloudconv.timeline import parse_factor, parse_rate, parse_time

Settings = TypeVar("Settings")


def names(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """One name, names joined by commas as on the command line, or a list of them."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


_ALIASES = {"multi": "factor", "framerate": "input_fps", "uhd": "UHD"}
_PARSERS: dict[str, Callable[[Any], Any]] = {
    "factor": parse_factor,
    "slowmo": parse_factor,
    "fps": parse_rate,
    "input_fps": parse_rate,
    "start": parse_time,
    "end": parse_time,
    "at": parse_time,
    "seconds": parse_time,
    "models": names,
    "against": names,
    "metrics": names,
}
_ENCODING = ("encoder", "crf", "preset", "pix_fmt", "encoder_option")


def settings_of(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """The settings that keywords ask for; None stands for not given.

    Raises:
        TypeError: there is no such keyword.
        SettingsError: a value makes no sense, or two contradict each other.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {_ALIASES.get(name, name): value for name, value in given.items() if value is not None}
    if "encode" in known and "encode" not in values:
        values["encode"] = _encoding(values)
    if "scale" in known:
        _read_shorthands(values)
    if "models" in known and "model" in values:
        values["models"] = values.pop("model")
    for name in values:
        if name not in known:
            options = sorted({*known, *_ALIASES, *_ENCODING, "quality", "UHD", "model"})
            near = difflib.get_close_matches(name, options, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"there is no option {name!r} here{hint}")
        if name in _PARSERS:
            values[name] = _PARSERS[name](values[name])
    return kind(**values)


def _encoding(values: dict[str, Any]) -> EncodeSettings:
    asked = {name: values.pop(name) for name in _ENCODING if name in values}
    more = asked.pop("encoder_option", ())
    if isinstance(more, str):
        more = [more]
    pairs = more.items() if isinstance(more, Mapping) else map(_pair, more)
    options = tuple((key, str(value)) for key, value in pairs)
    return EncodeSettings(**asked, options=options, threads=values.get("threads"))


def _pair(option: Any) -> tuple[str, Any]:
    key, value = option.partition("=")[::2] if isinstance(option, str) else option
    return key, value


def _read_shorthands(values: dict[str, Any]) -> None:
    """``UHD`` stands for a scale, ``quality`` for a model."""
    if values.pop("UHD", False) and values.setdefault("scale", 0.5) != 0.5:
        raise SettingsError(f"`UHD` means a `scale` of 0.5, which contradicts {values['scale']:g}")
    quality = values.pop("quality", None)
    if quality is None:
        return
    if "model" in values:
        raise SettingsError("`quality` chooses a model, and so does `model`: give one")
    if quality not in registry.QUALITIES:
        raise SettingsError(f"{quality!r} is none of: {', '.join(registry.QUALITIES)}")
    values["model"] = registry.QUALITIES[quality]
