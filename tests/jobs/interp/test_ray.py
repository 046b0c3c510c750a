"""Ray starts, joins a cluster, and leaves nothing behind.

Tests that need Ray are skipped if it is not installed.
"""

import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction as F
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from cloudconv.errors import DeviceError, InputError, Interrupted
from cloudconv.events import Progress, Warnings
from cloudconv.jobs.interp import batch, pool
from cloudconv.jobs.interp.opened import renderer_of
from cloudconv.jobs.interp.plan import decide
from cloudconv.jobs.interp.pool import WorkerConfig
from cloudconv.jobs.interp.result import InterpResult
from cloudconv.jobs.interp.segments import SegmentPlan, SegmentWork, token_of
from cloudconv.jobs.interp.workers import started
from cloudconv.media.writing.packets import read_segment
from cloudconv.models import registry
from cloudconv.settings import InterpManySettings, InterpSettings
from cloudconv.timeline import Task
from tests.helpers import calls
from tests.helpers.factory import assert_same_frames, picture, read_times, write_clip
from tests.helpers.jobs import finish, stop_after
from tests.helpers.tiers import first_full, needs_ray
from tests.jobs.interp.test_processes import plan_of

interp = partial(calls.interpolate, factor=2, model="tiny", encoder="ffv1", threads=1)


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

    def make(machines=1, last="auto", **resources):
        cluster = Mock()
        cluster.is_initialized.return_value = False
        cluster.exceptions.RayError = MissingTokenError
        # Ray keeps the address of the cluster that was started last.
        found = cluster._private.services.get_ray_address_from_environment
        found.return_value = last
        cluster.nodes.return_value = [{"Alive": True, "Resources": resources}] * machines
        monkeypatch.setitem(sys.modules, "ray", cluster)
        monkeypatch.setattr(pool, "find_spec", Mock())
        return cluster

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
    said = f"no Ray {re.escape(address)} that takes this machine .*ray start --head"
    with (
        pytest.raises(DeviceError, match=said),
        started(WorkerConfig("ray", 1, 1, address)),
    ):
        pass


def test_the_ray_of_another_program_is_not_joined(stand_in):
    """Ray finds it by the list of processes, also that of `--workers local:2`."""
    ray = stand_in()
    found = ray._private.services.get_ray_address_from_environment
    with socket.create_server(("127.0.0.1", 0)) as private:
        address = f"127.0.0.1:{private.getsockname()[1]}"
        found.side_effect = lambda given, _: address if given == "auto" else None
        said = "no Ray here that takes this machine .'ray start' has started none"
        with pytest.raises(DeviceError, match=said), started(WorkerConfig("ray", 1)):
            pass
    assert not ray.init.called


def test_a_cluster_that_has_ended_without_a_word_is_an_error_at_once(stand_in):
    stand_in(last="127.0.0.1:1")
    said = r"no Ray here that takes this machine \(.*refused"
    with pytest.raises(DeviceError, match=said), started(WorkerConfig("ray", 1)):
        pass


class MissingTokenError(Exception):
    """A stand-in for Ray's AuthenticationError."""


@pytest.mark.parametrize(
    "error", [ConnectionError("404"), MissingTokenError("404"), RuntimeError("404.\nmore")]
)
@pytest.mark.parametrize("kind", ["ray", "local"])
def test_ray_that_refuses_is_an_error(stand_in, error, kind):
    ray = stand_in()
    ray.init.side_effect = error
    said = r"no Ray here that takes this machine \(404\): .*If the cluster has a token, set"
    with pytest.raises(DeviceError, match=said), started(WorkerConfig(kind, 2)):
        pass
    ray.shutdown.assert_called_once()


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
    config = WorkerConfig("ray", cores=4, device="cuda" if gpus else "cpu")
    with pytest.raises(DeviceError, match=said), started(config):
        pass
    cluster.shutdown.assert_called_once()


@pytest.mark.full
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


PARENT = """
import os
os.environ.pop("OMP_WAIT_POLICY", None)
from cloudconv.jobs.interp.pool import WorkerConfig
from cloudconv.jobs.interp.run import start
from tests.helpers.workers import Waits, numbered, rendered
for event in rendered(start(WorkerConfig("local", 2), Waits()), numbered(1)):
    print(os.getpid(), *event.content, flush=True)
    os.kill(os.getpid(), 9)
"""


@needs_ray
@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="asks whether a process exists")
def test_workers_have_their_environment_and_end_with_a_process_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    paths = [str(Path(__file__).parents[3]), os.environ["PYTHONPATH"]]
    options = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, script]
    run = subprocess.run(command, capture_output=True, env=options, text=True, check=False)
    parent, worker, policy = run.stdout.split()
    assert policy == "PASSIVE"
    assert is_gone(int(worker), 20)
    (logs,) = glob.glob(f"/tmp/cloudconv-ray-*/session_*_{parent}")
    shutil.rmtree(Path(logs).parent)


def is_gone(process, seconds):
    """Return whether a process ends in so many seconds."""
    latest = time.monotonic() + seconds
    while time.monotonic() < latest:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


TOKENS = """
from cloudconv.errors import DeviceError
from cloudconv.jobs.interp.pool import WorkerConfig
from cloudconv.jobs.interp.workers import started
import sys, time
began = time.monotonic()
try:
    with started(WorkerConfig("ray", 1, 1, sys.argv[1])):
        print("joined")
except DeviceError as error:
    print(error)
assert time.monotonic() - began < 15
"""


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_ray_start_made_takes_machines_with_its_token(tmp_path):
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
    assert "If the cluster has a token, set RAY_AUTH_MODE=token" in said[2]


@needs_ray
@pytest.mark.skipif(sys.platform != "linux", reason="asks for a group")
@pytest.mark.parametrize("number", first_full([signal.SIGINT, signal.SIGTERM]))
def test_a_signal_keeps_finished_segments_and_leaves_no_process_or_folder(
    clip, tmp_path, number
):
    command = [sys.executable, "-m", "cloudconv", "interp", clip, "-o", tmp_path / "b.mkv"]
    command += ["--factor", "40", "--model", "tiny", "--workers", "local:2", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A terminal sends Ctrl-C to all processes of its group.
    with subprocess.Popen(command, **pipes, start_new_session=True) as running:
        work = tmp_path / "b.mkv.work"
        while running.poll() is None and not any(work.glob("*.packets")):
            time.sleep(0.1)
        if number == signal.SIGINT:
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        printed, errors = running.communicate()
    assert running.returncode == 130, errors
    assert "carries on" in errors
    assert "Traceback" not in errors
    assert json.loads(printed)["exit_code"] == 130
    assert os.listdir(tmp_path) == ["b.mkv.work"]
    assert all(file.suffix != ".part" for file in work.iterdir())
    # Ray names its folder by the process; other tests have theirs.
    assert not glob.glob(f"/tmp/cloudconv-ray-*/session_*_{running.pid}")
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


@pytest.mark.slow
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
