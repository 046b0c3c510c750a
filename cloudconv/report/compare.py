"""Write the results of ``compare`` as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .charts import PERFECT, Chart, Line, draw, lowest_points, round_numbers
from .columns import COLUMNS, Column, speed
from .data import Comparison, Method, Picture, ReportData, Scores
from .page import render

POINTS = 1500
"""The most points of a curve that are drawn: more than a screen has columns."""

_COLORS = 8
_CURVES = ("psnr", "ssim", "texture")


@dataclass(frozen=True, slots=True)
class _Row:
    """One table row of a method: each score as text, with whether it is the best."""

    name: str
    color: int
    cells: list[tuple[str, bool]]
    missing: int = 0
    speed: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Card:
    """One frame on the page; ``views`` are (key, name, picture), kept under the key ``stored``."""

    key: str
    stored: str
    title: str
    verdict: str
    views: tuple[tuple[str, str, Picture], ...]


def render_report(data: ReportData) -> str:
    """Return the page as HTML. The page needs no network and runs one inline script.

    Raises:
        ValueError: a metric has no column, or no method is called ``data.model``.
    """
    unknown = sorted(set(data.metrics) - set(COLUMNS))
    if unknown:
        raise ValueError(f"no column for {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    if data.model not in {method.name for method in data.methods}:
        raise ValueError(f"the model {data.model!r} is not among the methods")
    columns = [COLUMNS[key] for key in data.metrics]
    colors = _colors(data)
    charts = _charts(data, colors)
    worst, loses = _cards(data)
    return render(
        "compare.html",
        charts,
        {card.key: card.verdict for card in worst + loses},
        command="compare",
        source=data.source,
        verdict=data.verdict,
        summary=data.summary,
        data=data,
        columns=columns,
        rows=_rows(data, colors, columns),
        horizon_tables=[(column, _horizon_rows(data, column, colors)) for column in columns],
        drawings=[draw(chart) for chart in charts],
        notes=_notes(data, charts),
        worst=worst,
        loses=loses,
    )


def _colors(data: ReportData) -> dict[str, int]:
    """Return the colour number of each method: 0 for the model, 1 for the baseline."""
    names = [data.model, data.baseline, *(method.name for method in data.methods)]
    return {name: k % _COLORS for k, name in enumerate(dict.fromkeys(names))}


def _clock(time: Fraction) -> str:
    """Format a time: ``4.208 s``, or ``1:02:03.500`` from a minute on."""
    milliseconds = round(time * 1000)
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.3f} s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{rest // 1000:02}.{rest % 1000:03}"


def _ahead(step: int) -> str:
    return f"{step} frame{'s' if step > 1 else ''} ahead"


# Tables


def _rows(data: ReportData, colors: Mapping[str, int], columns: Sequence[Column]) -> list[_Row]:
    best = {c.key: c.best(method.scores.get(c.key) for method in data.methods) for c in columns}
    return [
        _Row(
            method.name,
            colors[method.name],
            [_cell(column, method.scores, best[column.key]) for column in columns],
            method.missing,
            speed(method.seconds_per_frame),
        )
        for method in data.methods
    ]


def _cell(column: Column, scores: Scores, best: str | None) -> tuple[str, bool]:
    text = column.text(scores.get(column.key))
    return text, text == best


def _horizon_rows(data: ReportData, column: Column, colors: Mapping[str, int]) -> list[_Row]:
    def scores(method: Method, step: int) -> Scores:
        return method.horizons.get(step, {})

    best = {
        step: column.best(scores(method, step).get(column.key) for method in data.methods)
        for step in data.horizons
    }
    return [
        _Row(
            method.name,
            colors[method.name],
            [_cell(column, scores(method, step), best[step]) for step in data.horizons],
        )
        for method in data.methods
    ]


# Charts


def _charts(data: ReportData, colors: Mapping[str, int]) -> list[Chart]:
    if data.horizons:
        return [
            _horizon_chart(data, COLUMNS[key], colors) for key in _CURVES if key in data.metrics
        ]
    if data.curves is None or not data.curves.frames:
        return []
    unscored = (None,) * len(data.curves.frames)
    kept = lowest_points(data.curves.psnr.get(data.model, unscored), POINTS)
    times = [data.curves.times[k] for k in kept]
    labels = [f"{_clock(data.curves.times[k])}, frame {data.curves.frames[k]}" for k in kept]
    ticks = [
        (second, _tick(second, float(times[-1])))
        for second in round_numbers(float(times[0]), float(times[-1]), 8)
    ]
    return [
        Chart(
            key=key,
            title=COLUMNS[key].label,
            unit=COLUMNS[key].unit,
            digits=COLUMNS[key].digits,
            x=[round(float(time), 6) for time in times],
            labels=labels,
            ticks=ticks,
            lines=[
                Line(name, [values[k] for k in kept], colors[name])
                for name, values in curves.items()
            ],
            marks=[float(cut) for cut in data.curves.cuts],
        )
        for key in _CURVES
        if (curves := getattr(data.curves, key))
    ]


def _tick(second: float, last: float) -> str:
    if last < 120:
        return f"{second:g} s"
    minutes, rest = divmod(round(second), 60)
    return f"{minutes}:{rest:02}"


def _horizon_chart(data: ReportData, column: Column, colors: Mapping[str, int]) -> Chart:
    return Chart(
        key=column.key,
        title=f"{column.label} by frames ahead",
        unit=column.unit,
        digits=column.digits,
        x=list(data.horizons),
        labels=[_ahead(step) for step in data.horizons],
        ticks=[(step, str(step)) for step in data.horizons[:: ceil(len(data.horizons) / 12)]],
        lines=[
            Line(
                method.name,
                [method.horizons.get(step, {}).get(column.key) for step in data.horizons],
                colors[method.name],
            )
            for method in data.methods
        ],
        dots=True,
    )


def _notes(data: ReportData, charts: Sequence[Chart]) -> str:
    notes = ["Point at a chart, or move along it with the arrow keys, to read it."]
    if not charts:
        return ""
    if any((value or 0) >= PERFECT for line in charts[0].lines for value in line.values):
        notes.append("A perfect frame (100 dB) touches the upper edge.")
    if data.curves and len(data.curves.frames) > len(charts[0].x) and not data.horizons:
        group = ceil(len(data.curves.frames) / POINTS)
        notes.append(f"Each point is the frame of {group} neighbours where {data.model} is worst.")
    return " ".join(notes)


# Pictures


def _cards(data: ReportData) -> tuple[list[_Card], list[_Card]]:
    stored: dict[tuple[int, int | None], str] = {}

    def card(key: str, item: Comparison) -> _Card:
        ahead = f", {_ahead(item.horizon)}" if item.horizon else ""
        gain = item.model_psnr - item.baseline_psnr
        return _Card(
            key,
            stored.setdefault((item.frame, item.horizon), key),
            f"Frame {item.frame} at {_clock(item.time)}{ahead}",
            f"{data.model} {item.model_psnr:.2f} dB, {data.baseline} {item.baseline_psnr:.2f} dB "
            f"({gain:+.2f})",
            (
                ("truth", "truth", item.truth),
                ("model", data.model, item.model),
                ("baseline", data.baseline, item.baseline),
                ("error", f"error of {data.model}", item.error),
            ),
        )

    worst = [card(f"worst-{k}", item) for k, item in enumerate(data.worst)]
    return worst, [card(f"loses-{k}", item) for k, item in enumerate(data.loses)]
