"""The scripts that train the shipped interpolator: footage, training, resume, results."""

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
def scripts():
    sys.path.insert(0, str(WEIGHTS))
    try:
        import pack_footage
        import train_interpolator
    finally:
        sys.path.remove(str(WEIGHTS))
    return pack_footage, train_interpolator


@pytest.fixture(scope="module")
def packs(scripts, tmp_path_factory):
    """Write a training file and a held-back file; return both."""
    folder = tmp_path_factory.mktemp("packs")
    for name in ("some/a.mp4", "some/held.mp4", "more/b.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        factory.write_clip(
            folder / name, 12, size=(256, 200), codec="mpeg4", options={"qscale": "2"}
        )
    recipe = folder / "recipe.toml"
    recipe.write_text(FOOTAGE, encoding="utf-8")
    made = []
    for name, more in (("pack", []), ("held", ["--held-back"])):
        made.append(folder / f"{name}.safetensors")
        arguments = [str(folder), str(made[-1]), "--recipe", str(recipe), *more]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["pack_footage.py", *arguments])
            scripts[0].main()
    return made[0], made[1]


@pytest.mark.full
def test_held_back_clips_are_only_in_the_held_back_file(packs):
    names = []
    for path in packs:
        with safe_open(path, "np") as file:
            names.append(set(file.metadata()["clips"].split()))
    assert names == [{"a.mp4", "b.mp4"}, {"held.mp4"}]


@pytest.mark.full
def test_a_stopped_training_continues_exactly(scripts, packs, tmp_path, monkeypatch):
    script = scripts[1]
    device = torch.device("cpu")
    monkeypatch.setattr(script, "PART", 2**22)  # so that a checkpoint has several parts

    script.train([packs[0]], packs[1], tmp_path / "whole", TRAINING, device)

    advance = script.Run.advance

    def stopped(run, found):
        if run.step == 3:
            raise KeyboardInterrupt
        advance(run, found)

    with monkeypatch.context() as patch:
        patch.setattr(script.Run, "advance", stopped)
        with pytest.raises(KeyboardInterrupt):
            script.train([packs[0]], packs[1], tmp_path / "parts", TRAINING, device)
    parts = list((tmp_path / "parts" / "checkpoint").glob("*/part*"))
    assert len(parts) > 1
    assert all(part.stat().st_size <= 2**22 for part in parts)
    script.train([packs[0]], packs[1], tmp_path / "parts", TRAINING, device)

    whole, resumed = (
        load_file(tmp_path / name / "trained.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())

    started = registry.build_model("cloud-best").state_dict()
    changed = {
        name.split(".")[0] for name in started if not torch.equal(whole[name], started[name])
    }
    assert changed == {"block3"}
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "made_up" in entry] == [0, 2, 4]
    assert (tmp_path / "whole" / "log.svg").read_text().startswith("<svg")
