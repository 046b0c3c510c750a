"""Files of weights are read in every layout, run nothing, and fail in one sentence."""

import ctypes
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file

from cloudconv import checkpoints
from cloudconv.checkpoints import SUFFIXES
from cloudconv.errors import CloudconvError, OutputError, WeightsError
from cloudconv.foreign import unwrapped
from cloudconv.models import registry
from cloudconv.models.published import normalised
from tests.helpers.own_networks import LAYOUTS, save, small_file, small_state
from tests.helpers.system import largest_file


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_network(layout):
    loaded = normalised(unwrapped(LAYOUTS[layout](small_state())))
    assert loaded.keys() == small_state().keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in small_state().items())


@pytest.mark.parametrize(("suffix", "legacy"), [(".safetensors", False), (".PTH", True)])
@pytest.mark.usefixtures("forked")
def test_the_content_decides_how_a_file_is_read(tmp_path, suffix, legacy):
    assert all(checkpoints.file_of(f"a{suffix}") for suffix in (*SUFFIXES, ".PTH"))
    written, path = tmp_path / "a.pth", tmp_path / f"b{suffix}"
    save(written, small_state(), legacy=legacy)
    written.rename(path)
    assert registry.spec(path).name == path.name
    save_file(small_state(), path)
    assert registry.spec(path, "interpolate").parameters == registry.spec(path).parameters


@pytest.mark.usefixtures("forked")
def test_16_bit_and_shared_tensors_are_accepted(tmp_path):
    state = {name: tensor.half() for name, tensor in small_state().items()}
    names = sorted(name for name in state if name.endswith("convblock.0.beta"))
    state[names[1]] = state[names[0]]
    save(tmp_path / "a.pth", OrderedDict(state))
    assert registry.load(tmp_path / "a.pth").dtype == torch.float32


class Code:
    """An object whose pickle creates a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def archive(path):
    with zipfile.ZipFile(path, "w") as result:
        result.writestr("readme.txt", "hello")


def pickled(path, description, more="byteorder"):
    """Write an archive with a handmade description."""
    with zipfile.ZipFile(path, "w") as result:
        result.writestr("a/data.pkl", b"\x80\x02" + description + b".")
        result.writestr("a/version", "3\n")
        result.writestr(f"a/{more}", "little")


def huge_tensor(path):
    header = b'{"a":{"dtype":"F32","shape":[2097152,1024],"data_offsets":[0,8589934592]}}'
    path.write_bytes(struct.pack("<q", len(header)) + header)
    os.truncate(path, 8 + len(header) + (1 << 33))


def circle():
    content = {}
    content["model"] = content
    return content


def saved(content):
    return lambda path: torch.save(content, path)


def written(data):
    return lambda path: path.write_bytes(data)


BOMB = b"cbuiltins\nbytearray\n(\x8a\x05\0\0\0\0\x02tR"
TOO_MUCH = "takes more than 2 GiB or 20 s"
BAD = {
    "missing": (lambda path: None, "is missing"),
    "empty": (Path.touch, "is empty"),
    "folder": (Path.mkdir, "are not a file"),
    "text": (written(b"hello"), "neither a PyTorch file nor"),
    "pickle": (written(pickle.dumps({"a": 1})), "neither a PyTorch file nor"),
    "foreign archive": (archive, "neither a PyTorch file nor"),
    "script": (
        lambda path: pickled(path, b"}", "constants.pkl"),
        "weights (TorchScript), and",
    ),
    "list": (saved([1, 2]), "no tensors by name"),
    "nothing": (saved({}), "no tensors by name"),
    "circle": (saved(circle()), "no tensors by name"),
    "numbers as names": (saved({1: torch.rand(2)}), "first tensors: 1 2"),
    "foreign": (saved({"a": torch.rand(2, 3)}), "first tensors: a 2x3"),
    "module": (saved({"a": torch.nn.ReLU()}), "modules.activation.ReLU"),
    "expanded": (saved({"a": torch.rand(1).expand(10**6, 10**6)}), TOO_MUCH),
    "expanded a little": (saved({"a": torch.rand(1).expand(1 << 16)}), TOO_MUCH),
    "many names": (
        lambda path: saved({f"{k}": torch.ones(1) for k in range(10_001)})(path),
        "and 9998 more",
    ),
    "sparse": (saved({"a": torch.eye(2).to_sparse()}), "damaged"),
    "nested": (
        lambda path: pickled(path, b"})" + b"\x85" * 400_000 + b"K\x01s"),
        "damaged",
    ),
    "bomb": (lambda path: pickled(path, BOMB), TOO_MUCH),
    "huge tensor": (huge_tensor, "larger than any known network"),
    "header": (written(struct.pack("<q", 50) + b'{"a'), "neither a PyTorch"),
    "cut header": (written(struct.pack("<q", 9) + b'{"a":"bcde'), "damaged"),
}


LARGE = ("many names", "nested")  # these take seconds


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.full] if k in LARGE else []) for k in BAD]
)
def test_a_bad_file_is_an_error_of_one_sentence(tmp_path, kind, request):
    # This one crashes the reader, and copies of a process may hang then.
    if kind != "nested":
        request.getfixturevalue("forked")
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


@pytest.mark.parametrize("way", ["archive", "legacy"])
@pytest.mark.usefixtures("forked")
def test_code_in_a_file_is_named_and_never_run(tmp_path, way):
    path, target = tmp_path / "a.pkl", tmp_path / "made by code"
    content = {**small_state(), "a": Code(target)}
    save(path, content, legacy=way == "legacy")
    with pytest.raises(WeightsError, match=r"\.mkdir.*runs no code"):
        registry.load(path)
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.usefixtures("forked")
def test_a_cut_off_or_changed_file_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save(
        path,
        {"a.weight": torch.rand(30), "b.weight": torch.rand(3)},
        legacy=suffix == ".pkl",
    )
    whole = path.read_bytes()
    # Each place in the others costs a process.
    places = 60 if suffix == ".safetensors" else 4
    seen = Counter()
    for at in range(len(whole) // places // 2, len(whole), len(whole) // places):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(data)
            with pytest.raises(CloudconvError) as raised:
                registry.load(path)
            seen[raised.value.code] += 1
    assert seen["weights-cut-off"]


def test_a_file_that_takes_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.01)
    save(tmp_path / "a.pth", {"a": torch.rand(7)})
    with pytest.raises(WeightsError, match="more than 2 GiB or 20 s"):
        registry.spec(tmp_path / "a.pth")


@pytest.mark.usefixtures("data_folder")
def test_a_lack_of_room_or_memory_is_not_called_damage(tmp_path, monkeypatch):
    save(path := tmp_path / "a.pth", small_state())
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with (
        largest_file(2000),
        pytest.raises(OutputError, match=r"\): free some space there, or set TMPDIR"),
    ):
        registry.spec(path)
    with pytest.raises(MemoryError), checkpoints.reading(path):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.usefixtures("forked")
def test_the_data_folder_keeps_sixteen_results(tmp_path, data_folder, monkeypatch):
    path, kept = tmp_path / "a.pth", data_folder / "converted"
    save(path, small_state())
    kept.mkdir(parents=True)
    own = [kept / f"{number:064x}.safetensors" for number in range(17)]
    others = [
        kept / "mine.safetensors",
        kept / "notes.txt",
        kept / f"{99:064x}.safetensors",
    ]
    for number, file in enumerate([*others[:2], *own]):
        file.touch()
        os.utime(file, (number, number))
    others[2].mkdir()
    first = registry.state_of(path, registry.spec(path))
    assert [file.exists() for file in own[:3]] == [False, False, True]
    assert all(map(Path.exists, others))
    assert len(os.listdir(kept)) == 16 + len(others)
    monkeypatch.setattr(subprocess, "Popen", None)  # a second conversion would fail
    again = registry.state_of(path, registry.spec(path))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


@pytest.mark.parametrize("is_told", [True, False])
def test_the_memory_of_a_process_of_windows_is_read_by_its_number(is_told, monkeypatch):
    def fill(handle, counters, size):
        counters[1] = 12345 if is_told else 0
        return is_told

    kernel = Mock(OpenProcess=Mock(return_value=7 if is_told else 0))
    kernel.K32GetProcessMemoryInfo = fill
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", Mock(kernel32=kernel), raising=False)
    assert checkpoints._resident(Mock(pid=99, spec=["pid"])) == (12345 if is_told else 0)
    assert kernel.OpenProcess.call_args.args[2] == 99
    kernel.CloseHandle.assert_called_once()


def test_a_changed_file_is_recognised_again(tmp_path):
    path = small_file(tmp_path / "a.safetensors")
    assert registry.spec(path).published
    name = "block2.conv0.0.0.weight"
    foreign = {"a": torch.rand(2)}
    wrong = {**small_state(), name: torch.rand(5)}
    for content, said in (
        (foreign, "holds no network"),
        (wrong, f"looks like RIFE.*{name}"),
    ):
        save(path, content)
        with pytest.raises(WeightsError, match=said):
            registry.spec(path)
