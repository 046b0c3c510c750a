"""Write the report of a dream: a page, and the result as JSON.

The page shows vitals: measurements of whether the dream still looks like the clip.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cloudconv.dreaming.vitals.vitals import Sighting, Vitals
from cloudconv.dreaming.vitals.words import failures
from cloudconv.jobs.dream.settings import DreamResult
from cloudconv.jobs.outcome import as_json
from cloudconv.media.turn import Turn
from cloudconv.report.data import Picture
from cloudconv.report.dream import DreamPage, Shot, Video, render_dream
from cloudconv.report.folder import ReportFolder

PAGE, RESULT = "index.html", "result.json"

_WIDTH = 320


def write_report(
    folder: ReportFolder,
    result: DreamResult,
    history: Sequence[Vitals],
    rows: Sequence[Vitals],
    pictures: Mapping[int, NDArray[np.uint8]],
    step: Fraction,
    turn: Turn,
) -> None:
    """Write the page and the result.

    The page shows curves of ``history``, the faults and the strangest pictures of ``rows``, and all
    ``pictures``. The keys of ``pictures`` are frame numbers, the values are (h, w, 3) RGB. ``step``
    is the duration of a frame in seconds. ``turn`` brings all pictures upright.

    Raises:
        OutputError: a file cannot be written.
    """
    alive = sum(row["alive"] for row in result.vitals)
    extent = (
        f"all {result.new_frames} frames"
        if result.alive
        else f"{alive} of {len(result.vitals)} windows of 100 frames"
    )
    verdict = f"The dream looks like the clip in {extent}"
    wrong = {name: text for row in rows for name, text in failures(row).items()}
    faults = ", ".join(f"{text} ({name})" for name, text in wrong.items())
    page = DreamPage(
        source=Path(result.input).name,
        verdict=f"{verdict}: {faults}" if faults else verdict,
        summary=f"{result.why} Seed {result.seed}.",
        times=[float(row.end * step) for row in history],
        values=[row.values for row in history],
        limits=result.limits,
        shots=[_shot(number, picture, step, turn) for number, picture in pictures.items()],
        strangest=[_strangest(row.strangest, step, turn) for row in rows if row.strangest],
        video=_video(Path(result.output), Path(result.report or "")),
    )
    texts = {
        RESULT: json.dumps(as_json(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        PAGE: render_dream(page),
    }
    folder.put(texts)


def _video(output: Path, folder: Path) -> Video | None:
    """Return the dream's file for the page; None for standard output and folders of pictures."""
    if not output.is_file():
        return None
    whole = output.resolve()
    try:
        relative = os.path.relpath(whole, folder.resolve())
    except ValueError:  # the file is on another drive
        return Video(output.name, whole.as_uri())
    return Video(output.name, quote(os.fsencode(Path(relative).as_posix())))


def _shot(number: int, picture: NDArray[np.uint8], step: Fraction, turn: Turn) -> Shot:
    return Shot(_said(number, step), _small(picture, turn))


def _strangest(sighting: Sighting, step: Fraction, turn: Turn) -> Shot:
    small = Image.fromarray(sighting.picture)
    x, y, across, down = sighting.box
    corners = (x, y, x + across, y + down)
    marked = [corner * side for corner, side in zip(corners, small.size * 2, strict=True)]
    ImageDraw.Draw(small).rectangle(tuple(marked), outline="#ff3b30", width=3)
    return Shot(
        f"{_said(sighting.number, step)}: {sighting.amount:.2f}", _small(np.array(small), turn)
    )


def _said(number: int, step: Fraction) -> str:
    return f"frame {number + 1}, {float(number * step):.1f} s"


def _small(samples: NDArray[np.uint8], turn: Turn) -> Picture:
    picture = Image.fromarray(turn.samples(torch.from_numpy(samples), 0).numpy())
    height = max(1, round(picture.height * _WIDTH / picture.width))
    kept = io.BytesIO()
    picture.resize((_WIDTH, height)).save(kept, "JPEG", quality=80)
    return Picture(kept.getvalue(), _WIDTH, height)
