"""What a run takes of this machine: measured on a few frames, made as the run makes them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from cloudconv.jobs.interp.output import planned
from cloudconv.jobs.interp.plan import VideoPlan
from cloudconv.media.frame import Frame
from cloudconv.media.write.containers import is_sequence
from cloudconv.media.write.names import is_stdout
from cloudconv.media.write.sink import Sink
from cloudconv.render.memory import process_memory
from cloudconv.render.pipeline import prefetch
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts
from cloudconv.timeline import FramePlan

_ROUNDS = 5
"""So many times the frames that are worked on at once; the first round is for warming up."""
_ENOUGH = 10.0
"""After so many seconds two rounds do."""
_MOST_FRAMES = 200
"""Of output, new or not: long stretches without a new frame are not waited for."""
_ENCODER_FULL = 64
"""Encoders look ahead, so only after so many frames they take the time and memory that they do."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen of ``frames`` output frames, ``new_frames`` of them new.

    ``seconds`` all of it took, with warming up; ``each_new`` is what a new frame takes with what
    goes along with it, once all is warm, ``each_other`` one that is passed through.
    ``memory_bytes``: the process's, at its most; 0 where the system does not tell.
    """

    frames: int
    new_frames: int
    seconds: float
    each_new: float
    each_other: float
    memory_bytes: int

    def expect(self, whole: Counts) -> float:
        """How many seconds all frames take."""
        new = whole.new_frames - self.new_frames
        others = whole.output_frames - self.frames - new
        return self.seconds + max(0, new) * self.each_new + max(0, others) * self.each_other


def measure(
    job: VideoPlan, renderer: Renderer, at_once: int, whole: Counts, reading: float
) -> Trial:
    """Decode, make and encode the first frames of the output; nothing of it is kept.

    Args:
        job: what is to be made.
        renderer: that makes it, its batch and tiles decided.
        at_once: how many new frames are worked on at once.
        whole: what is planned.
        reading: seconds that the source takes to be decoded and looked at.

    Raises :class:`~cloudconv.errors.CloudconvError` as a run would.
    """
    began = time.perf_counter()
    new: list[bool] = []

    def some(frames: Iterator[FramePlan]) -> Iterator[FramePlan]:
        for frame in frames:
            new.append(frame.is_new)
            yield frame
            count = sum(new)
            late = time.perf_counter() - began > _ENOUGH
            if count >= (2 if late else _ROUNDS) * at_once or len(new) == _MOST_FRAMES:
                return

    rounds: list[float] = []
    last: deque[Frame] = deque(maxlen=4)
    count = written = 0
    with planned(job) as video, ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="cloudconv-")))
        sink = Sink(
            _inside(folder, job.output),
            job.info,
            rate=job.rate,
            time_base=video.clock.time_base,
            settings=job.settings.encode,
        )
        rendered = renderer.render(some(video.frames), video.pictures)
        with sink, prefetch(rendered, 4) as frames:
            for frame in frames:
                last.append(frame.at(frame.time + video.clock.offset, frame.duration))
                sink.write(last[-1])
                count += new[written]
                if new[written] and count % at_once == 0:
                    rounds.append(time.perf_counter())
                written += 1
            made = time.perf_counter()
            end, encoded = last[-1].time, written
            lasts = last[-1].duration
            while encoded < min(_ENCODER_FULL, whole.output_frames):
                end += lasts
                last.append(last.popleft().at(end, lasts))
                sink.write(last[-1])
                encoded += 1
        ended = time.perf_counter()
    laps = [(after - before) / at_once for before, after in pairwise(rounds)]
    usual = median(laps) if laps else (made - began) / max(count, 1)
    encoding = (ended - made) / encoded
    beside = encoding * written / max(count, 1)
    return Trial(
        frames=written,
        new_frames=count,
        seconds=made - began + written * encoding,
        each_new=usual + beside if job.device.type == "cpu" else max(usual, beside),
        each_other=reading / whole.output_frames + encoding,
        memory_bytes=process_memory(peak=True) or 0,
    )


def _inside(folder: Path, output: Path) -> Path:
    """A name in the folder for an output of the same kind."""
    if is_stdout(output):
        return folder / "stdout.mkv"
    return folder / "pictures" / output.name if is_sequence(output) else folder / output.name
