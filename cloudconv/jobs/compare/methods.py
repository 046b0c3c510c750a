"""Make frames by each compared method."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.events import Warnings
from cloudconv.jobs.compare.plan import ComparePlan, Excerpt
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame
from cloudconv.models import registry
from cloudconv.models.base import Predictor
from cloudconv.render.device import choose_device, choose_precision
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.tasks import outer_frame
from cloudconv.timeline import Task
from cloudconv.transfer import download, upload


def as_rgb(frame: Frame) -> Tensor:
    """Return a frame for scoring: (3, H, W) float32 RGB, rounded to 8 bits, in [0, 1]."""
    return metrics.eight_bit(rgb_of(frame))


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A kept source frame, or a frame that a method made.

    ``frame`` is None for a forecast.
    """

    rgb: Tensor
    frame: Frame | None = None


TimedFrame = tuple[ShownFrame, float]
"""A frame that a method made, and the seconds that it took."""

Make = Callable[[Excerpt, Tensor], Iterator[TimedFrame]]
"""A function that yields a frame for each scored frame of an excerpt; the tensor has the
kept frames before as RGB."""


def method(model: str, plan: ComparePlan, warnings: Warnings) -> Make:
    """Load the model of a method: a name, or a file."""
    device = choose_device(str(plan.device))
    model, settings = plan.settings.of_method(model)
    spec = registry.spec(model, plan.settings.models_task)
    dtype = choose_precision(settings.precision, device, spec)
    if plan.forecasts:
        return partial(_predicted, registry.load_predictor(model, device, dtype), device)
    # Options that the model does not support are left out.
    renderer = renderer_for(model, settings, device, dtype, lenient=True, warnings=warnings)
    return partial(_interpolated, renderer)


def _interpolated(
    renderer: Renderer, excerpt: Excerpt, context: Tensor
) -> Iterator[TimedFrame]:
    began = time.perf_counter()
    left, right = excerpt.frames[0], excerpt.frames[-1]
    span = right.time - left.time
    # No model makes a frame between two equal frames, as in ``interp``.
    other_side = None if left.same_picture(right) else right
    before, after = (
        None
        if other is None
        else outer_frame(other.frame, abs(other.frame.time - near.time), span)
        for other, near in ((excerpt.before, left), (excerpt.after, right))
    )
    tasks = []
    for true in (excerpt.frames[k] for k in excerpt.scored):
        times = (true.time - left.time) / span, true.time, true.duration
        tasks.append(Task(left, other_side, *times, before=before, after=after))
    frames = list(renderer.frames(tasks))
    seconds = (time.perf_counter() - began) / len(frames)
    for frame in frames:
        yield ShownFrame(as_rgb(frame), frame), seconds


def _predicted(
    model: Predictor, device: torch.device, excerpt: Excerpt, context: Tensor
) -> Iterator[TimedFrame]:
    """Yield forecasts; the predictor sees RGB rounded to 8 bits, like all scored frames."""
    (sent,) = upload([context[None]], device)
    forecasts = model.forecast(sent, len(excerpt.scored), checks=False)
    for _ in excerpt.scored:
        began = time.perf_counter()
        (rgb,) = download([next(forecasts)[0]]).planes()
        yield ShownFrame(metrics.eight_bit(rgb)), time.perf_counter() - began
