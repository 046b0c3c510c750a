"""Render tasks made of frames in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from fractions import Fraction
from typing import NamedTuple

from cloudconv.media.frame import Frame
from cloudconv.media.task import Beside, Task, task_of
from cloudconv.render.renderer import Renderer


class FrameTask(NamedTuple):
    """A frame plan with its frames."""

    left: Frame
    right: Frame | None
    timestep: Fraction
    time: Fraction
    duration: Fraction
    before: Beside | None = None
    after: Beside | None = None


def render(work: Renderer, tasks: Iterable[FrameTask]) -> Generator[Frame, None, None]:
    """Yield the rendered frames of the tasks."""

    def planned() -> Generator[Task, None, None]:
        with ExitStack() as stack:
            if hasattr(tasks, "close"):
                stack.callback(tasks.close)
            for task in tasks:
                *given, before, after = task
                del task
                made = task_of(*given, before=before, after=after)
                del given, before, after
                yield made

    return work.render(planned())
