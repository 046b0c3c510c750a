"""``cloudconv doctor``: facts for bug reports, and checks of the weights."""

import json
import shutil
from importlib import metadata

from cloudconv import __version__, weights
from cloudconv.jobs.doctor import SIZES
from cloudconv.models import registry
from tests.helpers.command import invoke


def run(*arguments):
    return invoke("doctor", *arguments)


def test_json_has_all_facts_and_no_problems():
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert data["cloudconv"] == __version__
    assert data["problems"] == []
    assert data["weights"]["ok"] > 0
    assert data["weights"]["missing"] == data["weights"]["damaged"] == 0
    assert data["encoders"]["libx264"] == data["encoders"]["ffv1"] == "works"
    assert "cpu" in [device["name"] for device in data["devices"]]
    assert data["auto"]["model"] == registry.DEFAULT
    assert data["auto"]["encoders"][".mp4"] == "libx264"
    assert set(data["auto"]["sizes"]) == set(SIZES)


def test_another_build_of_a_package_is_no_error(monkeypatch):
    version = metadata.version

    def other_build(package):
        if package == "opencv-python-headless":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", other_build)
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["packages"]["opencv-python-headless"] == "missing"


def test_damaged_weights_are_a_problem(tmp_path, monkeypatch):
    shutil.copytree(weights.weights_folder(), tmp_path / "weights")
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path / "weights")
    file = tmp_path / "weights" / "conv.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    result = run("--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["The weights of conv are damaged."]
    assert "weights of conv are damaged" in result.stderr
