"""The Python functions: keywords, types, pictures in memory, models."""

import faulthandler
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction as F

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import cloudconv
from cloudconv import metrics, settings
from cloudconv.dreaming.methods.modes import METHODS
from cloudconv.errors import (
    InputError,
    ModelError,
    OutputError,
    PictureError,
    SettingsError,
)
from cloudconv.models import registry
from cloudconv.settings.compare import FAULT, METRICS, SEQUENCE_METRICS
from cloudconv.settings.extend import DEFAULT_PREDICTOR
from tests.helpers.command import invoke
from tests.helpers.factory import packets_of, picture, read_times, write_clip

QUICK = {"device": "cpu", "model": "tiny", "threads": 1}


ODD = [
    *(
        5,
        -1,
        2.5,
        float("nan"),
        1 + 2j,
        10**400,
        F(1, 3),
        True,
        b"x",
        "",
        "x\0y",
        "1" * 5000,
    ),
    *([], {}, (), ["a", 1], [("g",)], {1: 2}, range(3), {"a"}, object(), int, len),
    *(torch.float16, torch.tensor(2), np.array([1, 2]), np.str_("auto")),
]
NEEDED = {
    cloudconv.InterpSettings: {"input": "a.mp4", "factor": 2},
    cloudconv.InterpManySettings: {"inputs": "a.mp4", "out_dir": "b", "factor": 2},
    cloudconv.ExtrapolateSettings: {"input": "a.mp4"},
    cloudconv.DreamSettings: {"input": "a.mp4"},
    cloudconv.CompareSettings: {"input": "a.mp4"},
    cloudconv.TrainSettings: {"clips": "a.mp4", "model": "tiny"},
    cloudconv.DoctorSettings: {},
    cloudconv.FramesSettings: {"factor": 2},
}


@pytest.mark.parametrize("kind", NEEDED)
def test_a_value_of_any_kind_is_read_or_refused(kind):
    for option in settings.fields_of(kind):
        for value in ODD:
            with suppress(cloudconv.CloudconvError):
                hash(kind(**(NEEDED[kind] | {option.name: value})))


@pytest.mark.parametrize("kind", [kind for kind in NEEDED if hasattr(kind, "device")])
def test_a_device_of_pytorch_stands_for_its_name(kind):
    for name in ("cpu", "cuda:1"):
        by_name = kind(**NEEDED[kind], device=name)
        assert kind(**NEEDED[kind], device=torch.device(name)) == by_name


def test_an_unknown_keyword_is_a_type_error():
    for call in (cloudconv.interpolate, cloudconv.dream, cloudconv.interpolate_frames):
        with pytest.raises(
            TypeError, match=r"unexpected keyword 'devise' .did you mean device"
        ):
            call("a.mp4", devise="cpu")


FUNCTIONS = {
    "interpolate": lambda clip, home: cloudconv.interpolate(
        clip, home / "b.mkv", factor=2, **QUICK
    ),
    "interpolate_many": lambda clip, home: cloudconv.interpolate_many(
        [clip], out_dir=home / "many", factor=2, **QUICK
    ),
    "extrapolate": lambda clip, home: cloudconv.extrapolate(
        clip, home / "c.mkv", frames=1, **QUICK | {"model": "linear"}
    ),
    "dream": lambda clip, home: cloudconv.dream(
        clip, home / "d.mkv", frames=1, mode="flow", threads=1
    ),
    "compare": lambda clip, home: cloudconv.compare(clip, metrics="psnr", **QUICK),
    "train": lambda clip, home: cloudconv.train(
        [clip], output=home / "e.safetensors", steps=1, crop=16, batch=1, **QUICK
    ),
    "plan": lambda clip, home: cloudconv.plan(
        cloudconv.InterpSettings(clip, factor=2, **QUICK)
    ),
}


@pytest.fixture
def three_threads():
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(3)
    cv2.setNumThreads(3)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.parametrize("call", FUNCTIONS)
def test_a_call_leaves_the_threads_of_the_process_as_they_were(
    tmp_path, three_threads, call
):
    clip = write_clip(tmp_path / "a.mkv", 24, size=(48, 32))
    FUNCTIONS[call](clip, tmp_path)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)


def test_a_call_that_fails_leaves_the_threads_as_they_were(tmp_path, three_threads):
    clip = write_clip(tmp_path / "a.mkv", 12, size=(48, 32))
    with pytest.raises(InputError):
        cloudconv.compare(clip, drop=64, **QUICK)
    assert torch.get_num_threads() == 3


def test_pictures_in_memory_leave_the_threads_as_they_were_between_two(three_threads):
    frames = cloudconv.interpolate_frames([np.zeros((16, 16, 3), np.uint8)] * 2, **QUICK)
    assert torch.get_num_threads() == 3
    assert [torch.get_num_threads() for _ in frames] == [3] * 4
    assert torch.get_num_threads() == 3


def test_progress_has_the_time_left_that_the_command_line_shows(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5, rate=24, codec="libx264")
    settings = cloudconv.InterpSettings(clip, tmp_path / "b.mp4", factor=2, **QUICK)
    seen = [
        event for event in cloudconv.run(settings) if isinstance(event, cloudconv.Progress)
    ]
    first, *_, last = [event.seconds_left for event in seen if event.stage == "rendering"]
    assert (first, last) == (None, 0)


def test_keywords_are_read_as_options_of_the_command():
    read = cloudconv.InterpSettings(
        "a.mp4", fps="59.94", slowmo=4, start="1:02", scale=0.5, crf=12,
        encoder="ffv1", encoder_option=["level=3", ("g", 1)], threads=2, input_fps=None,
    )  # fmt: skip
    assert (read.fps, read.slowmo, read.start) == (F(60000, 1001), F(4), F(62))
    assert (read.chosen_model, read.scale) == ("cloud-best", 0.5)
    assert (read.encoder, read.crf, read.threads) == ("ffv1", 12, 2)
    assert read.encoder_option == (("level", "3"), ("g", "1"))
    compared = cloudconv.CompareSettings("a", model="blend", against="hold,blend")
    assert (compared.model, compared.against) == (("blend",), ("hold", "blend"))
    exact, rounded = (
        cloudconv.InterpSettings("a", fps=x) for x in (F(60000, 1001), "59.94")
    )
    assert exact == rounded
    assert replace(read, crf=3).crf == 3


@pytest.mark.parametrize(
    "name", ["./--json.mp4", "my --crf 5.mp4", "x --no-resume y.mp4", "a --crf --crf.mp4"]
)
def test_names_of_files_stay_as_they_are_in_messages_for_python(name, tmp_path):
    with pytest.raises(cloudconv.InputError, match="There is no file") as caught:
        cloudconv.interpolate(tmp_path / name, factor=2)
    assert str(tmp_path / name) in str(caught.value)
    assert str(cloudconv.OutputError("x: give --crf=5.")) == "give `crf='5'`."


def test_control_characters_of_names_are_escaped_in_messages_for_python(tmp_path):
    with pytest.raises(cloudconv.InputError) as caught:
        cloudconv.interpolate(tmp_path / "a\x1b[2Jb\nc.mp4", factor=2)
    assert "a\\x1b[2Jb\\nc.mp4" in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="another shell")
def test_a_command_in_a_message_is_quoted_for_the_shell(tmp_path):
    name = tmp_path / "a; rm x.jpg"
    name.write_text("ffconcat version 1.0\nfile x.mp4\n")
    with pytest.raises(cloudconv.InputError, match="join the files first") as caught:
        cloudconv.interpolate(name, factor=2)
    (command,) = re.findall(r"'(ffmpeg .*)'\.", str(caught.value))
    assert shlex.split(command)[1:3] == ["-i", str(name)]


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (settings.DreamSettings("a", "b"), {"frames": 90}),
        (settings.DreamSettings("a", "b"), {"seconds": F(3)}),
        (settings.ExtrapolateSettings("a", "b"), {"seconds": F(3)}),
        (settings.InterpSettings("a", "b", factor=2), {"factor": F(4)}),
        (settings.CompareSettings("a"), {"horizon": 3}),
        (settings.TrainSettings(("a",), output="b.safetensors", steps=3), {"steps": 4}),
    ],
)
def test_no_default_is_written_into_a_field(given, changes):
    """`dataclasses.replace` gives a copy every value, as if a caller had given them all."""
    copy = replace(given, **changes)
    assert copy == given.changed(**changes)
    assert {name: getattr(copy, name) for name in changes} == changes


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"input": None}, "input must be text or a path, got None"),
        ({"crf": float("nan")}, "`crf` must be a number of 0 or more"),
        ({"batch": 1.5}, "`batch` must be auto or a whole number"),
        ({"loop": "no"}, "`loop` must be True or False"),
        ({"encoder": 3}, "`encoder` must be text"),
    ],
)
def test_an_impossible_value_is_one_error_in_python(wrong, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        cloudconv.InterpSettings(**({"input": "a.mp4", "factor": 2} | wrong))


def test_only_commands_that_use_several_gpus_advise_and_take_cuda_all():
    takers = {cloudconv.InterpSettings, cloudconv.InterpManySettings}
    kinds = [
        getattr(settings, name) for name in settings.__all__ if name.endswith("Settings")
    ]
    for kind in kinds:
        option = {option_.name: option_ for option_ in settings.fields_of(kind)}.get(
            "device"
        )
        if option is None:
            continue
        with pytest.raises(SettingsError) as refused:
            option.read("foo")
        assert ("cuda:all" in refused.value.text) == (kind in takers)
        if kind in takers:
            assert option.read("cuda:all") == "cuda:all"
        else:
            with pytest.raises(
                SettingsError, match='no device "cuda:all": choose auto, cpu'
            ):
                option.read("cuda:all")


def test_the_number_of_processes_has_plain_digits():
    for value in ("local:\u0662", "local:0", "local:1\n"):
        with pytest.raises(SettingsError, match="There are no workers called"):
            cloudconv.InterpSettings("a.mp4", factor=2, workers=value)


def test_models_are_listed_by_task():
    for task in ("interpolate", "predict", "reconstruct"):
        listed = cloudconv.list_models(task)
        assert {spec.task for spec in listed} == {task}
        assert len({spec.name for spec in listed}) == len(listed)
    assert len(cloudconv.list_models()) > len(listed)


def test_settings_list_all_models_metrics_and_modes():
    assert registry.spec(DEFAULT_PREDICTOR, "predict").weights
    names = (*metrics.PER_FRAME, "texture", FAULT, "flicker", *SEQUENCE_METRICS)
    assert names == METRICS
    (mode,) = [
        option
        for option in settings.fields_of(cloudconv.DreamSettings)
        if option.name == "mode"
    ]
    assert mode.choices == ("auto", *(method.name for method in METHODS))
    assert all(name in mode.help for name in mode.choices)


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("give --no-resume.", "give `resume=False`."),
        ("--device=cuda:all, or", "`device='cuda:all'`, or"),
        ("leave --crf=80.5 out (--input-fps).", "leave `crf='80.5'` out (`input_fps`)."),
        ("see 'ray start --head'", "see 'ray start --head'"),
        ("a-- b --, clip--final.mp4", "a-- b --, clip--final.mp4"),
    ],
)
def test_a_flag_in_a_message_becomes_a_keyword(text, python):
    error = SettingsError(f"a-code: {text}")
    assert (error.code, error.text, str(error)) == ("a-code", text, python)
    assert str(pickle.loads(pickle.dumps(error))) == python


def test_importing_the_package_loads_no_large_library():
    code = (
        "import cloudconv, sys; cloudconv.InterpSettings('a.mp4', factor=2); print([name "
        "for name in ('torch', 'av', 'cv2', 'typer', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


LEFT = """
import concurrent.futures.thread, sys, threading
if sys.argv[1] == "without":
    del threading._register_atexit
import cloudconv
from cloudconv.jobs import run
job = run(cloudconv.InterpSettings(sys.argv[2], output=sys.argv[3], factor=2))
print(next(event for event in job if type(event).__name__ == "Progress"))
"""


@pytest.mark.full
@pytest.mark.parametrize("private", ["with", "without"])
def test_a_job_that_is_left_ends_quietly_with_python(private, tmp_path):
    clip, target = write_clip(tmp_path / "a.mkv", 12), tmp_path / "b.mkv"
    words = [sys.executable, "-c", LEFT, private, str(clip), str(target)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Progress(")
    assert ran.stderr == ""
    assert not target.exists()


def test_all_lists_names_that_exist():
    for name in cloudconv.__all__:
        assert getattr(cloudconv, name) is not None, name
    for kind in (cloudconv.InterpResult, cloudconv.TrainResult, cloudconv.Model):
        assert isinstance(kind, type)
    with pytest.raises(AttributeError, match="nothing"):
        _ = cloudconv.nothing


CALLS = """
from typing import assert_type
import cloudconv as c
import numpy as np

pictures = [np.zeros((4, 4, 3))]
c.interpolate("a.mp4", factr=2)  # type: ignore[call-arg]
c.interpolate("a.mp4", factor=2, audio="no")  # type: ignore[arg-type]
c.interpolate("a.mp4", factor=2, dry_run=True)  # type: ignore[call-arg]
c.interpolate(["a.mp4"], factor=2)  # type: ignore[arg-type]
c.interpolate_frames(pictures, 2, crf=3)  # type: ignore[call-arg]
c.dream("a.mp4", "b.mp4", "c.mp4")  # type: ignore[call-arg]
made = c.interpolate("a.mp4", "b.mp4", factor=2, fps=None, start="1:02")
assert_type(made.output_frames, int)
many = c.interpolate_many(["a", "b"], out_dir="o", factor=2, model=None)
assert_type(many[0], c.InterpResult | c.Exists | c.CloudconvError)
assert_type(c.compare("a", model=["x", "y"], report=None), c.CompareResult)
assert_type(c.train("a", model="tiny", crop=32, interval=2), c.TrainResult)
assert_type(c.extrapolate("a", frames=2, at="0:01"), c.ExtrapolateResult)
assert_type(c.doctor(check=True), c.Diagnosis)
text: str = next(c.interpolate_frames(pictures, 2))  # type: ignore[assignment]
pictures.append(next(c.interpolate_frames(pictures, 2, model="blend")))
"""


@pytest.mark.full
def test_mypy_finds_wrong_calls_and_knows_results(tmp_path):
    """In strict mode, a comment that ignores no error is an error."""
    checker = pytest.importorskip("mypy.api", reason="mypy is not installed")
    (tmp_path / "calls.py").write_text(CALLS)
    said, trouble, code = checker.run(["--strict", str(tmp_path / "calls.py")])
    assert code == 0, said + trouble


def test_input_fps_sets_the_rate_of_pictures(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 4)
    folder = tmp_path / "pics"
    cloudconv.interpolate(clip, folder / "%06d.png", factor=2, **QUICK)
    words = ["--factor", "2", "--model", "tiny", "--json", "--input-fps", "29.97"]
    done = invoke("interp", folder, tmp_path / "b.mp4", *words)
    assert json.loads(done.stdout)["source_fps"] == "30000/1001"
    assert read_times(tmp_path / "b.mp4") == [F(k * 1001, 60000) for k in range(16)]
    compared = cloudconv.compare(folder, model="blend", input_fps=10)
    assert compared.per_frame[0]["pts_seconds"] == 0.1
    options = {"frames": 1, "only_new": True, "model": "hold", "input_fps": 50}
    assert cloudconv.extrapolate(folder, tmp_path / "c.mp4", **options).output_fps == "50"
    options = {"frames": 5, "mode": "flow", "wind": (1, 0), "input_fps": 5}
    still = cloudconv.dream(folder / "000001.png", tmp_path / "d.mp4", **options)
    assert (still.output_fps, still.duration) == ("5", 6 / 5)
    with pytest.raises(InputError, match="times of its own"):
        cloudconv.interpolate(clip, factor=2, input_fps=30)


@pytest.mark.parametrize(("transfer", "curve"), [(16, "PQ"), (1, None)])
def test_a_warning_names_reports_of_hdr(tmp_path, transfer, curve):
    options = {"pix_fmt": "yuv420p10le", "colour": (9, transfer, 9, 1), "size": (64, 48)}
    clip = write_clip(tmp_path / "in.mkv", 6, **options)
    result = cloudconv.compare(clip, model="blend", against="hold", report=tmp_path / "c")
    said = [text for text in map(str, result.warnings) if "look flat and pale" in text]
    assert len(said) == (curve is not None)
    assert all(f"({curve})" in text and "report" in text for text in said)


def pictures(count, scene=0):
    """Return a texture of the scene that moves to the right, (48, 64, 3) uint8."""
    return [
        np.repeat(
            picture(number, 64, 48, "gray", scene=scene).to_ndarray()[..., None], 3, 2
        )
        for number in range(count)
    ]


def test_pictures_in_memory_are_interpolated_while_they_arrive():
    inputs = pictures(40)
    taken = 0

    def source():
        nonlocal taken
        for item in inputs:
            taken += 1
            yield item

    frames = cloudconv.interpolate_frames(source(), factor=4, **QUICK)
    assert taken == 0
    first = [next(frames) for _ in range(4)]
    assert 2 <= taken < 20
    assert first[0] is inputs[0]
    rest = [*first, *frames]
    assert len(rest) == 160
    assert all(rest[4 * k] is item for k, item in enumerate(inputs))
    assert {(p.shape, str(p.dtype)) for p in rest} == {((48, 64, 3), "uint8")}
    assert all(rest[k] is inputs[-1] for k in range(156, 160))


def test_frames_in_memory_are_repeated_at_cuts_and_repeats():
    inputs = [*pictures(8), *pictures(8, scene=1)]
    inputs[4] = inputs[3]
    result = list(cloudconv.interpolate_frames(inputs, 2, model="blend", device="cpu"))
    assert result[15] is inputs[7]  # before the cut
    assert result[7] is inputs[3]
    mean = (inputs[4].astype(float) + inputs[5]) / 2
    assert np.abs(result[9] - mean).max() <= 0.5


def image_with(level=0, **about):
    """Return an image of PIL with facts beside its samples."""
    image = Image.new("RGB", (64, 48), (level, level, level))
    image.info.update(about)
    return image


def test_new_images_keep_the_profile_of_their_colours_and_their_orientation():
    model = cloudconv.load_model("blend", device="cpu")
    about = {"icc_profile": b"Display P3", "exif": b"Exif\0\0"}
    images = [image_with(level, **about, dpi=(72, 72)) for level in (0, 4)]
    options = {"scene_cut": "off", "model": "blend", "device": "cpu"}
    _, middle, *_ = cloudconv.interpolate_frames(images, 2, **options)
    assert middle.info == model.interpolate(*images, 0.5).info == about


def test_a_masked_array_without_masked_samples_is_a_picture():
    model = cloudconv.load_model("blend", device="cpu")
    whole = np.ma.array(np.zeros((48, 64, 3), np.uint8))
    assert model.interpolate(whole, whole, 0.5).shape == whole.shape
    whole[0, 0] = np.ma.masked
    with pytest.raises(PictureError, match="masked samples"):
        model.interpolate(whole, whole, 0.5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "no frame"),
        (pictures(1), "single frame"),
        (
            [*pictures(1), np.zeros((48, 65, 3), np.uint8)],
            "Picture 1 is not like the first",
        ),
        ([np.zeros((48, 64, 2), np.uint8)] * 2, r"\(H, W, C\)"),
        ([np.zeros((3, 48, 64), np.int32)] * 2, r"\(H, W, C\)"),
        ([np.zeros((48, 64, 3), ">f4")] * 2, ">f4"),
        ([b"x", b"y"], "NumPy arrays, PyTorch tensors or PIL images"),
        ([Image.new("P", (8, 8))] * 2, r"convert\('RGB'\)"),
        ([image_with(transparency=(0, 0, 0))] * 2, r"convert\('RGBA'\)"),
        (np.ma.masked_all((2, 48, 64, 3), np.uint8), r"picture\.filled\(0\)"),
        (np.zeros((48, 64, 3), np.uint8), "Several pictures are needed"),
        ([np.full((48, 64, 3), 200.0)] * 2, "samples from 0 to 1, got 200 to 200: divide"),
        ([np.full((48, 64, 3), -0.3, np.float16)] * 2, "samples from 0 to 1, got -0.3"),
        (
            [np.full((48, 64, 3), -0.9, np.float32)] * 2,
            r"\(x \+ 1\) / 2 of samples from -1",
        ),
        ([np.full((48, 64, 3), np.inf, np.float32)] * 2, "not finite"),
        ([torch.full((3, 48, 64), float("nan"))] * 2, "not finite"),
        ([np.zeros((48, 64, 3), np.longdouble)] * 2, "got .48, 64, 3. (longdouble|float)"),
        ([torch.zeros(3, 48, 64, device="meta")] * 2, "device meta"),
        ([torch.zeros(3, 48, 64).to_sparse()] * 2, "sparse"),
        (torch.zeros(0, 3, 48, 64), "no frame"),
        (None, "NumPy arrays, PyTorch tensors or PIL images"),
    ],
)
def test_unusable_pictures_are_one_clear_sentence(given, words):
    with pytest.raises(InputError, match=words):
        list(cloudconv.interpolate_frames(given, 2, model="hold", device="cpu"))


ALIVE = """
import sys, cloudconv
given = {"factor": 4, "model": "tiny", "device": "cpu", "threads": 1}
job = cloudconv.run(cloudconv.InterpSettings(sys.argv[1], sys.argv[2], **given))
next(event for event in job if isinstance(event, cloudconv.Progress))
"""


@pytest.mark.full
def test_a_job_that_is_alive_when_python_ends_is_closed(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 40, size=(32, 32))
    words = [sys.executable, "-c", ALIVE, clip, tmp_path / "b.mkv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=100)
    assert done.stderr == ""
    left = {file.name for file in tmp_path.iterdir()}
    assert left <= {"a.mkv", "b.mkv.work"}


FORKED = """
import multiprocessing, sys, cloudconv

def attempt(name):
    given = {"model": "tiny", "device": "cpu", "threads": 2}
    try:
        if name == "frames":
            next(cloudconv.interpolate_frames([], **given))
        elif name == "model":
            cloudconv.load_model("tiny")
        elif name == "plan":
            cloudconv.plan(cloudconv.InterpSettings(sys.argv[1], factor=2, **given))
        else:
            given |= {"factor": 2, "overwrite": True}
            cloudconv.interpolate(sys.argv[1], sys.argv[2], **given)
    except cloudconv.CloudconvError as error:
        return str(error)

assert attempt("run") is None
names = ("run", "plan", "frames", "model")
with multiprocessing.get_context("fork").Pool(1) as pool:
    for said in pool.map_async(attempt, names).get(60):
        assert said and said.endswith("by multiprocessing.get_context('spawn')."), said
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_of_a_process_that_has_used_cloudconv_is_refused(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 4, size=(32, 32))
    words = [sys.executable, "-W", "ignore", "-c", FORKED, clip, tmp_path / "b.mkv"]
    subprocess.run(words, check=True, timeout=180)


def test_calls_of_several_threads_run_one_after_another(tmp_path):
    """A job that is not at its end keeps only the jobs of other threads waiting."""
    clip = write_clip(tmp_path / "a.mkv", 6)
    rest = {"factor": 2, "model": "blend", "device": "cpu"}
    before = threading.active_count()
    job = cloudconv.run(cloudconv.InterpSettings(clip, tmp_path / "first.mkv", **rest))
    next(job)
    with ThreadPoolExecutor(4) as pool:
        names = [tmp_path / f"{number}.mkv" for number in range(4)]
        calls = [pool.submit(cloudconv.interpolate, clip, name, **rest) for name in names]
        nested = cloudconv.interpolate(clip, tmp_path / "nested.mkv", **rest)
        assert nested.output_frames == 12
        time.sleep(0.3)
        assert not any(call.done() for call in calls)
        assert not any(name.exists() for name in names)
        job.close()
        assert [call.result(60).output_frames for call in calls] == [12] * 4
    assert threading.active_count() == before


def test_a_job_whose_events_nobody_takes_does_not_block_other_threads(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("cloudconv.jobs._PATIENCE", 0.3)
    options = {"input": write_clip(tmp_path / "a.mkv", 6), "factor": 2, "model": "blend"}
    job = cloudconv.run(cloudconv.InterpSettings(output=tmp_path / "first.mkv", **options))
    next(job)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(cloudconv.interpolate, output=tmp_path / "b.mkv", **options)
        with pytest.raises(
            SettingsError, match="nobody takes its events: take all of them, or"
        ):
            call.result(60)
    job.close()


@pytest.mark.full
def test_six_threads_that_call_at_once_do_not_stall(tmp_path):
    """If the calls stall, the test ends with the traceback of every thread."""
    clip = write_clip(tmp_path / "a.mkv", 6, codec="libx264", audio=["aac"])
    rest = {"factor": 2, "model": "cloud-turbo", "device": "cpu"}

    def call(number):
        output = tmp_path / f"{number}.mkv"
        for _ in range(2):
            assert len(list(cloudconv.interpolate_frames(pictures(4), **rest))) == 8
            result = cloudconv.interpolate(clip, output, overwrite=True, **rest)
            assert result.output_frames == 12

    faulthandler.dump_traceback_later(120, exit=True)
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(call, range(6)))
    finally:
        faulthandler.cancel_dump_traceback_later()


HUGE = "9" * 400


@pytest.mark.parametrize(
    "value", [HUGE, int(HUGE), F(int(HUGE)), F(1, int(HUGE)), f"-{HUGE}"]
)
@pytest.mark.parametrize(
    "of", ["Interp", "Extrapolate", "Dream", "Compare", "Train", "Frames"]
)
def test_numbers_of_hundreds_of_digits_are_one_clear_sentence(of, value):
    for rate in ("1e308", 1e308, "inf", value):
        with pytest.raises(SettingsError, match=r"learning_rate"):
            cloudconv.TrainSettings("a", learning_rate=rate)
    kind = getattr(settings, f"{of}Settings")
    read = [
        f for f in settings.fields_of(kind) if f.number is not None or f.parse is not None
    ]
    assert read
    for name in read:
        with suppress(cloudconv.CloudconvError):
            name.read(value)
            assert name.number is None, name.name


def test_pictures_beyond_the_range_and_more_than_two_equal_ones_are_accepted():
    ringing = [p / 255 * 1.4 - 0.2 for p in pictures(4)]  # as after a resize
    for inputs in (ringing, pictures(1) * 5):
        result = list(cloudconv.interpolate_frames(inputs, 2, model="blend", device="cpu"))
        assert all(result[2 * k] is item for k, item in enumerate(inputs))


def reused(buffers):
    for number, content in enumerate(pictures(12)):
        buffer = buffers[number % len(buffers)]
        buffer[:] = content if isinstance(buffer, np.ndarray) else torch.from_numpy(content)
        yield buffer


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
def test_a_buffer_that_is_reused_is_an_error(kind, count):
    dtype = np.uint8 if kind is np.zeros else torch.uint8
    inputs = reused([kind((48, 64, 3), dtype=dtype) for _ in range(count)])
    with pytest.raises(PictureError, match=r"in the memory of an earlier picture.*copy"):
        list(cloudconv.interpolate_frames(inputs, 2, model="blend", device="cpu"))


EMPTY = torch.zeros(1, 6, 3, 32, 32)
UNUSABLE = [EMPTY / 0, EMPTY.to("meta"), EMPTY.to_sparse(), EMPTY[:0], EMPTY[..., :0, :]]


def test_a_loaded_model_refuses_unusable_pictures_and_times():
    predictor, model = (
        cloudconv.load_model(n, device="cpu") for n in ("linear", "rife-4.6")
    )
    for wrong in (*UNUSABLE, EMPTY.byte()):
        with pytest.raises(PictureError):
            predictor.predict(wrong)
    for wrong in ([EMPTY[0, 0]] * 6, EMPTY[:, :1], None):
        with pytest.raises(PictureError, match="is needed"):
            predictor.predict(wrong)
    a, b = EMPTY[0, :2]
    pairs = [(pair_[:, 0], pair_[:, 1]) for pair_ in UNUSABLE]
    pairs += [(a, None), (a, b[:, :5]), ("a", "b"), (a.numpy(), b), (a.int(), b.int())]
    for x0, x1 in pairs:
        with pytest.raises(PictureError):
            model.interpolate(x0, x1, 0.5)
    for wrong in (float("nan"), "a", None, -0.1, 2, torch.tensor([0.5, 1.5])):
        with pytest.raises(SettingsError, match="A timestep must be from 0 to 1, got"):
            model.interpolate(a, b, wrong)
    with pytest.raises(PictureError, match="one timestep"):
        model.interpolate(a, b, torch.tensor([0.5] * 3))
    with pytest.raises(PictureError, match="Picture 1 is not like the first"):
        model.interpolate(a, b[..., 1:], 0.5)


@pytest.mark.parametrize(
    "name", ["a\0b", "a\0.safetensors", "\ud800", "n" * 300 + ".safetensors"]
)
def test_impossible_names_are_one_clear_sentence(tmp_path, name):
    clip = str(write_clip(tmp_path / "a.mkv", 3))
    rest = {"factor": 2, "model": "blend"}
    calls_given = [
        lambda: cloudconv.load_model(name),
        lambda: cloudconv.interpolate(f"{name}.mkv", **rest),
        lambda: cloudconv.interpolate(clip, tmp_path / f"{name}.mkv", **rest),
        lambda: cloudconv.interpolate(clip, **{**rest, "model": name}),
        lambda: cloudconv.interpolate_many([clip, f"{name}.mkv"], out_dir=tmp_path, **rest),
        lambda: cloudconv.train(f"{name}.mkv[0:0.5]", model="tiny", steps=1),
        lambda: cloudconv.compare(clip, model="blend", report=tmp_path / f"{name}.d"),
    ]
    for call in calls_given:
        with pytest.raises(cloudconv.CloudconvError, match=r"NUL|too long|no model"):
            call()
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]


def test_impossible_calls_are_refused_at_once():
    with pytest.raises(SettingsError, match=r"The model is None: give the name"):
        cloudconv.load_model(None)
    with pytest.raises(SettingsError, match="of a command that can be planned"):
        cloudconv.plan(cloudconv.DoctorSettings())
    for wrong, kind in (({"factor": 1}, SettingsError), ({"model": "flow"}, ModelError)):
        with pytest.raises(kind):
            cloudconv.interpolate_frames(pictures(2), **{"factor": 2, **wrong})


EIGHT = pictures(2)
OPAQUE = [np.dstack([p, 255 - p[..., :1]]) for p in EIGHT]
FLOATS = [torch.from_numpy(p).float() / 255 for p in EIGHT]
STORED = {
    "gray": [p[..., 0] for p in EIGHT],
    "gray with an axis": [p[..., :1] for p in EIGHT],
    "rgba": OPAQUE,
    "float": [(p / 255).astype(np.float32) for p in EIGHT],
    "float64 first": [(p / 255).transpose(2, 0, 1) for p in EIGHT],
    "tensor": FLOATS,
    "tensor first": [p.permute(2, 0, 1) for p in FLOATS],
    "half": [p.half() for p in FLOATS],
    "bytes first": [torch.from_numpy(p).permute(2, 0, 1) for p in EIGHT],
    "deep": [p.astype(np.uint16) * 257 for p in EIGHT],
    "pillow": [Image.fromarray(p) for p in EIGHT],
    "pillow rgba": [Image.fromarray(p) for p in OPAQUE],
    "pillow gray": [Image.fromarray(p[..., 0]) for p in EIGHT],
}
"""Two pictures of a moving texture in each of the common types."""


def check_middle(middle, sources):
    """Check that a picture is the mean of two and has their type."""
    assert isinstance(middle, type(sources[0]))
    array, first, last = (np.asarray(image) for image in (middle, *sources))
    assert (array.shape, array.dtype) == (first.shape, first.dtype)
    most = 1e-3 if array.dtype.kind == "f" else 0.5
    assert np.abs(array - (first.astype(float) + last) / 2).max() <= most


@pytest.mark.parametrize("kind", STORED)
def test_new_pictures_of_every_type_have_that_type_also_from_one_array(kind):
    """ComfyUI gives pictures as one tensor: (B, H, W, C) or (B, C, H, W)."""
    store = STORED[kind]
    model = cloudconv.load_model("blend", device="cpu")
    result = list(cloudconv.interpolate_frames(store, 2, model="blend", device="cpu"))
    assert result[0] is store[0]
    check_middle(result[1], store)
    check_middle(model.interpolate(*store, 0.5), store)
    if kind not in ("gray with an axis", "rgba", "tensor", "tensor first", "deep"):
        return
    stack = torch.stack if isinstance(store[0], torch.Tensor) else np.stack
    result = list(
        cloudconv.interpolate_frames(stack(store), 2, model="blend", device="cpu")
    )
    assert len(result) == 4
    check_middle(result[1], store)
    both = model.interpolate(stack(store), stack(store[::-1]), 0.5)
    assert both.shape == (2, *store[0].shape)
    check_middle(both[0], store)


def test_a_network_gets_the_chosen_precision_and_the_colours_without_the_opacity():
    precisions = ("bf16", "fp32")
    half, model = (
        cloudconv.load_model("tiny", device="cpu", precision=each) for each in precisions
    )
    assert (half.dtype, model.dtype) == (torch.bfloat16, torch.float32)
    plain = model.interpolate(*(p[..., :3] for p in OPAQUE), 0.5)
    assert np.array_equal(model.interpolate(*OPAQUE, 0.5)[..., :3], plain)


def test_a_loaded_model_accepts_a_float_and_single_pictures():
    model = cloudconv.load_model("blend", device="cpu")
    a, b = torch.rand(2, 3, 20, 30)
    assert torch.equal(
        model.interpolate(a, b, 0.25), model.interpolate(a[None], b[None], 0.25)[0]
    )
    between = model.interpolate(a[None], b[None], torch.tensor([0.25]))
    assert torch.equal(model.interpolate(a[None], b[None], 0.25), between)


def test_pictures_become_yuv420p_in_mp4(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 4)
    cloudconv.interpolate(clip, tmp_path / "pics" / "%06d.png", factor=2, **QUICK)

    def made(name, **options):
        keywords = {"factor": 2, **options, **QUICK}
        result = cloudconv.interpolate(tmp_path / "pics", tmp_path / name, **keywords)
        with av.open(result.output) as video:
            context = video.streams.video[0].codec_context
            return (
                context.name,
                context.pix_fmt,
                sum("Few pl" in str(w) for w in result.warnings),
            )

    assert made("b.mp4") == ("h264", "yuv420p", 1)
    assert made("c.mp4", pix_fmt="yuv444p")[:2] == ("h264", "yuv444p")
    assert made("d.mkv")[0] == "ffv1"


def test_audio_that_the_container_refuses_is_encoded_again(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 24, audio=["aac"])
    options = {"factor": 2, "preset": None, "end": F(1, 2), **QUICK}
    result = cloudconv.interpolate(clip, tmp_path / "b.webm", **options)
    assert sum("becomes opus" in text for text in map(str, result.warnings)) == 1
    with av.open(result.output) as video:
        assert [s.codec_context.name for s in video.streams.audio] == ["opus"]
        samples = np.concatenate([f.to_ndarray() for f in video.decode(audio=0)], 1)[0]
    assert abs(len(samples) - 24000) <= 960
    turns = np.flatnonzero(np.diff(np.signbit(samples[2000:20000])))
    assert abs(len(turns) / 2 / (18000 / 48000) - 440) < 5  # the tone of the source
    with pytest.raises(OutputError, match="cannot copy Audio stream 1"):
        cloudconv.interpolate(clip, tmp_path / "c.webm", audio="copy", **options)
    assert not (tmp_path / "c.webm").exists()
    kept = cloudconv.interpolate(clip, tmp_path / "c.mkv", audio="copy", **options)
    assert packets_of(kept.output)[0]
    with pytest.raises(SettingsError, match="never copied"):
        cloudconv.interpolate(clip, slowmo=2, audio="copy", **QUICK)
