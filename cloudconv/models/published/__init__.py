"""Run published networks from a user's own file, recognised by names and shapes of the tensors."""

from __future__ import annotations

from cloudconv.models.published.common import NetworkSettings
from cloudconv.models.published.recognition import Recognised, normalised, recognise

FAMILIES = ("RIFE", "IFRNet", "EMA-VFI", "FILM")
"""The families of networks that run, for people."""

__all__ = ["FAMILIES", "NetworkSettings", "Recognised", "normalised", "recognise"]
