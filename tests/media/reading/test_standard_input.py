"""The copy of standard input goes with its run, and never fills the disk."""

import io
import os
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from cloudconv.errors import OutputError
from cloudconv.media.containers import input as inputs

KILLED = """
import os, signal
from cloudconv.media.containers.input import local_file
copy = local_file("-")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(inputs, "_NEW", 0)
    return tmp_path


def send(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.mark.skipif(os.name == "nt", reason="a lock cannot be deleted there")
def test_the_next_run_removes_the_copy_of_a_killed_run(temporary, monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED], input=b"a video", check=False)
    (left,) = temporary.iterdir()
    send(monkeypatch, b"another video")
    copy = inputs.local_file("-")
    assert not left.exists()
    assert copy.read_bytes() == b"another video"
    inputs._leave_no_copies()  # as a run beside this one does
    assert copy.exists()
    (temporary / "cloudconv-stdin-of-somebody").mkdir()
    del copy
    inputs._leave_no_copies()
    assert [file.name for file in temporary.iterdir()] == ["cloudconv-stdin-of-somebody"]


def test_endless_input_stops_before_the_disk_is_full(temporary, monkeypatch):
    sent = [0]

    class Endless:
        def read(self, size):
            sent[0] += size
            return bytes(size)

    free = 3 * inputs._RESERVE
    step = inputs._RESERVE // 8  # for each piece, so that little is written
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Endless()))
    usage = lambda _: SimpleNamespace(free=free - sent[0] // inputs._CHUNK * step)  # noqa: E731
    monkeypatch.setattr(inputs.shutil, "disk_usage", usage)
    said = rf"{temporary} \(less than 1\.1 GB would stay free\): free some space there"
    with pytest.raises(OutputError, match=said):
        inputs.local_file("-")
    assert sent[0] < 32 * inputs._CHUNK
    assert list(temporary.iterdir()) == []


def test_a_small_disk_keeps_half_of_what_is_free(temporary, monkeypatch):
    send(monkeypatch, bytes(1000))
    monkeypatch.setattr(inputs.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    assert inputs.local_file("-").stat().st_size == 1000
