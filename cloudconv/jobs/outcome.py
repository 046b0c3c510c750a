"""What every job that writes a video tells: what it would do or did."""

from __future__ import annotations

from dataclasses import dataclass

from cloudconv.events import Warned


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a plan and a result both say; the fields are keys of the command's JSON.

    ``source_frames``: how many of the source's are used. Rates are exact rationals, None where they
    vary; ``duration`` is in seconds.
    """

    input: str
    output: str
    device: str
    precision: str
    source_frames: int
    new_frames: int
    output_frames: int
    source_fps: str | None
    output_fps: str | None
    duration: float
    encoder: str
    warnings: list[Warned]
