"""``cloudconv interp``: options, exit code, stdout and stderr."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction as F
from functools import partial
from unittest.mock import Mock

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.cli.app import app
from cloudconv.cli.streams import clock
from cloudconv.errors import DeviceError, Interrupted, SettingsError
from cloudconv.jobs import plan
from cloudconv.jobs.interp import run as job
from cloudconv.models import registry
from cloudconv.settings import InterpSettings
from tests.helpers.command import invoke
from tests.helpers.factory import assert_same_frames, read_times, write_clip
from tests.helpers.tiers import first_full

TINY = ("--model", "tiny", "--device", "cpu", "--precision", "fp32", "--threads", "1")
run = partial(invoke, "interp")


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a.mp4", 5, rate=24, codec="libx264")


def test_without_json_stdout_stays_empty_and_stderr_ends_with_a_summary(clip):
    clip = clip.rename(clip.with_name("[bold]a[nothing] 100%.mp4"))
    result = run(clip, "--factor", 2, *TINY)
    assert (result.exit_code, result.stdout) == (0, "")
    summary = "; ".join(result.stderr.splitlines()[-2:])
    assert "[bold]a[nothing] 100%_x2.mp4: 10 frames (4 new) at 48 fps" in summary
    size = clip.with_name("[bold]a[nothing] 100%_x2.mp4").stat().st_size
    assert (
        f"libx264, {size / 1e3:.1f} kB, {8 * size * 24 / 5 / 1e3:.0f} kbit/s; took"
        in summary
    )


def test_an_output_by_position_that_is_replaced_is_named_first(clip):
    other = clip.with_name("b.mp4")
    other.write_bytes(clip.read_bytes())
    said = run(clip, other, "--factor", 2, "-y", *TINY).stderr
    assert said.startswith(
        f"{other} is taken as the output, which -y replaces; with --out-dir both are "
        "inputs\n"
    )
    assert len(read_times(other)) == 10


@pytest.mark.parametrize("option", [("--replace", "2"), ("--shutter", "180")])
def test_replace_and_shutter_alone_keep_the_rate(clip, tmp_path, option):
    alone = run(clip, tmp_path / "a.mkv", *option, *TINY)
    whole = run(clip, tmp_path / "b.mkv", "--factor", 1, *option, *TINY)
    assert (alone.exit_code, whole.exit_code) == (0, 0), alone.stderr
    assert_same_frames(tmp_path / "a.mkv", tmp_path / "b.mkv")


def test_compare_ends_with_a_line_for_each_further_model(clip):
    words = ("compare", clip, "--model", "blend", "--model", "hold", "--metrics", "psnr")
    lines = invoke(*words).stdout.splitlines()
    assert lines[-1].startswith("blend is ")
    assert lines[-1].endswith(" dB better than holding the last frame")


@pytest.mark.parametrize("more", [["-o", "o.mkv"], ["--out-dir", "out"]])
@pytest.mark.parametrize(
    "address", ["https://example.org/a.mp4", "rtsp://[::1]:1/x", "file:///a"]
)
def test_a_network_address_is_refused(address, more, tmp_path):
    more = [more[0], str(tmp_path / more[1])]
    done = run(address, "--factor", 2, *more, *TINY)
    assert done.exit_code == 1
    said = f"{address} is an address, and only files on this machine are read"
    assert said in done.stderr


@pytest.mark.parametrize("option", ["-o", "--out-dir"])
@pytest.mark.parametrize("address", ["file:///a/b.mp4", "rtmp://host/live.mp4"])
def test_an_address_as_output_is_refused_and_no_folder_has_its_name(
    address, option, clip, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = run(clip, option, address, "--factor", 2, *TINY)
    assert done.exit_code == 1
    assert f"{address} is an address, and outputs are files on this machine" in done.stderr
    assert not list(tmp_path.glob("*:"))


def test_options_of_every_kind_reach_the_job_and_others_have_the_defaults_of_the_api(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for name in ("in.mkv", "in.mp4"):
        (tmp_path / name).write_bytes(b"video")
    received = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(job, "run", received)
    result = run(
        "in.mkv", "-o", "out.mkv", "--fps", "59.94", "--scene-cut", "0.25", "--refill",
        "--batch", "3", "--start", "1:02.5", "-y", "--precision", "fp32", "--crf", "12.5",
        "--encoder-option", "level=3", "--encoder-option", "x=a=b", "--no-resume",
        "--workers", "local:3",
    )  # fmt: skip
    assert result.exit_code == 130, result.stderr
    run("in.mp4", "out.mkv", "--slowmo", "8", "--audio", "stretch")
    (options,), (slow,) = (call.args for call in received.call_args_list)
    assert options == InterpSettings(
        input="in.mkv",
        output="out.mkv",
        fps=F(60000, 1001),
        scene_cut=0.25,
        refill=True,
        batch=3,
        start=F(125, 2),
        crf=12.5,
        encoder_option={"level": 3, "x": "a=b"},
        resume=False,
        workers="local:3",
        overwrite=True,
        precision="fp32",
    )
    assert slow == InterpSettings(
        input="in.mp4", output="out.mkv", slowmo=F(8), audio="stretch"
    )


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)
def test_the_help_of_a_command_fits_two_screens(name):
    usual = invoke(name, "--help", env={"COLUMNS": "80"}).stdout
    assert len(usual.splitlines()) <= 100
    if name in ("interp", "compare"):
        every = invoke(name, "--help-all", env={"COLUMNS": "80"}).stdout
        assert "--timesteps" in every
        assert "--timesteps" not in usual
        assert usual.splitlines()[-1].endswith(f"cloudconv {name} --help-all")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (
            DeviceError("a: No bf16: use --precision=fp16."),
            1,
            "error: No bf16: use --precision",
        ),
        (
            SettingsError("a: There is no model: give --model."),
            2,
            "error: There is no model: give",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted("5 are kept"), 130, "interrupted; 5 are kept; the same"),
        (ZeroDivisionError("oh"), 1, "report it as a bug (ZeroDivisionError: oh)"),
    ],
)
def test_each_class_of_error_has_its_exit_code(monkeypatch, clip, raised, code, said):
    monkeypatch.setattr(job, "run", Mock(side_effect=raised))
    result = run(clip, "--factor", 2)
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert said in line
    if isinstance(raised, ZeroDivisionError):
        assert "-v" in line
        assert "Traceback" in run("a.mp4", "--factor", 2, "-v").stderr


def test_a_dry_run_prints_the_plan_and_the_time_and_writes_nothing(clip, monkeypatch):
    result = run(clip, "--factor", 4, "--dry-run", *TINY)
    monkeypatch.setattr(registry, "load", Mock(side_effect=AssertionError))
    assert result.exit_code == 0, result.stderr
    fields = dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())
    assert (fields["output frames"], fields["output fps"]) == ("20", "96 fps")
    assert fields["output"].endswith("a_x4.mp4")
    words = r"about [\d.]+ s here: [\d.e-]+ s a new frame, 12 new frames \(measured\)"
    assert re.fullmatch(words, fields["time"])
    # With JSON nothing is measured, and no network is loaded.
    said = json.loads(run(clip, "--factor", 4, "--dry-run", "--json", *TINY).stdout)
    assert (said["source_frames"], said["output_frames"], said["output_fps"]) == (
        5,
        20,
        "96",
    )
    assert (said["encoder"], said["model"]) == ("libx264", "tiny")
    options = {"model": "tiny", "device": "cpu", "precision": "fp32"}
    assert said == plan(InterpSettings(clip, factor=4, **options))
    assert os.listdir(clip.parent) == ["a.mp4"]


@pytest.mark.parametrize(
    "options",
    [("--fps", 30), ("--fps", 48), ("--slowmo", 3), ("--factor", 1, "--shutter", 90)],
)
def test_a_dry_run_knows_about_how_many_frames_are_new(tmp_path, options):
    clip = write_clip(tmp_path / "a.mp4", 48, rate=24, codec="libx264")
    planned = run(clip, *options, "--dry-run", *TINY).stdout
    count = int(re.search(r"(\d+) new frame", planned)[1])
    made = json.loads(run(clip, tmp_path / "b.mp4", *options, "--json", *TINY).stdout)
    assert abs(count - made["new_frames"]) <= 3


def test_a_dry_run_names_the_streams_that_are_left_out(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5, codec="libx264", audio=["aac"])
    for words in (
        ["interp", clip, "--slowmo", 2, *TINY],
        ["extrapolate", clip, "--only-new"],
    ):
        warned = json.loads(invoke(*words, "--dry-run", "--json").stdout)["warnings"]
        assert any("Audio stream 1 (aac) is left out" in text for text in warned)


@pytest.mark.parametrize(
    ("output", "factor", "named"),
    [
        ("b.mp4", 2, "exists already"),
        ("a.mp4/b.mp4", 2, "not a folder"),
        ("c.gif", 8, "at most 50"),
    ],
)
def test_a_dry_run_ends_with_the_first_error(clip, output, factor, named):
    (clip.parent / "b.mp4").write_bytes(b"precious")
    words = (clip, clip.parent / output, "--factor", factor, "--dry-run", *TINY)
    done = run(*words, "--json")
    assert done.exit_code == 1
    assert named in json.loads(done.stdout)["error"]
    assert (clip.parent / "b.mp4").read_bytes() == b"precious"
    assert sorted(os.listdir(clip.parent)) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_errors_of_a_batch_name_command_line_options(tmp_path, dry):
    times = [F(k, 24) for k in (0, 1, 3, 4, 7)]
    video = write_clip(tmp_path / "a.mkv", len(times), times=times)
    words = (video, "--factor", 1.5, "--out-dir", tmp_path / "out", *dry, *TINY)
    done = run(*words, "--json")
    assert "fixed rate with --fps" in done.stdout
    assert "`" not in done.stdout + done.stderr + run(*words).stdout


def test_a_dry_run_of_many_inputs_plans_each(clip):
    other = clip.with_name("b.mp4")
    other.write_bytes(b"no video")
    folder = clip.parent / "new" / "made"
    done = run(
        clip, other, "--factor", 2, "--out-dir", folder, "--dry-run", "--json", *TINY
    )
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert said["failed"] == 1
    assert said["plans"][0]["output"] == str(folder / "a_x2.mp4")
    assert said["plans"][0]["output_frames"] == 10
    assert "b.mp4" in said["plans"][1]["error"]
    table = run(clip, other, "--factor", 2, "--out-dir", folder, "--dry-run", *TINY).stdout
    assert "a_x2.mp4" in table
    assert "variable rate" not in table  # of what is no video
    assert sorted(os.listdir(clip.parent)) == ["a.mp4", "b.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("name", first_full(["SIGINT", "SIGTERM", "SIGHUP"]))
def test_an_interrupted_run_keeps_finished_segments_and_no_half_file(clip, name):
    command = [
        sys.executable,
        "-m",
        "cloudconv",
        "interp",
        str(clip),
        "--factor",
        "1000",
        *TINY,
    ]
    pipe = subprocess.PIPE
    work = clip.with_name("a_x1000.mp4.work")
    # The process that starts these tests may have disabled Ctrl-C for all its children.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed
    ) as running:
        try:
            deadline = time.monotonic() + 60
            while not any(work.glob("*-*.packets")) and time.monotonic() < deadline:
                assert running.poll() is None, running.communicate()
                time.sleep(0.02)
            running.send_signal(getattr(signal, name))
            out, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (running.returncode, out) == (130, "")
    assert re.search(
        f"{work.name} keeps .* finished frames.*; the same command carries on", said
    )
    assert sorted(os.listdir(clip.parent)) == ["a.mp4", work.name]


@pytest.mark.full
def test_help_shows_examples_and_loads_neither_torch_nor_av():
    """A file that does not exist is named as fast."""
    code = (
        "import sys\nfrom cloudconv.cli.app import app\nfor arguments in (['--help'], "
        "['interp', '--help'], ['models', '--help']):\n    app(arguments, "
        "standalone_mode=False)\nfor command in ('interp --factor 2', 'dream', 'compare', "
        "'train --init cloud-best'):\n    try:\n        app([*command.split(), "
        "'none.mp4'])\n    except SystemExit as end:\n        assert end.code == 1\nassert "
        "not {'torch', 'av', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "cloudconv interp clouds.mp4 --factor 4" in done.stdout
    assert "cloudconv models show cloud-best" in done.stdout
    assert (
        done.stderr.splitlines()
        == ["error: There is no file none.mp4: check the name."] * 4
    )


def test_the_version_is_printed_and_the_shell_completes_words():
    assert invoke("--version").stdout.startswith("cloudconv 0.")
    environment = {"_CLOUDCONV_COMPLETE": "complete_bash", "COMP_CWORD": "4"}
    environment["COMP_WORDS"] = "cloudconv interp a.mp4 --precision bf"
    assert invoke(env=environment).stdout.split() == ["bf16"]


@given(st.floats(0, 1e6))
def test_a_printed_duration_has_the_value_of_the_original(seconds):
    text = clock(seconds)
    parts = [float(number) for number in text.removesuffix(" s").split(":")]
    total = sum(number * 60**k for k, number in enumerate(reversed(parts)))
    assert abs(total - seconds) <= 0.5
    assert len(parts) == 1 or all(number < 60 for number in parts[1:])
    assert (clock(59.9), clock(60), clock(3600)) == ("59.9 s", "1:00", "1:00:00")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--factor", 2), "a_x2.mp4"),
        (("--factor", 2, "--start", "0.1"), "a_x2_0.1-end.mp4"),
        (("--factor", 2, "--end", "0.1"), "a_x2_0-0.1.mp4"),
        (("--factor", 2, "--refill"), "a_x2_refill.mp4"),
        (("--factor", 2.5), "a_x2.5.mp4"),
        (("--fps", "59.94"), "a_59.94fps.mp4"),
        (("--fps", 60), "a_60fps.mp4"),
        (("--slowmo", 4), "a_slow4.mp4"),
        (("--slowmo", 4, "--fps", 60), "a_slow4_60fps.mp4"),
        (("made", "--factor", 2), "made/a_x2.mp4"),
        (("made/", "--factor", 2), "made/a_x2.mp4"),
    ],
)
def test_default_names_contain_the_options(clip, tmp_path, monkeypatch, options, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes.txt").touch()
    plan = json.loads(run(clip.name, *options, "--dry-run", "--json", *TINY).stdout)
    assert plan["output"] == name


def test_a_second_name_that_exists_may_be_an_input(clip, tmp_path):
    other = write_clip(tmp_path / "b.mp4", 5, rate=24, codec="libx264")
    before = other.read_bytes()
    done = run(clip, other, "--factor", 2, *TINY)
    assert done.exit_code == 1
    reason = "replace it with --overwrite. If it is an input too, give --out-dir."
    assert done.stderr == f"error: The output {other} exists already: {reason}\n"
    assert "--out-dir" not in run(clip, "-o", other, "--factor", 2, *TINY).stderr
    assert other.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "output", "options", "said"),
    [
        (F(30000, 1001), "o.mp4", "--fps 60", "only one of 500 source frames is kept"),
        (F(30000, 1001), "o.mp4", "--fps 60", "59.94 fps keeps all source frames"),
        # A GIF plays at most 50 frames a second, so no rate that keeps all frames is named.
        (F(30000, 1001), "o.gif", "--fps 50", r"source frames is kept(?!.* keeps all)"),
        (24, "o.mp4", "--fps 60", "only one of 2 source frames .* 48 fps keeps all source "
                                  "frames"),
        (24, "o.mp4", "--fps 59.94", "; 48 fps keeps all source"),
        (F(24000, 1001), "o.mp4", "--fps 60",
         "; 71.928 fps keeps all source frames"),
        (F(30000, 1001), "o.mp4", "--fps 59.94", "^$"),
        (F(30000, 1001), "o.mp4", "--fps 29.97",
         "29.97 fps already: its frames are only encoded again"),
        (24, "o.mp4", "--fps 6",
         "6 fps is less than the 24 fps of the source: about 75% of its frames"),
        (24, "o.mp4", "--slowmo 4 --fps "
                      "6", r"slowed source has 6 fps already(?!.*is less than)"),
        (24, "o.mp4", "--slowmo 4 --fps 3", "3 fps is less than the 6 fps of the slowed "
                                            "source"),
        (F(30000, 1001), "o.mp4", "--slowmo 4 --fps 60",
         "only one of 125 source frames .*; 59.94 fps keeps all source frames"),
        (F(30000, 1001), "o.mp4", "--slowmo 4 --fps 59.94", "^$"),
        (F(30000, 1001), "o.mp4", "--slowmo 4 --fps 52", "; 7500/143 fps keeps all source"),
        (30, "o.mp4", "--fps 24", r"^(?!.*left out).*only one of 5 source frames is kept"),
        (30, "o.mp4", "--fps 29.97", "only one of 1001 .*; 30 fps keeps all source "
                                     "frames[.] $"),
    ],
)  # fmt: skip
def test_a_rate_that_leaves_source_frames_out_is_a_warning(
    tmp_path, source, output, options, said
):
    clip = write_clip(tmp_path / "a.mp4", 5, rate=source, codec="libx264")
    done = run(clip, tmp_path / output, *options.split(), "--dry-run", *TINY)
    assert re.search(said, done.stderr.replace("\n", " "))


MAPPING = "libtorch_cpu.so: failed to map segment from shared object"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((kind, MAPPING) for kind in (MemoryError, OSError, ImportError, RuntimeError)),
        (RuntimeError, "could not create a primitive"),  # an error text of oneDNN
        (ImportError, f"IMPORTANT: {'read this! ' * 99}\n{MAPPING}\n"),  # the text of NumPy
    ],
)
def test_a_lack_of_memory_is_not_reported_as_a_bug(tmp_path, monkeypatch, kind, text):
    """A limit such as ``ulimit -v`` can fail anywhere, also while a library is loaded."""
    monkeypatch.setattr("cloudconv.jobs.interp.run.decide", Mock(side_effect=kind(text)))
    clip = write_clip(tmp_path / "a.mkv", 4)
    result = invoke("interp", clip, "--factor", "2", "--dry-run", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["kind"] == "memory"
    assert f"not enough memory ({text.splitlines()[-1]})" in result.stderr
    assert len(result.stderr) < 500
