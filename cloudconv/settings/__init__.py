"""Declare the options of each command, each option once; import nothing heavy."""

from __future__ import annotations

from cloudconv.settings.compare import CompareSettings
from cloudconv.settings.extend import DreamSettings, ExtrapolateSettings
from cloudconv.settings.groups import EncodeSettings
from cloudconv.settings.interp import FramesSettings, InterpManySettings, InterpSettings
from cloudconv.settings.option import Option, Settings, fields_of
from cloudconv.settings.tools import DoctorSettings
from cloudconv.settings.train import TrainSettings
from cloudconv.settings.values import exact

__all__ = ["CompareSettings", "DoctorSettings", "DreamSettings", "ExtrapolateSettings"]
__all__ += ["FramesSettings", "InterpManySettings", "InterpSettings", "TrainSettings"]
__all__ += ["EncodeSettings", "Option", "Settings", "exact"]
__all__ += ["fields_of"]
