"""Non-finite weights and pictures give an error and never a black frame with exit code 0."""

import pytest
import torch
from safetensors.torch import save_file

from cloudconv import checkpoints, weights
from cloudconv.models.baselines import Blend, Linear
from tests.helpers.command import invoke
from tests.helpers.factory import write_clip

SIZE = (64, 48)


def error_line(result):
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("warning: "))
    assert line.startswith("error: ")
    assert "bug" not in line
    return line


def first_value(value):
    return lambda tensor: tensor.clone().index_fill_(0, torch.tensor([0]), value)


@pytest.mark.full
@pytest.mark.parametrize(
    "harm",
    [first_value(float("nan")), first_value(float("inf")), torch.Tensor.int, torch.Tensor.bool],
)
@pytest.mark.parametrize("command", ["interp", "train"])
def test_weights_with_invalid_values_or_types_are_refused(tmp_path, harm, command):
    clip, mine = write_clip(tmp_path / "clip.mkv", 30, size=SIZE), tmp_path / "mine.safetensors"
    state, about = checkpoints.read(weights.weights_folder() / "rife-4.6.safetensors")
    name = sorted(state)[-1]
    save_file({**state, name: harm(state[name])}, mine, {"model": "rife-4.6", **about})
    words = {
        "interp": [clip, tmp_path / "out.mkv", "--factor=2", "--model", mine],
        "train": [clip, "-o", tmp_path / "out.safetensors", "--init", mine, "--steps", "1"],
    }
    sentence = error_line(invoke(command, *words[command]))
    assert "not finite floating-point" in sentence
    assert name in sentence
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("command", ["interp", "extrapolate"])
def test_a_non_finite_picture_is_an_error(tmp_path, monkeypatch, command):
    clip, output = write_clip(tmp_path / "clip.mkv", 6, size=SIZE), tmp_path / "out.mkv"
    monkeypatch.setattr(Blend, "forward", lambda self, x0, x1, *_, **__: (x0 + x1) / 0 - x0 / 0)
    monkeypatch.setattr(Linear, "forward", lambda self, context: context[:, -1] / 0)
    words = {"interp": ["blend", "--factor=2"], "extrapolate": ["linear", "--frames=3"]}
    result = invoke(command, clip, output, "--model", *words[command])
    assert "not finite" in error_line(result)
    assert not output.exists()
