"""``cloudconv models``: the registry as a table and as JSON, and the weights' check."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from functools import partial

import pytest

from cloudconv import weights
from cloudconv.models import catalogue
from tests.helpers.command import invoke

SHOWN = catalogue.LISTED
run = partial(invoke, "models")


def test_the_table_is_short_and_describes_each_model():
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    usual = done.stdout.splitlines()
    every = run("--all").stdout.splitlines()
    assert max(len(line) for line in (*usual, *every) if not line.startswith("(")) <= 80
    assert max(map(len, every)) <= 86  # the notes below a table may wrap
    research = [spec.name for spec in SHOWN if spec in catalogue.RESEARCH]
    named, all_named = (
        [line.split()[0] for line in lines if line] for lines in (usual, every)
    )
    for spec in SHOWN:
        count = sum(other.name == spec.name for other in SHOWN)
        assert all_named.count(spec.name) == count
        assert named.count(spec.name) == (0 if spec.name in research else count)
    assert f"and {len(set(research))} small research models" in usual[-1]
    (best,) = [line for line in usual if line.startswith("cloud-best ")]
    assert re.search(r"\+\d\.\d dB +1$", best)


def test_a_trained_file_shows_its_own_scores(tmp_path):
    import torch
    from safetensors.torch import save_file

    scores = {"loss": 0.1, "psnr": {"1": 30.5}, "naive_psnr": {"1": 30.0}, "gain": 0.5}
    data = {
        "model": "tiny",
        "task": "interpolate",
        "steps": "40",
        "scores": json.dumps(scores),
    }
    data["gained"] = "0.3"
    path = tmp_path / "mine.safetensors"
    save_file({"a": torch.zeros(1)}, path, {**data, "recipe": json.dumps({"init": "tiny"})})
    (row,) = json.loads(run("show", str(path), "--json").stdout)["models"]
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row["base"], row["steps"], row["gain"]) == ("tiny", 40, 0.5)
    assert row["scores"]["psnr_1"] == 30.5
    assert row["size_bytes"] == path.stat().st_size
    done = run("show", str(path)).stdout
    assert row["sha256"] in done
    assert re.search(r"^gained over its base +\+0\.30 dB$", done, re.M)
    assert re.search(r"^gain over the naive picture +\+0\.50 dB$", done, re.M)
    assert "fine-tuned from tiny" in done
    path.write_bytes(path.read_bytes()[:-1])
    assert run("show", str(path)).exit_code == 1


@pytest.mark.full
def test_scores_are_in_plain_words():
    for spec in SHOWN:
        done = run("show", spec.name).stdout
        assert "psnr" not in done
        assert "_" not in done.replace(spec.name, "")
        assert max(map(len, done.splitlines())) <= 80
    said = " ".join(run("show", "cloud-best").stdout.split())
    assert re.search(
        r"18 clips, 1 of 2 frames made again: PSNR in dB 37\.02, rife-4.6 .*blending", said
    )
    assert all(
        "psnr" in test for e in weights.manifest().values() for test in e.scores.values()
    )


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error on Windows")
def test_a_closed_pipe_prints_no_error():
    words = shlex.join([sys.executable, "-m", "cloudconv", "models"])
    command = ["sh", "-c", f"({words}; echo $? >&2) | true"]
    assert subprocess.run(command, capture_output=True, check=False).stderr == b"1\n"
