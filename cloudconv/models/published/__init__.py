"""Run published networks from a user's own file, recognised by names and shapes of the tensors."""

from __future__ import annotations

from cloudconv.models.published.common import NetworkSettings
from cloudconv.models.published.recognition import (
    Recognised,
    family_names,
    normalised,
    recognise,
)

__all__ = ["NetworkSettings", "Recognised", "family_names", "normalised", "recognise"]
