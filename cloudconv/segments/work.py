"""Render segments in worker processes, on this machine or on another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv.checkpoints import is_file_name
from cloudconv.media.output import writing
from cloudconv.media.packets import PacketSummary
from cloudconv.media.sink import SegmentSink
from cloudconv.media.source import Source
from cloudconv.pipeline import prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.renderer import Renderer
from cloudconv.segments.plan import SegmentPlan
from cloudconv.segments.render import RenderPlan, decode, render_segments
from cloudconv.segments.store import fresh_file, token_of

SegmentJob = tuple[RenderPlan, SegmentPlan]
"""A segment, and everything that is needed to render it."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment's packets: a file ``name`` in the work folder, or ``data`` from another machine."""

    summary: PacketSummary
    name: str = ""
    data: bytes = b""

    def file_in(self, folder: Path) -> Path:
        """Return the segment's file in the work folder; write the file if ``data`` has the packets.

        Raises OutputError if the file cannot be written.
        """
        if self.name:
            return folder / self.name
        file = fresh_file(folder)
        with writing(folder):
            file.write_bytes(self.data)
        return file


class SegmentWork:
    """The work of rendering segments; the model and the source remain open between two jobs."""

    def __init__(self) -> None:
        self._plan: RenderPlan | None = None
        self._renderer: Renderer | None = None
        self._source: Source | None = None

    def __call__(self, job: SegmentJob) -> Iterator[Any]:
        """Render a segment; yield its progress, warnings, and ``Finished`` with the result."""
        plan, segment = job
        source, renderer = self._opened(plan)
        with ExitStack() as stack:
            folder = plan.folder
            if token_of(folder) != plan.token:
                # A machine without access to the work folder sends the packets. With access no
                # temporary folder is made: the main process ends its workers without any cleanup.
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="cloudconv-")))

            def finish(_: object, sink: Any, summary: PacketSummary) -> SegmentResult:
                if folder == plan.folder:
                    return SegmentResult(summary, sink.file.name)
                return SegmentResult(summary, data=sink.file.read_bytes())

            frames = stack.enter_context(prefetch(decode(segment, source), 8))
            jobs = ((0, frames, SegmentSink(plan.encoding, file)) for file in [fresh_file(folder)])
            for event in render_segments(plan, jobs, renderer, finish):
                yield event.content

    def _opened(self, plan: RenderPlan) -> tuple[Source, Renderer]:
        before, self._plan = self._plan, plan
        # An equal plan keeps the batch size, which a lack of memory may have reduced.
        if self._source is None or self._renderer is None or before != plan:
            set_threads(plan.threads)
            if self._renderer is None or before is None or before.model_key != plan.model_key:
                self._renderer = None  # frees the memory for the next one
                self._renderer = plan.renderer()
            plan.apply_to(self._renderer)
            self.close()
            self._source = plan.source()
        return self._source, self._renderer

    def close(self) -> None:
        """Close the source."""
        if self._source is not None:
            self._source.__exit__()
            self._source = None

    def files(self, job: SegmentJob) -> tuple[Path, ...]:
        """Return the video and the weights file."""
        model = Path(job[0].model)
        return (job[0].info.path, *([model] if is_file_name(model) else []))

    def moved(self, job: SegmentJob, files: Mapping[Path, Path]) -> SegmentJob:
        """Return the job with the paths that its files have on another machine."""
        plan, segment = job
        model = str(files.get(Path(plan.model), plan.model))
        # A copy on another machine has another date; without a fingerprint the date is not checked.
        info = replace(plan.info, path=files[plan.info.path], fingerprint="")
        return replace(plan, info=info, model=model), segment
