"""Declare the options of ``models``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from cloudconv.errors import SettingsError
from cloudconv.messages import flag
from cloudconv.settings.option import Option, Settings
from cloudconv.settings.values import File

ONE = """Describe this model in full: a name, a file that 'cloudconv train' wrote, or a published
network's file."""
_ADD = """Add the network of this file, under --name: a published network's file, or one that
'cloudconv train' wrote."""
_NAME = "Give this name to the network of --add."
_TIMES = """With --add: whether the network makes frames at any time, or was trained for the middle
only."""
_REMOVE = "Delete the network of this name that --add has stored."
_REPLACE = "With --add, replace an added network of the same name."
_VERIFY = "Fail if a weights file is missing or its SHA-256 is not the recorded one."


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Settings):
    """The options of the command ``models``, and of :func:`cloudconv.add_model`.

    Raises:
        SettingsError: two of ``model``, ``all``, ``add`` and ``remove`` are given, ``add`` lacks a
            name, or an option belongs to ``add`` and ``add`` is not given.
    """

    model: Annotated[File | None, Option(ONE, "[NAME]", hidden=True)] = field(
        default=None, kw_only=False
    )
    all: Annotated[bool, Option("List the small research models too.")] = False
    verify: Annotated[bool, Option(_VERIFY)] = False
    add: Annotated[File | None, Option(_ADD, "FILE")] = None
    name: Annotated[str | None, Option(_NAME, "NAME")] = None
    timesteps: Annotated[Literal["any", "middle"], Option(_TIMES, "HOW")] = "any"
    remove: Annotated[str | None, Option(_REMOVE, "NAME", complete="added")] = None
    overwrite: Annotated[bool, Option(_REPLACE, also=("-y",))] = False

    def _check(self) -> None:
        chosen = {"NAME": self.model, "--all": self.all, "--add": self.add, "--remove": self.remove}
        if len(given := [option for option, value in chosen.items() if value]) > 1:
            raise SettingsError(
                f"one-of-models: {' and '.join(given)} cannot be given together: give one of them."
            )
        if self.add and not self.name:
            raise SettingsError(
                "add-needs-name: A model is added under a name: give one with --name."
            )
        for name in ("name", "timesteps", "overwrite"):
            if self.passed.get(name) and not self.add:
                raise SettingsError(
                    f"name-without-add: {flag(name)} is for a model that is added: give its file "
                    "with --add."
                )
