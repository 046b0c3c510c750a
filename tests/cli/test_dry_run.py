"""The rows for people after the plan of a dry run."""

import json

import pytest

from tests.helpers.command import invoke
from tests.helpers.factory import write_clip


@pytest.mark.parametrize(
    ("words", "row", "said"),
    [
        (("interp", "--factor", 2, "--model", "blend"), "time", "20 new frames (measured)"),
        (
            ("interp", "--speed", "0=1,0.4=1,0.4=0.25", "--model", "blend"),
            "time",
            "40 new frames (measured)",
        ),
        (("dream", "--frames", 4), "mode", "texture (20 frames, too few for a collage)"),
        (("extrapolate", "--model", "hold"), "model", "in a trial"),
        (
            ("train", "--model", "voxelflow", "--steps", 7, "--crop", 64),
            "training",
            "7 steps on 1 clip; 1 to validate on",
        ),
    ],
)
def test_a_dry_run_ends_with_what_a_run_will_choose(tmp_path, words, row, said):
    clip = write_clip(tmp_path / "a.mkv", 90 if words[0] == "train" else 20, rate=25)
    output = tmp_path / ("b.safetensors" if words[0] == "train" else "b.mkv")
    command, *options = words
    done = invoke(command, clip, "-o", output, *options, "--dry-run", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    last = done.stdout.rstrip().splitlines()[-1]
    assert last.split()[0] == row
    assert said in last
    plan = invoke(command, clip, "-o", output, *options, "--dry-run", "--json")
    assert "measured" not in json.dumps(json.loads(plan.stdout))
    assert not output.exists()
