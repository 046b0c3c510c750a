"""Define the result of an interpolation."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cloudconv.jobs import video
from cloudconv.jobs.interp.plan import InterpPlan, parts_of
from cloudconv.media.frames.timing import constant_rate
from cloudconv.schedule.tasks import Counts
from cloudconv.timeline import output_rate


@dataclass(frozen=True, kw_only=True)
class InterpResult(video.VideoResult):
    """The result of a run; ``frames_per_second`` excludes the frames of an earlier run.

    ``held_frames`` are repeated, as at a cut or after the last frame. ``replaced`` source
    frames are made again. ``shutter`` is in degrees. ``speed`` has the parts of a speed
    that changes, see docs/json.md. ``cuts`` are the times of each new scene's first frame,
    in seconds from the input's first frame. ``doubtful`` has the number of new frames that
    a viewer sees as a guess, the number of those that are hardly seen, and the worst
    ``frames``; None if none are judged.
    """

    model: str
    held_frames: int
    replaced: int
    shutter: float | None
    speed: list[dict[str, float]] | None
    cuts: list[float]
    resumed: bool
    doubtful: dict[str, Any] | None


def counted_by(plan: InterpPlan, counts: Counts) -> dict[str, Any]:
    """Return the decided fields of the result, and those that the frames have shown."""
    first = plan.probable_start if counts.first is None else counts.first
    rate = plan.rate or counts.rate or _rate_of_part(plan, counts)
    duration = counts.output_frames / plan.rate if plan.rate else counts.duration
    return {
        **plan.facts,
        "source_frames": counts.source_frames,
        "output_frames": counts.output_frames,
        "new_frames": counts.new_frames,
        "held_frames": counts.held_frames,
        "replaced": counts.replaced,
        "cuts": [float(cut - plan.info.timing.start) for cut in counts.cuts],
        "output_fps": None if rate is None else str(rate),
        "duration": float(duration),
        "speed": parts_of(plan, first),
    }


def _rate_of_part(plan: InterpPlan, counts: Counts) -> Fraction | None:
    """Return the rate if the times of the source's part are even but for the clock."""
    request = plan.request
    if len(counts.ticks) < 2 or request.end is None:
        return None
    tick = plan.info.timing.time_base
    length = request.shows.source(counts.duration)
    rate = constant_rate(counts.ticks, tick)
    # The last frame lasts longer.
    if rate is None or length > len(counts.ticks) / rate + tick:
        return None
    return output_rate(request.rate, rate, request.shows)
