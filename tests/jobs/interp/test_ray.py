"""A Ray cluster makes the same frames.

Tests that need Ray are skipped if it is not installed.
"""

import importlib
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction as F
from functools import partial
from unittest.mock import Mock

import pytest
import torch

from cloudconv.errors import DeviceError, InputError, Interrupted
from cloudconv.events import Progress, Warnings
from cloudconv.jobs.interp import batch
from cloudconv.jobs.interp import workers as ray_workers
from cloudconv.jobs.interp.opened import renderer_of
from cloudconv.jobs.interp.plan import decide
from cloudconv.jobs.interp.result import InterpResult
from cloudconv.jobs.interp.segments import SegmentPlan, SegmentWork, token_of
from cloudconv.jobs.interp.workers import Cluster
from cloudconv.media.writing.packets import read_segment
from cloudconv.models import registry
from cloudconv.settings import InterpManySettings, InterpSettings
from cloudconv.timeline import Task
from tests.helpers import calls
from tests.helpers.factory import assert_same_frames, picture, read_times, write_clip
from tests.helpers.jobs import finish, stop_after
from tests.helpers.workers import Tenfold
from tests.jobs.interp.test_processes import plan_of

interp = partial(calls.interpolate, factor=2, model="tiny", encoder="ffv1", threads=1)


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", Mock(side_effect=ImportError))
    clip = write_clip(tmp_path / "a.mkv", 4)
    with pytest.raises(DeviceError, match=r'pip install "cloudconv\[cluster\]"'):
        interp(clip, tmp_path / "b.mkv", workers="ray")
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.fixture
def job(tmp_path):
    """Return the plan of a run and a segment of six frames."""
    clip = write_clip(tmp_path / "a.mkv", 10, rate=25)
    folder = tmp_path / "b.mkv.work"
    folder.mkdir()
    (folder / ".cloudconv-plan.json").write_text("a plan")
    frames = []
    for k in range(6):
        left = F(k // 2, 25)
        right = None if k % 2 == 0 else F(k // 2 + 1, 25)
        frames.append(Task(left, right, F(k % 2, 2), F(k, 50), F(1, 50)))
    plan = plan_of(clip, folder=folder, token=token_of(folder))
    return plan, SegmentPlan(3, tuple(frames))


def render(job):
    """Render one segment as a worker does, with a report for each frame.

    Return the result.
    """
    *reports, done = SegmentWork()(*job)
    assert [report.done for report in reports if isinstance(report, Progress)] == [
        *range(1, 7)
    ]
    return done.result


def test_a_worker_makes_no_tiles_if_the_settings_forbid_tiles(job, monkeypatch):
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    monkeypatch.setattr(registry.spec("tiny").cls, "forward", Mock(side_effect=error))
    plan, segment = job
    plan = replace(
        plan, run=replace(plan.run, settings=plan.run.settings.changed(tile="off"))
    )
    with pytest.raises(DeviceError, match="tile='auto'"):
        render((plan, segment))


def test_a_machine_writes_only_into_a_work_folder_that_it_shares(job):
    folder = job[0].folder
    file, summary = render(job)
    assert (file.parent, summary.packets) == (folder, 6)
    assert sorted(packet.pts for packet in read_segment(file, summary)) == list(range(6))
    (folder / ".cloudconv-plan.json").write_text("the plan of another run")
    held = set(os.listdir(folder))
    with pytest.raises(DeviceError, match="give all machines the input"):
        render(job)
    assert set(os.listdir(folder)) == held


@pytest.fixture
def stand_in(monkeypatch):
    """Return a function that replaces Ray by a stand-in of a cluster of equal machines."""

    def make(machines=1, **resources):
        ray = Mock(put=lambda chunk: chunk, get=lambda reference: reference)
        ray.is_initialized.return_value = False
        ray.exceptions.AuthenticationError = MissingTokenError
        ray.cluster_resources.return_value = resources
        ray.nodes.return_value = [{"Alive": True, "Resources": resources}] * machines
        monkeypatch.setattr(ray_workers, "_ray", lambda **_: ray)
        return ray

    return make


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Write a clip of five scenes and ``whole.mkv``, its result in this process."""
    pictures = [picture(k, scene=k // 40) for k in range(200)]
    path = write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", pictures, codec="libx264")
    interp(path, path.with_name("whole.mkv"))
    return path


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_an_error(stand_in, address):
    stand_in()
    with pytest.raises(DeviceError, match=f"no Ray cluster at {re.escape(address)}"):
        Cluster(Tenfold(), address, cores=1, gpus=0)


class MissingTokenError(Exception):
    """A stand-in for Ray's AuthenticationError."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("404"), "no Ray cluster at 127.0.0.1:"),
        (
            ConnectionError("refused"),
            "If the cluster has a token, set RAY_AUTH_MODE=token here",
        ),
        (
            MissingTokenError("none"),
            "wants a token, and this machine has none: set RAY_AUTH_MODE=token",
        ),
        (RuntimeError("Version: 2.9\nmore"), r"joined \(Version: 2\.9\): install"),
    ],
)
def test_a_program_that_is_no_usable_cluster_is_an_error(stand_in, error, said):
    ray = stand_in()
    ray.init.side_effect = error
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(DeviceError, match=said):
            Cluster(Tenfold(), address, cores=1, gpus=0)


@pytest.mark.full
def test_a_machine_without_a_gpu_plans_for_gpus_of_the_cluster(monkeypatch, clip, stand_in):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stand_in(CPU=8, GPU=1)
    plan = decide(InterpSettings(clip, factor=2, device="cuda", workers="ray", threads=3))
    assert (plan.device, plan.dtype) == (torch.device("cpu"), torch.float32)
    assert (plan.workers.device, plan.workers.cores) == ("cuda", 3)
    assert renderer_of(plan, Warnings()).plan(64, 64).sizes.cpu_streams == 1


@pytest.mark.parametrize(
    ("resources", "gpus", "said"),
    [
        ({"CPU": 8}, 1, "4 cores and a GPU: give fewer .* `threads`, or `device='cpu'`"),
        ({"CPU": 2, "GPU": 1}, 1, "4 cores and a GPU: give fewer cores with `threads`"),
        ({"CPU": 2}, 0, "has 4 cores: give fewer cores with `threads`"),
    ],
)
def test_a_resource_that_no_machine_has_is_an_error_at_once(
    stand_in, resources, gpus, said
):
    cluster = stand_in(**resources)
    with pytest.raises(DeviceError, match=said):
        Cluster(Tenfold(), None, cores=4, gpus=gpus)
    cluster.shutdown.assert_called_once()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_a_cluster_makes_the_same_frames_and_resumes(clip, tmp_path):
    result = interp(clip, tmp_path / "b.mkv", workers="ray")
    assert (result.resumed, result.output_frames) == (False, 400)
    assert_same_frames(tmp_path / "b.mkv", clip.with_name("whole.mkv"))

    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "c.mkv", workers="ray", watch=stop_after(151))
    assert interp(clip, tmp_path / "c.mkv").resumed
    assert_same_frames(tmp_path / "c.mkv", clip.with_name("whole.mkv"))
    assert sorted(os.listdir(tmp_path)) == ["b.mkv", "c.mkv"]


TOKENS = """
from cloudconv.errors import DeviceError
from cloudconv.jobs.interp.workers import Cluster
from tests.helpers.workers import Tenfold
import os, sys, time
before = dict(os.environ)
began = time.monotonic()
try:
    Cluster(Tenfold(), sys.argv[1], cores=1, gpus=0)
    print("joined")
except DeviceError as error:
    print(error)
assert time.monotonic() - began < 15
assert "RAY_NUM_REDIS_GET_RETRIES" not in {*os.environ} - {*before}
"""


@pytest.mark.slow
def test_a_cluster_that_ray_start_made_takes_machines_with_its_token(tmp_path):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    first, other = (
        {**os.environ, "HOME": str(tmp_path / name)} for name in ("first", "other")
    )
    (tmp_path / "first").mkdir()
    (tmp_path / "other").mkdir()
    with_token = {**first, "RAY_AUTH_MODE": "token"}
    subprocess.run([*ray, "get-auth-token", "--generate"], env=with_token, check=True)
    head = [*ray, "start", "--head", "--port", str(port), "--num-cpus", "1", "--block"]
    said = []
    with subprocess.Popen(head, env=with_token, stdout=subprocess.DEVNULL) as running:
        try:
            time.sleep(20)
            for env in (with_token, first, {**other, "RAY_AUTH_MODE": "token"}):
                command = [sys.executable, "-c", TOKENS, f"127.0.0.1:{port}"]
                done = subprocess.run(
                    command, env=env, capture_output=True, text=True, check=True
                )
                said.append(done.stdout)
                assert "InvalidAuthToken" not in done.stderr
        finally:
            running.terminate()
    assert said[0] == "joined\n"
    assert "If the cluster has a token, set RAY_AUTH_MODE=token" in said[1]
    assert "wants a token, and this machine has none" in said[2]


@pytest.mark.slow
def test_sigterm_keeps_finished_segments(clip, tmp_path):
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "cloudconv", "interp", clip, "-o", tmp_path / "b.mkv"]
    command += ["--factor", "40", "--model", "tiny", "--workers", "ray", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        work = tmp_path / "b.mkv.work"
        while running.poll() is None and not any(work.glob("*.packets")):
            time.sleep(0.1)
        running.terminate()
        errors = running.stderr.read()
    assert running.returncode == 130, errors
    assert "carries on" in errors
    assert os.listdir(tmp_path) == ["b.mkv.work"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_a_cluster_renders_many_videos(clip, tmp_path):
    short = write_clip(tmp_path / "b.mkv", 6, size=(64, 48))
    broken = tmp_path / "c.mkv"
    broken.write_bytes(b"no video")
    options = {"model": "tiny", "encoder": "ffv1", "threads": 1, "workers": "ray"}
    many = InterpManySettings(
        [clip, broken, short], out_dir=tmp_path / "made", factor=2, **options
    )
    outcomes = finish(batch.run(many))
    assert [type(outcomes[k]) for k in range(3)] == [InterpResult, InputError, InterpResult]
    interp(clip, tmp_path / "alone.mp4")
    assert_same_frames(tmp_path / "made" / "a_x2.mp4", tmp_path / "alone.mp4")
    assert len(read_times(tmp_path / "made" / "b_x2.mkv")) == 12
