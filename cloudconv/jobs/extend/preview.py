"""Show the modes of a dream of a clip, small and side by side, each with a verdict.

The modes make eight seconds of small pictures. A mode that forecasts each picture with a
network takes longer than all others, and is shown only if the settings ask for the mode.
The preview is one picture, a row for each mode, or a video. No dream is written.
"""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloudconv import files
from cloudconv.dreaming.auto import choose
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.modes import METHODS
from cloudconv.dreaming.rehearsal import Rehearsal
from cloudconv.events import Finished, Job, Measured, Progress, Warned, Warnings, reporting
from cloudconv.images import (
    as_picture,
    small_copy,
    tensor_of,
)
from cloudconv.jobs import video
from cloudconv.jobs.drawn import (
    as_shown,
    drawn_frame,
    drawn_video,
    even,
    label,
)
from cloudconv.jobs.extend.ending import gather_material, last_scene
from cloudconv.jobs.extend.faults import as_json, verdict_of
from cloudconv.jobs.extend.plan import check_sides, enough_memory, rehearsal_of
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.writing.output import check_free, check_home, claim, writing
from cloudconv.messages import plural
from cloudconv.models import registry
from cloudconv.render.device import (
    auto_warnings,
    choose_device,
    choose_precision,
    precision_name,
    set_threads,
)
from cloudconv.report.page import encoded
from cloudconv.settings import DreamSettings, exact
from cloudconv.settings.values import PREVIEW_VIDEO

SECONDS = Fraction(8)
"""The duration of each dream of a preview."""

_COLUMNS = 8  # pictures of a mode in a sheet
_MOST_FRAMES = 480  # of a mode: 8 seconds at 60 fps
_TEXT = 13  # size of the lines under the name of a mode
_LINES = 4  # their number


@dataclass(frozen=True)
class PreviewPlan:
    """The decisions before the first frame is read."""

    settings: DreamSettings
    info: MediaInfo
    output: Path
    device: torch.device
    dtype: torch.dtype
    warnings: tuple[Warned, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the fields of the result that are decided."""
        return {
            "input": str(self.settings.input),
            "preview": str(self.output),
            "device": str(self.device),
            "precision": precision_name(self.dtype),
        }


@dataclass(frozen=True, kw_only=True)
class PreviewResult(video.JobResult):
    """The result of :func:`cloudconv.dream` with ``preview``, the file that was written.

    ``mode`` is the one that ``auto`` takes, and ``why`` the reason. ``material_frames`` and
    ``cut`` are those of a dream. ``modes`` has an entry for each mode: its name ``mode``,
    whether it ``runs``, a ``verdict`` in words, the ``faults``, with times in seconds from
    the dream's first frame, ``repeats_every``, and ``left_at`` as of a dream.
    """

    input: str
    preview: str
    mode: str
    why: str
    seed: int
    material_frames: int
    cut: float | None
    modes: list[dict[str, Any]]
    output_bytes: int | None

    @property
    def summary(self) -> str:
        """Return the first clause of each verdict, in a line."""
        return "; ".join(
            f"{mode['mode']}{' (auto takes it)' * (mode['mode'] == self.mode)}: "
            f"{mode['verdict'].partition('; ')[0]}"
            for mode in self.modes
        )


class _Panel(NamedTuple):
    """The rehearsal of one mode, its entry in the JSON, its shown pictures as JPEG."""

    rehearsal: Rehearsal
    entry: dict[str, Any]
    pictures: list[bytes]

    @classmethod
    def of(cls, rehearsal: Rehearsal) -> Self:
        """Return the panel of a mode, before the pictures are made."""
        spec = rehearsal.spec
        count = len(rehearsal.material)
        runs = count >= spec.least_frames
        there = f"{plural(count, 'is', 'are')} {count}"
        needs = f"cannot run: it needs {spec.least_frames} frames, and there {there}"
        entry = {
            "mode": spec.name,
            "runs": runs,
            "verdict": "" if runs else needs,
            "repeats_every": None,
            "left_at": None,
            "faults": [],
        }
        return cls(rehearsal, entry, [])

    def judge(self, info: MediaInfo) -> None:
        """Set the verdict, when the whole dream has been measured."""
        meter = self.rehearsal.meter
        step = self.rehearsal.material.step
        # Faults have their boxes in the pixels of the video.
        faults = as_json(meter.faults, 0, 0, step, (info.height, info.width))
        every = meter.repeats_every
        repeats = "" if every is None else f"; repeats every {every:.1f} s"
        self.entry.update(faults=faults, repeats_every=every)
        self.entry["verdict"] = f"{verdict_of(faults)}{repeats}"
        if self.rehearsal.ends is not None:
            self.entry["left_at"] = float(self.rehearsal.ends - info.timing.start)


def decide(settings: DreamSettings) -> PreviewPlan:
    """Probe the input, and decide everything that does not need its frames."""
    assert settings.preview is not None
    spec = registry.spec(settings.predictor, "predict")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    info = video.probed(settings)
    output = Path(settings.preview)
    check_sides(info)
    video.check_begin(info, exact(settings.at))
    check_home(output)
    check_free(output, overwrite=settings.overwrite)
    video.check_outputs(settings, [output], [info.path])
    warnings = (*info.warnings, *auto_warnings(settings.device))
    return PreviewPlan(settings, info, output, device, dtype, warnings)


@reporting
def run(warnings: Warnings, settings: DreamSettings) -> Job:
    """Write the preview of a dream; the last event has a :class:`PreviewResult`."""
    began = time.monotonic()
    set_threads(settings.threads)
    yield Progress("analysing", 0, 100, unit="%")
    plan = decide(settings)
    warnings.add(*plan.warnings)
    with (
        claim(plan.output, overwrite=settings.overwrite),
        enough_memory(plan.device, plan.info),
    ):
        with torch.inference_mode():
            material = gather_material(
                plan.info,
                at=exact(settings.at),
                scene_cut=settings.scene_cut,
                threads=settings.threads,
            )
            start, found = last_scene(material, plan.info)
            asked = Options(_count(material.step))
            panels = [
                _Panel.of(rehearsal_of(settings, spec, plan.device, material, asked))
                for spec in METHODS
                if "model" not in spec.options
                or spec.name == settings.mode
                or settings.model
            ]
        warnings.add(*found)
        yield Progress("analysing", 100, 100, unit="%")
        yield from _dreamed(plan, [panel for panel in panels if panel.entry["runs"]])
        made = {panel.rehearsal.spec.name: panel.rehearsal for panel in panels}
        with torch.inference_mode():
            choice = choose(material, made.__getitem__)
        with writing(plan.output):
            if plan.output.suffix.lower() == PREVIEW_VIDEO:
                _write_video(plan, panels, choice.mode)
            else:
                _write_sheet(plan, panels, choice.mode)
        yield Finished(
            PreviewResult(
                **plan.facts,
                mode=choice.mode,
                why=choice.why,
                seed=settings.seed,
                material_frames=len(material),
                cut=start,
                modes=[panel.entry for panel in panels],
                output_bytes=video.size_of(plan.output, 0)["output_bytes"],
                wall_seconds=time.monotonic() - began,
                warnings=warnings,
            )
        )


@torch.inference_mode()
def _dreamed(plan: PreviewPlan, panels: list[_Panel]) -> Iterator[Progress | Measured]:
    """Make the dreams of the modes that run, and judge them."""
    is_video = plan.output.suffix.lower() == PREVIEW_VIDEO
    for place, panel in enumerate(panels):
        rehearsal = panel.rehearsal
        count = rehearsal.count
        shown = [round(k * (count - 1) / (_COLUMNS - 1)) for k in range(_COLUMNS)]
        for number, frame in enumerate(rehearsal, 1):
            if is_video or number - 1 in shown:
                size = rehearsal.film.material.size
                rgb = tensor_of(as_picture(small_copy(frame.show(), size)))
                panel.pictures.append(encoded(as_shown(rgb, plan.info), "JPEG"))
            yield Progress("rendering", place * count + number, count * len(panels))
        panel.judge(plan.info)
        yield Measured("verdict", f"{rehearsal.spec.name}: {panel.entry['verdict']}")


def _count(step: Fraction) -> int:
    """Return the number of frames of a small dream: 8 seconds, if the rate is usual."""
    return max(_COLUMNS, min(ceil(SECONDS / step), _MOST_FRAMES))


def _titled(panel: _Panel, chosen: str, width: int, lines: int) -> Tensor:
    """Return the title of a panel and its verdict, (3, h, width).

    ``chosen``: the mode that auto takes.
    """
    name = panel.rehearsal.spec.name
    high, wide = panel.rehearsal.film.material.size
    title = f"{name}{' (auto takes it)' * (name == chosen)}, {wide}x{high}"
    # A letter is about half as wide as the text is high.
    columns = max(2 * width // _TEXT - 4, 8)
    verdict = wrap(panel.entry["verdict"], columns, max_lines=lines, placeholder=" …")
    words = label(verdict + [""] * (lines - len(verdict)), width, _TEXT)
    return torch.cat([label([title], width), words], 1)


def _pictures(panels: list[_Panel], number: int) -> list[Tensor]:
    """Return a picture of each dream, (3, h, w); black if the mode cannot run."""
    jpegs = [panel.pictures[number] if panel.pictures else None for panel in panels]
    decoded = [None if data is None else _decoded(data) for data in jpegs]
    black = next(torch.zeros_like(rgb) for rgb in decoded if rgb is not None)
    return [black if rgb is None else rgb for rgb in decoded]


def _decoded(data: bytes) -> Tensor:
    return tensor_of(as_picture(np.asarray(Image.open(io.BytesIO(data)))))


def _write_sheet(plan: PreviewPlan, panels: list[_Panel], chosen: str) -> None:
    columns = [_pictures(panels, number) for number in range(_COLUMNS)]
    rows = []
    for panel, *pictures in zip(panels, *columns, strict=True):
        row = torch.cat(pictures, 2)
        rows += [_titled(panel, chosen, row.shape[2], 1), row]
    kind = "PNG" if plan.output.suffix.lower() == ".png" else "JPEG"
    files.write_whole(
        plan.output,
        encoded(torch.cat(rows, 1), kind),
        overwrite=plan.settings.overwrite,
    )


def _write_video(plan: PreviewPlan, panels: list[_Panel], chosen: str) -> None:
    step = panels[0].rehearsal.material.step
    width = _pictures(panels, 0)[0].shape[2]
    titles = [_titled(panel, chosen, width, _LINES) for panel in panels]

    def drawn(number: int) -> Tensor:
        pictures = zip(titles, _pictures(panels, number), strict=True)
        cells = [torch.cat(cell, 1) for cell in pictures]
        across = max(2, len(cells) * (len(cells) % 2))
        rows = [torch.cat(cells[k : k + across], 2) for k in range(0, len(cells), across)]
        return even(torch.cat(rows, 1))

    with drawn_video(
        plan.output, plan.info, drawn(0), 1 / step, overwrite=plan.settings.overwrite
    ) as sink:
        for number in range(_count(step)):
            sink.write(drawn_frame(drawn(number), number * step, step))
