"""What ``cloudconv compare`` and ``cloudconv dream`` print."""

import re
import sys
from functools import partial

from cloudconv.cli import commands as command
from cloudconv.report.data import COLUMNS
from tests.helpers.command import invoke
from tests.helpers.dreams import ball, video
from tests.helpers.factory import picture, read_planes, write_clip

QUICK = ("--device", "cpu", "--precision", "fp32", "--threads", "1")
run = partial(invoke, "compare")


def test_the_table_marks_the_best_and_ends_with_the_verdict(tmp_path):
    # Frames in pairs, too few for a cadence to be found: repeating the left frame is
    # perfect.
    clip = write_clip(tmp_path / "a.mkv", [picture(k // 2, step=9) for k in range(6)])
    result = run(clip, "--model", "hold", "--scene-cut", "off", *QUICK)
    assert result.exit_code == 0, result.stderr
    head, hold, blend, verdict = result.stdout.splitlines()
    assert head.split()[:3] == ["method", "PSNR", "dB"]
    assert hold.split()[1] == "100.00*"
    assert blend.split()[0] == "blend"
    assert verdict.startswith("hold is ")
    assert "2 frames scored" in result.stderr
    quiet = run(clip, "--model", "hold", "--scene-cut", "off", "-q", *QUICK)
    assert (quiet.stdout.splitlines()[-1], quiet.stderr) == (verdict, "")


def test_the_table_of_forecasts_has_a_column_for_each_horizon(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 9, step=1)
    result = run(clip, "--horizon", 3, "--model", "linear", *QUICK)
    assert result.exit_code == 0, result.stderr
    title, head, *rest, verdict = result.stdout.splitlines()
    assert title == "PSNR dB, by frames ahead"
    assert [line for line in rest if "by frames ahead" in line] == [
        "SSIM, by frames ahead",
        "Texture dB, by frames ahead",
        "Fault, by frames ahead",
    ]
    assert head.split() == ["method", "1", "2", "3"]
    assert "1 frame ahead" in verdict


def test_a_narrow_terminal_gets_fewer_columns_and_whole_numbers(monkeypatch, capsys):
    keys = ("psnr", "ssim", "l2", "gdl", "sharpness", "flicker")
    scores = {key: 12.3456 for key in keys}
    methods = {
        name: {**scores, "seconds_per_frame": 0.1234} for name in ("cloud-best", "blend")
    }
    columns = {key: (COLUMNS[key], COLUMNS[key].label) for key in keys}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for width, shown in (
        ("60", ["12.35", "12.3456", "123.4 ms"]),
        ("200", ["12.35", "12.345600"]),
    ):
        monkeypatch.setenv("COLUMNS", width)
        command.print_table(columns, methods)
        said = capsys.readouterr().out
        plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
        assert max(map(len, plain.splitlines())) <= int(width)
        assert all(text in said for text in shown)
        assert ("Flicker" in said) == (width == "200")


def test_a_dream_needs_only_a_length(tmp_path):
    clip = write_clip(
        tmp_path / "ball.mkv", [video(p) for p in ball(26, (64, 48))], rate=25
    )
    done = invoke("dream", clip, "--seconds", "0.5")
    assert (done.exit_code, done.stdout) == (0, "")
    assert len(read_planes(tmp_path / "ball_dream.mkv")) == 39
    assert "39 frames (13 new, from 1.0 s on) at 25 fps" in done.stderr
    assert "texture (26 frames, too few for a collage): good\nlibx264" in done.stderr
    assert "repeats every" not in done.stderr  # the dream is shorter than the period, 0.6 s
    again = invoke("dream", clip, "--seconds", "0.5")
    assert (again.exit_code, "exists" in again.stderr) == (1, True)
    words = ("--frames", 5, "--only-new", "--mode", "flow")
    alone = invoke("dream", clip, tmp_path / "b.mkv", *words)
    assert alone.exit_code == 0
    assert (
        "b.mkv: 5 new frames that continue the source, from 1.0 s on at 25 fps"
        in alone.stderr
    )
