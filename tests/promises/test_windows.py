"""Stand-ins for Windows: locked files, folders, paths, signals, code pages."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cloudconv
from cloudconv import files, interrupts
from cloudconv.errors import InputError, SettingsError, TakenError
from cloudconv.jobs.interp.batch import each_input
from cloudconv.media.containers import input as spool
from tests.helpers.factory import read_times, write_clip


@pytest.mark.parametrize(
    ("call", "when", "code"),
    [("open", os.path.isdir, errno.EACCES), ("link", lambda _: True, errno.EINVAL)],
)
def test_a_run_needs_neither_links_nor_open_folders(monkeypatch, clip, call, when, code):
    real = getattr(os, call)

    def failing(path, *arguments, **named):
        if when(path):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr(files, "FOLDERS_CAN_BE_OPENED", call != "open")
    monkeypatch.setattr(os, call, failing)
    assert (
        len(read_times(cloudconv.interpolate(clip, factor=2, model="blend").output)) == 12
    )


def test_a_file_that_another_program_has_open_is_kept_beside_the_result(monkeypatch, clip):
    out = clip.with_name("out.mkv")
    out.write_bytes(b"open in a player")

    def replace(part, new, real=Path.replace):
        if Path(new) == out:
            raise PermissionError(errno.EACCES, "Access is denied", str(new))
        return real(part, new)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(
        TakenError, match=r"cannot be replaced \(Access is denied\): it is left as it is"
    ):
        cloudconv.interpolate(clip, out, factor=2, model="blend", overwrite=True)
    assert out.read_bytes() == b"open in a player"
    assert len(read_times(clip.with_name("out-1.mkv"))) == 12


def test_missing_signals_are_ignored(monkeypatch):
    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    monkeypatch.delattr(signal, "pthread_kill", raising=False)
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGTERM, raising=False)
    monkeypatch.setattr(interrupts, "_end_at_last", lambda _: None)
    try:
        interrupts.install()
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)


def test_an_address_whose_slashes_were_turned_around_is_refused():
    with pytest.raises(InputError, match=r"https://example\.org/a\.mp4"):
        spool.local_file(r"https:\\example.org\a.mp4")


def test_names_that_differ_in_case_only_are_one_output(monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "normcase", str.lower)
    inputs = [tmp_path / "a" / "One.mp4", tmp_path / "b" / "one.mp4"]
    for name in inputs:
        name.parent.mkdir()
        write_clip(name, 3, codec="libx264")
    many = cloudconv.InterpManySettings(inputs, out_dir=tmp_path, factor=2, model="blend")
    with pytest.raises(SettingsError, match=r"One\.mp4"):
        each_input(many)


@pytest.mark.parametrize("page", ["cp437", "cp1252", "ascii"])
def test_help_can_be_printed_in_any_code_page(page):
    command = [sys.executable, "-m", "cloudconv", "train", "--help"]
    environment = os.environ | {"PYTHONIOENCODING": page}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"--init" in done.stdout
