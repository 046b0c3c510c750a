"""Declare the options of the commands of ``models``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from cloudconv.settings.option import Option, Settings
from cloudconv.settings.values import File

_TIMES = "Say whether the network makes frames at any time, or was trained for the middle only."


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Settings):
    """The options of the command ``models``."""

    all: Annotated[bool, Option("List the small research models too.")] = False


@dataclass(frozen=True, kw_only=True)
class AddSettings(Settings):
    """The options of the command ``models add``, and of :func:`cloudconv.add_model`."""

    file: Annotated[File, Option("Add the network of this file.", "FILE", hidden=True)] = field(
        kw_only=False
    )
    name: Annotated[str, Option("Give the network this name.", "NAME", hidden=True)] = field(
        kw_only=False
    )
    timesteps: Annotated[Literal["any", "middle"], Option(_TIMES, "HOW")] = "any"
    overwrite: Annotated[
        bool, Option("Replace an added network of the same name.", also=("-y",))
    ] = False
