"""Define the contents of a report as plain data."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """An encoded JPEG with its size in pixels."""

    data: bytes = field(repr=False)
    width: int
    height: int

    @property
    def uri(self) -> str:
        """Return the picture as a ``data:`` address."""
        return f"data:image/jpeg;base64,{b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Row:
    """The scores of one frame by method.

    ``index`` counts the source frames from 0, from the beginning of the compared part. ``time`` is
    in seconds from the clip's first frame. ``horizon`` is the number of frames ahead, from 1; None
    for a frame between two kept frames.
    """

    index: int
    time: Fraction
    horizon: int | None
    scores: Mapping[str, Mapping[str, float | None]]

    def gain(self, model: str, baseline: str) -> float | None:
        """Return the model's PSNR minus the baseline's, in dB; None if one made no frame."""
        own, other = (self.scores[name]["psnr"] for name in (model, baseline))
        return None if own is None or other is None else own - other

    def as_json(self) -> dict[str, Any]:
        """Return the row for ``per_frame`` in the command's JSON."""
        ahead = {} if self.horizon is None else {"horizon": self.horizon}
        return {"index": self.index, "pts_seconds": float(self.time), **ahead, **self.scores}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One frame in four pictures: the true one, the model's, the baseline's, and the error."""

    row: Row
    truth: ReportPicture
    model: ReportPicture
    baseline: ReportPicture
    error: ReportPicture


@dataclass(frozen=True, slots=True)
class ReportData:
    """All contents of a report.

    ``source`` is the clip's name. ``summary`` describes the test in a line ("one frame of every 2
    kept, 165 frames scored, 2 cuts left out"). ``model`` and ``baseline`` are names of methods: the
    first model, and the method with which the verdict compares the first model. ``metrics`` are the
    keys of the columns to show. ``methods`` are the mean scores of each method as in the command's
    JSON; forecasts have them for each number of frames ahead. ``worst`` are the frames of lowest
    PSNR, the worst first. ``facts`` describe the measurement as (name, value). ``files`` are the
    names of files beside the page. ``rows`` are the scored frames in order of time, and ``cuts``
    the times of the first frames of new scenes.
    """

    source: str
    verdict: str
    summary: str
    model: str
    baseline: str
    metrics: tuple[str, ...]
    methods: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...] = ()
    cuts: tuple[Fraction, ...] = ()
    worst: tuple[Comparison, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    @property
    def horizons(self) -> tuple[int, ...]:
        """Return the scored horizons in order; empty unless the report is about forecasts."""
        return tuple(int(key) for key in self.methods[self.model] if key.isdigit())
