"""Define the outcome of a dream, and check that its mode has the given options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudconv.dreaming.methods.registry import METHODS, method
from cloudconv.errors import SettingsError
from cloudconv.jobs.extend.plan import ExtendOutcome
from cloudconv.jobs.outcome import Done, Estimate
from cloudconv.messages import Setting
from cloudconv.settings import DreamSettings
from cloudconv.settings.extend import AUTO

__all__ = ["AUTO", "DreamEstimate", "DreamResult", "DreamSettings", "check_mode"]


@dataclass(frozen=True, kw_only=True)
class DreamOutcome(ExtendOutcome):
    """The facts that an estimate and a result share; the fields are keys of the command's JSON.

    ``why`` is the reason for the mode. ``model`` is the predictor, None in a mode without one.
    ``material_frames`` is the number of frames that the dream is made of. ``cut`` is the time of
    the cut before them, in seconds from the first frame, or None.
    """

    mode: str
    why: str
    model: str | None
    seed: int
    loop: bool
    material_frames: int
    cut: float | None


@dataclass(frozen=True, kw_only=True)
class DreamEstimate(Estimate, DreamOutcome):
    """The expected outcome and cost of a run."""


@dataclass(frozen=True, kw_only=True)
class DreamResult(Done, DreamOutcome):
    """The result of a run.

    ``vitals`` has a row for every 100 frames. ``limits`` are the lowest and highest healthy value
    of each vital, None for no limit. ``alive`` states whether all rows are within the limits.
    ``backwards`` is the fraction of new frames that run backwards, None in a mode that never runs
    backwards. ``report`` is the folder of the report, None without a report.
    """

    vitals: list[dict[str, Any]]
    limits: dict[str, tuple[float | None, float | None]]
    alive: bool
    backwards: float | None
    report: str | None


def check_mode(settings: DreamSettings) -> None:
    """Check that the mode has all options that were given.

    Raises:
        SettingsError: the mode does not have an option.
    """
    if settings.mode == AUTO:
        return
    spec = method(settings.mode)
    for name in settings.given:
        if name not in spec.options:
            takers = [other.name for other in METHODS if name in other.options]
            raise SettingsError(
                "option-of-other-mode", mode=spec.name, option=Setting(name), takers=takers
            )
