"""Set up all tests: fixed examples of hypothesis, threads, and quick commands."""

import functools
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakValueDictionary

import pytest
import typer.testing
from hypothesis import settings

from cloudconv.cli import console
from tests.helpers.each_process import sitecustomize
from tests.helpers.system import Fork

# Processes that tests start know the network ``tiny``, as this one does.
own_folders = (os.path.dirname(sitecustomize.__file__), os.environ.get("PYTHONPATH"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, own_folders))

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# More threads than cores cost a sixth more CPU time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# The models that the user of this machine has added are no part of the tests.
os.environ["CLOUDCONV_DATA"] = os.path.join(
    tempfile.gettempdir(), "cloudconv-tests-without-models"
)

# What this machine computes faster is no part of them either.
os.environ["CLOUDCONV_ENGINE"] = "pytorch" if find_spec("ncnn") is None else "ncnn"

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

gc.disable()  # until all tests are collected: what they import is never garbage

# A line about a slow start would come and go with the load of the machine.
console.SILENCE = 3600.0

# Waiting for the disk takes time. The tests of promises and of crashes wait.
FSYNC = os.fsync
os.fsync = lambda _: None
TESTS = Path(__file__).parent
GUARANTEES = (TESTS.parent / "docs" / "guarantees.md").read_text("utf-8")
PROMISED = {
    *("cli/test_interrupts.py", "jobs/interp/test_processes.py"),
    *("jobs/interp/test_store.py", *re.findall(r"`([\w/]+\.py[:\w]*)`", GUARANTEES)),
}
"""Tests and files of tests of promises and of crashes, besides those in ``promises``."""

# Without this, CliRunner builds all commands for each run, and most runs take less time
# than that.
typer.testing._get_command = functools.cache(typer.testing._get_command)


@pytest.fixture
def forked(monkeypatch):
    """Convert files of weights in copies of this process, which has imported PyTorch."""
    if sys.platform == "linux":
        monkeypatch.setattr(subprocess, "Popen", Fork)


@pytest.fixture(scope="session")
def ray():
    """Start Ray as ``--workers local:2`` does, once for all tests of this process."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    from cloudconv.jobs.interp import workers
    from cloudconv.jobs.interp.pool import WorkerConfig

    with workers.started(WorkerConfig("local", 2)) as module:
        yield module


@pytest.fixture(autouse=True)
def wait_for_the_disk(request, monkeypatch):
    """Write files as a user's run does in the tests of promises and of crashes."""
    file = request.path.relative_to(TESTS).as_posix()
    names = {file, f"{file}::{request.node.originalname}"}
    if file.startswith("promises/") or names & PROMISED:
        monkeypatch.setattr(os, "fsync", FSYNC)


@pytest.fixture(autouse=True)
def own_standard_input(monkeypatch):
    """Give each test its own standard input.

    An error of an earlier test may still refer to the copy of another one.
    """
    from cloudconv.media.containers import input as inputs

    monkeypatch.setattr(inputs, "_copies", WeakValueDictionary())


@pytest.fixture
def unmeasured(monkeypatch):
    """Leave out the vitals of dreams, which take a third of the time of a small dream."""
    from cloudconv.dreaming.vitals.vitals import VitalsMeter

    for name in ("_compose", "_jump"):
        monkeypatch.setattr(VitalsMeter, name, lambda *_: None)


@pytest.fixture
def copied_weights(tmp_path, monkeypatch):
    """Return a copy of the folder of weights that the test may damage."""
    from cloudconv import weights  # which reads the environment

    folder = shutil.copytree(weights.weights_folder(), tmp_path / "weights")
    monkeypatch.setattr(weights, "weights_folder", lambda: folder)
    return folder


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """Return a folder of the test's own for the models that it adds."""
    monkeypatch.setenv("CLOUDCONV_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test of two tiers: ``-m full`` must never start one that takes hours."""
    gc.freeze()
    gc.enable()
    for item in items:
        if item.get_closest_marker("full") and item.get_closest_marker("slow"):
            raise pytest.UsageError(f"{item.nodeid} is marked full and slow; choose one.")
