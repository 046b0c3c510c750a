"""``train``: scores, options, resume, interrupts and errors."""

import json
import os
import re
import signal
import threading
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cloudconv import checkpoints, interrupts, weights
from cloudconv.errors import (
    DeviceError,
    InputError,
    Interrupted,
    ModelError,
    OutputError,
    SettingsError,
    WeightsError,
)
from cloudconv.events import Finished, Measured, Progress
from cloudconv.files import Claim
from cloudconv.jobs import train
from cloudconv.models import registry
from cloudconv.settings import TrainSettings
from cloudconv.training import loop
from tests.helpers.command import invoke
from tests.helpers.jobs import finish, ignore, on
from tests.helpers.own_networks import save, small_state
from tests.helpers.system import largest_file
from tests.helpers.trainees import (
    ADVERSARIAL,
    AHEAD,
    AUTOENCODER,
    COARSE,
    MIDDLE,
    PREDICT,
    Next,
    moving,
    register_models,
)

RECIPES = sorted((weights.weights_folder() / "recipes").glob("*.toml"))


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    register_models(monkeypatch, PREDICT, AHEAD, MIDDLE, AUTOENCODER, ADVERSARIAL, COARSE)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(moving(tmp_path_factory.mktemp("clips") / "moving.mkv", 60))


def settings(clip, weights_file, **changes):
    given = {
        "clips": (clip,),
        "model": PREDICT.name,
        "output": str(weights_file),
        "val_part": "0.8:1",
        "steps": 20,
        "crop": 32,
        "batch": 4,
        "val_windows": 3,
        "validate_every": 10,
        "checkpoint_every": 10,
        "learning_rate": 3e-3,
        "augment": False,
        "reversal": False,
        "device": "cpu",
        "threads": 1,
    }
    return TrainSettings(**(given | changes))


def trained(wanted, watch=ignore):
    return finish(train.run(wanted), watch)


def at_losses(do):
    """Return a watcher that calls ``do`` with the reported losses."""

    def watch(event):
        if isinstance(event, Measured) and event.name == "losses":
            do(event.values)

    return watch


def test_an_estimate_trains_nothing_and_is_correct(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    wanted = settings(clip, output, steps=2, minutes=None)
    expected = train.estimate(train.decide(wanted))
    assert list(tmp_path.iterdir()) == []
    assert (expected.model, expected.steps, expected.clips) == (PREDICT.name, 2, 1)
    assert (expected.seconds, expected.resumed, expected.refusals) == (None, False, [])
    result = trained(wanted)
    assert (expected.parameters, expected.precision) == (result.parameters, result.precision)
    again = train.estimate(train.decide(wanted))
    assert ["exists" in str(refusal) for refusal in again.refusals] == [True]


@pytest.mark.full
def test_motion_is_forecast_better_than_by_holding(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    result = trained(settings(clip, output, steps=250))
    assert result.naive == "hold"
    assert result.initial.gain == pytest.approx(0, abs=0.01)
    assert result.best.gain > 3
    assert result.seen.gain > 3
    assert result.improved
    assert result.best.psnr["1"] - result.best.naive_psnr["1"] == pytest.approx(result.best.gain)

    loaded = registry.load_predictor(output)
    metadata = checkpoints.read(output)[1]
    assert metadata["model"] == PREDICT.name
    assert metadata["task"] == "predict"
    assert int(metadata["steps"]) == result.best.step
    assert json.loads(metadata["scores"])["gain"] == pytest.approx(result.best.gain)
    assert json.loads(metadata["recipe"])["loss"] == "charbonnier"
    assert all(tensor.dtype == torch.float16 for tensor in load_file(output).values())
    assert loaded.predict(torch.rand(1, 2, 3, 30, 22)).shape == (1, 3, 30, 22)
    assert os.listdir(tmp_path) == ["p.safetensors"]


@pytest.mark.full
def test_every_task_and_loss_trains(clip, tmp_path):
    for number, changes in enumerate(
        (
            {"model": MIDDLE.name, "gap": 4, "loss": "ssim+l1"},
            {"model": AUTOENCODER.name, "loss": "laplacian+l2", "steps": 120},
            {"model": AHEAD.name, "rollout": 6, "relative": True, "steps": 120},
            {"model": PREDICT.name, "rollout": 3, "noise": 0.02, "interval": (1, 2)},
            {"model": ADVERSARIAL.name, "loss": "l2:1,gdl:1,adversarial:0.05"},
            {"model": COARSE.name, "loss": "l2+gdl", "precision": "bf16"},
        )
    ):
        output = tmp_path / f"{number}.safetensors"
        result = trained(settings(clip, output, **({"steps": 60, "validate_every": 30} | changes)))
        assert result.best.gain > 0.2, changes
        assert registry.load_model(output).spec.name == changes["model"]


def test_scores_are_given_for_each_number_of_frames_ahead(clip, tmp_path):
    fed_back = trained(settings(clip, tmp_path / "a.safetensors", rollout=3, steps=1))
    direct = settings(clip, tmp_path / "b.safetensors", model=AHEAD.name, rollout=6, steps=1)
    assert list(fed_back.best.psnr) == ["1", "2", "3"]
    assert list(trained(direct).best.psnr) == ["1", "2", "6"]


@pytest.mark.parametrize(
    "model", [PREDICT.name, pytest.param(ADVERSARIAL.name, marks=pytest.mark.full)]
)
def test_a_stopped_run_continues_exactly(clip, tmp_path, model):
    loss = "l1+adversarial:0.1" if model == ADVERSARIAL.name else "l1"
    changes = {"model": model, "loss": loss, "noise": 0.05, "steps": 40}
    changes |= {"reversal": True, "augment": True, "crops": 3}
    whole_file, parted_file = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    whole = {}
    note = at_losses(lambda p: whole.update({p.step: p.loss}))
    trained(settings(clip, whole_file, **changes), note)

    parted = {}

    def stop_at(progress):
        parted[progress.step] = progress.loss
        if progress.step == 10:
            signal.raise_signal(signal.SIGINT)

    first = trained(settings(clip, parted_file, **changes), at_losses(stop_at))
    assert first.interrupted
    assert first.steps < 40
    assert registry.load_model(parted_file).spec.name == model, "Ctrl-C must leave a usable file"
    second = trained(
        settings(clip, parted_file, **changes), at_losses(lambda p: parted.update({p.step: p.loss}))
    )
    assert second.resumed
    assert not second.interrupted
    assert second.steps == 40
    assert {k: v for k, v in parted.items() if k != first.steps or k % 10 == 0} == whole
    a, b = load_file(whole_file), load_file(parted_file)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not (tmp_path / "parted.safetensors.checkpoint").exists()


def test_a_checkpoint_of_other_settings_is_refused(clip, tmp_path):
    output = tmp_path / "p.safetensors"

    def stop(progress):
        if progress.step == 10:
            signal.raise_signal(signal.SIGINT)

    trained(settings(clip, output), at_losses(stop))
    with pytest.raises(SettingsError, match="`noise` was"):
        trained(settings(clip, output, noise=0.1))
    anew = trained(settings(clip, output, noise=0.1, resume=False, overwrite=True))
    assert not anew.resumed
    Path(f"{output}.checkpoint").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is damaged"):
        trained(settings(clip, output))


@pytest.mark.full
def test_ctrl_c_ends_a_training_at_once(clip, tmp_path):
    """After Ctrl-C, the step in progress ends, and no validation or other step follows."""
    output = tmp_path / "p.safetensors"
    after = []
    pressed = False

    def press(event):
        nonlocal pressed
        if pressed:
            after.append(event)
        elif isinstance(event, Progress) and (event.stage, event.done) == ("training", 13):
            pressed = True
            signal.raise_signal(signal.SIGINT)

    result = trained(settings(clip, output, steps=1000), press)
    assert (result.interrupted, result.steps, result.seen) == (True, 13, None)
    reported, done = after
    assert isinstance(reported, Measured)
    assert (reported.name, type(done)) == ("stopping", Finished)
    assert registry.load_model(output).spec.name == PREDICT.name
    assert Path(f"{output}.checkpoint").exists()


def test_ctrl_break_on_windows_stops_a_training_like_ctrl_c(monkeypatch):
    ctrl_break = getattr(signal, "SIGUSR1", signal.SIGTERM)
    monkeypatch.setattr(signal, "SIGBREAK", ctrl_break, raising=False)
    stop = threading.Event()
    with interrupts.deferred(stop):
        signal.raise_signal(ctrl_break)
    assert stop.is_set()


def test_ctrl_c_during_validation_is_resumed(clip, tmp_path):
    """A resumed run repeats the validation and gives the result of an uninterrupted run."""

    def press_at(step):
        last = [0]

        def press(event):
            if not isinstance(event, Progress):
                return
            last[0] = event.done if event.stage == "training" else last[0]
            if event.stage == "checking" and last[0] == step and event.done == 1:
                signal.raise_signal(signal.SIGINT)

        return press

    first, whole = tmp_path / "p.safetensors", tmp_path / "whole.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(settings(clip, first), press_at(0))
    assert not first.exists()
    assert trained(settings(clip, first), press_at(10)).steps == 10
    reported = []
    resumed = trained(settings(clip, first), on("training", reported.append))
    assert {event.resumed for event in reported} == {10}, (
        "resumed steps must not count for the speed"
    )
    assert (reported[0].done, reported[0].total) == (11, 20)
    expected = trained(settings(clip, whole))
    assert [v.step for v in resumed.history] == [v.step for v in expected.history] == [0, 10, 20]
    a, b = load_file(first), load_file(whole)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_without_steps_left_says_so(clip, tmp_path):
    output = tmp_path / "p.safetensors"

    def press(event):
        if isinstance(event, Progress) and (event.stage, event.done) == ("training", 13):
            signal.raise_signal(signal.SIGINT)

    trained(settings(clip, output), press)
    recipe = tmp_path / "recipe.toml"
    given = {k: v for k, v in asdict(settings(clip, output, steps=13)).items() if v is not None}
    recipe.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items()))
    said = invoke("train", "--recipe", recipe, "--device", "cpu", "--json")
    assert said.exit_code == 0, said.stderr
    result = json.loads(said.stdout)
    assert (result["steps"], result["steps_before"], result["resumed"]) == (13, 13, True)
    assert "steps were made before" in said.stderr
    assert "0.0000" not in said.stderr


@pytest.mark.full
def test_fine_tuning_never_ends_with_a_lower_score(clip, tmp_path):
    first, tuned = tmp_path / "first.safetensors", tmp_path / "tuned.safetensors"
    before = trained(settings(clip, first, steps=200))
    # The learning rate is too high, so nothing is gained and the initial weights are returned.
    after = trained(
        settings(clip, tuned, init=str(first), learning_rate=0.3, validate_every=5, steps=10)
    )
    assert after.initialised == 4
    assert after.initial.gain == pytest.approx(before.best.gain, abs=0.05)
    assert not after.improved
    assert after.best.gain == after.initial.gain
    a, b = load_file(first), load_file(tuned)
    assert all(torch.equal(a[name], b[name]) for name in a)

    ruined = tmp_path / "ruined.safetensors"
    last = trained(settings(clip, ruined, init=str(first), learning_rate=0.3, steps=10, last=True))
    assert last.best.step == 10
    assert last.best.gain < last.initial.gain
    c = load_file(ruined)
    assert not any(torch.equal(a[name], c[name]) for name in a)


def test_a_predictor_can_start_from_parts_of_another_model(clip, tmp_path):
    encoder = tmp_path / "encoder.safetensors"
    trained(settings(clip, encoder, model=AUTOENCODER.name))
    result = trained(settings(clip, tmp_path / "p.safetensors", init=str(encoder), steps=1))
    assert result.initialised == 2, "both decoders have a weight and a bias of one shape"


def test_spans_are_held_back_by_default(clip, tmp_path):
    given = settings(clip, tmp_path / "p.safetensors", val_part=None, steps=1)
    assert trained(given).best.naive_psnr["1"] > 10
    part = settings(f"{clip}[0:0.5]", tmp_path / "q.safetensors", val_part=None, steps=1)
    assert trained(part).best.naive_psnr["1"] > 10
    # The window is longer than those spans, so the end of the clip is held back in one piece.
    ahead = settings(clip, tmp_path / "r.safetensors", val_part=None, steps=1, rollout=5)
    assert trained(ahead).best.naive_psnr["5"] > 10


def test_impossible_inputs_are_one_clear_sentence(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    short = str(moving(tmp_path / "short.mkv", 3))
    still = str(moving(tmp_path / "still.mkv", 30, step=0))
    other = tmp_path / "other.safetensors"
    save_file({"alien": torch.zeros(2)}, other, {"model": MIDDLE.name})
    wide = tmp_path / "wide.safetensors"
    state = PREDICT.build().state_dict()
    state["encode.weight"] = torch.zeros(12, 9, 5, 5)
    save_file(state, wide, {"model": PREDICT.name})
    cases = [
        ({"clips": (short,)}, InputError, "frames in a row"),
        ({"model": "hold"}, ModelError, "nothing to train"),
        ({"task": "interpolate"}, ModelError, "one to interpolate is needed"),
        ({"init": str(other)}, WeightsError, "No tensor of the weights"),
        ({"init": str(wide)}, WeightsError, "do not fit"),
        ({"init": "linear"}, ModelError, "has no weights"),
        ({"model": MIDDLE.name, "gap": 3}, SettingsError, "even number"),
        ({"loss": "l1+adversarial"}, SettingsError, "no discriminators"),
        ({"train_part": "0:1", "val_part": None}, SettingsError, "nothing to validate on"),
        ({"output": str(other / "p.safetensors")}, OutputError, "is not a folder"),
        ({"val_part": "0:1"}, SettingsError, "nothing to train on"),
        ({"val": (clip,), "val_part": None}, SettingsError, "nothing to train on"),
        ({"clips": (f"{clip}[0:1]",), "val_part": None}, SettingsError, "nothing to validate on"),
        ({"clips": (still,), "min_motion": 1.0}, InputError, "usable window|could be read"),
        ({"noise": -1}, SettingsError, "noise must be a number of 0 or more"),
        ({"ema": 1}, SettingsError, "ema"),
    ]
    if not torch.cuda.is_available():
        cases.append(({"device": "cuda"}, DeviceError, "no working CUDA GPU"))
    for changes, kind, said in cases:
        with pytest.raises(kind, match=said):
            trained(settings(clip, output, **changes))
        assert not output.exists()
    ruined = settings(clip, output, noise=1e38)
    with pytest.raises(ModelError, match="not a number any more"):
        trained(ruined)
    assert registry.load_model(output).spec is PREDICT, "the best weights so far must be kept"
    with pytest.raises(OutputError, match="exists"):
        trained(settings(clip, output, resume=False))


def refuse_batches(monkeypatch, most):
    """Let the small network run out of memory, in training, on more than ``most`` samples."""
    forward = Next.forward

    def short(model, context):
        if torch.is_grad_enabled() and len(context) > most:
            raise torch.OutOfMemoryError("CUDA out of memory (made up)")
        return forward(model, context)

    monkeypatch.setattr(Next, "forward", short)


def test_too_little_memory_for_a_batch_is_an_error(clip, tmp_path, monkeypatch):
    refuse_batches(monkeypatch, 2)
    with pytest.raises(DeviceError, match=r"ran out of memory.*smaller `batch`"):
        finish(train.run(settings(clip, tmp_path / "a.safetensors")))


def test_fp16_is_refused(clip, tmp_path):
    with pytest.raises(SettingsError, match="`precision` must be auto, fp32 or bf16, got fp16"):
        settings(clip, tmp_path / "a.safetensors", precision="fp16")


def test_a_recipe_gives_the_settings(clip, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'model = "{PREDICT.name}"\nclips = ["{clip}"]\nsteps = 7\ninterval = [1, 2]\n'
    )
    read = train.completed(TrainSettings(recipe=recipe, seed=3))
    assert (read.steps, read.seed, read.interval) == (7, 3, (1, 2))
    assert read.output == f"{PREDICT.name}_trained.safetensors"
    assert train.completed(TrainSettings(recipe=recipe, minutes=2.0)).steps is None
    recipe.write_text("stepps = 7\n")
    with pytest.raises(SettingsError, match="'stepps'"):
        train.completed(TrainSettings(recipe=recipe))
    recipe.write_text("steps = \n")
    with pytest.raises(SettingsError, match="not TOML"):
        train.completed(TrainSettings(recipe=recipe))
    with pytest.raises(InputError, match="cannot be read"):
        train.completed(TrainSettings(recipe=tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="name clips"):
        TrainSettings(model=PREDICT.name)


def test_defaults_are_those_of_the_model(tmp_path):
    usual = train.completed(TrainSettings("c.mp4", init="voxelflow", minutes=5.0))
    suits = dict(registry.spec("voxelflow").cls.training_settings)
    assert suits
    assert {name: getattr(usual, name) for name in suits} == suits
    assert train.completed(TrainSettings("c.mp4", init="voxelflow", loss="l1")).loss == "l1"
    usually = TrainSettings("c.mp4", init="voxelflow", loss="charbonnier")
    assert train.completed(usually).loss == "charbonnier"
    copied = train.completed(replace(TrainSettings("c.mp4", init="voxelflow"), minutes=5.0))
    assert {name: getattr(copied, name) for name in suits} == suits
    cropped = TrainSettings("c.mp4", init="voxelflow", crop=TrainSettings.crop)
    assert train.completed(cropped.changed(minutes=5.0)).crop == TrainSettings.crop != suits["crop"]
    recipe = tmp_path / "r.toml"
    recipe.write_text('clips = ["c.mp4"]\n')
    with pytest.raises(SettingsError, match="There is no model to train"):
        train.completed(TrainSettings(recipe=recipe))
    with pytest.raises(SettingsError, match="There is no model to train"):
        TrainSettings("c.mp4", init="")
    recipe.write_text('model = "voxelflow"\nclips = ["c.mp4"]\n')
    assert train.completed(TrainSettings(recipe=recipe)).loss == "charbonnier"


def test_shipped_recipes_are_valid():
    assert RECIPES
    for recipe in RECIPES:
        read = train.completed(TrainSettings(recipe=recipe))
        assert read.steps is not None, (
            f"{recipe.name} needs steps, which do not depend on the machine"
        )
        assert registry.spec(read.model, read.task).name == read.model


@pytest.fixture(scope="module")
def large_clip(tmp_path_factory):
    return str(moving(tmp_path_factory.mktemp("large") / "moving.mkv", 80, size=(96, 96)))


@pytest.mark.full
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_trains_a_step(large_clip, tmp_path, recipe):
    init = tomllib.loads(recipe.read_text("utf-8")).get("init")
    if init is not None and init.endswith(".safetensors"):  # a file of an earlier training
        init = init.removesuffix(".safetensors").removesuffix("-2")
    small = {"crop": 64, "batch": 1, "crops": 1, "val_windows": 1, "val_crop": 64}
    given = {"clips": f"{large_clip}[0:0.7]", "val": f"{large_clip}[0.7:1]", "steps": 1}
    given |= {"recipe": recipe, "init": init, "output": tmp_path / "p.safetensors"}
    result = trained(TrainSettings(**small, **given, threads=1, precision="fp32", device="cpu"))
    assert (result.steps, len(result.history)) == (1, 2)


def test_the_command_train(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    words = f"{clip} --model {PREDICT.name} --steps 10 --crop 32 --batch 2 --interval 1-2 --json"
    done = invoke("train", *words.split(), "-o", output, "--val-part", "0.8:1")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert " → " in done.stderr
    assert "dB on held-back frames" in done.stderr
    assert result["output"] == str(output)
    again = invoke("train", *words.split(), "-o", tmp_path, "--val-part", "0.8:1")
    named = tmp_path / f"{PREDICT.name}_trained.safetensors"
    assert json.loads(again.stdout)["output"] == str(named)
    assert named.exists()
    assert result["best"]["psnr"]["1"] > 10
    assert "naive" not in done.stderr  # only --verbose shows each validation


def raise_at_first_report(error):
    """Return a watcher that ends a run at its first report, before any step."""

    def report(_):
        raise error

    return at_losses(report)


@pytest.mark.parametrize("number", [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)])
def test_sigterm_and_sighup_keep_the_trained_weights(clip, tmp_path, number):
    output = tmp_path / "p.safetensors"

    def stop(progress):
        if progress.step == 10:
            signal.raise_signal(getattr(signal, number))

    assert trained(settings(clip, output), at_losses(stop)).interrupted
    names = ["p.safetensors", "p.safetensors.checkpoint"]
    assert sorted(os.listdir(tmp_path)) == names
    assert trained(settings(clip, output)).resumed
    assert os.listdir(tmp_path) == ["p.safetensors"]


def test_a_run_that_was_killed_at_its_start_is_resumed(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    with pytest.raises(ZeroDivisionError):
        trained(settings(clip, output), raise_at_first_report(ZeroDivisionError))
    assert output.exists()
    assert trained(settings(clip, output)).resumed


def test_a_second_ctrl_c_names_the_checkpoint(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    with pytest.raises(Interrupted, match=r"p\.safetensors\.checkpoint keeps .*; the same"):
        trained(settings(clip, output), raise_at_first_report(KeyboardInterrupt))


def test_a_flipped_bit_of_a_checkpoint_is_an_error(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    checkpoint = tmp_path / "p.safetensors.checkpoint"
    with pytest.raises(ZeroDivisionError):
        trained(settings(clip, output), raise_at_first_report(ZeroDivisionError))
    whole, made = checkpoint.read_bytes(), output.read_bytes()
    for place in range(0, len(whole), len(whole) // 14):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        checkpoint.write_bytes(flipped)
        with pytest.raises(InputError, match="is damaged"):
            trained(settings(clip, output))
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is damaged"):
        trained(settings(clip, output))
    assert output.read_bytes() == made
    checkpoint.write_bytes(whole)
    assert trained(settings(clip, output)).resumed


DAMAGED = {
    "nothing": {},
    "text": {"written": 5, "settings": "{", "footage": {}},
    "list": {"written": [], "settings": "[]", "footage": {}},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_checkpoint_with_a_right_checksum_and_wrong_content_is_an_error(clip, tmp_path, kind):
    output = tmp_path / "p.safetensors"
    path = tmp_path / "p.safetensors.checkpoint"
    loop.save_checkpoint(path, DAMAGED[kind], of=output)
    with pytest.raises(InputError, match="is damaged"):
        trained(settings(clip, output))
    assert not output.exists()


def test_weights_of_absurd_size_leave_no_file(clip, tmp_path):
    huge = {name: torch.full_like(each, 1e38) for name, each in small_state().items()}
    save(tmp_path / "huge.safetensors", huge)
    given = dict.fromkeys(("model", "init"), str(tmp_path / "huge.safetensors"))
    (tmp_path / "made").mkdir()
    with pytest.raises(ModelError, match="not a number any more"):
        trained(settings(clip, tmp_path / "made" / "p.safetensors", **given))
    assert not os.listdir(tmp_path / "made")


def test_foreign_files_are_not_overwritten(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    foreign = tmp_path / "p.safetensors.checkpoint"
    foreign.write_text("precious")
    with pytest.raises(InputError, match="another program's file"):
        trained(settings(clip, output, resume=False, overwrite=True))
    assert foreign.read_text() == "precious"
    foreign.unlink()
    start = tmp_path / "start.safetensors"
    trained(settings(clip, start, steps=1))
    before = start.read_bytes()
    os.link(start, output)
    with pytest.raises(OutputError, match="is the input itself"):
        trained(settings(clip, output, init=str(start), overwrite=True))
    assert start.read_bytes() == before


@pytest.mark.full
@pytest.mark.parametrize("when", ["at the start", "after the first write", "between two runs"])
def test_a_file_that_appears_under_the_outputs_name_is_kept(clip, tmp_path, when):
    """The training is kept, and continues exactly after the file has been moved away."""
    output = tmp_path / "p.safetensors"
    wanted = settings(clip, output, last=True)
    whole = trained(settings(clip, tmp_path / "whole.safetensors", last=True))

    def replace_output(event=None):
        stage, done = (event.stage, event.done) if isinstance(event, Progress) else ("", 0)
        late = when == "after the first write"
        if event is None or (stage == "training" and done == 5 if late else stage == "analysing"):
            (tmp_path / "foreign").write_text("precious")
            (tmp_path / "foreign").replace(output)

    if when == "between two runs":
        with pytest.raises(ZeroDivisionError):
            trained(wanted, raise_at_first_report(ZeroDivisionError))
        replace_output()
        with pytest.raises(OutputError, match="exists already"):
            trained(wanted)
    else:
        with pytest.raises(OutputError, match=r"Another program made .*p\.safetensors\.checkpoint"):
            trained(wanted, replace_output)
    assert output.read_text() == "precious"
    output.unlink()
    result = trained(wanted)
    assert result.resumed
    assert result.best.psnr == whole.best.psnr


@pytest.mark.parametrize("what", ["a.mkv", "start.safetensors"])
def test_a_training_is_not_resumed_on_other_content(tmp_path, what):
    clip, start = moving(tmp_path / "a.mkv", 60), tmp_path / "start.safetensors"
    trained(settings(str(clip), start, steps=1))
    changes = {"init": str(start)}
    output = tmp_path / "p.safetensors"
    with pytest.raises(ZeroDivisionError):
        trained(settings(str(clip), output, **changes), raise_at_first_report(ZeroDivisionError))
    if what == "a.mkv":
        moving(clip, 60, seed=1)
    else:
        trained(settings(str(clip), start, steps=2, overwrite=True))
    with pytest.raises(InputError, match=rf"other content of \S*{re.escape(what)}: give the same"):
        trained(settings(str(clip), output, **changes))
    changes |= {"resume": False, "overwrite": True}
    assert not trained(settings(str(clip), output, **changes)).resumed


def test_two_runs_never_write_one_weights_file(clip, tmp_path):
    output = tmp_path / "p.safetensors"
    with Claim(output), pytest.raises(OutputError, match="Another cloudconv is writing"):
        trained(settings(clip, output))
    assert os.listdir(tmp_path) == []


def test_a_full_disk_gives_one_sentence(clip, tmp_path):
    with largest_file(2_000), pytest.raises(OutputError, match="largest file allowed here"):
        trained(settings(clip, tmp_path / "p.safetensors"))
    assert os.listdir(tmp_path) == []
