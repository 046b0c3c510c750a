"""What can be asked of ``dream``, how far it has come, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloudconv.dreaming.methods.base import MethodSpec
from cloudconv.dreaming.methods.registry import METHODS, method
from cloudconv.dreaming.vitals.vitals import Vitals
from cloudconv.errors import OutputError, SettingsError
from cloudconv.jobs.extend.plan import ContinueOutcome, ContinueSettings
from cloudconv.jobs.extend.plan import Progress as CommonProgress

AUTO = "auto"
"""The mode that looks at the material to choose one."""

MOST_WIND = 1000
"""Pixels a frame; what moves further is not seen twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamSettings(ContinueSettings):
    """What to do; see also :class:`ContinueSettings`.

    ``mode``: a method's name, or ``auto`` to choose by the material. ``wind``: where things move,
    (dx, dy) in pixels a frame. ``model``: a predictor, for a mode that takes one.
    ``texture_keep``: hold a rollout to the source's detail and colours. ``loop``: the last frame
    leads into the first. ``audio``: whether sound ends where the source does, or begins again.
    ``report``: a folder for a page with the vitals.
    """

    mode: str = AUTO
    model: str | None = None
    seed: int = 0
    loop: bool = False
    wind: tuple[float, float] | None = None
    texture_keep: bool = False
    audio: Literal["end", "loop"] = "end"
    report: Path | str | None = None

    def __post_init__(self) -> None:
        ContinueSettings.__post_init__(self)
        if not 0 <= self.seed < 2**64:
            raise SettingsError(f"`seed` must be from 0 to 2^64 - 1, got {self.seed}.")
        if self.wind is not None and not all(abs(part) <= MOST_WIND for part in self.wind):
            raise SettingsError(
                f"`wind` must be two numbers from -{MOST_WIND} to {MOST_WIND}, in pixels a frame, "
                f"got {self.wind[0]:g},{self.wind[1]:g}."
            )
        if self.audio not in ("end", "loop"):
            raise SettingsError(f"`audio` must be end or loop, got {self.audio!r}.")
        if self.mode != AUTO:
            _check_options(method(self.mode), self.given)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the methods' options that were given."""
        values = {"wind": self.wind, "model": self.model, "texture_keep": self.texture_keep}
        return tuple(name for name, value in values.items() if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(CommonProgress):
    """How far a run has come; ``vitals`` are those of the last frames, about once a second.

    ``analysing``: the share of the clip's analysis that is done, from 0 to 1; None afterwards.
    """

    vitals: Vitals | None
    analysing: float | None = None


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
    None for no limit. ``alive``: whether all of it does. ``report``: the page, if one was wanted.
    """

    vitals: list[dict[str, Any]]
    limits: dict[str, tuple[float | None, float | None]]
    alive: bool
    report: str | None
    wall_seconds: float
    frames_per_second: float


def _check_options(spec: MethodSpec, given: tuple[str, ...]) -> None:
    for name in given:
        if name not in spec.options:
            takers = [other.name for other in METHODS if name in other.options]
            raise SettingsError(
                f"The mode {spec.name} has no use for `{name}`: leave it out, or choose the mode "
                f"{' or '.join(takers)}."
            )
