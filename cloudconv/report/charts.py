"""Line charts as inline SVG that stretches to its box, with the labels around it as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Any

PERFECT = 100.0
_SIDE = 1000
"""Units of the drawing on each side; the box gives it its real shape."""


@dataclass(frozen=True, slots=True)
class Line:
    """One method: ``color`` is the number of its colour, the model's is 0."""

    name: str
    values: Sequence[float | None]
    color: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over ``x``.

    ``labels`` name each x for the read-out; ``ticks`` are (x, label) below the plot; ``marks`` are
    drawn as upright dashed rules.
    """

    key: str
    title: str
    unit: str
    digits: int
    x: Sequence[float]
    labels: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    marks: Sequence[float] = ()
    dots: bool = False


def steps(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers from at most ``low`` to at least ``high``."""
    span = max(high - low, 1e-9)
    size = 10 ** floor(log10(span / count))
    size = next(size * k for k in (1, 2, 5, 10) if span / (size * k) <= count)
    first, last = floor(low / size + 1e-9), ceil(high / size - 1e-9)
    return [k * size for k in range(first, max(last, first + 1) + 1)]


def thin(scores: Sequence[float | None], limit: int) -> list[int]:
    """Indices to draw when there are more points than a screen has columns.

    Neighbours are taken together and the one with the lowest score stands for them, so that bad
    frames stay in sight.
    """
    known = [PERFECT if score is None or not isfinite(score) else score for score in scores]
    size = max(1, ceil(len(known) / limit))
    groups = (range(k, min(k + size, len(known))) for k in range(0, len(known), size))
    return [min(group, key=known.__getitem__) for group in groups]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart's geometry: SVG paths on a square of ``side`` units, labels as (percent, text).

    ``lines`` are (line, path, path of its dots), the model's last: it is drawn on top.
    """

    chart: Chart
    side: int
    levels: list[tuple[str, str]]
    ticks: list[tuple[str, str]]
    grid: list[str]
    marks: list[str]
    lines: list[tuple[Line, str, str]]


def drawing(chart: Chart) -> Drawing:
    """Where everything in the chart stands."""
    low, high = _range(chart)
    levels = steps(low, high, 5)
    low, high = levels[0], levels[-1]
    left, right = (chart.x[0], chart.x[-1]) if chart.x else (0.0, 1.0)
    width = right - left or 1.0
    digits = max(0, -floor(log10(levels[1] - levels[0]) + 1e-9))

    def across(x: float) -> float:
        return (x - left) / width * _SIDE if right > left else _SIDE / 2

    def down(y: float) -> float:
        return (1 - (min(max(y, low), high) - low) / (high - low)) * _SIDE

    return Drawing(
        chart,
        _SIDE,
        [(f"{down(y) / 10:.2f}", f"{y:.{digits}f}") for y in levels],
        [(f"{across(x) / 10:.2f}", text) for x, text in chart.ticks if left <= x <= right],
        [f"M0 {down(y):.1f}H{_SIDE}" for y in levels if low < y < high],
        [f"M{across(x):.1f} 0V{_SIDE}" for x in chart.marks if left <= x <= right],
        [
            (
                line,
                _path(chart, line, across, down),
                _dots(chart, line, across, down) if chart.dots else "",
            )
            for line in sorted(chart.lines, key=lambda line: -line.color)
        ],
    )


def chart_data(chart: Chart) -> dict[str, Any]:
    """What the page's script reads of a chart, as JSON takes it."""

    def number(value: float | None) -> float | None:
        return None if value is None or not isfinite(value) else round(value, chart.digits)

    return {
        "x": chart.x,
        "labels": chart.labels,
        "digits": chart.digits,
        "unit": f" {chart.unit}" if chart.unit else "",
        "lines": [
            {
                "name": line.name,
                "color": line.color,
                "values": [number(value) for value in line.values],
            }
            for line in chart.lines
        ],
    }


def _range(chart: Chart) -> tuple[float, float]:
    """From the lowest to the highest score, perfect frames aside: they touch the upper edge."""
    known = [v for line in chart.lines for v in line.values if v is not None and isfinite(v)]
    inside = [v for v in known if v < PERFECT - 0.01] or known or [0.0, 1.0]
    return min(inside), max(inside)


def _runs(chart: Chart, line: Line) -> list[list[tuple[float, float]]]:
    """The points of a line, parted where a score is missing and at every mark."""
    runs: list[list[tuple[float, float]]] = [[]]
    marks = sorted(chart.marks)
    passed = 0
    for x, y in zip(chart.x, line.values, strict=True):
        crossed = passed
        while passed < len(marks) and marks[passed] <= x:
            passed += 1
        if (passed > crossed or y is None) and runs[-1]:
            runs.append([])
        if y is not None and isfinite(y):
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _path(
    chart: Chart, line: Line, across: Callable[[float], float], down: Callable[[float], float]
) -> str:
    parts = []
    for run in _runs(chart, line):
        points = [f"{across(x):.1f} {down(y):.1f}" for x, y in run]
        # A point alone becomes a dot: round caps show even where nothing is drawn between them.
        parts.append("M" + "L".join(points) + ("h0" if len(points) == 1 else ""))
    return "".join(parts)


def _dots(
    chart: Chart, line: Line, across: Callable[[float], float], down: Callable[[float], float]
) -> str:
    points = (point for run in _runs(chart, line) for point in run)
    return "".join(f"M{across(x):.1f} {down(y):.1f}h0" for x, y in points)
