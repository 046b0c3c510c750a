"""The scripts that train the shipped interpolator: footage, training, resume, results."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cloudconv.models import registry
from tests.helpers import factory

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
FOOTAGE = """
[footage]
folders = ["some", "more"]
held_back = ["held.mp4"]
seed = 3
side = 96
longest = 12
reduced = 2
filmed = 2
made_up = 3
"""
TRAINING = {"model": "cloud-best", "learning_rates": {"block3.": 0.0001}, "seed": 1}
TRAINING |= {"loss": "psnr:4,charbonnier:1", "steps": 4, "batch": 2, "crop": 64, "warm_up": 0.1}
TRAINING |= {"weight_decay": 0.0001, "ema": 0.9, "clip_gradient": 1.0, "precision": "bf16"}
TRAINING |= {"validate_every": 2}


@pytest.fixture(scope="module")
def script():
    """Return the script that trains; it and the script that packs footage can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(WEIGHTS)
        yield importlib.import_module("train_interpolator")


@pytest.fixture(scope="module")
def packs(script, tmp_path_factory):
    """Write a training file and a held-back file; return both."""
    folder = tmp_path_factory.mktemp("packs")
    given = {"size": (256, 200), "codec": "mpeg4", "options": {"qscale": "2"}}
    for name in ("some/a.mp4", "some/held.mp4", "more/b.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        factory.write_clip(folder / name, 12, **given)
    recipe = folder / "recipe.toml"
    recipe.write_text(FOOTAGE, encoding="utf-8")
    made = []
    for name, more in (("pack", []), ("held", ["--held-back"])):
        made.append(folder / f"{name}.safetensors")
        words = ["pack_footage.py", str(folder), str(made[-1]), "--recipe", str(recipe), *more]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            importlib.import_module("pack_footage").main()
    return made


@pytest.mark.full
def test_held_back_clips_are_only_in_the_held_back_file(packs):
    names = []
    for path in packs:
        with safe_open(path, "np") as file:
            names.append(set(file.metadata()["clips"].split()))
    assert names == [{"a.mp4", "b.mp4"}, {"held.mp4"}]


@pytest.mark.full
def test_a_stopped_training_continues_exactly(script, packs, tmp_path, monkeypatch):
    def train(name):
        script.train([packs[0]], packs[1], tmp_path / name, TRAINING, torch.device("cpu"))

    monkeypatch.setattr(script, "PART", 2**22)  # so that a checkpoint has several parts
    train("whole")
    advance = script.Run.advance

    def stopped(run, found):
        if run.step == 3:
            raise KeyboardInterrupt
        advance(run, found)

    with monkeypatch.context() as patch:
        patch.setattr(script.Run, "advance", stopped)
        with pytest.raises(KeyboardInterrupt):
            train("parts")
    sizes = [part.stat().st_size for part in (tmp_path / "parts").glob("checkpoint/*/part*")]
    assert len(sizes) > 1
    assert max(sizes) <= 2**22
    train("parts")
    whole, resumed = (load_file(tmp_path / k / "trained.safetensors") for k in ("whole", "parts"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())

    started = registry.build_model("cloud-best").state_dict()
    changed = {name.split(".")[0] for name in started if not whole[name].equal(started[name])}
    assert changed == {"block3"}
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "made_up" in entry] == [0, 2, 4]
    assert (tmp_path / "whole" / "log.svg").read_text().startswith("<svg")
