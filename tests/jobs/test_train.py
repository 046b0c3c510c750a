"""``train``: scores, options, resume, interrupts and errors."""

import json
import os
import re
import signal
import threading
import time
import tomllib
from dataclasses import asdict
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from cloudconv import checkpoints, interrupts, weights
from cloudconv.errors import (
    CloudconvError,
    InputError,
    Interrupted,
    ModelError,
    OutputError,
    SettingsError,
)
from cloudconv.events import Finished, Measured, Progress
from cloudconv.files import claim
from cloudconv.jobs.train import plan
from cloudconv.jobs.train import run as train
from cloudconv.models import registry
from cloudconv.settings import TrainSettings
from cloudconv.training import loop
from tests.helpers.command import invoke
from tests.helpers.jobs import finish, ignore, on
from tests.helpers.own_networks import save, small_state
from tests.helpers.system import largest_file
from tests.helpers.tiers import first_full
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

TASKS = "cloud-best", "voxelflow-3", "unet-middle-ssim"
"""A recipe of each task."""
RECIPES = sorted((weights.weights_folder() / "recipes").glob("*.toml"))
SMALL = {"model": PREDICT.name, "val_part": "0.8:1", "steps": 20, "crop": 32, "batch": 4}
SMALL |= {
    "val_windows": 3,
    "validate_every": 10,
    "learning_rate": 3e-3,
}
SMALL |= {"augment": False, "reversal": False, "device": "cpu", "threads": 1}


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    register_models(monkeypatch, PREDICT, AHEAD, MIDDLE, AUTOENCODER, ADVERSARIAL, COARSE)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(moving(tmp_path_factory.mktemp("clips") / "moving.mkv", 60))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "p.safetensors"


@pytest.fixture
def checkpoint(output):
    return output.with_name("p.safetensors.checkpoint")


@pytest.fixture
def settings(clip, output):
    """Return a function that returns the small settings with changes."""
    usual = {"clips": (clip,), "output": str(output), **SMALL}
    return lambda **changes: TrainSettings(**(usual | changes))


@pytest.fixture
def run(settings):
    """Return a function that trains and returns the result; ``watch`` gets the events."""
    return lambda watch=ignore, **changes: finish(train.run(settings(**changes)), watch)


@pytest.fixture
def killed(run):
    """Kill a training at its start; return the function that trains."""
    with pytest.raises(ZeroDivisionError):
        run(fail(ZeroDivisionError))
    return run


def at_losses(do):

    def watch(event):
        if isinstance(event, Measured) and event.name == "losses":
            do(event.values)

    return watch


def press_at(step, number=signal.SIGINT):
    """Return a watcher that raises a signal when the losses of a step are reported."""
    return at_losses(lambda losses: losses.step == step and signal.raise_signal(number))


def fail(error):
    """Return a watcher that ends a run at its first report, before any step."""
    return at_losses(Mock(side_effect=error))


def same(one, other):
    a, b = load_file(one), load_file(other)
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.full
def test_motion_is_forecast_better_than_by_holding(run, output):
    result = run(steps=150)
    assert result.naive == "hold"
    assert result.initial.gain == pytest.approx(0, abs=0.01)
    assert result.best.gain > 3
    assert result.seen.gain > 3
    assert result.improved
    assert result.best.psnr["1"] - result.best.naive_psnr["1"] == pytest.approx(
        result.best.gain
    )

    metadata = checkpoints.read(output)[1]
    assert (metadata["model"], metadata["task"]) == (PREDICT.name, "predict")
    assert int(metadata["steps"]) == result.best.step
    assert json.loads(metadata["scores"])["gain"] == pytest.approx(result.best.gain)
    assert json.loads(metadata["recipe"])["loss"] == "charbonnier"
    assert all(tensor.dtype == torch.float16 for tensor in load_file(output).values())
    loaded = registry.load_predictor(output)
    assert loaded.predict(torch.rand(1, 2, 3, 30, 22)).shape == (1, 3, 30, 22)
    assert os.listdir(output.parent) == ["p.safetensors"]


TASKS = [
    {"model": MIDDLE.name, "gap": 4, "loss": "ssim+l1"},
    {"model": AUTOENCODER.name, "loss": "laplacian+l2", "steps": 80},
    {"model": AHEAD.name, "rollout": 6, "relative": True, "steps": 80},
    {"model": PREDICT.name, "rollout": 3, "noise": 0.02, "interval": (1, 2)},
    {"model": ADVERSARIAL.name, "loss": "l2:1,gdl:1,adversarial:0.05"},
    {"model": COARSE.name, "loss": "l2+gdl", "precision": "bf16"},
]


@pytest.mark.full
@pytest.mark.parametrize("changes", TASKS, ids=lambda changes: changes["model"])
def test_every_task_and_loss_trains(run, output, changes):
    assert run(**({"steps": 40, "validate_every": 20} | changes)).best.gain > 0.2
    assert registry.load_model(output).spec.name == changes["model"]


@pytest.mark.full
@pytest.mark.parametrize("model", [PREDICT.name, ADVERSARIAL.name])
def test_a_stopped_run_continues_exactly(run, output, checkpoint, tmp_path, model):
    loss = "l1+adversarial:0.1" if model == ADVERSARIAL.name else "l1"
    changes = {"model": model, "loss": loss, "noise": 0.05, "steps": 40}
    changes |= {"reversal": True, "augment": True, "crops": 3}
    whole, parted = {}, {}

    def note(seen, stop_at=None):
        def watch(losses):
            seen[losses.step] = losses.loss
            if losses.step == stop_at:
                signal.raise_signal(signal.SIGINT)

        return at_losses(watch)

    run(note(whole), output=str(tmp_path / "whole.safetensors"), **changes)
    first = run(note(parted, 10), **changes)
    assert first.interrupted
    assert first.steps < 40
    assert registry.load_model(output).spec.name == model, "Ctrl-C must leave a usable file"
    second = run(note(parted), **changes)
    assert (second.resumed, second.interrupted, second.steps) == (True, False, 40)
    assert {k: v for k, v in parted.items() if k != first.steps or k % 10 == 0} == whole
    assert same(tmp_path / "whole.safetensors", output)
    assert not checkpoint.exists()


@pytest.mark.full
def test_a_checkpoint_of_other_settings_is_refused(run):
    run(press_at(10))
    with pytest.raises(SettingsError, match="differs in noise"):
        run(noise=0.1)
    assert not run(noise=0.1, resume=False, overwrite=True).resumed


@pytest.mark.full
def test_ctrl_c_ends_a_training_at_once(run, output, checkpoint):
    """After Ctrl-C, the step in progress ends, and no validation or other step follows."""
    events = []

    def press(event):
        events.append(event)
        if isinstance(event, Progress) and (event.stage, event.done) == ("training", 13):
            events.clear()
            signal.raise_signal(signal.SIGINT)

    result = run(press, steps=1000)
    assert (result.interrupted, result.steps, result.seen) == (True, 13, None)
    reported, done = events
    assert isinstance(reported, Measured)
    assert (reported.name, type(done)) == ("stopping", Finished)
    assert registry.load_model(output).spec.name == PREDICT.name
    assert checkpoint.exists()


def test_ctrl_break_on_windows_stops_a_training_like_ctrl_c(monkeypatch):
    ctrl_break = getattr(signal, "SIGUSR1", signal.SIGTERM)
    monkeypatch.setattr(signal, "SIGBREAK", ctrl_break, raising=False)
    stop = threading.Event()
    with interrupts.deferred(stop):
        signal.raise_signal(ctrl_break)
    assert stop.is_set()


def test_ctrl_c_during_validation_is_resumed(run, output, tmp_path):
    """A resumed run repeats the validation and gives the result of an uninterrupted run."""
    steps = []

    def press_while_checking(step):
        def press(event):
            if isinstance(event, Progress) and event.stage == "training":
                steps.append(event.done)
            elif isinstance(event, Progress) and (event.stage, event.done) == (
                "checking",
                1,
            ):
                _ = [0, *steps][-1] == step and signal.raise_signal(signal.SIGINT)

        return press

    with pytest.raises(KeyboardInterrupt):
        run(press_while_checking(0))
    assert not output.exists()
    assert run(press_while_checking(10)).steps == 10
    reported = []
    resumed = run(on("training", reported.append))
    # Resumed steps do not count for the speed.
    assert {event.resumed for event in reported} == {10}
    assert (reported[0].done, reported[0].total) == (11, 20)
    expected = run(output=str(tmp_path / "whole.safetensors"))
    assert (
        [v.step for v in resumed.history]
        == [v.step for v in expected.history]
        == [0, 10, 20]
    )
    assert same(output, tmp_path / "whole.safetensors")


def test_a_run_without_steps_left_says_so(run, settings, tmp_path):
    run(press_at(10))
    recipe = tmp_path / "recipe.toml"
    options = {k: v for k, v in asdict(settings(steps=10)).items() if v is not None}
    recipe.write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
    )
    said = invoke("train", "--recipe", recipe, "--device", "cpu", "--json")
    assert said.exit_code == 0, said.stderr
    result = json.loads(said.stdout)
    assert (result["steps"], result["steps_before"], result["resumed"]) == (10, 10, True)
    assert "steps were made before" in said.stderr
    assert "0.0000" not in said.stderr


@pytest.mark.parametrize("model", first_full([PREDICT.name, MIDDLE.name]))
def test_a_training_ends_within_its_minutes(run, monkeypatch, model):
    """Each of three validations takes 2 s."""

    def slow(real, seconds):
        def job(*given):
            time.sleep(seconds)
            return (yield from real(*given))

        return job

    monkeypatch.setattr(loop.Trainer, "validate", slow(loop.Trainer.validate, 2))
    result = run(model=model, steps=None, minutes=0.25, validate_every=10**6)
    assert result.steps > 10
    assert 11.25 < result.wall_seconds < 16.875  # three quarters to nine eighths


@pytest.mark.full
def test_fine_tuning_never_ends_with_a_lower_score(run, output, tmp_path):
    before = run(steps=200)
    # The learning rate is too high, so nothing is gained and the initial weights are
    # returned.
    tuned = tmp_path / "tuned.safetensors"
    wild = {"init": str(output), "learning_rate": 0.3, "steps": 10}
    after = run(output=str(tuned), validate_every=5, **wild)
    assert after.initialised == 4
    assert after.initial.gain == pytest.approx(before.best.gain, abs=0.05)
    assert not after.improved
    assert after.best.gain == after.initial.gain
    assert same(output, tuned)


@pytest.mark.full
def test_a_predictor_can_start_from_parts_of_another_model(run, tmp_path):
    encoder = str(tmp_path / "encoder.safetensors")
    run(output=encoder, model=AUTOENCODER.name)
    result = run(init=encoder, steps=1)
    assert result.initialised == 2, "both decoders have a weight and a bias of one shape"


@pytest.mark.parametrize(
    ("part", "rollout", "changes", "ahead"),
    [
        ("", 1, {}, "1"),
        ("[0:0.5]", 3, {}, "123"),
        ("", 5, {}, "12345"),  # no window of the last fits, so the end is held back
        ("", 6, {"model": AHEAD.name}, "126"),
    ],
)
def test_spans_are_held_back_by_default_and_scored_ahead(
    run, clip, part, rollout, changes, ahead
):
    result = run(clips=(clip + part,), val_part=None, steps=1, rollout=rollout, **changes)
    assert [*result.best.psnr] == [*ahead]
    assert result.best.naive_psnr[str(rollout)] > 10


def test_impossible_inputs_are_one_clear_sentence(run, clip, output, tmp_path):
    short = str(moving(tmp_path / "short.mkv", 3))
    still = str(moving(tmp_path / "still.mkv", 30, step=0))
    other = str(tmp_path / "other.safetensors")
    wide = str(tmp_path / "wide.safetensors")
    save_file({"alien": torch.zeros(2)}, other, {"model": MIDDLE.name})
    state = PREDICT.build().state_dict() | {"encode.weight": torch.zeros(12, 9, 5, 5)}
    save_file(state, wide, {"model": PREDICT.name})
    cases = [
        ({"clips": (short,)}, "frames in a row"),
        ({"model": "hold"}, "nothing to train"),
        ({"task": "interpolate"}, "one to interpolate is needed"),
        ({"init": other}, "No tensor of the weights"),
        ({"init": wide}, "do not fit"),
        ({"init": "linear"}, "has no weights"),
        ({"model": MIDDLE.name, "gap": 3}, "even number"),
        ({"loss": "l1+adversarial"}, "no discriminators"),
        ({"output": f"{other}/p.safetensors"}, "is not a folder"),
        ({"val_part": "0:1"}, "nothing to train on"),
        ({"val": (clip,), "val_part": None}, "nothing to train on"),
        ({"clips": (f"{clip}[0:1]",), "val_part": None}, "nothing to validate on"),
        ({"clips": (still,), "min_motion": 1.0}, "usable window|could be read"),
        ({"noise": -1}, "noise must be a number of 0 or more"),
        ({"ema": 1}, "ema"),
        ({"precision": "fp16"}, "must be auto, fp32 or bf16, got fp16"),
    ]
    if not torch.cuda.is_available():
        cases.append(({"device": "cuda"}, "no working CUDA GPU"))
    for changes, said in cases:
        with pytest.raises(CloudconvError, match=said):
            run(**changes)
        assert not output.exists()
    with pytest.raises(ModelError, match="not a number any more"):
        run(noise=1e38)
    assert registry.load_model(output).spec is PREDICT, (
        "the best weights so far must be kept"
    )
    with pytest.raises(OutputError, match="exists"):
        run(resume=False)


def test_too_little_memory_for_a_batch_is_an_error(run, monkeypatch):
    forward = Next.forward

    def short(model, context):
        if torch.is_grad_enabled() and len(context) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (made up)")
        return forward(model, context)

    monkeypatch.setattr(Next, "forward", short)
    with pytest.raises(CloudconvError, match=r"ran out of memory.*smaller `batch`"):
        run()


def completed(*clips, **given):
    return plan.completed(TrainSettings(*clips, **given))


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes a recipe and returns its path."""
    file = tmp_path / "r.toml"
    return lambda text: file.write_text(text) and file


def test_a_recipe_gives_the_settings_and_none_or_nothing_unsets_one(clip, recipe):
    file = recipe(
        f'model = "{PREDICT.name}"\nclips = ["{clip}"]\nsteps = 7\ninterval = [1, 2]\n'
    )
    read = completed(recipe=file, seed=3)
    assert (read.steps, read.seed, read.interval) == (7, 3, (1, 2))
    assert read.output == f"{PREDICT.name}_trained.safetensors"
    assert completed(recipe=file, minutes=2.0).steps is None
    file = recipe(
        f'model = "{PREDICT.name}"\nclips = ["{clip}"]\ninit = "a"\nrollout = 2\n'
        'val = ["b.mp4"]\nnoise = 0.5\n'
    )
    read = completed(recipe=file, init=None, rollout=None, val=None, noise=None)
    assert (read.init, read.rollout, read.val, read.noise) == (None, None, (), 0.0)
    assert (completed(recipe=file, seed=1).init, completed(recipe=file, val=()).val) == (
        "a",
        (),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepps = 7\n", "'stepps'"),
        ("steps = \n", "not TOML"),
        ('clips = ["c.mp4"]\n', "There is no model to train"),
    ],
)
def test_a_wrong_recipe_is_one_clear_sentence(recipe, tmp_path, text, said):
    with pytest.raises(SettingsError, match=said):
        completed(recipe=recipe(text))
    with pytest.raises(InputError, match="There is no file"):
        completed(recipe=tmp_path / "none.toml")


def test_defaults_are_those_of_the_model_unless_a_recipe_is_given(recipe):
    suits = dict(registry.spec("voxelflow").cls.training_settings)
    assert suits
    for usual in ({}, {"minutes": 5.0}):
        read = completed("c.mp4", init="voxelflow", **usual)
        assert {name: getattr(read, name) for name in suits} == suits
    for given in ({"loss": "l1"}, {"loss": "charbonnier"}, {"crop": TrainSettings.crop}):
        (name,) = given
        assert getattr(completed("c.mp4", init="voxelflow", **given), name) == given[name]
    assert TrainSettings.crop != suits["crop"]
    named = recipe('model = "voxelflow"\nclips = ["c.mp4"]\n')
    assert completed(recipe=named).loss == "charbonnier"


@pytest.fixture(scope="module")
def large_clip(tmp_path_factory):
    return str(moving(tmp_path_factory.mktemp("large") / "moving.mkv", 80, size=(96, 96)))


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            path, marks=pytest.mark.full if path.stem in TASKS else pytest.mark.slow
        )
        for path in RECIPES
    ],
    ids=lambda path: path.stem,
)
def test_every_shipped_recipe_trains_a_step(large_clip, output, recipe):
    read = completed(recipe=recipe)
    assert read.steps is not None, (
        "a recipe needs steps, which do not depend on the machine"
    )
    assert registry.spec(read.model, read.task).name == read.model
    init = tomllib.loads(recipe.read_text("utf-8")).get("init")
    if init is not None and init.endswith(".safetensors"):  # a file of an earlier training
        init = init.removesuffix(".safetensors").removesuffix("-2")
    small = {"crop": 64, "batch": 1, "crops": 1, "val_windows": 1, "val_crop": 64}
    options = {"clips": f"{large_clip}[0:0.7]", "val": f"{large_clip}[0.7:1]", "steps": 1}
    options |= {"recipe": recipe, "init": init, "output": output, "precision": "fp32"}
    result = finish(train.run(TrainSettings(**small, **options, threads=1, device="cpu")))
    assert (result.steps, len(result.history)) == (1, 2)


@pytest.mark.full
def test_the_command_train(clip, output, tmp_path):
    words = (
        f"{clip} --model {PREDICT.name} --steps 10 --crop 32 --batch 2 --interval 1-2 "
        "--json"
    )
    done = invoke("train", *words.split(), "-o", output, "--val-part", "0.8:1")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert " → " in done.stderr
    assert "dB on held-back frames" in done.stderr
    assert "naive" not in done.stderr  # only --verbose shows each validation
    assert result["output"] == str(output)
    assert result["best"]["psnr"]["1"] > 10
    again = invoke("train", *words.split(), "-o", tmp_path, "--val-part", "0.8:1")
    named = tmp_path / f"{PREDICT.name}_trained.safetensors"
    assert json.loads(again.stdout)["output"] == str(named)
    assert named.exists()


@pytest.mark.full
@pytest.mark.parametrize("number", [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)])
def test_sigterm_and_sighup_keep_the_trained_weights(run, tmp_path, number):
    assert run(press_at(10, getattr(signal, number))).interrupted
    assert sorted(os.listdir(tmp_path)) == ["p.safetensors", "p.safetensors.checkpoint"]
    assert run().resumed
    assert os.listdir(tmp_path) == ["p.safetensors"]


def test_a_second_ctrl_c_names_the_checkpoint(run):
    with pytest.raises(Interrupted, match=r"p\.safetensors\.checkpoint keeps .*; the same"):
        run(fail(KeyboardInterrupt))


@pytest.mark.full
def test_a_flipped_bit_of_a_checkpoint_is_an_error(killed, output, checkpoint):
    whole = checkpoint.read_bytes()
    result = output.read_bytes()
    damaged = [whole[: len(whole) // 2], b"nonsense"]
    for place in range(0, len(whole), len(whole) // 14):
        damaged.append(bytearray(whole))
        damaged[-1][place] ^= 1 << place % 8
    for content in damaged:
        checkpoint.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            killed()
    assert output.read_bytes() == result
    checkpoint.write_bytes(whole)
    assert killed().resumed


def test_a_checkpoint_with_a_right_checksum_and_wrong_content_is_an_error(
    run, output, checkpoint
):
    for content in (
        {},
        {"written": 5, "made": "["},
        {"written": [], "made": "[]"},
    ):
        loop.save_checkpoint(checkpoint, content, of=output)
        with pytest.raises(InputError, match="is damaged"):
            run()
        assert not output.exists()


def test_weights_of_absurd_size_leave_no_file(run, tmp_path):
    huge = {name: torch.full_like(each, 1e38) for name, each in small_state().items()}
    save(tmp_path / "huge.safetensors", huge)
    options = dict.fromkeys(("model", "init"), str(tmp_path / "huge.safetensors"))
    with pytest.raises(ModelError, match="not a number any more"):
        run(**options)
    assert os.listdir(tmp_path) == ["huge.safetensors"]


def test_foreign_files_are_not_overwritten(run, output, checkpoint, tmp_path):
    checkpoint.write_text("precious")
    with pytest.raises(InputError, match="another program's file"):
        run(resume=False, overwrite=True)
    assert checkpoint.read_text() == "precious"
    checkpoint.unlink()
    start = tmp_path / "start.safetensors"
    run(output=str(start), steps=1)
    before = start.read_bytes()
    os.link(start, output)
    with pytest.raises(OutputError, match="is the input itself"):
        run(init=str(start), overwrite=True)
    assert start.read_bytes() == before


@pytest.mark.full
@pytest.mark.parametrize(
    "when", ["at the start", "after the first write", "between two runs"]
)
def test_a_file_that_appears_under_the_outputs_name_is_kept(run, output, tmp_path, when):
    """The training is kept, and continues exactly after the file has been moved away."""
    whole = run(output=str(tmp_path / "whole.safetensors"))

    def replace_output(_=None):
        (tmp_path / "foreign").write_text("precious")
        (tmp_path / "foreign").replace(output)

    if when == "between two runs":
        with pytest.raises(ZeroDivisionError):
            run(fail(ZeroDivisionError))
        replace_output()
        with pytest.raises(OutputError, match="exists already"):
            run()
    else:
        late = on("training", lambda event: event.done == 5 and replace_output())
        with pytest.raises(
            OutputError, match=r"Another program made .*p\.safetensors\.checkpoint"
        ):
            run(on("analysing", replace_output) if when == "at the start" else late)
    assert output.read_text() == "precious"
    output.unlink()
    result = run()
    assert result.resumed
    assert result.best.psnr == whole.best.psnr


@pytest.mark.full
@pytest.mark.parametrize("what", ["a.mkv", "start.safetensors"])
def test_a_training_is_not_resumed_on_other_content(run, tmp_path, what):
    clip = moving(tmp_path / "a.mkv", 60)
    start = str(tmp_path / "start.safetensors")
    run(clips=(str(clip),), output=start, steps=1)
    changes = {"clips": (str(clip),), "init": start}
    with pytest.raises(ZeroDivisionError):
        run(fail(ZeroDivisionError), **changes)
    if what == "a.mkv":
        moving(clip, 60, seed=1)
    else:
        run(clips=(str(clip),), output=start, steps=2, overwrite=True)
    with pytest.raises(
        SettingsError, match=rf"differs in content of \S*{re.escape(what)}: give the same"
    ):
        run(**changes)
    assert not run(resume=False, overwrite=True, **changes).resumed


def test_a_full_disk_or_another_run_that_writes_the_file_gives_one_sentence(
    run, output, tmp_path
):
    with claim(output), pytest.raises(OutputError, match="Another cloudconv is writing"):
        run()
    assert os.listdir(tmp_path) == []
    with largest_file(2_000), pytest.raises(OutputError, match="largest file allowed here"):
        run()
    assert os.listdir(tmp_path) == []
