"""``cloudconv dream``: options, exit code, stdout and stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloudconv.cli.app import app
from cloudconv.cli.console import reporting
from cloudconv.dreaming.vitals.vitals import VITALS
from cloudconv.events import Progress
from tests.helpers.dreams import ball, clouds, video
from tests.helpers.factory import read_planes, write_clip


@pytest.fixture(scope="module")
def bouncing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "ball.mkv"
    return write_clip(path, [video(p) for p in ball(48)], rate=25)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["dream", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_a_length_is_the_only_required_option(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "ball.mkv", [video(p) for p in ball(48)], rate=25)
    code, out, err = run(clip, "--seconds", "0.5")
    assert (code, out) == (0, "")
    assert len(read_planes(tmp_path / "ball_dream.mkv")) == 61
    assert "61 frames (13 new, from 1.9 s on) at 25 fps" in err
    assert "texture: in a trial of 150 small frames" in err
    assert "like the clip in 1 of 1 windows" in err
    code, _, err = run(clip, "--seconds", "0.5")
    assert code == 1
    assert "exists" in err


def test_json_has_the_vitals_and_their_limits(bouncing: Path, tmp_path: Path) -> None:
    words = ("--frames", 30, "--mode", "texture", "--json", "-q")
    code, out, err = run(bouncing, tmp_path / "b.mkv", *words)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["mode"], said["new_frames"], said["seed"]) == ("texture", 30, 0)
    (row,) = said["vitals"]
    assert list(row) == ["from", "to", *VITALS, "alive"]
    assert (row["from"], row["to"], row["alive"]) == (0, 30, True)
    assert set(said["limits"]) == set(VITALS)


def test_the_analysis_of_the_clip_is_reported_first(bouncing: Path, tmp_path: Path) -> None:
    words = ("--frames", 3, "--mode", "texture", "--progress", "json")
    code, _, err = run(bouncing, tmp_path / "b.mkv", *words)
    assert code == 0
    rows = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [row["stage"] for row in rows[:1] + rows[-1:]] == ["analysing", "dreaming"]
    (*_, last) = [row for row in rows if row["stage"] == "analysing"]
    assert (last["done"], last["total"]) == (100, 100)
    assert (rows[-1]["done"], rows[-1]["total"]) == (51, 51)


def test_a_failed_vital_is_described_in_words(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", [video(p) for p in clouds(24, (64, 48))], rate=25)
    words = (clip, "-y", "--frames", 40, "--mode", "rollout", "--model", "conv")
    _, _, plain = run(*words)
    assert "the clip's contrast" in plain
    assert not [key for key in ("std", "saturation") if key in plain]


def test_standard_input_is_accepted(
    bouncing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = bouncing.read_bytes()
    words = ["dream", "-", str(tmp_path / "b.mkv"), "--frames", "5", "--at", "1", "--mode", "flow"]
    assert CliRunner().invoke(app, [*words, "--dry-run"], input=data).exit_code == 0
    assert not list(tmp_path.iterdir())
    assert CliRunner().invoke(app, words, input=data).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["b.mkv"]


def test_the_summary_of_new_frames_alone_counts_them_once(bouncing: Path, tmp_path: Path) -> None:
    code, _, err = run(bouncing, tmp_path / "b.mkv", "--frames", 5, "--only-new", "--mode", "flow")
    assert code == 0
    assert "b.mkv: 5 new frames that continue the source, from 1.9 s on at 25 fps" in err


def test_a_dry_run_writes_nothing(bouncing: Path, tmp_path: Path) -> None:
    words = ("--frames", 30, "--mode", "texture", "--dry-run", "--report", tmp_path / "r")
    code, out, _ = run(bouncing, tmp_path / "b.mp4", *words)
    assert code == 0
    assert "texture: the requested mode" in out
    assert not list(tmp_path.iterdir())


def test_a_warning_is_printed_once(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", [video(p) for p in clouds(24, (64, 48))], rate=25)
    code, _, err = run(clip, "--frames", 40, "--mode", "rollout", "--model", "conv")
    assert code == 0
    assert err.count("no longer looks like the clip") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "exactly one of --frames and --seconds"),
        (("--frames", 3, "--seconds", 1), "exactly one of --frames and --seconds"),
        (("--frames", 3, "--mode", "colage"), "did you mean collage"),
        (("--frames", 3, "--wind", "north"), "is not of the form dx,dy"),
        (("--frames", 3, "--seed", -1), "seed"),
        (("--frames", 3, "--mode", "texture", "--model", "conv"), "choose the mode rollout"),
        (("--frames", 3, "--json", "-o", "-"), "so the video cannot: name an output file"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_sentence(
    bouncing: Path, words: tuple[object, ...], said: str
) -> None:
    code, out, err = run(bouncing, *words)
    assert code == 2
    assert "--json" in words or not out
    assert said in " ".join(err.replace("│", " ").split())


def test_an_impossible_request_is_one_sentence(bouncing: Path, tmp_path: Path) -> None:
    code, _, err = run(bouncing, tmp_path / "b.mkv", "--frames", 3, "--at", 9)
    assert code == 1
    assert (
        err
        == f"error: {bouncing} lasts 1.92 s, so it has no frame at 9 s: choose an earlier time.\n"
    )


def test_help_has_examples() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for word in ("--model", "--loop", "cloudconv dream clouds.mp4 --seconds 20"):
        assert word in out


def test_the_progress_bar_shows_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with reporting("dreaming", "auto", quiet=False) as update:
        assert update is not None
        update(Progress("rendering", 1, 2), "sharpness 1.00, alive")
        update(Progress("rendering", 2, 2))
