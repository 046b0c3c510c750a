"""``cloudconv compare``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloudconv.cli import output as outputs
from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, clock, print_json, print_result, table
from cloudconv.settings import CompareSettings
from cloudconv.settings.values import names

if TYPE_CHECKING:
    from cloudconv.jobs.compare.settings import CompareEstimate, CompareResult
    from cloudconv.report.columns import Column

EXAMPLES = examples(
    "cloudconv compare clouds.mp4",
    "cloudconv compare video.mkv --against blend,hold --report video_report",
    "cloudconv compare radar.mp4 --horizon 8 --against hold,linear --json",
)


_FIRST = ("psnr", "ssim", "1", "2", "5", "10", "30")
"""The scores, and of forecasts the horizons, that a narrow terminal shows."""


@with_options(CompareSettings, progress=True)
def compare(
    console: Console, source: outputs.Input, dry_run: outputs.DryRun = False, **given: Any
) -> None:
    """Score models on IN against its own frames."""
    settings = CompareSettings(source, **given)

    # Here and not above: torch and FFmpeg take seconds to load, which --help shouldn't pay.
    from cloudconv.jobs.compare import run as job

    if dry_run:
        plan = job.estimate(job.decide(settings, dry_run=True))
        outputs.tell_plan(console, plan, _plan_text(plan))
        return
    result = outputs.under_bar(console, "comparing", job.run(settings))
    if console.json:
        print_json(result.as_json())
    elif not console.quiet:
        _show(result, names(settings.metrics))
    if result.adapted is not None and result.adapted.kept:
        console.info(str(result.adapted))
    console.info(f"{_counted(result)}; took {clock(result.wall_seconds)}")
    if settings.report is not None:
        console.info(f"the report is in {settings.report}")


def _plan_text(plan: CompareEstimate) -> str:
    kept = f"one frame of every {plan.drop} kept"
    rows = [
        ["input", plan.input],
        ["methods", ", ".join(plan.methods)],
        ["frames", kept if plan.horizon is None else f"forecasts of up to {plan.horizon} frames"],
        ["scored", f"about {plan.scored_frames} frames, of {plan.source_frames} read"],
        ["device", f"{plan.device}, {plan.precision}"],
        ["time", f"about {clock(plan.seconds)}"],
    ]
    return table(rows[0], rows[1:])


def _counted(result: CompareResult) -> str:
    cuts = f", {result.skipped_frames} left out (cuts, repeats)" if result.skipped_frames else ""
    filmed = result.filmed.get("texture")
    texture = "" if filmed is None else f"; as filmed, their texture is {filmed:+.2f} dB"
    where = f"{result.device}, {result.precision}"
    return f"{result.scored_frames} frames scored{cuts} ({where}){texture}"


def _show(result: CompareResult, wanted: Sequence[str]) -> None:
    from cloudconv.report.columns import COLUMNS

    if result.horizon is None:
        _print_table({key: (COLUMNS[key], _head(COLUMNS[key])) for key in wanted}, result.methods)
    else:
        # Forecasts: a table for each of the scores that are read first.
        for key in [key for key in ("psnr", "ssim", "texture") if key in wanted] or wanted[:1]:
            rows = {
                name: {step: scores[key] for step, scores in by_step.items()}
                for name, by_step in result.methods.items()
            }
            print_result(f"{_head(COLUMNS[key])}, by frames ahead")
            _print_table(
                {str(k + 1): (COLUMNS[key], str(k + 1)) for k in range(result.horizon)}, rows
            )
    print_result(result.verdict)


def _head(column: Column) -> str:
    return f"{column.label} {column.unit}".strip()


def _print_table(
    columns: Mapping[str, tuple[Column, str]], methods: Mapping[str, Mapping[str, float | None]]
) -> None:
    """One row a method; the best of each column in bold, or with a star where bold can't be.

    ``columns`` says for each key of a method's scores how to write it, and the column's head.
    """
    best = {
        key: column.best(scores[key] for scores in methods.values())
        for key, (column, _) in columns.items()
    }
    timed = any("seconds_per_frame" in scores for scores in methods.values())
    header = ["method", *(head for _, head in columns.values()), *(["time a frame"] * timed)]
    rows: list[list[tuple[str, bool]]] = []
    for name, scores in methods.items():
        texts = {key: column.text(scores[key]) for key, (column, _) in columns.items()}
        row = [(name, False), *((text, text == best[key]) for key, text in texts.items())]
        rows.append([*row, (_speed(scores["seconds_per_frame"]), False)] if timed else row)
    if not sys.stdout.isatty():
        print_result(table(header, [[text + "*" * wins for text, wins in row] for row in rows]))
        return
    widths = [max(len(line) for line in each) for each in zip(header, *_texts(rows), strict=True)]
    first = {key: columns[key] for key in columns if key in _FIRST}
    if sum(widths) + 3 * len(widths) > shutil.get_terminal_size().columns and 0 < len(first) < len(
        columns
    ):
        # A number that is cut off says less than none.
        _print_table(first, methods)
        print_result(f"(and {len(columns) - len(first)} more: a wider terminal, --json, --report)")
        return
    _print_rich(header, rows)


def _texts(rows: Iterable[Sequence[tuple[str, bool]]]) -> list[list[str]]:
    return [[text for text, _ in row] for row in rows]


def _print_rich(header: Sequence[str], rows: Iterable[Sequence[tuple[str, bool]]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD)
    for number, head in enumerate(header):
        shown.add_column(head, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*(Text(text, "bold" if winner else "") for text, winner in row))
    RichConsole().print(shown)


def _speed(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
