"""The vitals of a dream as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from .charts import Chart, Line, chart_data, draw, steps

Values = Mapping[str, float | None]

POINTS = 600
"""Points of a curve that are drawn at most."""

_MEANINGS = {
    "sharpness": "strength of edges against the source's",
    "std": "contrast against the source's",
    "saturation": "colourfulness against the source's",
    "motion": "change from frame to frame against the source's",
    "anisotropy": "how far edges run alike, against the source's: melting paint has more",
    "crease": "fine hard lines against the source's: folds have more",
    "mean_shift": "mean brightness less the source's, of 255",
    "jump": "the largest change between two frames against the usual one",
    "static_psnr": "dB, what stands still against the last real frame",
    "patch": "how unlike the source's the small patches are",
    "patch_time": "the same of patches in space and time",
    "repeat": "distance to the most alike picture 30 or more frames before, of 255",
}


@dataclass(frozen=True, slots=True)
class DreamPage:
    """What the page says.

    ``times`` are in seconds from the first new frame, ``values`` the vitals at each. ``limits``
    are (low, high), None for none.
    """

    source: str
    verdict: str
    summary: str
    times: Sequence[float]
    values: Sequence[Values]
    limits: Mapping[str, tuple[float | None, float | None]]


def render_dream(page: DreamPage) -> str:
    """The page, which opens from disk and asks nothing of the network."""
    group = max(1, -(-len(page.times) // POINTS))
    kept = range(0, len(page.times), group)
    charts = [chart for key in page.limits if (chart := _chart(page, key, list(kept))) is not None]
    data = {"charts": {chart.key: chart_data(chart) for chart in charts}, "verdicts": {}}
    folder = files(__package__)
    return Template((folder / "template.html").read_text("utf-8")).substitute(
        title=escape(f"{page.source} - cloudconv dream"),
        command="dream",
        verdict=escape(page.verdict),
        source=escape(page.source),
        summary=escape(page.summary),
        style=(folder / "style.css").read_text("utf-8"),
        script=(folder / "script.js").read_text("utf-8"),
        body=_body(charts),
        footer="",
        # Inside a script element only "</script" and "<!--" mean anything.
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )


def _chart(page: DreamPage, key: str, kept: list[int]) -> Chart | None:
    values = [page.values[k].get(key) for k in kept]
    if not any(value is not None for value in values):
        return None
    times = [page.times[k] for k in kept]
    lines = [Line("dream", values, 0)]
    for color, name, limit in zip((1, 2), ("least", "most"), page.limits[key], strict=True):
        # A limit far from all that was measured would flatten the curve.
        if limit is not None and (limit or key == "mean_shift"):
            lines.append(Line(name, [limit] * len(kept), color))
    return Chart(
        key=key,
        title=key,
        unit="dB" if key == "static_psnr" else "",
        digits=3,
        x=times,
        labels=[f"{time:.1f} s" for time in times],
        ticks=[(second, f"{second:g} s") for second in steps(times[0], times[-1], 8)],
        lines=lines,
    )


def _body(charts: Sequence[Chart]) -> str:
    names = (("dream", 0), ("least that lives", 1), ("most that lives", 2))
    legend = "".join(
        f'<li><button type="button" aria-pressed="true" data-color="{color}">'
        f'<span class="key c{color}"></span>{name}</button></li>'
        for name, color in names
    )
    meanings = "".join(
        f"<dt>{escape(chart.title)}</dt><dd>{escape(_MEANINGS[chart.key])}</dd>" for chart in charts
    )
    return (
        '<section aria-labelledby="curves"><h2 id="curves">Vitals</h2>'
        '<p class="note">Each point stands for the 100 frames before it. Point at a chart, or move '
        "along it with the arrow keys, to read it.</p>"
        f'<ul class="legend" aria-label="Lines; press to hide">{legend}</ul>'
        f'<div class="charts">{"".join(draw(chart) for chart in charts)}</div>'
        f"<details><summary>What they mean</summary><dl>{meanings}</dl></details></section>"
    )
