"""Open what the plan of an interpolation names: the source, its frames and the renderer."""

from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import torch

from cloudconv.events import Warnings
from cloudconv.jobs.interp.plan import InterpPlan, refuse_many
from cloudconv.media.frames.frame import Frame, MediaInfo
from cloudconv.media.reading.source import Source
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.memory import WantedSizes, least_free_memory
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.cuts import LOOKS_BACK
from cloudconv.schedule.tasks import Request
from cloudconv.settings import exact


def open_source(plan: InterpPlan, warnings: Warnings) -> Source:
    """Return a source that decodes the requested part of the input."""
    s = plan.settings
    gpu = (plan.device.index or 0) if s.nvdec else None
    return Source(
        plan.info,
        start=exact(s.start),
        end=exact(s.end),
        threads=s.threads,
        nvdec=gpu,
        following=plan.request.end is not None and plan.request.context // 2,
        warnings=warnings,
    )


def frames_of(plan: InterpPlan, source: Source) -> Iterator[Frame]:
    """Return the source's frames.

    Raises InputError if gaps in a live source make too many frames.
    """
    start = plan.window[0] - plan.info.timing.start
    if plan.request.replaced.needs_counting:
        start = Fraction(0)
    before = LOOKS_BACK / plan.info.timing.usual_rate
    frames = source.frames(max(start - before, Fraction(0)))
    if plan.settings.many_frames or not plan.info.timing.open_ended:
        return frames
    return _limited(frames, plan.info, plan.request)


def renderer_of(plan: InterpPlan, warnings: Warnings) -> Renderer:
    """Return a renderer in this process; its batch is not chosen yet."""
    threads = plan.workers.threads(plan.settings.threads) or torch.get_num_threads()
    streams = useful_cpu_streams(torch.device(plan.workers.device), threads)
    return renderer_on(plan, plan.device, streams, warnings)


def renderer_on(
    plan: InterpPlan, device: torch.device, cpu_streams: int, warnings: Warnings
) -> Renderer:
    """Return a renderer with the model of the run on a device."""
    settings = plan.settings
    wanted = WantedSizes(
        settings.batch,
        settings.tile,
        cpu_streams,
        exposes=plan.request.shutter > 0,
    )
    request = settings.chosen_model, settings, device, plan.dtype
    judges = plan.request.shutter == 0
    return renderer_for(
        *request, wanted, judges=judges, sha256=plan.weights, warnings=warnings
    )


def decisions_of(plan: InterpPlan, renderer: Renderer) -> dict[str, Any]:
    """Choose sizes, threads and engines for all segments of the output."""
    info = plan.info
    workers = plan.workers
    at_once = 1 if workers.each_gpu else workers.count
    free = least_free_memory(plan.device) if workers.each_gpu else None
    sizes = renderer.choose_sizes(info.width, info.height, at_once, free_bytes=free)
    return {
        **asdict(sizes),
        "threads": workers.threads(plan.settings.threads),
        "engines": renderer.engines.chosen if workers.device_type == "cpu" else {},
    }


def _limited(frames: Iterator[Frame], info: MediaInfo, request: Request) -> Iterator[Frame]:
    begins = None
    for number, frame in enumerate(frames, 1):
        begins = frame.time if begins is None else begins
        refuse_many(info, request, number, frame.time + frame.duration - begins)
        yield frame
