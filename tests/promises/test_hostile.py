"""Inputs, names and weights that are malicious or odd, through the whole command."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cloudconv import checkpoints, weights
from cloudconv.models.baselines import Blend, Linear
from tests.helpers.command import invoke
from tests.helpers.factory import assert_same_frames, read_times, write_clip

SIZE = (64, 48)
NAMES = [
    *(
        "two words.mkv",
        "quote\"s and 'more'.mkv",
        "new\nline.mkv",
        "-dash.mkv",
        "--factor.mkv",
    ),
    *("雲 ☁ ünïcödé.mkv", "50%.mkv", "a;b&c|d$HOME`x`.mkv", "file:name.mkv", "pipe:1.mkv"),
    *("#1?.mkv", "[ab].mkv", "star*.mkv", "back\\slash.mkv", " .mkv"),
]


def interp(*words):
    return invoke("interp", "--factor", "2", "--model", "blend", "--json", *words)


def error_of(result, exit_code=1):
    """Return the only line of stderr that is no warning."""
    assert result.exit_code == exit_code
    (line,) = (
        line for line in result.stderr.splitlines() if not line.startswith("warning: ")
    )
    assert line.startswith("error: ")
    assert "bug" not in line
    return line


def one_sentence(result, exit_code=1):
    """Return the error line.

    Check that stderr and the JSON on stdout give the same error.
    """
    line = error_of(result, exit_code)
    said = json.loads(result.stdout)
    assert line == f"error: {said['error']}"
    assert (said["exit_code"], said.keys()) == (
        exit_code,
        {"error", "code", "kind", "exit_code"},
    )
    assert said["kind"] != "bug"
    assert re.fullmatch("[a-z0-9-]+", said["code"])
    return line


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_works_for_input_and_output(tmp_path, out, name, monkeypatch):
    clip = write_clip(tmp_path / "whole.mkv", 4, size=SIZE).rename(tmp_path / name)
    assert json.loads(interp("--", clip, out / name).stdout)["output"] == str(out / name)
    assert len(read_times(f"file:{out / name}")) == 8
    assert os.listdir(out) == [name]
    monkeypatch.chdir(tmp_path)
    result = Path(json.loads(interp("--", name).stdout)["output"]).name
    assert sorted(os.listdir()) == sorted([name, result, "out"])


def y4m(width, height, rate, *, frames=3, bytes_each=96):
    head = f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420\n".encode()
    return head + (b"FRAME\n" + bytes(bytes_each)) * frames


@pytest.mark.parametrize(
    "data",
    [
        y4m(100_000, 100_000, "25:1"),
        y4m(2_000_000_000, 2, "25:1"),
        y4m(16_000, 16_000, "25:1"),
        y4m(0, 0, "25:1"),
        y4m(8, 8, "25:1", frames=0),
        b"\x00",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        b"GIF89a\xff\xff\xff\xff",
        struct.pack(">I4sQ", 1, b"ftyp", 2**63),
    ],
)
def test_absurd_files_give_one_sentence(tmp_path, data):
    clip = tmp_path / "odd.y4m"
    clip.write_bytes(data)
    assert "odd.y4m" in one_sentence(interp(clip, tmp_path / "out.mkv"))
    assert [p.name for p in tmp_path.iterdir()] == ["odd.y4m"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such devices")
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/ptmx", "/proc/kmsg"])
def test_a_device_is_refused_at_once(tmp_path, name):
    if not os.path.exists(name):
        pytest.skip("the system has no such device")
    assert name in one_sentence(interp(name, tmp_path / "out.mkv"))


@pytest.mark.skipif(os.name == "nt", reason="Windows needs rights for links")
def test_an_output_that_is_a_link_to_itself_is_one_sentence(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 4, size=SIZE)
    (link := tmp_path / "o.mkv").symlink_to(link)
    (folder := tmp_path / "loop").symlink_to(folder)
    assert "exists already" in one_sentence(interp(clip, link))
    assert "is not a folder" in one_sentence(interp(clip, folder / "o.mkv"))
    assert interp(clip, link, "--overwrite").exit_code == 0
    assert len(read_times(link)) == 8


@pytest.mark.parametrize(
    "rate", ["0:0", "0:1", "25:0", "2147483647:1", "1:2147483647", "5:8388608"]
)
def test_absurd_rates_give_a_video_or_one_sentence(tmp_path, rate):
    clip = tmp_path / "odd.y4m"
    clip.write_bytes(y4m(8, 8, rate))
    output = tmp_path / "out.mp4"
    result = interp(clip, output)
    if result.exit_code == 0:
        times = read_times(output)
        assert len(times) == json.loads(result.stdout)["output_frames"]
        assert times == sorted(set(times))
    else:
        assert "carries on" not in one_sentence(result)
        assert [p.name for p in tmp_path.iterdir()] == ["odd.y4m"]


SHIPPED = weights.weights_folder()
WRONG_WEIGHTS = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "pickle": lambda data: b"\x80\x02}q\x00.",
    "huge header": lambda data: struct.pack("<Q", 2**62) + data[8:],
    "noise": lambda data: bytes(255 - x for x in data[:4096]),
    "other model": lambda data: (SHIPPED / "conv.safetensors").read_bytes(),
}


@pytest.mark.parametrize("what", WRONG_WEIGHTS)
def test_bad_weights_files_give_one_sentence(tmp_path, what):
    clip = write_clip(tmp_path / "clip.mkv", 4, size=SIZE)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(WRONG_WEIGHTS[what]((SHIPPED / "rife-4.6.safetensors").read_bytes()))
    other = what == "other model"  # a valid file of a model for another task: wrong usage
    result = interp(clip, tmp_path / "out.mkv", "--model", mine)
    assert ("conv" if other else mine.name) in one_sentence(result, 2 if other else 1)
    assert not (tmp_path / "out.mkv").exists()


def first_value(value):
    return lambda tensor: tensor.clone().index_fill_(0, torch.tensor([0]), value)


@pytest.mark.full
@pytest.mark.parametrize(
    "harm",
    [
        first_value(float("nan")),
        first_value(float("inf")),
        torch.Tensor.int,
        torch.Tensor.bool,
    ],
)
@pytest.mark.parametrize("command", ["interp", "train"])
def test_weights_with_invalid_values_or_types_are_refused(tmp_path, harm, command):
    clip = write_clip(tmp_path / "clip.mkv", 30, size=(144, 144))
    mine = tmp_path / "mine.safetensors"
    state, about = checkpoints.read(SHIPPED / "rife-4.6.safetensors")
    name = sorted(state)[-1]
    save_file({**state, name: harm(state[name])}, mine, {"model": "rife-4.6", **about})
    words = {
        "interp": [clip, tmp_path / "out.mkv", "--factor=2", "--model", mine],
        "train": [clip, "-o", tmp_path / "out.safetensors", "--init", mine, "--steps", "1"],
    }
    sentence = error_of(invoke(command, *words[command]))
    assert "not finite floating-point" in sentence
    assert name in sentence
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("command", ["interp", "extrapolate"])
def test_a_non_finite_picture_is_an_error(tmp_path, monkeypatch, command):
    clip = write_clip(tmp_path / "clip.mkv", 6, size=SIZE)
    output = tmp_path / "out.mkv"
    monkeypatch.setattr(
        Blend, "forward", lambda self, pair: (pair.x0 + pair.x1) / 0 - pair.x0 / 0
    )
    monkeypatch.setattr(Linear, "forward", lambda self, context: context[:, -1] / 0)
    words = {"interp": ["blend", "--factor=2"], "extrapolate": ["linear", "--frames=3"]}
    result = invoke(command, clip, output, "--model", *words[command])
    assert "not finite" in error_of(result)
    assert not output.exists()


# A read of the second half of a file named bad.mkv fails from the ``HEALTHY``-th such read
# on.
_FAILING_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
ssize_t read(int file, void *to, size_t size) {
  static int reads;
  char link[64], name[4096] = "";
  struct stat about;
  snprintf(link, 64, "/proc/self/fd/%d", file);
  if (readlink(link, name, 4095) > 0 && strstr(name, "bad.") && !fstat(file, &about)) {
    long half = about.st_size / 2, at = lseek(file, 0, SEEK_CUR);
    if (at < half && at + (long)size > half) size = half - at;
    if (at >= half && reads++ >= atoi(getenv("HEALTHY"))) { errno = EIO; return -1; }
  }
  return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(file, to, size);
}
"""

# The program runs once for each number in copies of one process, which has imported
# PyTorch. Each line says how a run ended, whether its output exists, and what was printed.
_RUNS = """
import json, os, sys
import cloudconv.jobs.interp.run, cloudconv.cli.commands
from cloudconv.__main__ import main

_, numbers, output, *words = sys.argv
for number in numbers.split(","):
    os.environ["HEALTHY"] = number
    process = os.fork()
    if not process:
        for file, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), file)
        sys.argv = ["cloudconv", *words]
        main()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    said = [open(name).read() for name in ("out", "err")]
    print(json.dumps([code, os.path.exists(output), *said]), flush=True)
"""


@pytest.mark.full
@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs a compiler"
)
@pytest.mark.parametrize(
    ("suffix", "keeps"),
    [
        # The identity is read first, then the header and all packets.
        ("mkv", {0: False, 1: False}),
        # The frames and the sound are read again. The last run reads everything.
        ("nut", {0: False, 1: False, 10: True, 16: True}),
    ],
)
def test_a_disk_that_fails_is_an_error_and_keeps_the_work(tmp_path, suffix, keeps):
    clip = write_clip(tmp_path / f"bad.{suffix}", 60, size=SIZE, noise=30, audio=["aac"])
    output = tmp_path / "out.mkv"
    library = str(tmp_path / "disk.so")
    (tmp_path / "disk.c").write_text(_FAILING_DISK)
    compiler = ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "disk.c", "-ldl"]
    subprocess.run(compiler, check=True)
    command = [sys.executable, "-c", _RUNS, ",".join(map(str, [*keeps, 999])), output]
    command += ["interp", clip, output, "--factor=2", "--json", "--model=blend"]
    environment = os.environ | {"LD_PRELOAD": library}
    runs = subprocess.run(
        [*command, "--encoder=ffv1"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    *failures, (code, _, result, _) = map(json.loads, runs.stdout.splitlines())
    for (*ended, printed, errors), kept in zip(failures, keeps.values(), strict=True):
        assert ended == [1, False]
        lines = errors.splitlines()
        (error,) = [
            line for line in lines if not line.startswith(("continuing", "reading"))
        ]
        assert error.startswith(
            f"error: {clip} cannot be read to its end (Input/output error): "
        )
        assert ("the same command carries on" in errors) == kept
        assert json.loads(printed)["exit_code"] == 1
    assert code == 0
    assert json.loads(result)["resumed"] == any(keeps.values())
    assert interp(clip, tmp_path / "whole.mkv", "--encoder", "ffv1").exit_code == 0
    assert_same_frames(output, tmp_path / "whole.mkv")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/proc/out.mkv", "/proc/out.mkv"),
        ("/dev/full/out.mkv", "/dev/full is not a folder"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, target, named):
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    said = one_sentence(interp(write_clip(tmp_path / "clip.mkv", 4, size=SIZE), target))
    assert named in said
    assert "Another" not in said
    assert "make it first" not in said


def test_a_clip_of_absurd_length_keeps_its_times(tmp_path):
    """Two frames that are a year apart neither stall the command nor fill memory."""
    year = Fraction(365 * 24 * 3600)
    clip = write_clip(tmp_path / "year.mkv", 2, times=[Fraction(0), year], size=SIZE)
    result = interp(clip, tmp_path / "out.mkv")
    assert result.exit_code == 0, result.stderr
    assert read_times(tmp_path / "out.mkv")[:3] == [0, year / 2, year]


# MP4 refuses a gap of 10**6 s itself, and the time in which an encoder reorders frames
# around two gaps of 100,000 s. A clip of two frames has a constant rate.
@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([0, 1, 10**8, 10**8 + 1], "last 5000000 s, and a frame"),
        ([0, 1, 10**6 * 2, 10**6 * 2 + 1], "The frames around 200000.000 s last 200000 s"),
        ([0, 10**7], "At 1/500000 frames a second each frame lasts 500000 s"),
    ],
)
def test_a_gap_too_long_for_mp4_is_refused_before_the_join(tmp_path, times, said):
    clip = tmp_path / "gap.mkv"
    times_given = [Fraction(t, 10) for t in times]
    write_clip(clip, len(times), times=times_given, size=SIZE)
    line = one_sentence(interp(clip, tmp_path / "out.mp4"))
    for words in (said, "in MP4 lasts at most 1", "write an .mkv instead"):
        assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["gap.mkv"]
