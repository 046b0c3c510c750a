"""Define the command ``cloudconv compare``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, print_json
from cloudconv.cli.streams import is_terminal, print_result
from cloudconv.cli.text import clock, format_value, table
from cloudconv.report.columns import COLUMNS, Column, frame_time, marked
from cloudconv.settings import CompareSettings
from cloudconv.settings.values import names

if TYPE_CHECKING:
    from cloudconv.jobs.compare.results import CompareResult

EXAMPLES = examples(
    "cloudconv compare clouds.mp4",
    "cloudconv compare video.mkv --against blend,hold --report video_report",
    "cloudconv compare radar.mp4 --horizon 8 --against hold,linear --json",
)


_FIRST = ("psnr", "ssim", "1", "2", "5", "10", "30")
"""The columns that a narrow terminal shows: scores, or numbers of frames ahead in forecasts."""


@with_options(CompareSettings)
def compare(console: Console, source: outputs.InputArgument, **given: Any) -> None:
    """Score models on frames dropped from IN."""
    settings = CompareSettings(source, **given)
    result: CompareResult | None = outputs.run_job(console, "comparing", settings)
    if result is None:
        return
    if console.json:
        print_json(result.as_json())
    elif not console.quiet:
        _show(result, names(settings.metrics))
    if result.adapted is not None and result.adapted.kept:
        console.info(str(result.adapted))
    console.info(f"{result.summary}; took {clock(result.wall_seconds)}")
    if settings.report is not None:
        video = format_value("", result.report_video)
        console.info(f"the report is in {settings.report}; its video: {video}")


def _show(result: CompareResult, wanted: Sequence[str]) -> None:
    if result.horizon is None:
        _print_table({key: (COLUMNS[key], _head(COLUMNS[key])) for key in wanted}, result.methods)
    else:
        # Forecasts have a table for each of the most important scores.
        for key in [key for key in ("psnr", "ssim", "texture") if key in wanted] or wanted[:1]:
            rows = {
                name: {step: scores[key] for step, scores in by_step.items()}
                for name, by_step in result.methods.items()
            }
            print_result(f"{_head(COLUMNS[key])}, by frames ahead")
            steps = next(iter(rows.values()))
            _print_table({step: (COLUMNS[key], step) for step in steps}, rows)
    print_result(result.verdict)


def _head(column: Column) -> str:
    return f"{column.label} {column.unit}".strip()


def _print_table(
    columns: Mapping[str, tuple[Column, str]], methods: Mapping[str, Mapping[str, float | None]]
) -> None:
    """Print one row per method; a star marks the best score of each column.

    Args:
        columns: the format and the heading of each column, by the key of its score.
        methods: for each method, its scores by key.
    """
    cells = marked({key: column for key, (column, _) in columns.items()}, methods)
    timed = any("seconds_per_frame" in scores for scores in methods.values())
    rows = []
    for name, scores in methods.items():
        row = [name, *(text + "*" * best for text, best in cells[name])]
        rows.append([*row, frame_time(scores["seconds_per_frame"])] if timed else row)
    heads = [head for _, head in columns.values()]
    shown = table(["method", *heads, *(["time a frame"] if timed else [])], rows)
    first = {key: columns[key] for key in columns if key in _FIRST}
    width = shutil.get_terminal_size().columns
    wide = max(map(len, shown.splitlines())) > width and is_terminal()
    if wide and 0 < len(first) < len(columns):
        _print_table(first, methods)
        shown = f"({len(columns) - len(first)} more: use a wider terminal, --json or --report)"
    print_result(shown)
