"""Write the results of ``compare`` and ``dream`` as one HTML page each, which opens from disk."""

from .columns import COLUMNS, Column
from .compare import render_report
from .data import Comparison, Curves, Method, Picture, ReportData
from .dream import DreamPage, Shot, Video, render_dream
from .folder import ReportFolder, check_folder

__all__ = [
    "COLUMNS",
    "Column",
    "Comparison",
    "Curves",
    "DreamPage",
    "Method",
    "Picture",
    "ReportData",
    "ReportFolder",
    "Shot",
    "Video",
    "check_folder",
    "render_dream",
    "render_report",
]
