"""Declare the options of ``doctor`` and ``models``."""

from __future__ import annotations

from dataclasses import dataclass

from cloudconv.settings import values
from cloudconv.settings.option import Settings, option

_CHECK = """Compare frames that the device makes with those of the CPU, at every precision, and
measure its speed; takes up to a minute."""
_DEVICE = "Run the check on this device: auto, cpu, cuda, cuda:N or mps."


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """The options of :func:`cloudconv.doctor`."""

    check: bool = option(_CHECK, default=False)
    device: str | None = option(_DEVICE, "NAME", parse=values.device, shown="auto")


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Settings):
    """The options of the command ``models``."""

    all: bool = option("List the small research models too.", default=False)
