"""``cloudconv dream``: options, exit code, stdout and stderr."""

import json

import pytest

from cloudconv.dreaming.vitals.vitals import VITALS
from tests.helpers.command import invoke
from tests.helpers.dreams import ball, clouds, video
from tests.helpers.factory import read_planes, write_clip


@pytest.fixture(scope="module")
def bouncing(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "ball.mkv"
    return write_clip(path, [video(p) for p in ball(48)], rate=25)


def run(*words):
    result = invoke("dream", *words)
    return result.exit_code, result.stdout, result.stderr


def test_a_length_is_the_only_required_option(tmp_path):
    clip = write_clip(tmp_path / "ball.mkv", [video(p) for p in ball(26, (64, 48))], rate=25)
    code, out, err = run(clip, "--seconds", "0.5")
    assert (code, out) == (0, "")
    assert len(read_planes(tmp_path / "ball_dream.mkv")) == 39
    assert "39 frames (13 new, from 1.0 s on) at 25 fps" in err
    assert "in a trial of 150 small frames" in err
    assert "like the clip in 1 of 1 windows" in err
    code, _, err = run(clip, "--seconds", "0.5")
    assert code == 1
    assert "exists" in err


def test_json_has_the_vitals_and_their_limits(bouncing, tmp_path):
    words = ("--frames", 30, "--mode", "texture", "--json", "-q")
    code, out, err = run(bouncing, tmp_path / "b.mkv", *words)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["mode"], said["new_frames"], said["seed"]) == ("texture", 30, 0)
    (row,) = said["vitals"]
    assert list(row) == ["from", "to", *VITALS, "alive"]
    assert (row["from"], row["to"], row["alive"]) == (0, 30, True)
    assert set(said["limits"]) == set(VITALS)


def test_a_failed_vital_is_described_in_words(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [video(p) for p in clouds(24, (64, 48))], rate=25)
    words = (clip, "-y", "--frames", 40, "--mode", "rollout", "--model", "conv")
    code, _, plain = run(*words)
    assert code == 0
    assert plain.count("no longer looks like the clip") == 1
    assert "the clip's contrast" in plain
    assert not [key for key in ("std", "saturation") if key in plain]


def test_standard_input_is_accepted(bouncing, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = bouncing.read_bytes()
    words = ["dream", "-", str(tmp_path / "b.mkv"), "--frames", "5", "--at", "1", "--mode", "flow"]
    assert invoke(*words, "--dry-run", input=data).exit_code == 0
    assert not list(tmp_path.iterdir())
    assert invoke(*words, input=data).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["b.mkv"]


def test_the_summary_of_new_frames_alone_counts_them_once(bouncing, tmp_path):
    code, _, err = run(bouncing, tmp_path / "b.mkv", "--frames", 5, "--only-new", "--mode", "flow")
    assert code == 0
    assert "b.mkv: 5 new frames that continue the source, from 1.9 s on at 25 fps" in err


def test_a_dry_run_writes_nothing(bouncing, tmp_path):
    words = ("--frames", 30, "--mode", "texture", "--dry-run", "--report", tmp_path / "r")
    code, out, _ = run(bouncing, tmp_path / "b.mp4", *words)
    assert code == 0
    assert "texture: the requested mode" in out
    assert not list(tmp_path.iterdir())
