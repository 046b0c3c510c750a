"""Files of weights are read in every layout, run nothing, and give one sentence if they are bad."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cloudconv.checkpoints import SUFFIXES
from cloudconv.errors import CloudconvError, WeightsError
from cloudconv.models import registry
from tests.helpers.own_networks import LAYOUTS, save, small_file, small_state


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_network(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "flownet.pkl"
    save(path, LAYOUTS[layout](small_state()))
    loaded = registry.build_model(path, task="interpolate").state_dict()
    assert loaded.keys() == small_state().keys()
    assert all(torch.equal(each, loaded[name]) for name, each in small_state().items())


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PTH"])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_content_decides_how_a_file_is_read(tmp_path: Path, suffix: str, legacy: bool) -> None:
    written, path = tmp_path / "a.pth", tmp_path / f"b{suffix}"
    save(written, small_state(), legacy=legacy)
    written.rename(path)
    assert registry.spec(path).name == path.name
    save_file(small_state(), path)
    assert registry.spec(path, "interpolate").parameters == registry.spec(path).parameters


def test_16_bit_and_shared_tensors_are_accepted(tmp_path: Path) -> None:
    state = {name: each.half() for name, each in small_state().items()}
    names = sorted(name for name in state if name.endswith("convblock.0.beta"))
    state[names[1]] = state[names[0]]
    save(tmp_path / "a.pth", OrderedDict(state))
    assert registry.load(tmp_path / "a.pth").dtype == torch.float32


class Code:
    """An object whose pickle creates a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


class Vast:
    """An object whose pickle fills the memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (bytearray, (10**12,))


def deflated(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**7)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("readme.txt", "hello")


def script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a/data.pkl", "")
        made.writestr("a/constants.pkl", "")


def vast_storage(path: Path) -> None:
    """Write a file that describes a million times the numbers that the file has."""
    save(path, {"a": torch.rand(4)}, legacy=True)
    data = path.read_bytes()
    at = data.index(b"K\x04", data.index(b"cpu"))
    path.write_bytes(data[:at] + b"\x8a\x08" + struct.pack("<q", 4 * 10**6) + data[at + 2 :])


def huge(path: Path) -> None:
    """Write a file that seems to need more memory than most machines have."""
    save(path, {"a": torch.rand(4)}, legacy=True)
    os.truncate(path, 1 << 40)


def huge_tensor(path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2097152,1024],"data_offsets":[0,8589934592]}}'
    path.write_bytes(struct.pack("<q", len(header)) + header)
    os.truncate(path, 8 + len(header) + (1 << 33))


def circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["model"] = made
    return made


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "is missing"),
    "empty": (Path.touch, "is empty"),
    "folder": (Path.mkdir, "are not a file"),
    "text": (lambda path: path.write_text("hello"), "neither a PyTorch file nor"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "neither a PyTorch file nor"),
    "foreign archive": (archive, "neither a PyTorch file nor"),
    "compressed": (deflated, "is a compressed archive"),
    "script": (script, "is a TorchScript program"),
    "list": (lambda path: torch.save([1, 2], path), "no tensors by name"),
    "nothing": (lambda path: torch.save({}, path), "no tensors by name"),
    "circle": (lambda path: torch.save(circle(), path), "no tensors by name"),
    "numbers as names": (lambda path: torch.save({1: torch.rand(2)}, path), "first tensors: 1 2"),
    "foreign": (lambda path: torch.save({"a": torch.rand(2, 3)}, path), "first tensors: a 2x3"),
    "module": (lambda path: torch.save({"a": torch.nn.ReLU()}, path), "modules.activation.ReLU"),
    "bytes": (lambda path: torch.save({"a": Vast()}, path), "bytearray"),
    "expanded": (
        lambda path: torch.save({"a": torch.rand(1).expand(10**6, 10**6)}, path),
        "a is larger than the file",
    ),
    "sparse": (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "sparse_tensor"),
    "huge": (huge, "larger than 2 GiB"),
    "huge tensor": (huge_tensor, "first tensors: a 2097152x1024"),
    "storage": (vast_storage, "cut off or damaged"),
    "header": (lambda path: path.write_bytes(struct.pack("<q", 50) + b'{"a'), "neither a PyTorch"),
    "cut header": (lambda path: path.write_bytes(struct.pack("<q", 9) + b'{"a":"bcde'), "damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_an_error_of_one_sentence(tmp_path: Path, kind: str) -> None:
    make, said = BAD[kind]
    path = tmp_path / "a.pth"
    make(path)
    with pytest.raises(WeightsError) as raised:
        registry.load(path)
    text = str(raised.value)
    assert said in text
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < len(str(path)) + 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="are not a file"):
        registry.spec(tmp_path / "a.pth")


@pytest.mark.parametrize("way", ["archive", "legacy", *range(2, 6)])
def test_code_in_a_file_is_named_and_never_run(tmp_path: Path, way: str | int) -> None:
    path, target = tmp_path / "a.pkl", tmp_path / "made by code"
    content = {**small_state(), "a": Code(target)}
    if isinstance(way, int):
        path.write_bytes(pickle.dumps(content["a"], protocol=way))
    else:
        save(path, content, legacy=way == "legacy")
    with pytest.raises(WeightsError, match=r"\.mkdir.*runs no code"):
        registry.load(path)
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_a_cut_off_or_changed_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save(path, {"a.weight": torch.rand(30), "b.weight": torch.rand(3)}, legacy=suffix == ".pkl")
    whole = path.read_bytes()
    seen: Counter[str] = Counter()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(data)
            with pytest.raises(CloudconvError) as raised:
                registry.load(path)
            seen[raised.value.code] += 1
    assert seen["weights-cut-off"] > sum(seen.values()) / 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = small_state()
    name = sorted(state)[0]
    state[name] = torch.full_like(state[name], value)
    save(tmp_path / "a.pth", state)
    with pytest.raises(WeightsError, match=f"{name} holds values that are not finite"):
        registry.load(tmp_path / "a.pth")


def test_a_network_with_other_tensors_is_refused(tmp_path: Path) -> None:
    state = small_state()
    name = next(name for name in state if name.startswith("block2."))
    save(tmp_path / "a.pth", {**state, name: torch.rand(5)})
    with pytest.raises(WeightsError, match=f"looks like RIFE.*{name}"):
        registry.spec(tmp_path / "a.pth")


def test_a_changed_file_is_recognised_again(tmp_path: Path) -> None:
    path = small_file(tmp_path / "a.pth")
    assert registry.spec(path).published
    torch.save({"a": torch.rand(2)}, path)
    with pytest.raises(WeightsError, match="holds no network"):
        registry.spec(path)
