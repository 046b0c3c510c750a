"""Declare the options of ``doctor`` and ``models``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cloudconv.settings import values
from cloudconv.settings.option import Settings, declared, option
from cloudconv.settings.values import File

_CHECK = """Compare frames that the device makes with those of the CPU, at every precision, and
measure its speed; takes up to a minute."""
_DEVICE = "Run the check on this device: auto, cpu, cuda, cuda:N or mps."
_TIMES = "Say whether the network makes frames at any time, or was trained for the middle only."
_REPLACE = "Replace an added network of the same name."


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """The options of :func:`cloudconv.doctor`."""

    check: bool = option(_CHECK, default=False)
    device: str | None = option(_DEVICE, "NAME", parse=values.device, shown="auto")


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Settings):
    """The options of the command ``models``."""

    all: bool = option("List the small research models too.", default=False)


@dataclass(frozen=True)
class AddSettings(Settings):
    """The options of the command ``models add``, and of :func:`cloudconv.add_model`."""

    file: File = field(metadata=declared("Add the network of this file.", "FILE", hidden=True))
    name: str = field(metadata=declared("Give the network this name.", "NAME", hidden=True))
    timesteps: Literal["any", "middle"] = option(_TIMES, "HOW", default="any")
    overwrite: bool = option(_REPLACE, also="-y", default=False)
