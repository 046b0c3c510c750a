"""Write the report of a dream: a self-contained HTML page, and the result as JSON.

The page shows vitals: measurements of whether the dream still looks like the clip. Most vitals are
relative to the source.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from cloudconv.dreaming.vitals.vitals import VITALS, Vitals
from cloudconv.jobs.dream.plan import PAGE, RESULT, DreamResult
from cloudconv.jobs.outcome import as_json
from cloudconv.media.convert import Turn
from cloudconv.report.folder import ReportFolder
from cloudconv.report.page import Chart, Line, draw, jpeg, render, round_numbers

_POINTS = 600  # greatest number of points in a curve; a screen shows no more

_ELEMENTS = {
    **dict.fromkeys((".mp4", ".webm", ".mov"), "video"),
    **dict.fromkeys((".gif", ".webp", ".apng"), "img"),
}
"""Elements of HTML that show a video, by the end of its name."""
_NUMBER = re.compile("{[^%}]*(%?)}")  # in the text of a fault
_LINES = "dream", "lower limit", "upper limit"


def write_report(
    folder: ReportFolder,
    result: DreamResult,
    history: Sequence[Vitals],
    rows: Sequence[Vitals],
    pictures: Mapping[int, NDArray[np.uint8]],
    step: Fraction,
    turn: Turn,
) -> None:
    """Write the page and the result. The page needs no network.

    The page shows curves of ``history``, the faults of ``rows``, and all ``pictures``. A curve has
    at most ``_POINTS`` points. The keys of ``pictures`` are frame numbers, the values are (h, w, 3)
    RGB. ``step`` is the duration of a frame in seconds. ``turn`` brings all pictures upright.

    Raises:
        OutputError: a file cannot be written.
    """
    wrong = {name: text for row in rows for name, text in row.faults.items()}
    faults = ", ".join(f"{text} ({name})" for name, text in wrong.items())
    history = history[:: ceil(len(history) / _POINTS)]
    charts = [
        _chart(history, key, limits, step)
        for key, limits in result.limits.items()
        if any(row.values[key] is not None for row in history)
    ]
    shots = []
    for number, picture in pictures.items():
        samples = turn.samples(torch.from_numpy(picture).permute(2, 0, 1))
        shown = jpeg(samples.float() / 255, width=320, quality=80)
        shots.append((f"frame {number + 1}, {float(number * step):.1f} s", shown))
    page = render(
        "dream.html",
        charts,
        {},
        command="dream",
        data={
            "source": Path(result.input).name,
            "verdict": ": ".join(filter(None, [f"The new frames are {result.verdict}", faults])),
            "summary": f"{result.why} Seed {result.seed}.",
        },
        video=_video(Path(result.output), Path(result.report or "")),
        shots=shots,
        lines=[Line(name, (), color) for color, name in enumerate(_LINES)],
        drawings=[draw(chart) for chart in charts],
        meanings=[(chart.title, _NUMBER.sub(r"…\1", VITALS[chart.key].fault)) for chart in charts],
    )
    as_text = json.dumps(as_json(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    folder.put({RESULT: as_text, PAGE: page})


def _video(output: Path, folder: Path) -> dict[str, str] | None:
    """Return what the page needs to show the dream's file; None for an output of another kind."""
    if not output.is_file():
        return None
    whole = output.resolve()
    try:
        relative = os.path.relpath(whole, folder.resolve())
        address = quote(os.fsencode(Path(relative).as_posix()))
    except ValueError:  # the file is on another drive
        address = whole.as_uri()
    element = _ELEMENTS.get(output.suffix.lower(), "")
    return {"name": output.name, "address": address, "element": element}


def _chart(
    history: Sequence[Vitals], key: str, limits: Sequence[float | None], step: Fraction
) -> Chart:
    times = [float(row.end * step) for row in history]
    curves = [[row.values[key] for row in history], *([limit] * len(times) for limit in limits)]
    return Chart(
        key=key,
        title=key,
        unit="",
        digits=3,
        x=times,
        labels=[f"{time:.1f} s" for time in times],
        ticks=[(second, f"{second:g} s") for second in round_numbers(times[0], times[-1], 8)],
        lines=[
            Line(name, curve, color)
            for color, (name, curve) in enumerate(zip(_LINES, curves, strict=True))
            if any(value is not None for value in curve)
        ],
    )
