"""Write reports as one HTML page each, with a chart as inline SVG."""

import io
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby
from math import ceil, floor, inf, isfinite, log10
from typing import Any, TypeGuard

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv.messages import plain
from cloudconv.metrics import PERFECT
from cloudconv.report import data as contents
from cloudconv.report.data import (
    Card,
    Column,
    Page,
    ReportPicture,
    Row,
    ScorePage,
    frames_ahead,
)

_COLORS = 8
_SIDE = 1000
"""Units on each side of the drawing, and the most frames that it shows; the box on the page
sets the real proportions."""


Line = tuple[str, int, Sequence[float | None]]
"""A method, the number of its colour, 0 for the model, and its scores."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of PSNR over ``x``, which ``labels`` name.

    ``marks`` are dashed vertical lines.
    """

    title: str
    x: Sequence[float]
    labels: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    marks: Sequence[float] = ()


def render(data: Page) -> str:
    """Return the page as HTML. It needs no network; with scores it runs one script."""
    if not isinstance(data, ScorePage):
        return _templates().get_template("places.html").render(data=data, script_data="")
    columns = [contents.COLUMNS[key] for key in data.metrics]
    names = dict.fromkeys([data.model, data.baseline, *data.methods])
    colors = {name: k % _COLORS for k, name in enumerate(names)}
    chart = _chart(data, colors)
    script = {
        "chart": None if chart is None else _chart_data(chart),
        "verdicts": {card.key: card.words for card in data.cards},
    }
    # Inside a script element only "</script" and "<!--" have a meaning.
    text = json.dumps(script, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )

    def missing_of(name: str) -> int:
        return sum(row.scores[name]["psnr"] is None for row in data.rows)

    missing = {name: missing_of(name) for name in data.methods}
    page = _templates().get_template("compare.html")
    return page.render(
        script_data=Markup(text),
        data=data,
        columns=columns,
        colors=colors,
        frame_time=contents.frame_time,
        missing=missing,
        rows=contents.marked({column.key: column for column in columns}, data.methods),
        horizon_tables=[(column, _by_horizon(data, column)) for column in columns],
        drawing=None if chart is None else draw(chart),
    )


def _chart(data: ScorePage, colors: Mapping[str, int]) -> Chart | None:
    """Return the chart over time, or over the frames ahead; None without scored frames."""
    steps = data.horizons
    rows = _drawn(data)
    lines: list[Line] = []
    if steps:
        for name, by_step in data.methods.items():
            values = [by_step[str(step)].get("psnr") for step in steps]
            lines.append((name, colors[name], values))
        labels = [frames_ahead(step) for step in steps]
        ticks = [(step, str(step)) for step in steps[:: ceil(len(steps) / 12)]]
        return Chart("PSNR by frames ahead", steps, labels, ticks, lines)
    if not rows:
        return None
    for name in data.methods:
        values = [row.scores[name]["psnr"] for row in rows]
        lines.append((name, colors[name], values))
    times = [round(float(row.time), 6) for row in rows]
    labels = [f"{float(row.time):.3f} s, frame {row.index}" for row in rows]
    times_named = [(t, f"{t:g} s") for t in round_numbers(times[0], times[-1], 8)]
    marks = [float(cut) for cut in data.cuts]
    return Chart("PSNR", times, labels, times_named, lines, marks)


def _drawn(data: ScorePage) -> list[Row]:
    """Return at most :data:`_SIDE` rows: the model's worst frame of each neighbourhood."""

    def psnr(row: Row) -> float:
        score = row.scores[data.model]["psnr"]
        return inf if score is None else score

    size = ceil(len(data.rows) / _SIDE) or 1
    return [min(data.rows[k : k + size], key=psnr) for k in range(0, len(data.rows), size)]


def _by_horizon(data: ScorePage, column: Column) -> dict[str, list[tuple[str, bool]]]:
    scores = {}
    for name, steps in data.methods.items():
        scores[name] = {step: steps[str(step)].get(column.key) for step in data.horizons}
    return contents.marked(dict.fromkeys(data.horizons, column), scores)


def frame_card(
    row: Row, model: str, baseline: str, pictures: Sequence[tuple[str, ReportPicture]]
) -> Card:
    """Return the card of a scored frame.

    ``pictures``: each by its name: the true frame, that of each method, and the error.
    """
    ahead = f", {frames_ahead(row.horizon)}" if row.horizon else ""
    psnr = (f"{name} {row.scores[name]['psnr']:.2f} dB" for name in (model, baseline))
    keys = ["truth", *(f"made-{k}" for k in range(len(pictures) - 2)), "error"]
    return Card(
        title=f"Frame {row.index} at {float(row.time):.3f} s{ahead}",
        words=f"{', '.join(psnr)} ({row.gain(model, baseline):+z.2f})",
        views=tuple((key, *view) for key, view in zip(keys, pictures, strict=True)),
    )


def round_numbers(low: float, high: float, count: int) -> list[float]:
    """Return about ``count`` round numbers over the range from ``low`` to ``high``."""
    span = max(high - low, 1e-9)
    size = 10 ** floor(log10(span / count))
    size = next(size * k for k in (1, 2, 5, 10) if span / (size * k) <= count)
    first = floor(low / size + 1e-9)
    last = ceil(high / size - 1e-9)
    return [k * size for k in range(first, max(last, first + 1) + 1)]


def draw(chart: Chart) -> dict[str, Any]:
    """Return a chart's geometry: SVG paths, and labels as (position in percent, text)."""
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

    def path(values: Sequence[float | None]) -> str:
        drawn = ""
        points = zip(chart.x, values, strict=True)
        for is_known, run in groupby(points, lambda point: _is_known(point[1])):
            if is_known:
                places = [f"{to_x(x):.1f} {to_y(y or 0):.1f}" for x, y in run]
                # A single point becomes a dot, because round line ends are visible even on
                # a line of length 0.
                drawn += "M" + "L".join(places) + ("h0" if len(places) == 1 else "")
        return drawn

    lines = sorted(chart.lines, key=lambda line: -line[1])  # the model's last, so on top
    return {
        "chart": chart,
        "side": _SIDE,
        "levels": [(f"{to_y(y) / 10:.2f}", f"{y:.{digits}f}") for y in levels],
        "ticks": [
            (f"{to_x(x) / 10:.2f}", text) for x, text in chart.ticks if left <= x <= right
        ],
        "grid": [f"M0 {to_y(y):.1f}H{_SIDE}" for y in levels if low < y < high],
        "marks": [f"M{to_x(x):.1f} 0V{_SIDE}" for x in chart.marks if left <= x <= right],
        "lines": [(color, path(values)) for _, color, values in lines],
    }


def _is_known(score: float | None) -> TypeGuard[float]:
    return score is not None and isfinite(score)


def _chart_data(chart: Chart) -> dict[str, Any]:
    """Return the data of a chart for the page's script, ready for JSON."""
    lines = []
    for name, color, scores in chart.lines:
        values = [round(score, 2) if _is_known(score) else None for score in scores]
        lines.append({"name": name, "color": color, "values": values})
    return {"x": chart.x, "labels": chart.labels, "lines": lines}


def _range(chart: Chart) -> tuple[float, float]:
    """Return the lowest and the highest score.

    Perfect frames, at the upper edge, do not count.
    """
    every = chain.from_iterable(values for _, _, values in chart.lines)
    scores = [score for score in every if _is_known(score)]
    inside = [score for score in scores if score < PERFECT - 0.01] or scores or [0.0]
    low = min(inside)
    high = max(inside)
    return low, high if high > low else low + 1


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("cloudconv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _printable(value: Any) -> Any:
    """Escape control characters and undecodable bytes in a text that a template inserts."""
    return (
        plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


def shrunk(rgb: Tensor, width: int) -> Tensor:
    """Return a picture, (3, H, W), that is at most ``width`` pixels wide."""
    if rgb.shape[2] <= width:
        return rgb
    height = max(1, round(rgb.shape[1] * width / rgb.shape[2]))
    return functional.interpolate(rgb[None], (height, width), mode="area")[0]


def encoded(rgb: Tensor, kind: str) -> bytes:
    """Return RGB, (3, H, W) in [0, 1], as a file of a ``kind`` of Pillow's."""
    samples = rgb.clamp(0, 1).mul(255).round().to(torch.uint8)
    picture = samples.permute(1, 2, 0).contiguous().cpu().numpy()
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind, quality=90)
    return data.getvalue()


def jpeg(rgb: Tensor, width: int) -> ReportPicture:
    """Return RGB, (3, H, W) in [0, 1], as a JPEG that is at most ``width`` pixels wide."""
    small = shrunk(rgb, width)
    data = b64encode(encoded(small, "JPEG")).decode()
    return ReportPicture(data, small.shape[2], small.shape[1])
