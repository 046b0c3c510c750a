"""Write the results of ``compare`` as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf
from typing import Any

from cloudconv.report.data import (
    COLUMNS,
    CURVES,
    Column,
    Comparison,
    ReportData,
    Row,
    frame_time,
    frames_ahead,
    marked,
)
from cloudconv.report.page import Chart, Line, draw, render, round_numbers

POINTS = 1500
"""The largest number of frames that a chart draws; a screen has fewer columns."""

_COLORS = 8


def render_report(data: ReportData) -> str:
    """Return the page as HTML. The page needs no network and runs one inline script."""
    columns = [COLUMNS[key] for key in data.metrics]
    colors = _colors(data)
    charts = _charts(data, colors)
    worst = [_card(data, f"worst-{k}", item) for k, item in enumerate(data.worst)]
    return render(
        "compare.html",
        charts,
        {card["key"]: card["verdict"] for card in worst},
        command="compare",
        data=data,
        columns=columns,
        colors=colors,
        frame_time=frame_time,
        missing={
            name: sum(row.scores[name]["psnr"] is None for row in data.rows)
            for name in data.methods
        },
        rows=marked({column.key: column for column in columns}, data.methods),
        horizon_tables=[(column, _by_horizon(data, column)) for column in columns],
        drawings=[draw(chart) for chart in charts],
        worst=worst,
    )


def _colors(data: ReportData) -> dict[str, int]:
    names = [data.model, data.baseline, *data.methods]
    return {name: k % _COLORS for k, name in enumerate(dict.fromkeys(names))}


def _charts(data: ReportData, colors: Mapping[str, int]) -> list[Chart]:
    steps, rows = data.horizons, _drawn(data)
    if not steps and not rows:
        return []
    shared: dict[str, Any]
    scores: dict[str, list[Mapping[str, float | None]]]
    if steps:
        shared = {"x": list(steps), "labels": [frames_ahead(step) for step in steps]}
        shared["ticks"] = [(step, str(step)) for step in steps[:: ceil(len(steps) / 12)]]
        scores = {name: [each[str(k)] for k in steps] for name, each in data.methods.items()}
    else:
        times = [float(row.time) for row in rows]
        shared = {"x": [round(time, 6) for time in times], "marks": [float(c) for c in data.cuts]}
        shared["labels"] = [f"{float(row.time):.3f} s, frame {row.index}" for row in rows]
        shared["ticks"] = [(t, f"{t:g} s") for t in round_numbers(times[0], times[-1], 8)]
        scores = {name: [row.scores[name] for row in rows] for name in data.methods}
    known = data.metrics if steps else rows[0].scores[data.model]
    return [
        Chart(
            key=key,
            title=COLUMNS[key].label + (" by frames ahead" if steps else ""),
            unit=COLUMNS[key].unit,
            digits=COLUMNS[key].digits,
            lines=[
                Line(name, [each.get(key) for each in of], colors[name])
                for name, of in scores.items()
            ],
            **shared,
        )
        for key in CURVES
        if key in known
    ]


def _drawn(data: ReportData) -> list[Row]:
    """Return at most :data:`POINTS` rows: of each group of neighbours, the model's worst frame."""

    def psnr(row: Row) -> float:
        score = row.scores[data.model]["psnr"]
        return inf if score is None else score

    size = ceil(len(data.rows) / POINTS) or 1
    return [min(data.rows[k : k + size], key=psnr) for k in range(0, len(data.rows), size)]


def _by_horizon(data: ReportData, column: Column) -> dict[str, list[tuple[str, bool]]]:
    scores = {
        name: {step: steps[str(step)].get(column.key) for step in data.horizons}
        for name, steps in data.methods.items()
    }
    return marked(dict.fromkeys(data.horizons, column), scores)


def _card(data: ReportData, key: str, item: Comparison) -> dict[str, Any]:
    """Return one frame for the page; ``views`` are its pictures as (key, name, picture)."""
    row = item.row
    ahead = f", {frames_ahead(row.horizon)}" if row.horizon else ""
    psnr = (f"{name} {row.scores[name]['psnr']:.2f} dB" for name in (data.model, data.baseline))
    return {
        "key": key,
        "title": f"Frame {row.index} at {float(row.time):.3f} s{ahead}",
        "verdict": f"{', '.join(psnr)} ({row.gain(data.model, data.baseline):+z.2f})",
        "views": (
            ("truth", "truth", item.truth),
            *((f"made-{number}", *each) for number, each in enumerate(item.made.items())),
            ("error", f"error of {data.model}", item.error),
        ),
    }
