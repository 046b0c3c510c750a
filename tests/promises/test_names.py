"""File names that are nearly too long, too long, or not valid text."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import cloudconv
from cloudconv import files
from cloudconv.errors import CloudconvError
from cloudconv.events import Measured, Progress
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import read_times, write_clip

BLEND = {"factor": 2, "model": "blend"}
LONGEST = 255


def long_name(suffix, length=LONGEST, letter="n"):
    """Return a name of ``length`` bytes."""
    room = length - len(suffix)
    wide = letter * (room // len(letter.encode()))
    return wide + "x" * (room - len(wide.encode())) + suffix


def test_a_file_that_is_called_like_standard_input(clip, monkeypatch):
    monkeypatch.chdir(clip.parent)
    clip.rename("-")
    done = invoke("interp", "./-", "--factor", "2", "--model", "blend")
    assert done.exit_code == 0, done.stderr
    assert len(read_times(Path("-_x2.mkv"))) == 12
    assert invoke("interp", "-", "--out-dir", ".").exit_code != 0


def stop(event):
    """Raise KeyboardInterrupt at the first frame or the first measured losses."""
    if isinstance(event, Measured) or (
        isinstance(event, Progress) and event.stage == "rendering"
    ):
        raise KeyboardInterrupt


@pytest.mark.parametrize("letter", ["n", "雲"])
@pytest.mark.parametrize("length", [247, 251, 255])
def test_an_output_may_have_the_longest_name(clip, tmp_path, length, letter):
    for suffix in (".mkv", ".gif"):
        out = tmp_path / f"out{suffix}" / long_name(suffix, length, letter)
        out.parent.mkdir()
        with pytest.raises(KeyboardInterrupt):
            calls.interpolate(clip, out, watch=stop, **BLEND)
        assert all(name.endswith(".work") for name in os.listdir(out.parent))
        cloudconv.interpolate(clip, out, **BLEND)
        assert os.listdir(out.parent) == [out.name]
        assert len(read_times(out)) == 12


def test_a_weights_file_may_have_the_longest_name(clip, out):
    out /= long_name(".safetensors")
    options = {
        "model": "tiny",
        "steps": 2,
        "crop": 32,
        "batch": 2,
        "val_part": "0.5:1",
        "gap": 2,
    }
    with pytest.raises(KeyboardInterrupt, match="keeps the training so far"):
        calls.train([clip], output=out, watch=stop, **options)
    assert len(os.listdir(out.parent)) == 2
    assert cloudconv.train([clip], output=out, **options).resumed
    assert os.listdir(out.parent) == [out.name]


def test_a_default_name_that_is_too_long_is_shortened(tmp_path):
    stem = long_name("", 249)
    clips = [write_clip(tmp_path / f"{stem}{letter}.mkv", 3) for letter in "ab"]
    outputs = [cloudconv.interpolate(clip, **BLEND).output for clip in clips]
    outputs.append(cloudconv.extrapolate(clips[0], model="linear", frames=2).output)
    for name in (os.path.relpath(path, tmp_path) for path in outputs):
        assert len(os.fsencode(name)) <= LONGEST
        assert re.fullmatch(r"n{200,}.*~[0-9a-f]{8}\.mkv", name)
    assert len(os.listdir(tmp_path)) == 5
    both = cloudconv.interpolate_many(clips, out_dir=tmp_path / "out", **BLEND)
    assert len({result.output for result in both if not isinstance(result, Exception)}) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["interp", "LONG.mkv", "--factor", "2"],
        ["interp", "LONG.mkv", "--factor", "2", "--out-dir", "made"],
        ["interp", "a.mkv", "LONG.mkv", "--factor", "2", "--model", "blend"],
        ["interp", "a.mkv", "LONG/%03d.png", "--factor", "2", "--model", "blend"],
        ["interp", "a.mkv", "o.mkv", "--factor", "2", "--model", "LONG.safetensors"],
        ["train", "a.mkv", "--model", "tiny", "-o", "LONG.safetensors"],
        ["compare", "a.mkv", "--report", "LONG"],
    ],
)
def test_a_name_that_is_too_long_is_refused_at_once(clip, tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke(*(word.replace("LONG", "n" * 300) for word in words))
    assert done.exit_code == 1
    assert re.fullmatch(r"error: .*n{300}.* is too long for a file.*\n", done.stderr)
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of another kind")
@pytest.mark.parametrize("name", ["a b", "it's", 'q"uo"te', "a;b", "$(x) `y` &", "--crf 5"])
@pytest.mark.parametrize("suffix", [".m3u8", ".jpg"])
def test_a_command_in_a_message_is_for_the_shell_whatever_the_name_is(
    clip, tmp_path, name, suffix
):
    path = tmp_path / f"{name}{suffix}"
    if suffix == ".m3u8":
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mkv\n")
    else:
        mp4 = write_clip(tmp_path / "a.mp4", 3, codec="libx264")
        Image.new("RGB", (32, 16)).save(path)
        path.write_bytes(path.read_bytes() + mp4.read_bytes())
    done = invoke("interp", path, "--factor", "2")
    assert done.exit_code == 1
    with pytest.raises(CloudconvError) as raised:
        cloudconv.interpolate(path, factor=2)
    for text in (done.stderr, str(raised.value)):
        command = re.search(r"'((?:ffmpeg|tail) .*)'", text)[1]
        assert str(path) in shlex.split(command)
        if suffix == ".jpg":
            subprocess.run(command, shell=True, check=True, cwd=tmp_path)
            assert (tmp_path / "motion.mp4").read_bytes() == mp4.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no newline in a name")
@pytest.mark.parametrize(
    "words", [["interp", "gone"], ["interp", "a"], ["models", "show", "gone"]]
)
def test_a_newline_in_a_name_is_shown_escaped(clip, tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip.rename("a\nb.mkv")
    *words, name = words
    options = ["--fps", "2", "--dry-run"] if words == ["interp"] else []
    done = invoke(*words, f"{name}\nb.mkv", *options)
    assert rf"{name}\nb.mkv" in done.stderr + done.stdout
    assert done.stderr.count("\n") <= 1


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems allow only text as a name"
)
@pytest.mark.parametrize("name", ["a\udcff\udcfe", "b\x1b[31m\x07"])
def test_a_name_that_is_no_valid_text_works_in_a_report(clip, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = clip.rename(tmp_path / f"{name}.mkv")
    printed = name.replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    printed = printed.encode("utf-8", "backslashreplace").decode()
    folder = Path(f"look{name}")
    done = invoke(
        "compare", odd, "--model", "blend", "--against", "hold", "--report", folder
    )
    assert done.exit_code == 0, done.stderr
    page = (folder / "index.html").read_text("utf-8")
    assert printed in page
    assert not set(page) & {"\x1b", "\x07"}
    assert json.loads((folder / "result.json").read_text("utf-8"))


def test_the_limit_of_the_file_system_counts(tmp_path, monkeypatch):
    limit = 143  # bytes, as in encrypted folders

    def lstat(path, real=Path.lstat):
        if len(os.fsencode(path.name)) > limit:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        return real(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    target = tmp_path / long_name(".mkv", limit)
    assert files.fitting(target) == target
    longer = files.fitting(tmp_path / long_name(".mkv", limit + 1))
    assert len(os.fsencode(longer.name)) <= limit
    assert longer.suffix == ".mkv"
    assert len(os.fsencode(files.beside(target, ".work").name)) <= limit


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="Path.exists asks the system itself"
)
@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.ENOTCONN, errno.EMFILE, errno.EDQUOT]
)
@pytest.mark.parametrize(
    "words",
    [
        ["interp", "shut/a.mkv", "o.mkv", "--factor", "2"],
        ["interp", "a.mkv", "shut/o.mkv", "--factor", "2"],
        ["interp", "a.mkv", "--out-dir", "shut", "--factor", "2"],
        ["extrapolate", "a.mkv", "shut/o.mkv", "--frames", "2"],
        ["train", "a.mkv", "--model", "tiny", "-o", "shut/o.safetensors"],
    ],
)
def test_a_folder_that_the_system_refuses_gives_one_sentence(
    clip, words, number, monkeypatch
):
    monkeypatch.chdir(clip.parent)

    def refused(path, *, follow_symlinks=True, found=Path.stat):
        if "shut" in path.parts:
            raise OSError(number, os.strerror(number), str(path))
        return found(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)
    done = invoke(*words)
    assert done.exit_code == 1
    assert os.strerror(number) in done.stderr
    assert "bug" not in done.stderr
    assert os.listdir() == ["a.mkv"]
