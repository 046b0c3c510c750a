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

    ``index`` counts the source frames of the compared part from 0. ``time`` is in seconds from the
    clip's first frame. ``horizon`` is the number of frames ahead, None for a frame between two kept
    ones.
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

    ``summary`` describes the test in a line. ``model`` is the first model, and ``baseline`` the
    method with which the verdict compares it. ``methods`` are mean scores as in the command's JSON.
    ``worst`` are the frames of lowest PSNR, the worst first. ``facts`` are (name, value), and
    ``files`` the names of files beside the page. ``cuts`` are the times of the first frames of new
    scenes.
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
