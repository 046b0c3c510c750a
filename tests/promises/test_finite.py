"""Non-finite weights and pictures give an error and never a black frame with exit code 0."""

import pytest
import torch
from safetensors.torch import save_file

from cloudconv import checkpoints, weights
from cloudconv.models.baselines import Blend, Linear
from tests.helpers.command import invoke
from tests.helpers.factory import write_clip

SIZE = (64, 48)


def interp(clip, output, *options):
    return invoke("interp", clip, output, *options, "--factor=2")


def error_line(result):
    assert result.exit_code == 1
    (line,) = [x for x in result.stderr.splitlines() if not x.startswith("warning: ")]
    assert line.startswith("error: ")
    assert "bug" not in line
    return str(line)


def changed_tensors():
    def one_value(value):
        return lambda tensor: tensor.clone().index_fill_(0, torch.tensor([0]), value)

    return [
        ("not finite floating-point", one_value(float("nan"))),
        ("not finite floating-point", one_value(float("inf"))),
        ("not finite floating-point", lambda tensor: tensor.int()),
        ("not finite floating-point", lambda tensor: tensor > 0),
    ]


@pytest.mark.full
@pytest.mark.parametrize(("said", "harm"), changed_tensors())
@pytest.mark.parametrize("command", ["interp", "train"])
def test_weights_with_invalid_values_or_types_are_refused(tmp_path, said, harm, command):
    clip = write_clip(tmp_path / "clip.mkv", 30, size=SIZE)
    whole = weights.weights_folder() / "rife-4.6.safetensors"
    state, about = checkpoints.read(whole)
    name = sorted(state)[-1]
    mine, output = tmp_path / "mine.safetensors", tmp_path / "out"
    save_file({**state, name: harm(state[name])}, mine, {"model": "rife-4.6", **about})
    if command == "interp":
        result = interp(clip, output.with_suffix(".mkv"), "--model", mine)
    else:
        words = ["train", clip, "--init", mine, "-o", output.with_suffix(".safetensors")]
        result = invoke(*words, "--steps", "1")
    sentence = error_line(result)
    assert said in sentence
    assert name in sentence
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("command", ["interp", "extrapolate"])
def test_a_non_finite_picture_is_an_error(tmp_path, monkeypatch, command):
    clip, output = write_clip(tmp_path / "clip.mkv", 6, size=SIZE), tmp_path / "out.mkv"
    monkeypatch.setattr(Blend, "forward", lambda self, x0, x1, *_, **__: (x0 + x1) / 0 - x0 / 0)
    monkeypatch.setattr(Linear, "forward", lambda self, context: context[:, -1] / 0)
    if command == "interp":
        result = interp(clip, output, "--model", "blend")
    else:
        result = invoke(command, clip, output, "--model", "linear", "--frames", "3")
    assert "not finite" in error_line(result)
    assert not output.exists()
