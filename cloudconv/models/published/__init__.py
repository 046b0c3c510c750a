"""Run published networks from a user's own file, recognised by names and shapes of the tensors."""

from __future__ import annotations

from cloudconv.models.published.common import Recognised
from cloudconv.models.published.recognition import family_names, normalised, recognise

__all__ = ["Recognised", "family_names", "normalised", "recognise"]
