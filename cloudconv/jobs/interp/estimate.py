"""Measure how long an interpolation takes on this machine."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from cloudconv.events import Warnings
from cloudconv.jobs.interp.opened import frames_of, open_source, renderer_of
from cloudconv.jobs.interp.plan import InterpPlan
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.messages import clock, counted
from cloudconv.render.device import set_threads
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.tasks import schedule
from cloudconv.timeline import EVEN, Multiply

_SECONDS = 10.0  # for the whole measurement, about
_TASKS = 24
_NEW = 4  # frames
_PIXELS = 400_000  # of a picture that a CPU computes for the measurement


def foresee(plan: InterpPlan) -> Iterator[dict[str, str]]:
    """Yield about how long the new frames take, by a few of them; nothing if none is new.

    Larger pictures are reduced for a CPU, and the time grows with the pixels. Those of an
    open shutter are not, because their number follows from the motion in pixels. The first
    output frames show which part of them is new; of a speed that changes, it is the slow
    part. Encoding, which goes on beside, does not count. Raises the errors of the run.
    """
    began = time.monotonic()
    set_threads(plan.settings.threads)
    unused = Warnings()
    request = plan.request
    slow = None if request.shutter else _slow_share(plan.facts["speed"])
    if slow is not None:
        request = replace(request, shows=EVEN, rate=Multiply(2))
    with open_source(plan, unused) as source:
        tasks = [*islice(schedule(frames_of(plan, source), request), _TASKS)]
    new = [task for task in tasks if task.is_new]
    if not new or slow == 0:
        return
    share = slow or len(new) / len(tasks)
    size = plan.info.width * plan.info.height
    if size > _PIXELS and plan.device.type == "cpu" and not request.shutter:
        reduced = partial(_reduced, part=(_PIXELS / size) ** 0.5)
        new = [task.of(reduced) for task in new]
    renderer = renderer_of(plan, unused)
    seconds = _timed(renderer, new[:1])  # which also starts the device
    if time.monotonic() - began + _NEW * seconds < _SECONDS:
        seconds = _timed(renderer, new[:_NEW])
    seconds *= (size / (new[0].left.width * new[0].left.height)) / plan.workers.count
    each = f"{seconds:.2g} s a new frame"
    if plan.expected is not None:
        count = round(plan.expected * share)
        here = f"about {clock(count * seconds)} here"
        each = f"{here}: {each}, {counted(count, 'new frame')}"
    yield {"time": f"{each} (measured)"}


def _slow_share(parts: Sequence[Mapping[str, float]] | None) -> float | None:
    """Return the part of the output that is slower than the source, None without speeds."""
    if not parts:
        return None
    lasts = [part["lasts"] * (part["speed"] + part["speed_at_end"] < 2) for part in parts]
    return sum(lasts) / sum(part["lasts"] for part in parts)


def _reduced(frame: Frame, part: float) -> Frame:
    # Subsampled chroma needs even sides.
    width, height = (
        max(2, round(part * side / 2) * 2) for side in (frame.width, frame.height)
    )
    return replace(frame, picture=frame.picture.reformat(width, height))


def _timed(renderer: Renderer, tasks: Sequence[FrameTask]) -> float:
    """Return the time of each new frame in seconds."""
    began = time.monotonic()
    count = sum(1 for _ in renderer.frames(iter(tasks)))
    return (time.monotonic() - began) / count
