"""Define the reports of jobs that write a video: estimates before a run, and results after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from typing import Any

from cloudconv.errors import OutputError
from cloudconv.events import Warned


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The facts that an estimate and a result share; the fields are keys of the command's JSON.

    Rates are exact rationals as text, such as ``30000/1001``, and None for a variable rate.
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
    warnings: list[Warned]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The expected cost of a run on this machine, measured on a few frames.

    ``encoder`` and ``pix_fmt`` are None if no encoder can be used. ``refusals`` are the reasons for
    which the run would refuse to write the output.
    """

    encoder: str | None
    pix_fmt: str | None
    memory_bytes: int | None
    seconds: float | None
    refusals: list[OutputError]


@dataclass(frozen=True, kw_only=True)
class Done:
    """The facts that only a result has.

    ``output_bytes`` and ``bits_per_second`` (with sound) are None for standard output.
    """

    encoder: str
    output_bytes: int | None
    bits_per_second: int | None
    wall_seconds: float
    frames_per_second: float


def as_json(outcome: Any) -> dict[str, Any]:
    """Return the JSON of a result or an estimate: its fields, with messages as sentences."""
    messages = {
        name: [each.text for each in getattr(outcome, name)]
        for name in ("warnings", "refusals")
        if hasattr(outcome, name)
    }
    return asdict(outcome) | messages


def seconds_for(items: Iterator[Any], tried: int, total: int) -> float:
    """Return the expected seconds for ``total`` items, of which ``tried`` are made and timed."""
    times = [time.perf_counter()]
    times += [time.perf_counter() for _ in islice(items, min(tried, total))]
    ready, *more = [after - before for before, after in pairwise(times)]
    return ready + (total - 1) * (sum(more) / len(more) if more else 0.0)
