"""The report of a dream: a page with its vitals, and the result as JSON."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from cloudconv.dreaming.vitals import Vitals
from cloudconv.errors import OutputError
from cloudconv.report import DreamPage, render_dream

if TYPE_CHECKING:
    from cloudconv.jobs.dream import DreamResult

PAGE, RESULT = "index.html", "result.json"


def check_report(folder: Path | str | None, *, overwrite: bool) -> None:
    """Say before any work that the report cannot be written there.

    Raises:
        OutputError: it is a file, or holds a report already.
    """
    if folder is None:
        return
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: name a folder for the report.")
    if (folder / PAGE).exists() and not overwrite:
        raise OutputError(f"{folder} holds a report already ({PAGE}): add -y to replace it.")


def write_report(
    folder: Path, result: DreamResult, history: Sequence[Vitals], step: Fraction
) -> None:
    """Write the page and the result into ``folder``.

    Raises:
        OutputError: it cannot be written.
    """
    alive = sum(row["alive"] for row in result.vitals)
    verdict = (
        f"The dream lives: {result.new_frames} frames"
        if result.alive
        else f"The dream lives in {alive} of {len(result.vitals)} windows of 100 frames"
    )
    page = DreamPage(
        source=Path(result.input).name,
        verdict=verdict,
        summary=f"{result.why} Seed {result.seed}.",
        times=[float(row.end * step) for row in history],
        values=[row.values for row in history],
        limits=result.limits,
    )
    texts = {
        RESULT: json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        PAGE: render_dream(page),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".cloudconv-report-", dir=folder) as made:
            for name, text in texts.items():
                (Path(made) / name).write_text(text, encoding="utf-8")
            for name in texts:
                os.replace(Path(made) / name, folder / name)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error
