"""The shipped weights are complete and described, and damaged or wrong weights are refused."""

import hashlib
import shutil

import pytest

from cloudconv import weights
from cloudconv.errors import WeightsError
from cloudconv.models import registry


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a copy of the weights folder that a test may damage."""
    copy = tmp_path / "weights"
    shutil.copytree(weights.weights_folder(), copy)
    monkeypatch.setattr(weights, "weights_folder", lambda: copy)
    return copy


def test_every_weights_file_is_complete():
    entries = weights.manifest()
    assert entries.keys() == {spec.weights for spec in registry.MODELS if spec.weights}
    for name, entry in entries.items():
        data = (weights.weights_folder() / entry.file).read_bytes()
        assert len(data) == entry.size_bytes
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        assert weights.status(name) == "ok"
        state = weights.load_state(name)
        for spec in (spec for spec in registry.MODELS if spec.weights == name):
            assert spec.parameters == entry.parameters
            wanted = {key: tensor.shape for key, tensor in spec.build().state_dict().items()}
            assert {key: tensor.shape for key, tensor in state.items()} == wanted
        assert {str(t.dtype).removeprefix("torch.") for t in state.values()} == {entry.dtype}


def test_every_entry_names_its_origin():
    entries = weights.manifest().values()
    assert entries
    for entry in entries:
        registry.spec(entry.model)
        assert entry.origin
        assert entry.training_data
        assert entry.command
        assert entry.scores
        text = (weights.weights_folder() / entry.licence_file).read_text()
        assert entry.licence in text
        assert "Copyright" in text


def test_one_changed_byte_is_noticed(folder):
    path = folder / "rife-4.6.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert weights.status("rife-4.6") == "damaged"
    with pytest.raises(WeightsError, match=r"damaged.*reinstall"):
        registry.load("rife-4.6")


def test_a_missing_file_is_named_with_a_remedy(folder):
    (folder / "rife-4.6.safetensors").unlink()
    assert weights.status("rife-4.6") == "missing"
    with pytest.raises(WeightsError, match=r"rife-4\.6\.safetensors is missing: .*reinstall"):
        registry.load("rife-4.6")
    registry.load("blend")


@pytest.mark.parametrize("text", ["", "[]", '{"rife-4.6": {"file": "x"}}', '{"rife-4.6": 3}'])
def test_a_damaged_manifest_is_an_error(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match="manifest"):
        registry.load("rife-4.6")


def test_a_missing_manifest_and_an_unknown_entry_are_errors(folder):
    with pytest.raises(WeightsError, match="no entry other"):
        weights.load_state("other")
    (folder / "manifest.json").unlink()
    with pytest.raises(WeightsError, match="missing"):
        weights.status("rife-4.6")
