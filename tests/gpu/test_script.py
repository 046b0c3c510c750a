"""The script that trains the shipped interpolators follows the rules of CUDA."""

import torch
from safetensors.torch import load_file

from cloudconv.models import registry
from cloudconv.render.device import choose_device
from tests.training import test_train_interpolator as script

packs, scripts = script.packs, script.scripts


def test_the_script_trains_on_the_gpu(gpu, scripts, packs, tmp_path):
    rates = {"block3.": 1e-4, "refine.": 1e-4}
    settings = {**script.TRAINING, "learning_rates": rates, "steps": 2}
    with gpu() as record:
        scripts[1].train([packs[0]], packs[1], tmp_path, settings, choose_device("cuda"))
    trained = load_file(tmp_path / "trained.safetensors")
    started = registry.build_model("cloud-best").state_dict()
    changed = {
        name.split(".")[0] for name in started if not torch.equal(trained[name], started[name])
    }
    assert changed == {"block3", "refine"}
    if record is not None:
        # The script is for CUDA, which has float64.
        assert [fault for fault in record.faults if "float64" not in fault] == []
