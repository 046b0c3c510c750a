"""What ``compare`` and ``dream`` found, each as one HTML page that opens from disk."""

from .columns import COLUMNS, Column
from .data import Comparison, Curves, Method, Picture, ReportData
from .dream import DreamPage, render_dream
from .html import render_report

__all__ = [
    "COLUMNS",
    "Column",
    "Comparison",
    "Curves",
    "DreamPage",
    "Method",
    "Picture",
    "ReportData",
    "render_dream",
    "render_report",
]
