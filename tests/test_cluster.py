"""The same frames from a Ray cluster; what needs Ray itself is skipped where it is missing."""

from __future__ import annotations

import importlib
import os
import re
import signal
from collections.abc import Iterator
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudconv
from cloudconv.engine.cluster import Cluster, _check_address
from cloudconv.errors import CloudconvError, DeviceError, InputError, Interrupted
from cloudconv.jobs import batch, clustering
from cloudconv.jobs.clustering import Errand, Parcel, errand_of, forget_input, make_parcel
from cloudconv.jobs.interp import InterpResult, InterpSettings
from cloudconv.jobs.making import Recipe
from cloudconv.media.packets import read_times as packet_times
from cloudconv.media.probe import probe
from cloudconv.media.sink import EncodeSettings
from cloudconv.segments import PlannedFrame, Segment
from tests.crew import numbered
from tests.factory import picture, read_planes, read_times, write_clip

LOSSLESS = EncodeSettings(encoder="ffv1")


def interp(clip: Path, out: Path, **settings: Any) -> Any:
    return cloudconv.interpolate(
        clip, out, **{"factor": 2, "model": "tiny", "encode": LOSSLESS, "threads": 1, **settings}
    )


def test_without_ray_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    clip = write_clip(tmp_path / "a.mkv", 4)
    with pytest.raises(DeviceError, match=r"pip install 'cloudconv\[cluster\]'"):
        interp(clip, tmp_path / "b.mkv", workers="ray")
    assert os.listdir(tmp_path) == ["a.mkv"]


@pytest.fixture
def errand(tmp_path: Path) -> Errand:
    clip = write_clip(tmp_path / "a.mkv", 10, rate=25)
    info = probe(clip)
    folder = tmp_path / "b.mkv.work"
    recipe = Recipe(
        info=info,
        output=tmp_path / "b.mkv",
        folder=folder,
        rate=F(50),
        time_base=F(1, 50),
        offset=F(0),
        encode=LOSSLESS,
        model="tiny",
        device="cpu",
        precision="fp32",
        scale=1.0,
        fallback=False,
        batch=2,
        tile=None,
        lanes=1,
        threads=1,
        deinterlace=False,
    )
    folder.mkdir()
    (folder / "plan.json").write_text("a plan")
    return errand_of(recipe)


def segment_of(frames: int) -> Segment:
    made = []
    for k in range(frames):
        left, right = F(k // 2, 25), None if k % 2 == 0 else F(k // 2 + 1, 25)
        made.append(PlannedFrame(left, right, F(k % 2, 2), F(k, 50), F(1, 50)))
    return Segment(3, tuple(made))


def test_a_machine_that_sees_both_files_works_on_them(errand: Errand) -> None:
    parcel = make_parcel(segment_of(6), errand, [])
    assert parcel.data == b""
    assert parcel.summary is not None
    assert parcel.summary.packets == 6
    assert sorted(packet_times(errand.recipe.folder / parcel.name)) == list(range(6))


def test_a_machine_without_the_folder_sends_the_packets(errand: Errand, tmp_path: Path) -> None:
    near = make_parcel(segment_of(6), errand, [])
    (errand.recipe.folder / "plan.json").write_text("the plan of another job")
    far = make_parcel(segment_of(6), errand, [])
    assert (far.name, far.summary) == ("", near.summary)
    assert far.data == (errand.recipe.folder / near.name).read_bytes()


def test_a_machine_without_the_input_asks_for_it(
    errand: Errand, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = make_parcel(segment_of(6), errand, [])
    pieces = list(clustering._pieces(errand.recipe.info.path))
    errand.recipe.info.path.write_bytes(b"another file of that name")
    assert make_parcel(segment_of(6), errand, []) == Parcel(None)
    monkeypatch.setattr(clustering, "fetch", lambda piece: piece)
    try:
        far = make_parcel(segment_of(6), errand, pieces)
        copy = clustering._home(errand.input.token) / "a.mkv"
        assert copy.stat().st_size == errand.input.size
        assert far.summary == near.summary
    finally:
        forget_input(errand.input.token)
    assert not copy.exists()


def test_pictures_cannot_be_sent(tmp_path: Path) -> None:
    for k in range(4):
        write_clip(tmp_path / f"{k}.png", [picture(k, pix_fmt="rgb24")], codec="png")
    with pytest.raises(InputError, match="no single file"):
        interp(tmp_path / "%d.png", tmp_path / "b.mkv", workers="ray")


def assert_same(found: Path, expected: Path) -> None:
    assert read_times(found) == read_times(expected)
    for a, b in zip(read_planes(found), read_planes(expected), strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of five scenes, and ``whole.mkv``, what this process makes of it."""
    pictures = [picture(k, scene=k // 40) for k in range(200)]
    path = write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", pictures, codec="libx264")
    interp(path, path.with_name("whole.mkv"))
    return path


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster(address: str) -> None:
    with pytest.raises(DeviceError, match=f"no Ray cluster at {re.escape(address)}"):
        _check_address(address)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A real cluster on this machine: two workers of one core each."""
    module = pytest.importorskip("ray")
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_a_cluster_makes_the_same_frames_and_carries_on(clip: Path, tmp_path: Path) -> None:
    result = interp(clip, tmp_path / "b.mkv", workers="ray")
    assert (result.resumed, result.output_frames) == (False, 400)
    assert_same(tmp_path / "b.mkv", clip.with_name("whole.mkv"))

    def stop(progress: Any) -> None:
        if progress.frames_done > 150:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "c.mkv", workers="ray", on_progress=stop)
    assert interp(clip, tmp_path / "c.mkv").resumed
    assert_same(tmp_path / "c.mkv", clip.with_name("whole.mkv"))
    assert sorted(os.listdir(tmp_path)) == ["b.mkv", "c.mkv"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_a_cluster_makes_many_films_and_compares(clip: Path, tmp_path: Path) -> None:
    short = write_clip(tmp_path / "b.mkv", 6, size=(64, 48))
    broken = tmp_path / "c.mkv"
    broken.write_bytes(b"no video")
    asked: dict[str, Any] = {"model": "tiny", "encode": LOSSLESS, "threads": 1, "workers": "ray"}
    common = InterpSettings(input=clip, factor=F(2), **asked)
    every = batch.each_input(common, [str(clip), str(broken), str(short)], tmp_path / "made")
    came: dict[int, batch.Outcome] = {}
    batch.run(every, came.__setitem__)
    assert [type(came[k]) for k in range(3)] == [InterpResult, InputError, InterpResult]
    interp(clip, tmp_path / "alone.mp4")
    assert_same(tmp_path / "made" / "a_x2.mp4", tmp_path / "alone.mp4")
    assert len(read_times(tmp_path / "made" / "b_x2.mkv")) == 12

    scored: dict[str, Any] = {"models": ("tiny",), "frames": 12, "device": "cpu", "threads": 1}
    shared = cloudconv.compare(clip, workers="ray", **scored)
    alone = cloudconv.compare(clip, **scored)
    assert shared.per_frame == alone.per_frame
    assert shared.verdict == alone.verdict


class Client:
    """Takes down what becomes of the segments."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.found: dict[int, int] = {}
        self.errors: list[CloudconvError] = []

    def arguments(self, piece: Segment) -> tuple[Any, ...]:
        return piece, self.marker

    def done(self, piece: Segment, result: int) -> bool:
        self.found[piece.number] = result
        return True

    def failed(self, piece: Segment, error: CloudconvError) -> None:
        self.errors.append(error)


def die_once(segment: Segment, marker: str) -> int:
    if segment.number == 2 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return segment.number * 10


def fail(segment: Segment, _: str) -> int:
    raise InputError("this cannot be read")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("ray")
def test_the_segment_of_a_lost_worker_is_made_again(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    with Cluster(None, cores=1, gpus=0) as cluster:
        client = Client(str(marker))
        cluster.share(die_once, numbered(6), client)
        assert client.found == {number: number * 10 for number in range(6)}
        assert marker.exists()
        cluster.share(fail, numbered(3), client)
        assert [str(error) for error in client.errors] == ["this cannot be read"] * 3
