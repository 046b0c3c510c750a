"""Declare the options of each command, each option once; import nothing heavy."""

from dataclasses import dataclass

from cloudconv.settings.compare import CompareSettings
from cloudconv.settings.extend import DreamSettings, ExtrapolateSettings
from cloudconv.settings.groups import EncodeSettings
from cloudconv.settings.interp import FramesSettings, InterpManySettings, InterpSettings
from cloudconv.settings.option import Option, Settings, fields_of, option
from cloudconv.settings.train import TrainSettings
from cloudconv.settings.values import device, exact

__all__ = [
    "CompareSettings",
    "DoctorSettings",
    "DreamSettings",
    "EncodeSettings",
    "ExtrapolateSettings",
    "FramesSettings",
    "InterpManySettings",
    "InterpSettings",
    "Option",
    "Settings",
    "TrainSettings",
    "exact",
    "fields_of",
]


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """The options of :func:`cloudconv.doctor`."""

    check: bool = option(
        """Compare frames that the device makes with those of the CPU, at every precision,
        and measure its speed; takes up to a minute.""",
        default=False,
    )
    device: str | None = option(
        "Run the check on this device: auto, cpu, cuda, cuda:N or mps.",
        "NAME",
        parse=device,
        shown="auto",
    )
