"""Several processes make the same frames as one process."""

import os
import re
from fractions import Fraction as F
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from cloudconv.errors import DeviceError, Interrupted, SettingsError, UnfitInputError
from cloudconv.jobs.interp import pool
from cloudconv.jobs.interp.plan import decide
from cloudconv.jobs.interp.pool import WorkerConfig, choose_workers
from cloudconv.jobs.interp.segments import RenderJob, SegmentPlan, decode
from cloudconv.jobs.interp.workers import Worker
from cloudconv.media.reading import pictures
from cloudconv.media.reading.source import Source
from cloudconv.render.memory import Sizes
from cloudconv.settings import InterpSettings
from cloudconv.timeline import Task
from tests.helpers import calls
from tests.helpers.factory import (
    assert_same_frames,
    picture,
    planes_of,
    read_planes,
    same,
    write_clip,
)
from tests.helpers.jobs import stop_after
from tests.helpers.tiers import first_full, needs_ray


def interp(clip, out, **settings):
    return calls.interpolate(
        clip,
        out,
        **{"factor": 2, "model": "tiny", "threads": 1, **calls.lossless(out), **settings},
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pictures = [picture(k, scene=k // 40) for k in range(110)]
    options = {"bf": "3", "g": "30"}
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return write_clip(path, pictures, rate=F(24000, 1001), codec="libx264", options=options)


@pytest.mark.full
@pytest.mark.usefixtures("ray")
def test_threads_batches_and_processes_change_no_sample(tmp_path):
    """This model's hidden layers are wide: ncnn computes them if it is installed."""
    pictures = [picture(k, 192, 128) for k in range(5)]
    clip = write_clip(tmp_path / "wide.mkv", pictures, rate=24)
    options = {"model": "cloud-turbo", "precision": "fp32", "factor": 3}
    interp(clip, tmp_path / "usual.mkv", **options)
    others = [
        {"threads": 2},
        {"threads": 5},
        {"batch": 3},
        {"workers": "local:2", "threads": 2},
    ]
    for number, other in enumerate(others):
        out = tmp_path / f"{number}.mkv"
        interp(clip, out, **options, **other)
        assert_same_frames(out, tmp_path / "usual.mkv")


PART = {"factor": None, "fps": 60, "loop": True, "start": "0.5", "end": 4, "refill": True}


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("settings", first_full([PART, {}]))
def test_two_processes_make_the_same_frames(clip, tmp_path, settings):
    out = tmp_path / "out"
    out.mkdir()
    alone = interp(clip, out / "alone.mkv", **settings)
    shared = interp(clip, out / "shared.mkv", workers="local:2", **settings)
    assert_same_frames(out / "shared.mkv", out / "alone.mkv")
    for name in (
        "source_frames",
        "output_frames",
        "new_frames",
        "held_frames",
        "cuts",
        "warnings",
    ):
        assert getattr(shared, name) == getattr(alone, name)
    assert sorted(os.listdir(out)) == ["alone.mkv", "shared.mkv"]


@pytest.mark.full
@pytest.mark.usefixtures("ray")
def test_one_process_resumes_the_work_of_several(clip, tmp_path):
    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "b.mkv", workers="local:2", watch=stop_after(151))
    assert interp(clip, tmp_path / "b.mkv").resumed
    interp(clip, tmp_path / "whole.mkv")
    assert_same_frames(tmp_path / "b.mkv", tmp_path / "whole.mkv")


@pytest.mark.parametrize(
    ("workers", "device", "config"),
    [
        ("local", "cpu", WorkerConfig()),
        ("local:1", "cpu", WorkerConfig()),
        ("local:256", "cpu", WorkerConfig("local", 256)),
        ("ray", "cpu", WorkerConfig("ray", cores=1)),
        ("ray:10.0.0.1:6379", "cuda",
         WorkerConfig("ray", cores=4, address="10.0.0.1:6379", device="cuda")),
    ],
)  # fmt: skip
def test_the_option_workers_is_parsed(workers, device, config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pool, "find_spec", Mock())
    assert choose_workers(workers, device)[0] == config


def test_threads_are_divided_among_workers():
    assert WorkerConfig().threads(None) is None
    assert WorkerConfig("local", 256).threads(None) == 1
    assert WorkerConfig("local", 3).threads(8) == 2
    assert [WorkerConfig("ray", cores=4).threads(requests) for requests in (None, 2)] == [
        4,
        2,
    ]


@pytest.mark.parametrize(
    ("workers", "device"),
    [*((name, "cpu") for name in ("locals", "local:0", "local:500", "local:x", "ray:")),
     ("local:2", "cuda:all"), ("ray", "cuda:all"), ("ray", "cuda:1")],
)  # fmt: skip
def test_impossible_workers_are_refused(workers, device):
    with pytest.raises(SettingsError):
        InterpSettings("a.mp4", factor=2, workers=workers, device=device)


def test_a_worker_of_one_device_uses_it_and_one_for_each_gpu_sees_only_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(pool, "choose_device", torch.device)
    config, *_ = choose_workers("local", "cuda:all")
    assert (config.kind, config.count, config.gpus) == ("local", 4, 1)
    assert config.used == torch.device("cuda")
    config, *_ = choose_workers("local:2", "cuda:1")
    assert (config.kind, config.count, config.gpus) == ("local", 2, 0)
    assert config.used == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config, *_ = choose_workers("local", "cuda:all")
    assert (config.kind, config.each_gpu) == ("inline", False)


@pytest.mark.parametrize(
    ("workers", "device"), [("local:3", "cpu"), ("ray", "cpu"), ("local", "cuda:all")]
)
def test_without_ray_one_sentence_says_what_to_install(
    clip, tmp_path, monkeypatch, workers, device
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(pool, "find_spec", lambda _: None)
    given = "device='cuda:all'" if workers == "local" else f"workers='{workers}'"
    said = rf"`{given}` needs Ray.*pip install \"cloudconv\[cluster\]\""
    with pytest.raises(DeviceError, match=said):
        interp(clip, tmp_path / "b.mkv", workers=workers, device=device)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "error", [MemoryError("none"), ImportError("torch.so: failed to map segment")]
)
def test_a_lack_of_memory_in_a_worker_is_the_end_of_its_job(error):
    (event,) = Worker(Mock(side_effect=error)).render(None, None)
    assert re.match(
        r"In a worker process there is not enough memory \(.*fewer", str(event.result)
    )
    with pytest.raises(RuntimeError):
        list(Worker(Mock(side_effect=RuntimeError("another"))).render(None, None))


@needs_ray
def test_an_output_that_cannot_be_joined_refuses_workers(clip, tmp_path):
    with pytest.raises(SettingsError, match="cannot be joined"):
        interp(clip, tmp_path / "b.gif", workers="local:2")


def plan_of(path, **options):
    """Return the plan to render a video, with default sizes, and what is ``options``."""
    settings = {"model": "tiny", "encoder": "ffv1", "threads": 1, "device": "cpu"}
    run = decide(InterpSettings(path, path.with_name("out.mkv"), factor=2, **settings))
    usual = {"sizes": Sizes(2), "nvdec": False, "folder": Path(), "token": ""}
    usual["engines"] = {}
    return RenderJob(run, run.encoding(run.probable_start), **usual | options)


def decoded(source, *pairs):
    """Return the tasks between these pairs of times with their decoded frames."""
    tasks = tuple(Task(a, b, F(1, 2), a, F(1, 48)) for a, b in pairs)
    return list(decode(SegmentPlan(0, tasks), source))


def test_workers_decode_as_the_planner_does(clip, monkeypatch):
    opened = Mock(side_effect=lambda *given, nvdec, **options: Source(*given, **options))
    monkeypatch.setattr("cloudconv.jobs.interp.segments.Source", opened)
    for nvdec in (False, True):
        assert len(decoded(plan_of(clip, nvdec=nvdec).source(), (F(0), None))) == 1
    assert [call.kwargs["nvdec"] for call in opened.mock_calls] == [None, 0]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mpg"])
def test_a_segment_at_any_position_decodes_its_frames(tmp_path, suffix):
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    path = write_clip(
        tmp_path / f"a{suffix}", 40, rate=25, codec=codec, options={"g": "12"}
    )
    source = plan_of(path).source()
    planes = read_planes(path)
    times = [source.info.timing.start + F(k, 25) for k in range(40)]
    for first in (0, 1, 11, 13, 38, 20):
        left, right = times[first], times[first + 1]
        one, other = decoded(source, (left, right), (left, times[0]))
        for frame, number in ((one.left, first), (one.right, first + 1), (other.right, 0)):
            assert same(planes_of(frame.picture), planes[number])


def test_segments_in_order_read_a_file_that_cannot_seek_once(tmp_path, monkeypatch):
    path = write_clip(
        tmp_path / "a.mpg", 40, rate=25, codec="mpeg2video", options={"g": "12"}
    )
    source = plan_of(path).source()
    planes = read_planes(path)
    begun = []
    reads = Source._decoded
    monkeypatch.setattr(
        Source, "_decoded", lambda *given: begun.append(given) or reads(*given)
    )
    times = [source.info.timing.start + F(k, 25) for k in range(40)]
    for first in (0, 1, 7, 8, 25, 38):
        (one,) = decoded(source, (times[first], times[first + 1]))
        for frame, number in ((one.left, first), (one.right, first + 1)):
            assert same(planes_of(frame.picture), planes[number])
    assert len(begun) == 1


@pytest.mark.full
def test_a_segment_of_a_folder_of_pictures_reads_its_own_pictures(tmp_path, monkeypatch):
    interp(write_clip(tmp_path / "a.mkv", 40), tmp_path / "p/%02d.png", model="hold")
    source = plan_of(tmp_path / "p").source()
    read = []
    decode_still = pictures._decode_still
    monkeypatch.setattr(
        pictures, "_decode_still", lambda f: read.append(f) or decode_still(f)
    )
    (one,) = decoded(source, (F(50, 25), F(51, 25)))
    assert (one.left.time, one.right.time) == (2, F(51, 25))
    assert [file.name for file in read] == ["51.png", "52.png", "53.png"][: len(read)]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_worker_notices_another_file_in_the_place_of_the_input(clip, tmp_path, renamed):
    path = tmp_path / "a.mp4"
    other = write_clip(tmp_path / "b.mp4", 9, rate=F(24000, 1001))
    path.write_bytes(clip.read_bytes())
    with plan_of(path).source() as source:
        assert len(decoded(source, (F(1001, 24000), None))) == 1
        if renamed:
            other.replace(path)
        else:
            path.write_bytes(other.read_bytes())
        with pytest.raises(UnfitInputError, match="was changed while it was read"):
            decoded(source, (F(30 * 1001, 24000), None))


# With a loop, the right frame of the last pair is the first frame.
@pytest.mark.parametrize(
    ("left", "right", "at"),
    [(F(3, 2), None, r"1\.500"), (F(1001, 1000), F(1, 100), r"0\.010")],
)
def test_a_missing_frame_is_an_error(clip, left, right, at):
    with pytest.raises(UnfitInputError, match=rf"no frame at {at} s any more"):
        decoded(plan_of(clip).source(), (left, right))
