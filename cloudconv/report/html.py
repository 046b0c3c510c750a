"""The report as one self-contained HTML page: no network, no file beside it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from fractions import Fraction
from html import escape
from importlib.resources import files
from math import ceil
from string import Template
from typing import Any
from urllib.parse import quote

from .charts import PERFECT, Chart, Line, chart_data, draw, steps, thin
from .columns import COLUMNS, Column
from .data import Comparison, Method, Picture, ReportData, Scores

POINTS = 1500
"""Points of a curve that are drawn at most: more than a screen has columns."""

_COLORS = 8
_CURVES = ("psnr", "ssim")


def render_report(data: ReportData) -> str:
    """The page. It opens from disk, asks nothing of the network, and runs one inline script.

    Raises:
        ValueError: a metric has no column, or no method is called ``data.model``.
    """
    unknown = sorted(set(data.metrics) - set(COLUMNS))
    if unknown:
        raise ValueError(f"no column for {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    if data.model not in {method.name for method in data.methods}:
        raise ValueError(f"the model {data.model!r} is not among the methods")
    colors = _colors(data)
    charts = _charts(data, colors)
    sections = [
        _methods_section(data, colors),
        _charts_section(data, charts, colors),
        _horizon_tables(data, colors),
        _viewer_section(data),
        _frames_section(data, "worst", data.worst),
        _frames_section(data, "loses", data.loses),
        _facts_section(data),
    ]
    folder = files(__package__)
    return Template((folder / "template.html").read_text("utf-8")).substitute(
        title=escape(f"{data.source} - cloudconv compare"),
        command="compare",
        verdict=escape(data.verdict),
        source=escape(data.source),
        summary=escape(data.summary),
        style=(folder / "style.css").read_text("utf-8"),
        script=(folder / "script.js").read_text("utf-8"),
        body="\n".join(section for section in sections if section),
        footer=_footer(data),
        data=_json(data, charts),
    )


def _colors(data: ReportData) -> dict[str, int]:
    """Colour 0 is the model's, 1 the baseline's."""
    names = [data.model, data.baseline, *(method.name for method in data.methods)]
    return {name: k % _COLORS for k, name in enumerate(dict.fromkeys(names))}


def _json(data: ReportData, charts: Sequence[Chart]) -> str:
    content: dict[str, Any] = {
        "charts": {chart.key: chart_data(chart) for chart in charts},
        "verdicts": {key: _verdict(data, item) for key, item in _comparisons(data)},
    }
    # Inside a script element only "</script" and "<!--" mean anything.
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _clock(time: Fraction) -> str:
    """``4.208 s``, or ``1:02:03.500`` from a minute on."""
    milliseconds = round(time * 1000)
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.3f} s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{rest // 1000:02}.{rest % 1000:03}"


# Tables


def _methods_section(data: ReportData, colors: Mapping[str, int]) -> str:
    rows = [(method, method.scores) for method in data.methods]
    table = _table(data, rows, colors, [COLUMNS[key] for key in data.metrics])
    meanings = "".join(
        f"<dt>{escape(COLUMNS[key].label)}</dt><dd>{escape(COLUMNS[key].meaning)}; "
        f"{'higher' if COLUMNS[key].higher_is_better else 'lower'} is better</dd>"
        for key in data.metrics
    )
    heading = "Methods, over all horizons" if data.horizons else "Methods"
    return (
        f'<section aria-labelledby="methods"><h2 id="methods">{heading}</h2>'
        '<p class="note">Mean over the scored frames, the best in bold.</p>'
        f"{table}<details><summary>What the columns mean</summary><dl>{meanings}</dl></details>"
        "</section>"
    )


def _table(
    data: ReportData,
    rows: Sequence[tuple[Method, Scores]],
    colors: Mapping[str, int],
    columns: Sequence[Column],
) -> str:
    best = {c.key: c.best(scores.get(c.key) for _, scores in rows) for c in columns}
    head = "".join(
        f'<th scope="col"><abbr title="{escape(c.meaning)}">{escape(c.label)}</abbr>'
        f"{f' {c.unit}' if c.unit else ''} {'↑' if c.higher_is_better else '↓'}</th>"
        for c in columns
    )
    body = ""
    for method, scores in rows:
        cells = "".join(_cell(c.text(scores.get(c.key)), best[c.key]) for c in columns)
        plural = "s" if method.missing > 1 else ""
        missing = f"<small>{method.missing} frame{plural} missing</small>" if method.missing else ""
        body += (
            f'<tr><th scope="row">{_key(colors[method.name])}{escape(method.name)}{missing}</th>'
            f"{cells}<td>{_speed(method.seconds_per_frame)}</td></tr>"
        )
    return (
        '<div class="card scroll" tabindex="0" role="group" aria-label="Scores of the methods">'
        f'<table><thead><tr><th scope="col">Method</th>{head}'
        f'<th scope="col">Time a frame</th></tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(text: str, best: str | None) -> str:
    return f'<td class="best">{text}</td>' if text == best else f"<td>{text}</td>"


def _key(color: int) -> str:
    return f'<span class="key c{color}"></span>'


def _speed(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 0.0005:
        return "under 1 ms"
    time = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
    return f"{time}<small>{1 / seconds:.3g} a second</small>"


def _horizon_tables(data: ReportData, colors: Mapping[str, int]) -> str:
    if not data.horizons:
        return ""
    tables = "".join(_horizon_table(data, COLUMNS[key], colors) for key in data.metrics)
    return (
        '<section aria-labelledby="by-horizon"><h2 id="by-horizon">Scores by horizon</h2>'
        '<p class="note">How many frames ahead of the last one seen, the best of each in bold.</p>'
        f'<div class="tables">{tables}</div></section>'
    )


def _horizon_table(data: ReportData, column: Column, colors: Mapping[str, int]) -> str:
    def score(method: Method, step: int) -> float | None:
        return method.horizons.get(step, {}).get(column.key)

    best = {step: column.best(score(m, step) for m in data.methods) for step in data.horizons}
    head = "".join(f'<th scope="col">{step}</th>' for step in data.horizons)
    body = ""
    for method in data.methods:
        cells = "".join(
            _cell(column.text(score(method, step)), best[step]) for step in data.horizons
        )
        name = f"{_key(colors[method.name])}{escape(method.name)}"
        body += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    unit = f", {column.unit}" if column.unit else ""
    way = "higher" if column.higher_is_better else "lower"
    title = f"{escape(column.label)}{unit}"
    return (
        f'<div class="card scroll" tabindex="0" role="group" aria-label="{title} by horizon">'
        f"<h3>{title}</h3><table><thead><tr>"
        f'<th scope="col">{way} is better</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


# Charts


def _charts(data: ReportData, colors: Mapping[str, int]) -> list[Chart]:
    if data.horizons:
        return [
            _horizon_chart(data, COLUMNS[key], colors) for key in _CURVES if key in data.metrics
        ]
    if data.curves is None or not data.curves.frames:
        return []
    unscored = (None,) * len(data.curves.frames)
    kept = thin(data.curves.psnr.get(data.model, unscored), POINTS)
    times = [data.curves.times[k] for k in kept]
    labels = [f"{_clock(data.curves.times[k])}, frame {data.curves.frames[k]}" for k in kept]
    ticks = [
        (second, _tick(second, float(times[-1])))
        for second in steps(float(times[0]), float(times[-1]), 8)
    ]
    found = []
    for key, curves in zip(_CURVES, (data.curves.psnr, data.curves.ssim), strict=True):
        if not curves:
            continue
        lines = [
            Line(name, [values[k] for k in kept], colors[name]) for name, values in curves.items()
        ]
        found.append(
            Chart(
                key=key,
                title=COLUMNS[key].label,
                unit=COLUMNS[key].unit,
                digits=COLUMNS[key].digits,
                x=[round(float(time), 6) for time in times],
                labels=labels,
                ticks=ticks,
                lines=lines,
                marks=[float(cut) for cut in data.curves.cuts],
            )
        )
    return found


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


def _ahead(step: int) -> str:
    return f"{step} frame{'s' if step > 1 else ''} ahead"


def _charts_section(data: ReportData, charts: Sequence[Chart], colors: Mapping[str, int]) -> str:
    if not charts:
        return ""
    buttons = "".join(
        f'<li><button type="button" aria-pressed="true" data-color="{line.color}">'
        f"{_key(line.color)}{escape(line.name)}</button></li>"
        for line in charts[0].lines
    )
    cuts = '<li class="cuts">cut, not scored</li>' if charts[0].marks else ""
    notes = ["Point at a chart, or move along it with the arrow keys, to read it."]
    if any((value or 0) >= PERFECT for line in charts[0].lines for value in line.values):
        notes.append("A perfect frame (100 dB) touches the upper edge.")
    if data.curves and len(data.curves.frames) > len(charts[0].x) and not data.horizons:
        group = ceil(len(data.curves.frames) / POINTS)
        notes.append(f"Each point is the frame of {group} neighbours where {data.model} is worst.")
    heading = "Further ahead" if data.horizons else "Over time"
    return (
        f'<section aria-labelledby="curves"><h2 id="curves">{heading}</h2>'
        f'<p class="note">{escape(" ".join(notes))}</p>'
        f'<ul class="legend" aria-label="Methods; press to hide">{buttons}{cuts}</ul>'
        f'<div class="charts">{"".join(draw(chart) for chart in charts)}</div></section>'
    )


# Pictures


def _comparisons(data: ReportData) -> list[tuple[str, Comparison]]:
    """Every comparison with its key on the page."""
    lists = (("worst", data.worst), ("loses", data.loses))
    return [(f"{name}-{k}", item) for name, items in lists for k, item in enumerate(items)]


def _title(item: Comparison) -> str:
    ahead = f", {_ahead(item.horizon)}" if item.horizon else ""
    return f"Frame {item.frame} at {_clock(item.time)}{ahead}"


def _verdict(data: ReportData, item: Comparison) -> str:
    gain = item.model_psnr - item.baseline_psnr
    return (
        f"{data.model} {item.model_psnr:.2f} dB, {data.baseline} {item.baseline_psnr:.2f} dB "
        f"({gain:+.2f})"
    )


def _views(data: ReportData, item: Comparison) -> list[tuple[str, str, Picture]]:
    """Key, name and picture of the four views."""
    return [
        ("truth", "truth", item.truth),
        ("model", data.model, item.model),
        ("baseline", data.baseline, item.baseline),
        ("error", f"error of {data.model}", item.error),
    ]


def _viewer_section(data: ReportData) -> str:
    listed = _comparisons(data)
    if not listed:
        return ""
    groups = ""
    for name, label in (("worst", "Worst"), ("loses", f"Loses to {data.baseline}")):
        options = "".join(
            f'<option value="{key}">{escape(_title(item))}</option>'
            for key, item in listed
            if key.startswith(name)
        )
        groups += f'<optgroup label="{escape(label)}">{options}</optgroup>' if options else ""
    views = _views(data, listed[0][1])

    def side(name: str, chosen: str) -> str:
        options = "".join(
            f'<option value="{key}"{" selected" if key == chosen else ""}>{escape(label)}</option>'
            for key, label, _ in views
        )
        return f'<label>{name.title()}<select id="wipe-{name}">{options}</select></label>'

    return (
        '<section aria-labelledby="look"><h2 id="look">Look for yourself</h2>'
        '<p class="note">Drag the line, or move it with the arrow keys.</p>'
        '<div class="card viewer"><div class="controls">'
        f'<label class="frame">Frame<select id="wipe-frame">{groups}</select></label>'
        '<button type="button" class="step" data-step="-1">Previous</button>'
        '<button type="button" class="step" data-step="1">Next</button>'
        f"{side('left', 'truth')}{side('right', 'model')}</div>"
        f'<div class="stage" id="stage" '
        f'style="aspect-ratio:{views[0][2].width}/{views[0][2].height}">'
        '<img id="picture-right" alt=""><img id="picture-left" class="over" alt="">'
        '<output class="name-left" id="name-left"></output>'
        '<output class="name-right" id="name-right"></output><div class="handle"></div>'
        '<input type="range" id="wipe" min="0" max="100" step="0.5" value="50" '
        'aria-label="Wipe between the left and the right picture"></div>'
        '<p class="verdict" id="wipe-verdict"></p></div></section>'
    )


def _frames_section(data: ReportData, name: str, items: Sequence[Comparison]) -> str:
    if not items:
        return ""
    count = f"{len(items)} frames" if len(items) > 1 else "frame"
    heading, note = (
        (f"The {count} where {data.model} is worst", f"By the PSNR of {data.model}.")
        if name == "worst"
        else (
            f"The {count} where {data.model} loses to {data.baseline} most",
            f"By the difference of the two in PSNR. Here plain {data.baseline} would do better.",
        )
    )
    cards = "".join(_card(data, f"{name}-{k}", item) for k, item in enumerate(items))
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>'
        f'<p class="note">{escape(note)}</p><div class="frames">{cards}</div></section>'
    )


def _card(data: ReportData, key: str, item: Comparison) -> str:
    title = _title(item)
    stored = next(
        (k for k, c in _comparisons(data) if (c.frame, c.horizon) == (item.frame, item.horizon)),
        key,
    )
    figures = ""
    for view, name, picture in _views(data, item):
        # Stored once, where the frame comes first; the script fills in the others.
        source = f'src="{_uri(picture)}"' if stored == key else f'data-same="{stored}-{view}"'
        figures += (
            f'<figure><img id="{key}-{view}" {source} width="{picture.width}" '
            f'height="{picture.height}" decoding="async" alt="{escape(f"{title}: {name}")}">'
            f"<figcaption>{escape(name)}</figcaption></figure>"
        )
    return (
        f'<article class="card"><header><h3>{escape(title)}</h3>'
        f"<p>{escape(_verdict(data, item))}</p>"
        f'<button type="button" class="open" data-open="{key}" '
        f'aria-label="Compare {escape(title)} with the slider">Compare with the slider</button>'
        f'</header><div class="four">{figures}</div></article>'
    )


def _uri(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{b64encode(picture.data).decode('ascii')}"


# The rest


def _facts_section(data: ReportData) -> str:
    if not data.facts:
        return ""
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in data.facts)
    return (
        '<section aria-labelledby="measured"><h2 id="measured">How it was measured</h2>'
        f'<dl class="card facts">{facts}</dl></section>'
    )


def _footer(data: ReportData) -> str:
    if not data.files:
        return ""
    links = ", ".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in data.files)
    return f"<p>Beside this page: {links}</p>"
