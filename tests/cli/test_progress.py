"""Progress as a bar, as lines and as JSON; errors as JSON."""

import io
import json
import sys
import time

import pytest

from cloudconv.cli import console as progress
from cloudconv.cli import streams
from cloudconv.cli.console import reporting
from cloudconv.events import Pace, Progress
from cloudconv.jobs.interp import run as run_module
from tests.helpers.command import invoke as run
from tests.helpers.factory import write_clip

TINY = ("--model", "tiny", "--device", "cpu", "--precision", "fp32", "--threads", "1")


def at(done, total, **more):
    return Progress("rendering", done, total, **more)


@pytest.fixture
def now(monkeypatch):
    """Return the time, which tests set, in a list."""
    time = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    with reporting("working", "auto", quiet=False) as report:
        report(at(0, 30))
        report(
            at(86_000, 600_000), "a note of many words that takes the room of two columns"
        )
    assert "working" in screen.getvalue()
    assert "86000/600000" in screen.getvalue()


def test_without_a_terminal_there_is_a_line_every_ten_seconds(now, capsys):
    pace = Pace()
    with reporting("working", "auto", quiet=False) as report:
        for second in range(26):
            now[0] = float(second)
            report(pace(at(second * 2, 100)))
    first, second_line = capsys.readouterr().err.splitlines()
    assert first.startswith("working: 20 of 100 frames")
    assert second_line.startswith("working: 40 of 100 frames")
    assert "30.0 s left" in second_line


@pytest.mark.parametrize(("mode", "quiet"), [("auto", True), ("off", False)])
def test_quiet_and_progress_off_print_no_progress(mode, quiet, capsys):
    with reporting("working", mode, quiet=quiet) as report:
        report(at(1, 2))
    assert capsys.readouterr().err == ""


def test_progress_json_prints_one_object_a_line(now, capsys):
    pace = Pace()
    with reporting("working", "json", quiet=True) as report:
        for tenth in range(26):
            now[0] = tenth / 10
            report(pace(Progress("analysing", tenth, None)))
        report(pace(at(3, 7)))
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(row["stage"], row["done"], row["total"]) for row in rows] == [
        ("analysing", 0, None),
        ("analysing", 10, None),
        ("analysing", 20, None),
        ("analysing", 25, None),
        ("working", 3, 7),
    ]
    assert set(rows[0]) == {
        "type",
        "stage",
        "done",
        "total",
        "unit",
        "rate",
        "seconds_left",
    }
    assert {row["type"] for row in rows} == {"progress"}
    assert {row["unit"] for row in rows} == {at(0, 1).unit}
    assert rows[1]["rate"] == 10.0


@pytest.mark.parametrize(
    ("seconds", "shown", "done", "left"),
    [
        # After a resume 900 of 1000 frames are complete; the time left is that of the other
        # 90.
        (10, lambda second: (900 + second, 1000, 900), 910, 90.0),
        # The second input of a batch begins with 500 frames of an earlier run.
        (
            10,
            lambda second: (second + 500 * (second > 5), 1000, 500 * (second > 5)),
            510,
            490.0,
        ),
        # The estimate of the total gets better.
        (10, lambda second: (second, 110 - second, 0), 10, 90.0),
        # The rate is that of the last minute.
        (300, lambda second: (min(10 * second, 900 + second), None, 0), 1200, None),
    ],
    ids=["resumed", "batch", "estimate", "slower"],
)
def test_the_rate_is_that_of_the_frames_made_now(now, capsys, seconds, shown, done, left):
    pace = Pace()
    with reporting("working", "json", quiet=False) as report:
        for second in range(seconds + 1):
            now[0] = float(second)
            made, total, resumed = shown(second)
            report(pace(at(made, total, resumed=resumed)))
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["done"], last["rate"], last["seconds_left"]) == (done, 1.0, left)


def test_progress_of_a_run_as_json(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5, rate=24, codec="libx264")
    result = run("interp", clip, "--factor", 2, *TINY, "--progress", "json", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output_frames"] == 10
    *rows, summary = [json.loads(line) for line in result.stderr.splitlines()]
    ends = {row["stage"]: (row["done"], row["total"]) for row in rows}
    assert ends == {"interpolating": (10, 10), "joining": (10, 10)}
    assert summary["type"] == "summary"
    assert "10 frames" in summary["text"]


@pytest.mark.parametrize("words", ["--progress json", "--progress=json -v"])
def test_with_progress_json_each_line_on_stderr_is_an_object(tmp_path, words):
    clip = write_clip(tmp_path / "a.mp4", 5, rate=24, codec="libx264")
    odd = run("interp", clip, tmp_path / "a.gif", "--factor", 2, *TINY, *words.split())
    missing = run("interp", tmp_path / "no.mp4", "--factor", 2, *words.split())
    misspelt = run("interp", clip, "--facto", 2, *words.split())
    rows = [json.loads(line) for line in odd.stderr.splitlines()]
    assert all("type" in row for row in rows)
    (error,) = [
        row for row in map(json.loads, missing.stderr.splitlines()) if "error" in row
    ]
    assert (error["type"], error["kind"], error["exit_code"]) == ("error", "input", 1)
    (error,) = [
        row for row in map(json.loads, misspelt.stderr.splitlines()) if "error" in row
    ]
    assert (error["kind"], error["exit_code"]) == ("usage", 2)
    after = run("interp", tmp_path / "no.mp4", "--factor", 2)
    assert after.stderr.startswith("error: ")


def test_a_warning_is_an_object_with_its_code(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5, rate=24, codec="libx264")
    result = run(
        "interp", clip, tmp_path / "a.gif", "--factor", 4, *TINY, "--progress", "json"
    )
    rows = [json.loads(line) for line in result.stderr.splitlines()]
    assert [row for row in rows if row["type"] in ("warning", "error")]
    for row in rows:
        if row["type"] == "warning":
            assert set(row) == {"type", "text", "code", "about"}
            assert row["code"]


@pytest.mark.parametrize(("unit", "rate"), [("%", ""), ("frames", "1.0 frames/s  ")])
def test_percent_have_no_rate(now, capsys, unit, rate):
    """A rate such as ``0.9 %/s`` would mean nothing."""
    pace = Pace()
    with reporting("dreaming", "auto", quiet=False) as report:
        for second in range(11):
            now[0] = float(second)
            report(pace(Progress("rendering", second, 60, unit=unit)))
    said = capsys.readouterr().err
    assert (
        said
        == f"dreaming: 10 of 60 {unit}, {rate.strip()}{', ' if rate else ''}50.0 s left\n"
    )


def test_a_line_on_a_terminal_is_wrapped_between_words(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    streams.print_message(
        "interrupted; what is finished is kept in a/b.work; the same command resumes"
    )
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40
    assert any("the same command" in line for line in lines)


def test_one_millisecond_gives_no_rate(monkeypatch, now, capsys):
    monkeypatch.setattr(progress, "JSON_EVERY", 0.0)
    pace = Pace()
    with reporting("working", "json", quiet=False) as report:
        report(pace(at(0, None)))
        now[0] = 0.001
        report(pace(at(1, None)))
    rates = [json.loads(line)["rate"] for line in capsys.readouterr().err.splitlines()]
    assert rates == [None, None], "one unit in a millisecond would be 1000 a second"


@pytest.mark.parametrize(
    ("more", "told"),
    [((), True), (("--dry-run",), True), (("-q",), False), (("--progress", "off"), False)],
)
def test_a_second_of_silence_is_ended_by_the_name_of_the_input(
    tmp_path, monkeypatch, more, told
):
    clip = write_clip(tmp_path / "in.mkv", 4, size=(32, 32))
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    decide = run_module.decide

    def slowly(*arguments, **named):
        time.sleep(0.2)
        return decide(*arguments, **named)

    monkeypatch.setattr(run_module, "decide", slowly)
    done = run("interp", clip, tmp_path / "out.mkv", "--factor", 2, *TINY, *more)
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert (f"reading {clip}" in lines) == told


def test_a_command_that_answers_at_once_says_nothing_about_reading(tmp_path):
    clip = write_clip(tmp_path / "in.mkv", 4, size=(32, 32))
    done = run("interp", clip, tmp_path / "out.mkv", "--factor", 2, *TINY)
    assert "reading" not in done.stderr
