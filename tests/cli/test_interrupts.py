"""Interrupts by signals: each ends the command once."""

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from cloudconv import interrupts
from cloudconv.cli.console import Console, run_with_progress
from cloudconv.errors import InputError
from cloudconv.events import Finished, Progress, watched

_HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(interrupts, "_has_arrived", False)
    monkeypatch.setattr(interrupts, "_raised_at", -1)
    monkeypatch.setattr(interrupts, "_end_at_last", lambda _: None)
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.05)
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    for name in names:  # nohup and background jobs ignore some
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)
    signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_swallowed_interrupt_ends_the_job_at_its_next_check(name):
    interrupts.install()
    # Stands for a library that swallows the interrupt.
    signal.raise_signal(getattr(signal, name))
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    interrupts.check()  # no error: the job ends already


@pytest.mark.parametrize("arrives", [True, False])
def test_an_error_after_a_swallowed_interrupt_is_an_interrupt(arrives):
    """A callback of a decoder discards the exception, and the file seems to end there."""
    interrupts.install()

    def job():
        yield Progress("rendering", 1, 2)
        if arrives:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
                time.sleep(10)
        raise InputError("no-frame: a.mp4 ends before its first frame: give a file.")

    with pytest.raises(KeyboardInterrupt if arrives else InputError):
        watched(job())


def test_repeated_signals_raise_once_unless_time_has_passed(monkeypatch):
    """A closing terminal sends two signals: one from the kernel and one from the shell."""
    interrupts.install()
    signal.raise_signal(_HANGUP)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    for number in (_HANGUP, signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)
        interrupts.check()  # no error: the command cleans up already
    monkeypatch.setattr(interrupts, "_raised_at", time.monotonic() - 2)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


def test_no_instruction_before_the_next_check_raises():
    """An exception between the lock of a queue and its block leaves the lock locked."""
    interrupts.install()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    time.sleep(0.1)  # the timer of the interrupt expires, and must not raise a second time


LOST = """
import signal, time
from cloudconv import interrupts
class Callback:
    def __del__(self, send=signal.raise_signal):
        send(signal.SIGTERM)
        time.sleep(10)
interrupts.install()
Callback()
try:
    interrupts.check()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_that_a_destructor_discards_leaves_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, check=False, text=True
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_a_complete_output_is_not_reported_as_interrupted():
    def job():
        yield Progress("rendering", 1, 1)
        yield Finished("complete")

    interrupts.install()
    assert run_with_progress(Console(quiet=True), "working", job()) == "complete"
    signal.raise_signal(_HANGUP)


def test_an_interrupt_during_an_import_is_raised_once_afterwards(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_module.py").write_text(
        "import signal, time\n"
        "from cloudconv import interrupts\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "time.sleep(0.02)\n"
        "try:\n    interrupts.check()\nexcept KeyboardInterrupt:\n    noticed = True\n"
    )
    interrupts.install()
    assert importlib.import_module("slow_module").noticed
    # The timer of the interrupt expires here, and must not raise a second time.
    time.sleep(0.2)


ENDING = """
import atexit, os, signal, sys, time
from cloudconv.__main__ import main
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), sleep=time.sleep):
        kill(pid, signal.SIGTERM)
        sleep(0.1)
def late():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
atexit.register(late)
last = Late()
sys.argv = ["cloudconv", "--version"]
main()
"""


def test_a_signal_while_the_process_exits_is_ignored():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"cloudconv ")


STUCK = """
import os, signal, threading, time
from cloudconv import interrupts
interrupts._GRACE = 0.1
interrupts.install()
threading.Timer(0.1, os.kill, [os.getpid(), signal.{name}]).start()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(60)  # stands for the wait for a function of a library
"""


@pytest.mark.skipif(os.name != "posix", reason="another system has no SIGTERM")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_in_which_a_library_does_not_return(name):
    code = STUCK.format(name=name)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 130
    assert done.stderr.startswith(b"interrupted; ")


DEFERRED = """
import os, signal, threading, time
from cloudconv import interrupts
interrupts._GRACE = 0.1
interrupts.install()
stop = threading.Event()
def send(times):
    for _ in range(times):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.1)
try:
{block}
except KeyboardInterrupt:
    time.sleep(60)  # stands for the wait for a function of a library
print("the end")
"""
HELD = """
    with interrupts.signals_held():
        send(1)
"""
TWICE = """
    with interrupts.deferred(stop):
        send(2)
"""
ONCE = """
    with interrupts.deferred(stop):
        send(1)
        time.sleep(0.4)  # an orderly end may take its time
    time.sleep(0.4)
"""


@pytest.mark.skipif(os.name != "posix", reason="another system has no SIGTERM")
@pytest.mark.parametrize(
    ("name", "block", "ends"),
    [("SIGTERM", HELD, 130), ("SIGINT", TWICE, 130), ("SIGINT", ONCE, 0)],
)
def test_an_interrupt_that_was_deferred_ends_a_run_that_does_not_return(name, block, ends):
    code = DEFERRED.format(name=name, block=block)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout) == (ends, b"" if ends else b"the end\n")


def test_signals_are_handled_before_the_settings_are_imported():
    """An interrupt within a class of Python 3.11 may become a RuntimeError."""
    code = (
        "from cloudconv import host, interrupts; from cloudconv.cli import streams; import "
        "sys; "
    )
    code += "print([name for name in sys.modules if name.startswith('cloudconv.settings')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


IMPORTING = """
import runpy, sys
class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv = ["cloudconv", "--version"]
{start}
"""


@pytest.mark.parametrize(
    "start",
    [
        "from cloudconv.__main__ import main; main()",
        "runpy.run_module('cloudconv', None, '__main__')",
    ],
    ids=["script", "module"],
)
@pytest.mark.parametrize("name", ["cloudconv.cli", "cloudconv.messages", "typer"])
def test_an_interrupt_of_an_import_leaves_no_traceback(name, start):
    code = IMPORTING.format(name=name, start=start)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
