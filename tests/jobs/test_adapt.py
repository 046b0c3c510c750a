"""A model that is adapted to the video: used only if it gains, and resumed without loss."""

import json
import os
import re
import shutil
import signal
from functools import partial
from itertools import count
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cloudconv.errors import Interrupted, OutputError, SettingsError, UnfitInputError, WeightsError
from cloudconv.events import Progress
from cloudconv.jobs import adapt, train
from cloudconv.media.probe import probe
from cloudconv.settings import InterpSettings
from cloudconv.training import loop
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import picture, read_planes, read_times, write_clip
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


def planes(path):
    return [plane for frame in read_planes(path) for plane in frame]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(planes(a), planes(b), strict=True))


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
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert {e.total for e in events if isinstance(e, Progress) and e.stage == "adapting"} == {3}
    assert [*dict.fromkeys(stages)] == ["adapting", "rendering"]
    assert sorted(os.listdir(tmp_path)) == ["b.mkv", "own.safetensors"]

    # The saved weights are those that were used, and source frames are unchanged.
    interp(clip, tmp_path / "c.mkv", model=str(file), adapt=None)
    interp(clip, tmp_path / "stock.mkv", adapt=None)
    assert same(tmp_path / "b.mkv", tmp_path / "c.mkv")
    assert not same(tmp_path / "b.mkv", tmp_path / "stock.mkv")
    assert read_times(tmp_path / "b.mkv") == read_times(tmp_path / "stock.mkv")


@pytest.mark.full
def test_without_a_gain_the_stock_model_is_used(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt, "LEAST_GAIN", 1000.0)
    result = interp(clip, tmp_path / "b.mkv", adapt=0.02)
    assert not result.adapted.kept
    (said,) = map(str, result.warnings)
    assert "gained too little" in said
    interp(clip, tmp_path / "stock.mkv", adapt=None)
    assert same(tmp_path / "b.mkv", tmp_path / "stock.mkv")
    assert sorted(os.listdir(tmp_path)) == ["b.mkv", "stock.mkv"]


@pytest.mark.full
def test_the_adapted_weights_are_the_mean_of_stock_and_trained_weights(clip, tmp_path, monkeypatch):
    def weights(anchor):
        """Return the weights after a training that mixes in ``anchor`` of the stock weights."""
        file = tmp_path / f"{anchor}.safetensors"
        monkeypatch.setattr(adapt, "_SETTINGS", adapt._SETTINGS | {"anchor": anchor})
        interp(clip, tmp_path / f"{anchor}.mkv", adapt=0.02, watch=partial(keep_weights, file))
        return flat(load_file(file))

    def flat(state):
        return torch.cat([state[name].float().flatten() for name in sorted(state)])

    stock = flat(MIDDLE.build().state_dict())
    used, trained = weights(adapt._SETTINGS["anchor"]), weights(0.0)
    assert (trained - stock).abs().max() > 0.005
    assert torch.allclose(used, (stock + trained) / 2, atol=2e-4)


def cuts(count):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]
    return [av.VideoFrame.from_ndarray(each, "rgb24").reformat(format="yuv420p") for each in noise]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("short", "Adapting to the video failed"),
        pytest.param("cuts", "Adapting to the video failed", marks=pytest.mark.full),
        ("still", ""),
    ],
)
def test_a_video_that_teaches_nothing_is_made_with_the_stock_model(tmp_path, kind, said):
    shown = {"short": [picture(k) for k in range(5)], "cuts": cuts(40), "still": [picture(0)] * 40}
    clip = write_clip(tmp_path / "a.mkv", shown[kind])
    result = interp(clip, tmp_path / "b.mkv")
    assert result.output_frames == 2 * len(shown[kind])
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
    assert train.estimate(train.decide(training)).window_frames == window


@pytest.mark.full
def test_ctrl_c_after_the_last_step_is_not_lost(clip, tmp_path, monkeypatch):
    """The interrupt comes while the weights are written, or while the result is validated."""
    written = train.files.write_whole

    def late(path, *given, **named):
        written(path, *given, **named)
        if path.suffix == ".safetensors" and list(steps):
            signal.raise_signal(signal.SIGTERM)

    steps = []
    validate = loop.Trainer.validate

    def validated(trainer, *given, **named):
        steps.extend([trainer.step] * (trainer.step > 0))
        return validate(trainer, *given, **named)

    def press(_):
        if len(steps) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Trainer, "validate", validated)
    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "a.mkv", watch=press)
    steps.clear()
    with monkeypatch.context() as patched:
        patched.setattr(train.files, "write_whole", late)
        with pytest.raises(Interrupted, match="carries on"):
            interp(clip, tmp_path / "b.mkv")
    for name in ("a.mkv", "b.mkv"):
        assert interp(clip, tmp_path / name).adapted is not None


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
    own = tmp_path / "a.mkv"
    own.write_bytes(clip.read_bytes())

    def touch(_):
        os.utime(own, (1, 1))

    with pytest.raises(UnfitInputError, match="changed while it was read"):
        interp(own, tmp_path / "o.mkv", watch=touch)
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.mark.full
def test_ctrl_c_while_adapting_loses_nothing(clip, tmp_path):
    with pytest.raises(Interrupted, match=r"keeps adapted weights; .* carries on"):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(2, "adapting"))
    assert os.listdir(tmp_path) == ["b.mkv.work"]
    for minutes in (None, 1):
        with pytest.raises(
            OutputError, match="holds adapted weights of a run that differs in adapt"
        ):
            interp(clip, tmp_path / "b.mkv", adapt=minutes)
    events = []
    result = interp(clip, tmp_path / "b.mkv", watch=events.append)
    seconds = [e.done for e in events if isinstance(e, Progress) and e.stage == "adapting"]
    assert next(second for second in seconds if second) > 1
    assert result.adapted.kept
    assert os.listdir(tmp_path) == ["b.mkv"]


@pytest.mark.full
def test_a_resumed_run_uses_exactly_the_same_weights(clip, tmp_path):
    file = tmp_path / "own.safetensors"
    with pytest.raises(Interrupted, match=r"keeps \d+ finished frames and adapted weights"):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(31))
    shutil.copyfile(tmp_path / "b.mkv.work" / "adapted.safetensors", file)
    events = []
    result = interp(clip, tmp_path / "b.mkv", watch=events.append)
    assert result.resumed
    assert not any(isinstance(e, Progress) and e.stage == "adapting" for e in events)
    interp(clip, tmp_path / "whole.mkv", model=str(file), adapt=None)
    assert same(tmp_path / "b.mkv", tmp_path / "whole.mkv")

    with pytest.raises(Interrupted):
        interp(clip, tmp_path / "c.mkv", watch=stop_after(31))
    state = tmp_path / "c.mkv.work" / "adapted.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"digest": "another"}))
    with pytest.raises(WeightsError, match="not the weights that made the finished frames"):
        interp(clip, tmp_path / "c.mkv")
    assert interp(clip, tmp_path / "c.mkv", resume=False).adapted is not None


@pytest.mark.full
@pytest.mark.parametrize("workers", ["local:2", "local"])
def test_workers_and_many_videos_get_the_adapted_weights(tmp_path, workers):
    # Other processes know only models that the registry has by default.
    for name in "ab":
        moving(tmp_path / f"{name}.mkv", 40, seed=ord(name))
    command = ["interp", str(tmp_path / "a.mkv"), str(tmp_path / "b.mkv"), "--out-dir"]
    command += [str(tmp_path / "out"), "--factor", "2", "--model", "tiny", "--adapt", "0.05"]
    command += ["--encoder", "ffv1", "--threads", "1", "--workers", workers, "--json"]
    done = invoke(*command)
    assert done.exit_code == 0, done.stderr
    for result in json.loads(done.stdout)["results"]:
        assert result["adapted"]["kept"]
        assert result["adapted"]["gain"] > 0.05
    assert sorted(os.listdir(tmp_path / "out")) == [".cloudconv.jsonl", "a_x2.mkv", "b_x2.mkv"]


@pytest.mark.full
def test_the_command_prints_the_gain(tmp_path):
    clip = moving(tmp_path / "a.mkv", 60)
    command = ["interp", str(clip), "--factor", "2", "--model", "tiny", "--adapt", "0.05"]
    command += ["--threads", "1"]
    planned = invoke(*command, "--dry-run")
    assert re.search(r"^estimated time +\d+\.\d s$", planned.stdout, re.MULTILINE)
    assert os.listdir(tmp_path) == ["a.mkv"]
    plan = json.loads(invoke(*command, "--dry-run", "--json").stdout)
    assert plan["seconds"] >= 3
    done = invoke(*command)
    assert "adapted to the video" in done.stderr
    assert "held-back frames" in done.stderr
    done = invoke(*command, "-y", "--json")
    assert set(json.loads(done.stdout)["adapted"]) == {"gain", "minutes", "frames", "kept"}
    for wrong in (["--adapt", "0"], ["--adapt", "-1"]):
        failed = invoke(*command[:6], *wrong)
        assert failed.exit_code == 2, failed.stderr


@pytest.mark.full
def test_compare_scores_the_adapted_model_on_held_back_frames(tmp_path):
    clip = moving(tmp_path / "a.mkv", 260)
    result = calls.compare(
        clip, model=("tiny",), against=("hold",), adapt=0.05, frames=6,
        device="cpu", threads=1, metrics=("psnr",),
    )  # fmt: skip
    assert list(result.methods) == ["tiny", "adapted", "hold", "blend"]
    gain = result.methods["adapted"]["psnr"] - result.methods["tiny"]["psnr"]
    assert gain == pytest.approx(result.adapted.gain, abs=0.5)
    assert gain > 0.05
    held = [0.30, 0.36, 0.64, 0.70, 0.94, 1.0]
    for row in result.per_frame:
        place = row["index"] / 260
        assert any(a <= place < b for a, b in zip(held[::2], held[1::2], strict=True)), row
    assert 4 <= result.scored_frames <= 6
    assert any("held-back frames" in warning for warning in map(str, result.warnings))
    assert set(result.as_json()["adapted"]) == {"gain", "minutes", "frames", "kept"}


def test_forecasts_and_blends_cannot_be_adapted(clip, tmp_path):
    with pytest.raises(SettingsError, match="for interpolation"):
        calls.compare(clip, horizon=2, adapt=1)
    with pytest.raises(SettingsError):
        interp(clip, tmp_path / "d.mkv", model="blend")
