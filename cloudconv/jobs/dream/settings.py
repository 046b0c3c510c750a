"""How far a dream has come, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudconv.dreaming.methods.registry import METHODS, method
from cloudconv.errors import OutputError, SettingsError
from cloudconv.jobs.extend.plan import ContinueOutcome
from cloudconv.settings import DreamSettings
from cloudconv.settings.extend import AUTO

__all__ = ["AUTO", "DreamPlan", "DreamResult", "DreamSettings", "check_mode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamOutcome(ContinueOutcome):
    """What a plan and a result both say; the fields are keys of the command's JSON.

    ``why`` says what spoke for the mode. ``model``: the predictor, in a mode that takes one.
    ``material_frames``: how many frames the dream is made of. ``cut``: when the scene that they
    belong to began, in seconds from the first frame, if a cut was found.
    """

    mode: str
    why: str
    model: str | None
    seed: int
    loop: bool
    material_frames: int
    cut: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamPlan(DreamOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` are estimates for this machine.

    ``refusals``: why the run would refuse to write the output.
    """

    pix_fmt: str
    memory_bytes: int
    seconds: float
    refusals: list[OutputError]


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamResult(DreamOutcome):
    """What was done.

    ``vitals``: a row for every 100 frames. ``limits``: between which values each vital lives,
    None for no limit. ``alive``: whether all of it does. ``backwards``: the share of the new frames
    that run backwards, None in a mode that never does so. ``report``: the page, if one was wanted.
    """

    vitals: list[dict[str, Any]]
    limits: dict[str, tuple[float | None, float | None]]
    alive: bool
    backwards: float | None
    report: str | None
    wall_seconds: float
    frames_per_second: float


def check_mode(settings: DreamSettings) -> None:
    """Raise SettingsError for an unknown mode, and for an option that the mode does not have."""
    if settings.mode == AUTO:
        return
    spec = method(settings.mode)
    for name in settings.given:
        if name not in spec.options:
            takers = [other.name for other in METHODS if name in other.options]
            raise SettingsError(
                f"The mode {spec.name} has no use for `{name}`: leave it out, or choose the mode "
                f"{' or '.join(takers)}."
            )
