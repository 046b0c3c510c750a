"""Estimate the time, memory and disk space of an interpolation from a trial of a few frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from shutil import disk_usage
from statistics import median
from tempfile import TemporaryDirectory

from cloudconv.events import Warned
from cloudconv.jobs.interp.plan import InterpEstimate, InterpPlan, is_joinable
from cloudconv.jobs.output import expected_encoding
from cloudconv.media import pictures as images
from cloudconv.media.containers import is_sequence
from cloudconv.media.frame import Frame, FrameTask
from cloudconv.media.input import is_stdout
from cloudconv.media.output import collect_refusals
from cloudconv.media.plan import plan_encoding
from cloudconv.media.sink import Sink
from cloudconv.pipeline import drained, prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.memory import process_memory
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts, ScheduleEvents, schedule

_ROUNDS = 5
"""The number of batches in a trial; the first batch is the warm-up."""
_TRIAL_SECONDS = 10.0
"""The number of seconds after which two batches are enough for a trial."""
_MOST_FRAMES = 200
"""The largest number of output frames in a trial, also if the clip starts without new frames."""
_ENCODER_FULL = 64
"""The number of frames after which an encoder, which buffers frames, has its usual speed."""


def estimate(plan: InterpPlan) -> InterpEstimate:
    """Return the expected outcome of a run: read the source to its end, and make a few frames."""
    began = time.perf_counter()
    info, workers, settings = plan.info, plan.workers, plan.settings
    refusals = list(plan.refusals)
    set_threads(settings.threads)
    encoding, encoder_warnings = expected_encoding(plan.output, info, settings, refusals)
    events = ScheduleEvents()
    with plan.source() as source:
        opened = time.perf_counter()
        for _ in schedule(source.frames(), plan.request, events):
            pass
        reading = time.perf_counter() - opened
    *cadence, counts = drained(events)
    assert isinstance(counts, Counts)
    renderer = plan.renderer(settings.chosen_model)
    at_once = 1 if workers.each_gpu else workers.count
    sizes = renderer.choose_sizes(info.width, info.height, at_once)
    ready = time.perf_counter() - began - reading
    memory, seconds = None, None
    with collect_refusals(refusals):
        expected = measure(plan, renderer, sizes.batch * sizes.cpu_streams, counts, reading)
        peak = process_memory(peak=True) or 0
        memory = peak * (workers.count if workers.kind == "local" else 1)
        seconds = ready + expected / (workers.count if workers.each_gpu else 1)
        seconds += 60 * (settings.adapt or 0)
    disk_bytes = _disk_bytes(plan, counts)
    home = next(folder for folder in plan.output.absolute().parents if folder.is_dir())
    warnings = [*plan.warnings, *renderer.new_warnings(), *source.warnings]
    warnings += (*encoder_warnings, *(each for each in cadence if isinstance(each, Warned)))
    if disk_bytes > disk_usage(home).free:
        warnings.append(
            Warned(
                f"disk-space: The run may need about {disk_bytes / 1000000.0:.0f} MB in {home}, "
                "and less is free."
            )
        )
    return InterpEstimate(
        **plan.facts(counts),
        **encoding,
        memory_bytes=memory,
        disk_bytes=disk_bytes,
        seconds=seconds,
        warnings=list(dict.fromkeys(warnings)),
        refusals=list({str(error): error for error in refusals}.values()),
    )


def _disk_bytes(plan: InterpPlan, counts: Counts) -> int:
    read = sum(file.stat().st_size for file in images.files_of(plan.info.path))
    made = read * counts.output_frames // max(plan.info.timing.frames, 1)
    return made * 2 if is_joinable(plan.output) else made


def measure(
    plan: InterpPlan, renderer: Renderer, at_once: int, total: Counts, reading: float
) -> float:
    """Return the expected seconds to make the output by one worker, from its first frames.

    ``at_once`` new frames are made at once; ``reading`` is the time to decode and analyse the
    source.
    """
    began = time.perf_counter()
    new: list[bool] = []

    def some(tasks: Iterator[FrameTask]) -> Iterator[FrameTask]:
        for task in tasks:
            new.append(task.is_new)
            yield task
            count = sum(new)
            is_slow = time.perf_counter() - began > _TRIAL_SECONDS
            if count >= (2 if is_slow else _ROUNDS) * at_once or len(new) == _MOST_FRAMES:
                return

    rounds: list[float] = []
    last: deque[Frame] = deque(maxlen=4)
    count = written = 0
    with plan.source() as source, TemporaryDirectory(prefix="cloudconv-") as folder:
        tasks = schedule(source.frames(), plan.request)
        head = next(tasks)
        first = head.left.time
        output = plan_encoding(
            _inside(Path(folder), plan.output),
            plan.info,
            rate=plan.rate,
            time_base=plan.tick(first),
            settings=plan.settings,
        )
        rendered = renderer.render(some(chain([head], tasks)))
        with Sink(output) as sink, prefetch(rendered, 4) as frames:
            for frame in frames:
                last.append(frame.at(frame.time + plan.offset(first), frame.duration))
                sink.write(last[-1])
                count += new[written]
                if new[written] and count % at_once == 0:
                    rounds.append(time.perf_counter())
                written += 1
            made = time.perf_counter()
            end, encoded = last[-1].time, written
            duration = last[-1].duration
            while encoded < min(_ENCODER_FULL, total.output_frames):
                end += duration
                last.append(last.popleft().at(end, duration))
                sink.write(last[-1])
                encoded += 1
        ended = time.perf_counter()
    laps = [(after - before) / at_once for before, after in pairwise(rounds)]
    each_new = median(laps) if laps else (made - began) / max(count, 1)
    preparing = max(0.0, made - began - count * each_new)
    rendering = total.new_frames * each_new
    encoding = total.output_frames * (ended - made) / encoded
    # The time for new frames includes decoding. A GPU makes new frames while the CPU encodes.
    others = reading * (1 - total.new_frames / total.output_frames)
    both = rendering + encoding if plan.device.type == "cpu" else max(rendering, encoding)
    return preparing + others + both


def _inside(folder: Path, output: Path) -> Path:
    if is_stdout(output):
        return folder / "stdout.mkv"
    return folder / "pictures" / output.name if is_sequence(output) else folder / output.name
