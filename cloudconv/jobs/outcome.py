"""Define what the results of all jobs that write a video share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cloudconv.events import Warned


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """The result of a run that wrote a video; the fields are keys of the command's JSON.

    Rates are exact rationals as text, such as ``30000/1001``, and None for a variable rate.
    ``source_timing`` is the source's rate in words, which name a single gap.
    ``output_bytes`` and ``bits_per_second`` (with sound) are None for standard output.
    """

    input: str
    output: str
    device: str
    precision: str
    source_frames: int
    new_frames: int
    output_frames: int
    source_fps: str | None
    source_timing: str
    output_fps: str | None
    duration: float
    encoder: str
    output_bytes: int | None
    bits_per_second: int | None
    wall_seconds: float
    frames_per_second: float
    warnings: list[Warned]


def planned(plan: Any) -> dict[str, Any]:
    """Return the JSON of a plan: the keys of the result that are decided, with warnings."""
    return {**plan.facts, "warnings": [each.text for each in plan.warnings]}


def as_json(result: Any) -> dict[str, Any]:
    """Return the JSON of a result: its fields, with warnings as sentences."""
    fields = asdict(result)
    if "warnings" in fields:
        fields["warnings"] = [each.text for each in result.warnings]
    return fields
