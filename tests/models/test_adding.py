"""Networks that the user adds: names, files, and what knows them afterwards."""

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import cloudconv
from cloudconv import weights
from cloudconv.errors import (
    CloudconvError,
    OutputError,
    SettingsError,
    UnknownModelError,
    WeightsError,
)
from cloudconv.models import registry
from cloudconv.models.added import add, remove
from cloudconv.models.catalogue import TINY
from cloudconv.models.registry import weights_fingerprint
from tests.helpers.own_networks import save, small_file, small_state


@pytest.fixture(autouse=True)
def folder(data_folder, forked):
    return data_folder / "models"


@pytest.fixture
def file(tmp_path):
    return small_file(tmp_path / "flownet.pkl")


def test_an_added_network_is_known_by_its_name(file, folder):
    spec = cloudconv.add_model(file, "rife-4.26")
    assert (spec.name, spec.task, spec.published) == ("rife-4.26", "interpolate", True)
    assert "rife-4.26" in [known.name for known in cloudconv.list_models()]
    model, given = (cloudconv.load_model(each, device="cpu") for each in ("rife-4.26", file))
    x0, x1 = torch.rand(2, 1, 3, 64, 96)
    assert torch.equal(model.interpolate(x0, x1, 0.3), given.interpolate(x0, x1, 0.3))
    assert os.listdir(folder) == ["rife-4.26.safetensors"]
    cloudconv.remove_model("rife-4.26")
    assert os.listdir(folder) == []
    assert "rife-4.26" not in [known.name for known in cloudconv.list_models()]


def test_the_stored_file_records_its_source(file, folder):
    add(file, "mine", timesteps="middle")
    with safe_open(folder / "mine.safetensors", "pt") as opened:
        metadata = opened.metadata()
    assert metadata["source"] == "flownet.pkl"
    assert metadata["source_sha256"] == weights_fingerprint(str(file))
    assert metadata["timesteps"] == "middle"
    assert metadata["network"].startswith("RIFE")
    assert not registry.spec("mine").arbitrary_timestep


def test_a_name_is_replaced_only_on_request(file, tmp_path):
    add(file, "mine")
    before = weights_fingerprint("mine")
    other = tmp_path / "other.pth"
    save(other, small_state(gain=0.25))
    with pytest.raises(OutputError, match="There is a model mine already"):
        add(other, "mine")
    assert weights_fingerprint("mine") == before
    add(other, "mine", overwrite=True)
    assert weights_fingerprint("mine") != before


NAMES = ["", "A", "a b", "../a", "a/b", ".a", "é", "a,b", "x" * 33, "a.", "nul", "aux.1", "mine.pt"]
SHIPPED = ["rife-4.6", "cloud-best", "blend", "tiny", "minterpolate"]


@pytest.mark.parametrize("name", [*NAMES, *SHIPPED])
def test_a_shipped_name_and_one_that_no_file_could_have_everywhere_are_refused(file, folder, name):
    known = name in SHIPPED
    said = "is a model of cloudconv itself" if known else "cannot be the name of a model"
    with pytest.raises(SettingsError, match=said):
        add(file, name, overwrite=True)
    assert not folder.exists()


def test_only_added_models_can_be_removed(file):
    add(file, "mine")
    for name, said in (
        ("mime", r"'mime' \(did you mean mine"),
        ("../data/models/mine", "no model"),
    ):
        with pytest.raises(UnknownModelError, match=said):
            remove(name)


def test_a_trained_file_can_be_added_too(tmp_path):
    path = tmp_path / "trained.safetensors"
    save_file(TINY.build().state_dict(), path, {"model": "tiny", "steps": "3"})
    add(path, "mine")
    assert registry.spec("mine") == TINY
    assert isinstance(registry.load("mine"), type(TINY.build()))


def test_damaged_and_other_files_in_the_folder_hide_no_model(file, folder):
    add(file, "good")
    (folder / "bad.safetensors").write_bytes(b"nothing")
    (folder / "Readme.txt").write_text("hello")
    (folder / "a-folder.safetensors").mkdir()
    (folder / "a-link.safetensors").symlink_to("nowhere")
    assert [spec.name for spec in registry.added()] == ["good"]
    for name in ("a-folder", "a-link"):
        with pytest.raises(UnknownModelError, match=f'no model "{name}"'):
            registry.spec(name)
    with pytest.raises(CloudconvError, match=r"bad\.safetensors is neither"):
        registry.load("bad")
    remove("bad")
    assert list(registry.added_files()) == ["good"]


def test_a_score_that_is_not_finite_is_an_error(tmp_path):
    path = tmp_path / "a.safetensors"
    path.touch()
    with pytest.raises(WeightsError, match="metadata"):
        weights.trained_file(path, {"scores": '{"gain": NaN}'})
