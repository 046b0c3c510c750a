"""Build self-contained HTML pages: templates, line charts as inline SVG, pictures as JPEG."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from math import ceil, floor, isfinite, log10
from typing import Any, TypeGuard

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv.messages import plain
from cloudconv.report.data import ReportPicture

PERFECT = 100.0
"""The score in dB of a frame that equals the original."""
_SIDE = 1000
"""Units on each side of the drawing; the box on the page sets the real proportions."""


@dataclass(frozen=True, slots=True)
class Line:
    """The scores of one method; ``color`` is the number of its colour, 0 for the model."""

    name: str
    values: Sequence[float | None]
    color: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of lines over ``x``, which ``labels`` name; ``marks`` are dashed vertical lines."""

    key: str
    title: str
    unit: str
    digits: int
    x: Sequence[float]
    labels: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    marks: Sequence[float] = ()


def round_numbers(low: float, high: float, count: int) -> list[float]:
    """Return about ``count`` round numbers that cover the range from ``low`` to ``high``."""
    span = max(high - low, 1e-9)
    size = 10 ** floor(log10(span / count))
    size = next(size * k for k in (1, 2, 5, 10) if span / (size * k) <= count)
    first, last = floor(low / size + 1e-9), ceil(high / size - 1e-9)
    return [k * size for k in range(first, max(last, first + 1) + 1)]


def draw(chart: Chart) -> dict[str, Any]:
    """Return the geometry of a chart: SVG paths, and labels as (position in percent, text)."""
    low, high = _range(chart)
    levels = round_numbers(low, high, 5)
    low, high = levels[0], levels[-1]
    left, right = (chart.x[0], chart.x[-1]) if chart.x else (0.0, 1.0)
    width = right - left or 1.0
    digits = max(0, -floor(log10(levels[1] - levels[0]) + 1e-9))

    def to_x(x: float) -> float:
        return (x - left) / width * _SIDE if right > left else _SIDE / 2

    def to_y(y: float) -> float:
        return (1 - (min(max(y, low), high) - low) / (high - low)) * _SIDE

    def path(line: Line) -> str:
        drawn = ""
        points = zip(chart.x, line.values, strict=True)
        for known, run in groupby(points, lambda point: _known(point[1])):
            if known:
                places = [f"{to_x(x):.1f} {to_y(y or 0):.1f}" for x, y in run]
                # A single point becomes a dot, because round line ends are visible even on a line
                # of length 0.
                drawn += "M" + "L".join(places) + ("h0" if len(places) == 1 else "")
        return drawn

    lines = sorted(chart.lines, key=lambda line: -line.color)  # the model's last, so on top
    return {
        "chart": chart,
        "side": _SIDE,
        "levels": [(f"{to_y(y) / 10:.2f}", f"{y:.{digits}f}") for y in levels],
        "ticks": [(f"{to_x(x) / 10:.2f}", text) for x, text in chart.ticks if left <= x <= right],
        "grid": [f"M0 {to_y(y):.1f}H{_SIDE}" for y in levels if low < y < high],
        "marks": [f"M{to_x(x):.1f} 0V{_SIDE}" for x in chart.marks if left <= x <= right],
        "lines": [(line, path(line)) for line in lines],
    }


def _known(score: float | None) -> TypeGuard[float]:
    return score is not None and isfinite(score)


def chart_data(chart: Chart) -> dict[str, Any]:
    """Return the data of a chart for the page's script, ready for JSON."""
    return {
        "x": chart.x,
        "labels": chart.labels,
        "digits": chart.digits,
        "unit": f" {chart.unit}" if chart.unit else "",
        "lines": [
            {
                "name": line.name,
                "color": line.color,
                "values": [round(v, chart.digits) if _known(v) else None for v in line.values],
            }
            for line in chart.lines
        ],
    }


def _range(chart: Chart) -> tuple[float, float]:
    """Return the lowest and the highest score; perfect frames, at the upper edge, do not count."""
    known = [v for line in chart.lines for v in line.values if _known(v)]
    inside = [v for v in known if v < PERFECT - 0.01] or known or [0.0]
    low, high = min(inside), max(inside)
    return low, high if high > low else low + 1


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("cloudconv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Escape control characters and undecodable bytes in a text that a template inserts."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(
    template: str, charts: Sequence[Chart], verdicts: Mapping[str, str], **context: Any
) -> str:
    """Return a page from the template; the page's script reads ``charts`` and ``verdicts``."""
    data = {"charts": {chart.key: chart_data(chart) for chart in charts}, "verdicts": verdicts}
    # Inside a script element only "</script" and "<!--" have a meaning.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return _templates().get_template(template).render(script_data=Markup(text), **context)


def shrunk(rgb: Tensor, width: int) -> Tensor:
    """Return a picture, (3, H, W), that is at most ``width`` pixels wide."""
    if rgb.shape[2] <= width:
        return rgb
    height = max(1, round(rgb.shape[1] * width / rgb.shape[2]))
    return functional.interpolate(rgb[None], (height, width), mode="area")[0]


def jpeg(rgb: Tensor, width: int, quality: int) -> ReportPicture:
    """Return RGB, (3, H, W) in [0, 1], as a JPEG that is at most ``width`` pixels wide."""
    shown = shrunk(rgb, width)
    samples = shown.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    data = io.BytesIO()
    Image.fromarray(samples.cpu().numpy()).save(data, "JPEG", quality=quality)
    return ReportPicture(data.getvalue(), shown.shape[2], shown.shape[1])
