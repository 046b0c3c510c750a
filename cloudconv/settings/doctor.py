"""Declare the options of ``doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cloudconv.errors import SettingsError
from cloudconv.settings import values
from cloudconv.settings.option import Option, Settings

_CHECK = """Compare frames that the device makes with those of the CPU, at every precision, and
measure its speed; takes up to a minute."""
_DEVICE = "Test this device with --check: auto, cpu, cuda, cuda:N or mps."


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """The options of :func:`cloudconv.doctor`."""

    check: Annotated[bool, Option(_CHECK)] = False
    device: Annotated[str | None, Option(_DEVICE, "NAME", parse=values.device, shown="auto")] = None

    def _check(self) -> None:
        if self.device is not None and not self.check:
            raise SettingsError(
                "device-without-check: --device names the device that --check tests: give both."
            )
