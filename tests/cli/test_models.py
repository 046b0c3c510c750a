"""``cloudconv models``: the registry as a table and as JSON, and the check of the weights."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from cloudconv import files, weights
from cloudconv.models import catalogue, registry
from tests.helpers.command import invoke
from tests.helpers.own_networks import small_file

SHOWN = catalogue.MODELS


def run(*arguments):
    return invoke("models", *arguments)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a copy of the weights folder that a test may damage."""
    shutil.copytree(weights.weights_folder(), tmp_path / "weights")
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path / "weights")
    return tmp_path / "weights"


def test_the_table_is_short_and_describes_each_model(monkeypatch):
    monkeypatch.setattr("cloudconv.cli.models.is_terminal", lambda: True)
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    research = {spec.name for spec in SHOWN if registry.is_research(spec)}
    named = [line.split()[0] for line in lines if line]
    usual = [spec.name for spec in SHOWN if not registry.is_research(spec)]
    assert sorted(name for name in named if name in usual) == sorted(usual)
    assert not research & set(named)
    assert f"and {len(research)} small research models" in lines[-1]
    (best,) = [line for line in lines if line.startswith("cloud-best ")]
    assert best.split()[-3:] == ["1", "MIT", "ok"]
    assert re.search(r"\+\d\.\d dB", best)


def test_the_option_all_also_lists_the_research_models(monkeypatch):
    monkeypatch.setattr("cloudconv.cli.models.is_terminal", lambda: True)
    lines = run("--all").stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("(")) <= 80
    assert max(map(len, lines)) <= 86  # the notes below a table may wrap
    named = [line.split()[0] for line in lines if line]
    for spec in SHOWN:
        assert named.count(spec.name) == sum(other.name == spec.name for other in SHOWN)


def test_a_trained_file_shows_its_own_scores(tmp_path):
    import torch
    from safetensors.torch import save_file

    scores = {"loss": 0.1, "psnr": {"1": 30.5}, "naive_psnr": {"1": 30.0}, "gain": 0.5}
    data = {"model": "tiny", "task": "interpolate", "steps": "40", "scores": json.dumps(scores)}
    path = tmp_path / "mine.safetensors"
    save_file({"a": torch.zeros(1)}, path, {**data, "recipe": json.dumps({"init": "tiny"})})
    (row,) = json.loads(run("show", str(path), "--json").stdout)["models"]
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row["base"], row["steps"], row["gain"]) == ("tiny", 40, 0.5)
    assert row["scores"]["psnr_1"] == 30.5
    assert row["size_bytes"] == path.stat().st_size
    shown = run("show", str(path)).stdout
    assert row["sha256"] in shown
    assert re.search(r"^held-back part +\+0.50 dB of PSNR over the naive picture$", shown, re.M)
    assert not re.search(r"^gain", shown, re.M)
    path.write_bytes(path.read_bytes()[:-1])
    assert run("show", str(path)).exit_code == 1


def test_scores_are_in_plain_words():
    for spec in SHOWN:
        shown = run("show", spec.name).stdout
        assert "psnr" not in shown
        assert "_" not in shown.replace(spec.name, "")
        assert max(map(len, shown.splitlines())) <= 80
    said = " ".join(run("show", "cloud-best").stdout.split())
    assert re.search(r"18 clips, 1 of 2 frames made again: \d\d\.\d dB \(rife-4.6 .*blending", said)
    assert all("psnr" in test for e in weights.manifest().values() for test in e.scores.values())


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_verify_fails_on_damaged_weights(copied, harm):
    path = copied / weights.entry("rife-4.6").file
    if harm == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    listed = run("--json")
    assert listed.exit_code == 0
    rows = {row["name"]: row for row in json.loads(listed.stdout)["models"]}
    assert rows["rife-4.6"]["weights"] == harm
    checked = run("verify")
    assert checked.exit_code == 1
    (line,) = checked.stderr.splitlines()
    assert f"rife-4.6 are {harm}" in line


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error on Windows")
def test_a_closed_pipe_prints_no_error():
    running = subprocess.Popen(
        [sys.executable, "-m", "cloudconv", "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running.stdout.close()
    said = running.stderr.read()
    running.stderr.close()
    assert (running.wait(timeout=60), said) == (1, "")


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return a published network's file; the test has a data folder of its own."""
    monkeypatch.setenv(files.DATA, str(tmp_path / "data"))
    return small_file(tmp_path / "flownet.pkl")


def test_an_added_network_is_in_the_table_and_completed(file, monkeypatch):
    monkeypatch.setattr("cloudconv.cli.models.is_terminal", lambda: True)
    added = run("add", str(file), "rife-4.26")
    assert (added.exit_code, added.stderr) == (0, "")
    assert "rife-4.26" in added.stdout
    lines = run().stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("rife-4.26 ")]
    assert line.split()[-1] == "ok"
    assert max(map(len, lines)) <= 80
    (row,) = [r for r in json.loads(run("--json").stdout)["models"] if r["name"] == "rife-4.26"]
    assert (row["weights"], row["network"][:5]) == ("ok", "RIFE ")
    assert row["sha256"] in run("show", "rife-4.26").stdout
    again = run("add", str(file), "rife-4.26")
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    assert run("add", str(file), "rife-4.26", "-y", "-q").stdout == ""
    removed = json.loads(run("remove", "rife-4.26", "--json").stdout)
    assert removed["removed"] == "rife-4.26"
    assert "rife-4.26" not in run().stdout


def test_verify_checks_added_networks_too(file, tmp_path):
    run("add", str(file), "mine")
    assert run("verify").exit_code == 0
    path = tmp_path / "data" / "models" / "mine.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    result = run("verify")
    assert result.exit_code == 1
    assert "weights of mine are damaged: add the model again" in result.stderr
    path.write_bytes(b"nothing")
    listed = run()
    assert (listed.exit_code, "cloud-best" in listed.stdout) == (0, True)
    assert len(listed.stderr.splitlines()) == 1
    assert run("verify").exit_code == 1


def test_a_table_in_a_pipe_is_not_shortened():
    done = invoke("models")
    assert "…" not in done.stdout
