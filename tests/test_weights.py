"""Shipped weights are complete and described; damaged or wrong weights are refused."""

import hashlib
import json
import re

import pytest

from cloudconv import weights
from cloudconv.errors import WeightsError
from cloudconv.models import registry
from tests.helpers.command import invoke


@pytest.mark.full
def test_every_weights_file_is_complete_and_names_its_origin():
    entries = weights.manifest()
    every = json.loads((weights.weights_folder() / "manifest.json").read_bytes())
    assert entries.keys() == {spec.weights for spec in registry.MODELS if spec.weights}
    for name, entry in entries.items():
        about = every[name]
        data = (weights.weights_folder() / entry.file).read_bytes()
        assert len(data) == entry.size_bytes
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        state = weights.load_state(name)
        for spec in (spec for spec in registry.MODELS if spec.weights == name):
            assert spec.parameters == about["parameters"]
            wanted = {
                key: tensor.shape for key, tensor in spec.build().state_dict().items()
            }
            assert {key: tensor.shape for key, tensor in state.items()} == wanted
        assert {str(t.dtype).removeprefix("torch.") for t in state.values()} == {
            about["dtype"]
        }
        registry.spec(entry.model)
        assert all(about[key] for key in ("origin", "training_data", "command", "scores"))
        text = (weights.weights_folder() / about["licence_file"]).read_text()
        assert about["licence"] in text
        assert "Copyright" in text


@pytest.mark.full
@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_bad_weights_are_named_with_a_remedy_by_every_command(copied_weights, harm):
    path = copied_weights / "rife-4.6.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink() if harm == "missing" else path.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"rife-4\.6.*{harm}.*reinstall"):
        registry.load("rife-4.6")
    registry.load("blend")
    listed, examined = (
        invoke(*words.split()) for words in ("models --json", "doctor --json")
    )
    assert (listed.exit_code, examined.exit_code) == (0, 1)
    rows = {row["name"]: row["weights"] for row in json.loads(listed.stdout)["models"]}
    assert (rows["rife-4.6"], rows["cloud-best"]) == (harm, "ok")
    assert json.loads(examined.stdout)["problems"] == [
        f"The weights of rife-4.6 are {harm}."
    ]
    assert f"weights of rife-4.6 are {harm}" in examined.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rife-4.6": {"file": "x"}}', '{"rife-4.6": 3}', None]
)
def test_a_damaged_or_missing_manifest_is_an_error(tmp_path, monkeypatch, text):
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(
        WeightsError, match=re.escape("missing" if text is None else "manifest")
    ):
        registry.load("rife-4.6")
