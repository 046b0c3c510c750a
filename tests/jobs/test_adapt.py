"""A model that is adapted to the video: used only if it gains, and resumed without loss."""

import json
import os
import shutil
import signal
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cloudconv.errors import Interrupted, OutputError, UnfitInputError, WeightsError
from cloudconv.events import Progress
from cloudconv.jobs import adapt, train
from cloudconv.media.probe import probe
from cloudconv.settings import InterpSettings
from cloudconv.training import loop
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import assert_same_frames, picture, read_planes, same, write_clip
from tests.helpers.jobs import stop_after
from tests.helpers.trainees import MIDDLE, moving, register_models

STEPS = {"loss": "l2", "learning_rate": 3e-3, "batch": 8, "val_windows": 8, "crops": 40}


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    register_models(monkeypatch, MIDDLE)
    torch.set_num_threads(1)
    monkeypatch.setattr(adapt, "_SETTINGS", adapt._SETTINGS | STEPS)
    # Three seconds of this clock are a hundred steps, even on a busy machine.
    clock = (k / 40 for k in count())
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return moving(tmp_path_factory.mktemp("clips") / "a.mkv", 60)


def interp(clip, out, **settings):
    given = {"factor": 2, "model": MIDDLE.name, "device": "cpu", "threads": 1, "adapt": 0.05}
    return calls.interpolate(clip, out, **(given | calls.lossless(out) | settings))


def keep_weights(file, event):
    """Copy the weights that a job beside ``file`` has adapted, when its first frame is made."""
    if isinstance(event, Progress) and event.stage == "rendering" and not file.exists():
        (weights,) = file.parent.glob("*.work/adapted.safetensors")
        shutil.copyfile(weights, file)


def equal(one, other):
    return same(read_planes(one), read_planes(other))


def seconds_of(events):
    """Return the seconds done and in total of each report of the adapting."""
    events = [e for e in events if isinstance(e, Progress) and e.stage == "adapting"]
    return [(event.done, event.total) for event in events]


@pytest.mark.full
def test_an_adapted_model_gains_and_makes_the_video(clip, tmp_path):
    events = []
    file = tmp_path / "own.safetensors"

    def watch(event):
        events.append(event)
        keep_weights(file, event)

    result = interp(clip, tmp_path / "b.mkv", watch=watch)
    adapted = result.adapted
    assert adapted.kept
    assert adapted.gain > 1
    assert adapted.frames >= 5
    assert adapted.minutes == pytest.approx(0.05, abs=0.002)
    assert (result.model, result.warnings) == (MIDDLE.name, [])
    assert {total for _, total in seconds_of(events)} == {3}
    assert sorted(os.listdir(tmp_path)) == ["b.mkv", "own.safetensors"]

    # The saved weights are those that were used.
    interp(clip, tmp_path / "c.mkv", model=str(file), adapt=None)
    interp(clip, tmp_path / "stock.mkv", adapt=None)
    assert_same_frames(tmp_path / "b.mkv", tmp_path / "c.mkv")
    assert not equal(tmp_path / "b.mkv", tmp_path / "stock.mkv")


@pytest.mark.full
def test_without_a_gain_the_stock_model_is_used(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt, "LEAST_GAIN", 1000.0)
    result = interp(clip, tmp_path / "b.mkv", adapt=0.02)
    assert not result.adapted.kept
    (said,) = map(str, result.warnings)
    assert "gained too little" in said
    interp(clip, tmp_path / "stock.mkv", adapt=None)
    assert equal(tmp_path / "b.mkv", tmp_path / "stock.mkv")
    assert sorted(os.listdir(tmp_path)) == ["b.mkv", "stock.mkv"]


@pytest.mark.full
def test_the_adapted_weights_are_the_mean_of_stock_and_trained_weights(clip, tmp_path, monkeypatch):
    def flat(state):
        return torch.cat([state[name].float().flatten() for name in sorted(state)])

    def weights(anchor):
        """Return the weights after a training that mixes in ``anchor`` of the stock weights."""
        file = tmp_path / f"{anchor}.safetensors"
        monkeypatch.setattr(adapt, "_SETTINGS", adapt._SETTINGS | {"anchor": anchor})
        interp(clip, file.with_suffix(".mkv"), adapt=0.02, watch=partial(keep_weights, file))
        return flat(load_file(file))

    stock = flat(MIDDLE.build().state_dict())
    used, trained = weights(adapt._SETTINGS["anchor"]), weights(0.0)
    assert (trained - stock).abs().max() > 0.005
    assert torch.allclose(used, (stock + trained) / 2, atol=2e-4)


def noise(number):
    """Return a frame that has nothing in common with others."""
    pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        pytest.param([picture(k) for k in range(5)], "Adapting to the video failed", id="short"),
        pytest.param(
            [noise(k) for k in range(40)],
            "Adapting to the video failed",
            marks=pytest.mark.full,
            id="cuts",
        ),
        pytest.param([picture(0)] * 40, "", id="still"),
    ],
)
def test_a_video_that_teaches_nothing_is_made_with_the_stock_model(tmp_path, shown, said):
    result = interp(write_clip(tmp_path / "a.mkv", shown), tmp_path / "b.mkv")
    assert result.output_frames == 2 * len(shown)
    assert not result.adapted.kept
    assert said in str(result.warnings[0])
    assert not said or result.adapted == adapt.Adapted(gain=0.0, minutes=0.0, frames=0, kept=False)
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize(
    ("frames", "model", "window"), [(20, "cloud-turbo", 3), (50, "cloud-best", 7)]
)
def test_short_videos_are_adapted_to_with_shorter_windows(tmp_path, frames, model, window):
    """A window of ``cloud-best`` has the frames beside the pair where there is room for them."""
    short = moving(tmp_path / "a.mkv", frames)
    settings = InterpSettings(short, factor=2, adapt=0.02)
    info, cpu = probe(short), torch.device("cpu")
    plan = adapt.adapt_plan(settings, info, model, cpu, torch.float32)
    training = plan.training.changed(output=str(tmp_path / "own.safetensors"))
    assert train.decide(training).goal.length == window


@pytest.mark.full
@pytest.mark.parametrize("when", ["validating", "writing"])
def test_ctrl_c_after_the_last_step_is_not_lost(clip, tmp_path, monkeypatch, when):
    """The interrupt comes while the result is validated, or while the weights are written."""
    steps = []
    validate, written = loop.Trainer.validate, train.files.write_whole

    def validated(trainer, *given, **named):
        steps.extend([trainer.step] * (trainer.step > 0))
        return validate(trainer, *given, **named)

    def late(path, *given, **named):
        written(path, *given, **named)
        if path.suffix == ".safetensors" and steps:
            signal.raise_signal(signal.SIGTERM)

    def press(_):
        if when == "validating" and len(steps) > 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop.Trainer, "validate", validated)
        if when == "writing":
            patched.setattr(train.files, "write_whole", late)
        with pytest.raises(Interrupted, match="carries on"):
            interp(clip, tmp_path / "a.mkv", watch=press)
    assert interp(clip, tmp_path / "a.mkv").adapted is not None


@pytest.mark.full
def test_weights_that_gain_too_little_do_not_prevent_other_settings(clip, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(adapt, "LEAST_GAIN", 1000.0)
        with pytest.raises(KeyboardInterrupt):
            interp(clip, tmp_path / "b.mkv", adapt=0.02, watch=stop_after(1))
    result = interp(clip, tmp_path / "b.mkv", adapt=0.03)
    assert result.adapted is not None
    assert os.listdir(tmp_path) == ["b.mkv"]


@pytest.mark.full
def test_no_weights_of_a_video_that_changes_are_kept(clip, tmp_path):
    own = Path(shutil.copy(clip, tmp_path / "a.mkv"))
    with pytest.raises(UnfitInputError, match="changed while it was read"):
        interp(own, tmp_path / "o.mkv", watch=lambda _: os.utime(own, (1, 1)))
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.mark.full
def test_ctrl_c_while_adapting_loses_nothing(clip, tmp_path):
    with pytest.raises(Interrupted, match=r"keeps adapted weights; .* carries on"):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(2, "adapting"))
    assert os.listdir(tmp_path) == ["b.mkv.work"]
    other = "holds adapted weights of a run that differs in adapt"
    for minutes in (None, 1):
        with pytest.raises(OutputError, match=other):
            interp(clip, tmp_path / "b.mkv", adapt=minutes)
    events = []
    assert interp(clip, tmp_path / "b.mkv", watch=events.append).adapted.kept
    assert next(done for done, _ in seconds_of(events) if done) > 1
    assert os.listdir(tmp_path) == ["b.mkv"]


@pytest.mark.full
def test_a_resumed_run_uses_exactly_the_same_weights(clip, tmp_path):
    file = tmp_path / "own.safetensors"
    with pytest.raises(Interrupted, match=r"keeps \d+ finished frames and adapted weights"):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(31))
    shutil.copyfile(tmp_path / "b.mkv.work" / "adapted.safetensors", file)
    events = []
    assert interp(clip, tmp_path / "b.mkv", watch=events.append).resumed
    assert not seconds_of(events)
    interp(clip, tmp_path / "whole.mkv", model=str(file), adapt=None)
    assert equal(tmp_path / "b.mkv", tmp_path / "whole.mkv")

    with pytest.raises(Interrupted):
        interp(clip, tmp_path / "c.mkv", watch=stop_after(31))
    state = tmp_path / "c.mkv.work" / "adapted.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"digest": "another"}))
    with pytest.raises(WeightsError, match="not the weights that made the finished frames"):
        interp(clip, tmp_path / "c.mkv")
    assert interp(clip, tmp_path / "c.mkv", resume=False).adapted is not None


ADAPT = ("interp", "--factor", "2", "--model", "tiny", "--threads", "1", "--adapt")


@pytest.mark.full
@pytest.mark.parametrize("workers", ["local:2", "local"])
def test_workers_and_many_videos_get_the_adapted_weights(tmp_path, workers):
    # Other processes know only models that the registry has by default.
    clips = [moving(tmp_path / f"{name}.mkv", 40, seed=ord(name)) for name in "ab"]
    out = tmp_path / "out"
    words = ("--out-dir", out, "--encoder", "ffv1", "--workers", workers, "--json")
    done = invoke(*ADAPT, "0.05", *clips, *words)
    assert done.exit_code == 0, done.stderr
    for result in json.loads(done.stdout)["results"]:
        assert set(result["adapted"]) == {"gain", "minutes", "frames", "kept"}
        assert result["adapted"]["kept"]
        assert result["adapted"]["gain"] > 0.05
    assert sorted(os.listdir(out)) == ["a_x2.mkv", "b_x2.mkv"]


@pytest.mark.full
def test_the_command_prints_the_gain(tmp_path):
    clip = moving(tmp_path / "a.mkv", 60)
    done = invoke(*ADAPT, "0.05", clip)
    assert "adapted to the video" in done.stderr
    assert "held-back frames" in done.stderr


@pytest.mark.full
def test_compare_scores_the_adapted_model_on_held_back_frames(tmp_path):
    clip = moving(tmp_path / "a.mkv", 260)
    given = {"adapt": 0.05, "frames": 6, "device": "cpu", "threads": 1, "metrics": ("psnr",)}
    result = calls.compare(clip, model=("tiny",), against=("hold",), **given)
    assert list(result.methods) == ["tiny", "adapted", "hold", "blend"]
    gain = result.methods["adapted"]["psnr"] - result.methods["tiny"]["psnr"]
    assert gain == pytest.approx(result.adapted.gain, abs=0.5)
    assert gain > 0.05
    for place in (row["index"] / 260 for row in result.per_frame):
        assert 0.3 <= place < 0.36 or 0.64 <= place < 0.7 or 0.94 <= place < 1
    assert 4 <= result.scored_frames <= 6
    assert any("held-back frames" in warning for warning in map(str, result.warnings))
    assert set(result.as_json()["adapted"]) == {"gain", "minutes", "frames", "kept"}
