"""The report of a dream: a page with its vitals, and the result as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageDraw

from cloudconv.dreaming.vitals.vitals import Sighting, Vitals
from cloudconv.dreaming.vitals.words import failures
from cloudconv.jobs.dream.settings import DreamResult
from cloudconv.report import DreamPage, Picture, ReportFolder, StrangePlace, render_dream

PAGE, RESULT = "index.html", "result.json"

_WIDTH = 320


def write_report(
    folder: ReportFolder,
    result: DreamResult,
    history: Sequence[Vitals],
    rows: Sequence[Vitals],
    step: Fraction,
) -> None:
    """Write the page and the result; ``history`` is drawn, and the strangest places of ``rows``.

    Raises:
        OutputError: it cannot be written.
    """
    alive = sum(row["alive"] for row in result.vitals)
    verdict = (
        f"The dream lives: {result.new_frames} frames"
        if result.alive
        else f"The dream lives in {alive} of {len(result.vitals)} windows of 100 frames"
    )
    wrong = {name: text for row in rows for name, text in failures(row).items()}
    faults = ", ".join(f"{text} ({name})" for name, text in wrong.items())
    page = DreamPage(
        source=Path(result.input).name,
        verdict=f"{verdict}: {faults}" if faults else verdict,
        summary=f"{result.why} Seed {result.seed}.",
        times=[float(row.end * step) for row in history],
        values=[row.values for row in history],
        limits=result.limits,
        strangest=_places([row.strangest for row in rows if row.strangest], step),
    )
    texts = {
        RESULT: json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        PAGE: render_dream(page),
    }
    folder.put(texts)


def _places(found: Sequence[Sighting], step: Fraction) -> list[StrangePlace]:
    return [
        StrangePlace(
            f"frame {place.number + 1}, {float(place.number * step):.1f} s: {place.amount:.2f}",
            _marked(place),
        )
        for place in found
    ]


def _marked(place: Sighting) -> Picture:
    whole = Image.fromarray(place.picture)
    height = max(1, round(whole.height * _WIDTH / whole.width))
    small = whole.resize((_WIDTH, height))
    x, y, across, down = place.box
    corners = x * _WIDTH, y * height, (x + across) * _WIDTH - 1, (y + down) * height - 1
    ImageDraw.Draw(small).rectangle(corners, outline="#ff3b30", width=2)
    kept = io.BytesIO()
    small.save(kept, "JPEG", quality=80)
    return Picture(kept.getvalue(), _WIDTH, height)
