"""Output on terminals, and runs with standard streams that are closed or full."""

import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from cloudconv import files
from tests.helpers.command import invoke as run
from tests.helpers.factory import read_times, write_clip

TINY = ("--factor", "2", "--model", "tiny", "--device", "cpu", "--threads", "1")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell and signals")


def shell(words, streams="", **options):
    """Run the command in a shell with redirected streams.

    Return its exit code and output.
    """
    command = (
        f"{shlex.join([sys.executable, '-m', 'cloudconv', *map(str, words)])} {streams}"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["a\x1b[31mb\x07", "a\x9b31mb", "a\u202eb", "a\rb\x08"])
def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path, name):
    clip = write_clip(tmp_path / f"{name}.mkv", 3)
    done = run("interp", clip, tmp_path / f"{name}_2.mkv", *TINY)
    refused = run("interp", clip, tmp_path / f"{name}_2.mkv", *TINY)
    usage = run("interp", clip, "--factor", "2", "--model", name)
    batch = run(
        "interp", clip, tmp_path / f"{name}c.txt", "--out-dir", tmp_path / "o", *TINY
    )
    planned = run("interp", clip, tmp_path / "b.mkv", "--dry-run", *TINY)
    assert [r.exit_code for r in (done, refused, usage, batch, planned)] == [0, 1, 2, 1, 0]
    for said in (done, refused, usage, batch, planned):
        printed = said.stderr + said.stdout
        assert printed
        assert not set(printed) & set("\x1b\x07\x9b\u202e\r\x08")


@pytest.mark.full
def test_a_run_with_closed_streams_succeeds(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 3)
    words = ("interp", clip, tmp_path / "b.mkv", *TINY)
    assert shell(words, "<&- >&- 2>&-", timeout=120) == (0, "", "")
    assert len(read_times(tmp_path / "b.mkv")) == 6


@pytest.mark.full
def test_a_result_for_a_closed_standard_output_is_an_error(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 3)
    for code, words in (
        (2, ("interp", clip, "-", *TINY)),
        (2, ("interp", clip, tmp_path / "b.mkv", *TINY, "--json")),
        (1, ("models",)),
    ):
        ended, _, said = shell(words, ">&-")
        assert (ended, said.count("\n")) == (code, 1)
        assert "standard output is closed" in said
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [("interp PIPE o.mkv", "PIPE is a named pipe"), ("train --recipe PIPE", "PIPE is a "
                                                                            "named pipe"),
     ("compare PIPE", "PIPE is a named pipe"), ("interp a.mkv --model PIPE", "are not a "
                                                                             "file")],
)  # fmt: skip
def test_a_named_pipe_is_refused_at_once(tmp_path, monkeypatch, words, said):
    """Weights are also refused as a pipe."""
    monkeypatch.chdir(tmp_path)
    write_clip("a.mkv", 3)
    name = "pipe.safetensors" if "--model" in words else "pipe.toml"
    os.mkfifo(name)
    done = run(
        *words.replace("PIPE", name).split(), *(TINY[:2] if "interp" in words else ())
    )
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert said.replace("PIPE", name) in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words",
    [
        "interp --help",
        *(
            pytest.param(words, marks=pytest.mark.full)
            for words in ("--version", "models --json", "models nothing --json")
        ),
        # These print as the others do.
        *(pytest.param(words, marks=pytest.mark.slow) for words in ("--help", "doctor")),
    ],
)
def test_a_full_standard_output_is_one_sentence(words):
    code, _, said = shell(words.split(), ">/dev/full")
    *first, last = said.splitlines()
    assert code == 1
    assert last == "error: standard output cannot be written: No space left on device"
    assert len(first) == ("nothing" in words)


def test_a_deleted_working_directory_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    remove = partial(os.rmdir, tmp_path / "gone")
    words = ("models", "--json")
    code, made, said = shell(words, cwd=tmp_path / "gone", preexec_fn=remove)
    assert (code, json.loads(made)["exit_code"]) == (1, 1)
    assert "error: The working directory cannot be used (No such file" in said


def test_a_file_created_during_an_interrupt_is_removed(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", 3)
    create_part = files.create_part

    def interrupted(*arguments, **named):
        create_part(*arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "create_part", interrupted)
    done = run("interp", clip, tmp_path / "b.gif", *TINY)
    assert done.stderr == "interrupted; this run has left no unfinished file\n"
    assert os.listdir(tmp_path) == ["a.mkv"]


def test_files_that_could_not_be_removed_are_named(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", 3)
    monkeypatch.setattr(files, "remove", lambda path: None)
    interrupted = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("cloudconv.media.writing.sink.Sink.write", interrupted)
    done = run("interp", clip, tmp_path / "b.gif", *TINY)
    (leftover,) = tmp_path.glob("*.part")
    assert done.stderr.startswith("interrupted; ")
    assert str(leftover) in done.stderr
    assert done.stderr.endswith(" could not be removed\n")
    leftover.unlink()  # otherwise a later interrupted test would name the file


def test_pipes_beside_pictures_are_ignored(tmp_path):
    run("interp", write_clip(tmp_path / "a.mkv", 3), f"{tmp_path}/p/%03d.png", *TINY)
    os.mkfifo(tmp_path / "p" / "000006.png")
    done = run("interp", tmp_path / "p" / "%03d.png", tmp_path / "b.mkv", *TINY)
    assert done.exit_code == 0, done.stderr
    assert len(read_times(tmp_path / "b.mkv")) == 12


@contextmanager
def descriptor_of(number, file, flags):
    """Return a context in which a descriptor of the process is that of a file."""
    before = os.dup(number)
    opened = os.open(file, flags)
    os.dup2(opened, number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)
        os.close(opened)


def test_an_output_is_not_the_file_behind_standard_input(tmp_path):
    clip = write_clip(tmp_path / "s.mkv", 4, size=(32, 32))
    before = clip.read_bytes()
    (tmp_path / "link.mkv").symlink_to(clip)
    for output in (clip, tmp_path / "link.mkv"):
        with descriptor_of(0, clip, os.O_RDONLY):
            done = run("interp", "-", "-o", output, "-y", *TINY, input=before)
        assert done.exit_code == 1
        assert f"The output {output} is the input itself (standard input)" in done.stderr
        assert clip.read_bytes() == before
    with descriptor_of(0, clip, os.O_RDONLY):
        words = ("interp", "-", "-o", tmp_path / "other.mkv", *TINY)
        assert run(*words, input=before).exit_code == 0


def test_standard_output_is_not_the_file_that_is_read(tmp_path):
    clip = write_clip(tmp_path / "s.mkv", 4, size=(32, 32))
    before = clip.read_bytes()
    with descriptor_of(1, clip, os.O_WRONLY | os.O_APPEND):
        done = run("interp", clip, "-o", "-", *TINY)
    assert done.exit_code == 1
    assert f"Standard output is the input itself ({clip})" in done.stderr
    assert clip.read_bytes() == before


def test_an_output_replaces_no_pipe_and_no_device(tmp_path):
    clip = write_clip(tmp_path / "s.mkv", 4, size=(32, 32))
    os.mkfifo(tmp_path / "pipe.mkv")
    (tmp_path / "null.mkv").symlink_to(os.devnull)
    for name, kind in (("pipe.mkv", "a named pipe"), ("null.mkv", "a device or a socket")):
        for more in ([], ["-y"]):
            done = run("interp", clip, tmp_path / name, *TINY, *more)
            assert done.exit_code == 1
            assert f"{name} is {kind}, which no file replaces: name a file" in done.stderr
    assert (tmp_path / "pipe.mkv").is_fifo()
    assert (tmp_path / "null.mkv").is_symlink()


@pytest.mark.parametrize(
    "broken",
    [
        "import os; os.pipe = fail(OSError(24, 'Too many open files'))",
        "import threading; threading.Thread.start = fail(RuntimeError('no new thread'))",
    ],
)
def test_a_start_without_a_free_file_or_thread_is_one_sentence(broken):
    code = f"""
def fail(error):
    def function(*given):
        raise error
    return function
{broken}
from cloudconv.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cloudconv cannot start (")
    assert "raise the limits on open files" in line
