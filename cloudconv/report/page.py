"""Build self-contained HTML pages from templates: no network, no further file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cloudconv.messages import plain
from cloudconv.report.charts import Chart, chart_data


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
