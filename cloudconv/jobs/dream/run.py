"""Continue a video with new frames for any length of time.

The job first reads the material: the last frames of the source. Then the job writes the source's
frames unchanged, and the frames of the dream after them. Each new frame adds to the vitals, which
measure whether the dream still looks like the clip.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray

from cloudconv.dreaming.auto import advice
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.registry import MethodSpec
from cloudconv.dreaming.pictures import small_copy
from cloudconv.dreaming.vitals.vitals import VitalsMeter
from cloudconv.events import Finished, Job, Measured, Progress, Warned, each_once
from cloudconv.jobs.dream.plan import DreamPlan, DreamResult, decide, resolve
from cloudconv.jobs.extend.plan import enough_memory, new_frame
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.output import claim
from cloudconv.render.device import set_threads
from cloudconv.settings import DreamSettings
from cloudconv.settings.extend import AUTO

_LOOK = 20  # least number of frames between two measurements

_Small = NDArray[np.uint8]  # (h, w, 3), of the size for analysis

__all__ = ["decide", "run"]


@dataclass(slots=True)
class _Watch:
    """The measurements of a dream's new frames.

    The thread that makes the frames puts a small picture of each frame into ``smalls``. The job's
    thread measures the pictures with :meth:`measure`, while the other thread makes the next frames.
    """

    plan: DreamPlan
    mode: str
    meter: VitalsMeter
    smalls: SimpleQueue[_Small] = field(default_factory=SimpleQueue)

    @torch.inference_mode()
    def measure(self) -> list[Warned | Measured]:
        """Measure the next new frame, and return the events that follow from the vitals.

        The vitals are measured about once per second, and at the end of each window. A warning says
        which window is the first that is not like the clip.
        """
        plan, window = self.plan, self.meter.push(self.smalls.get_nowait())
        if window is None and self.meter.seen % max(_LOOK, round(1 / plan.step)):
            return []
        vitals = window or self.meter.now()
        events: list[Warned | Measured] = [Measured("vitals", vitals)]
        if window is not None and [row for row in self.meter.rows if row.failed] == [window]:
            settings, faults = plan.settings, ", ".join(window.faults.values())
            by_choice = settings.mode == AUTO and not settings.given
            instead = advice(self.mode, plan.own["material_frames"], by_choice=by_choice)
            events.append(
                Warned(
                    f"dream-dies: In the new frames {window.start + 1} to {window.end} the dream "
                    f"no longer looks like the clip ({faults}): {instead}."
                )
            )
        return events


@each_once
def run(reported: list[Warned], settings: DreamSettings) -> Job:
    """Write ``settings.input`` and a dream that continues it.

    The output appears only when it is complete.

    Yields:
        Progress, first of the analysis and then of the frames; warnings, at most one of which says
        that the dream is no longer like the clip; a measurement named ``vitals`` about once per
        second of the dream; and at the end a :class:`DreamResult`.

    Raises:
        CloudconvError: the run is not possible or fails. No output is written, and a file that
            existed before is unchanged.
    """
    began = time.monotonic()
    set_threads(settings.threads)
    yield Progress("analysing", 0, 100, unit="%")
    plan = decide(settings)
    yield from plan.warnings
    with ExitStack() as stack:
        plan, material, spec, options = resolve(plan)
        yield Progress("analysing", 50, 100, unit="%")
        stack.enter_context(claim(plan.output, overwrite=settings.overwrite))
        yield from plan.warnings
        kind = replace(
            spec.kind,
            repeats=options.loop or spec.kind.repeats,
            frames=plan.new_frames,
            follows=not (settings.loop and settings.only_new),
        )
        with torch.inference_mode():
            meter = VitalsMeter(material, kind)
        yield Progress("analysing", 100, 100, unit="%")
        watch = _Watch(plan, spec.name, meter)
        options = replace(options, frames=plan.new_frames)
        pictures = partial(_pictures, plan, material, spec, options, watch.smalls)
        fields = yield from plan.write(pictures, began, watch.measure)
        result = DreamResult(
            **fields,
            vitals=[row.as_json() for row in meter.rows],
            limits=meter.limits_as_json(),
            alive=all(row.alive for row in meter.rows),
            warnings=reported,
        )
    yield Finished(result)


def _pictures(
    plan: DreamPlan,
    material: Material,
    spec: MethodSpec,
    options: Options,
    smalls: SimpleQueue[_Small],
    first: Frame | None,
) -> Iterator[Frame]:
    """Yield the new frames, and put a small picture of each frame into ``smalls`` before."""
    with enough_memory(plan.device, plan.info):
        if options.loop and first is not None:
            options = replace(options, loop_to=rgb_of(first, plan.device))
        pictures = spec.dream(material, options)
        for _ in range(plan.new_frames):
            with torch.inference_mode():
                rgb = next(pictures)
                frame = new_frame(rgb, material.last)
                small = small_copy(rgb, material.small_size)
            smalls.put(small)
            yield frame
