"""What ``compare`` found, as one HTML page that opens from disk. Pictures come in encoded."""

from .columns import COLUMNS, Column
from .data import Comparison, Curves, Method, Picture, ReportData
from .html import render_report

__all__ = [
    "COLUMNS",
    "Column",
    "Comparison",
    "Curves",
    "Method",
    "Picture",
    "ReportData",
    "render_report",
]
