"""Whoever makes the segments, the frames are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from fractions import Fraction as F
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import cloudconv
from cloudconv.engine.local import share
from cloudconv.errors import CloudconvError, InputError, Interrupted, SettingsError
from cloudconv.jobs import sharing
from cloudconv.jobs.making import Piece, Recipe, decoded
from cloudconv.jobs.sharing import Crew, cores, crew_of, share_locally
from cloudconv.media.probe import probe
from cloudconv.media.sink import EncodeSettings
from cloudconv.media.source import Source
from cloudconv.segments import PlannedFrame, Segment
from tests.crew import Echo, Fails, numbered
from tests.factory import picture, read_planes, read_times, write_clip

LOSSLESS = EncodeSettings(encoder="ffv1")


def interp(clip: Path, out: Path, **settings: Any) -> Any:
    return cloudconv.interpolate(
        clip, out, **{"factor": 2, "model": "tiny", "encode": LOSSLESS, "threads": 1, **settings}
    )


def assert_same(found: Path, expected: Path) -> None:
    assert read_times(found) == read_times(expected)
    for a, b in zip(read_planes(found), read_planes(expected), strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [picture(k, scene=k // 40) for k in range(110)]
    options = {"bf": "3", "g": "30"}
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return write_clip(path, pictures, rate=F(24000, 1001), codec="libx264", options=options)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"factor": None, "fps": 60, "loop": True, "start": "0.5", "end": 4, "duplicates": "refill"},
    ],
)
def test_two_processes_make_the_same_frames(
    clip: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    alone = interp(clip, tmp_path / "alone.mkv", **settings)
    shared = interp(clip, tmp_path / "shared.mkv", workers="local:2", **settings)
    assert_same(tmp_path / "shared.mkv", tmp_path / "alone.mkv")
    for name in ("source_frames", "output_frames", "new_frames", "held_frames", "cuts", "warnings"):
        assert getattr(shared, name) == getattr(alone, name)
    assert sorted(os.listdir(tmp_path)) == ["alone.mkv", "shared.mkv"]


def test_one_engine_carries_on_where_another_stopped(clip: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        if progress.frames_done > 150:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "b.mkv", workers="local:2", on_progress=stop)
    assert interp(clip, tmp_path / "b.mkv").resumed
    interp(clip, tmp_path / "whole.mkv")
    assert_same(tmp_path / "b.mkv", tmp_path / "whole.mkv")


class Client:
    """Takes down what becomes of the segments."""

    def __init__(self) -> None:
        self.found: dict[int, int] = {}
        self.errors: dict[int, CloudconvError] = {}
        self.said: list[Any] = []

    def done(self, piece: Segment, result: int) -> None:
        assert piece.number not in self.found
        self.found[piece.number] = result

    def failed(self, piece: Segment, error: CloudconvError) -> None:
        self.errors[piece.number] = error

    def again(self, piece: Segment) -> bool:
        return True

    def told(self, number: int, message: Any) -> None:
        self.said.append(message)


def shared(works: list[Any], count: int) -> Client:
    client = Client()
    share(works, numbered(count), client)
    return client


def test_the_segments_of_a_process_that_dies_are_done_by_another(tmp_path: Path) -> None:
    client = shared([Echo(4, tmp_path / "died")] * 2, 12)
    assert client.found == {number: number * 10 for number in range(12)}
    assert client.said.count(None) == 1
    assert (tmp_path / "died").exists()


def test_a_segment_that_kills_every_process_is_given_up() -> None:
    client = shared([Echo(2)], 4)
    assert sorted(client.found) == [0, 1, 3]
    assert "died 3 times" in str(client.errors[2])


def test_a_segment_that_fails_does_not_stop_the_others() -> None:
    client = shared([Fails(2)] * 2, 6)
    assert sorted(client.found) == [0, 1, 3, 4, 5]
    assert str(client.errors[2]) == "this cannot be read"


def test_nothing_to_do_is_done_at_once() -> None:
    assert shared([Echo()], 0).found == {}


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys\n"
        "from cloudconv.engine.local import share\n"
        "from tests.crew import Waits, numbered\n"
        "if __name__ == '__main__':\n"
        "    class Client:\n"
        "        def told(self, number, pid):\n"
        "            os.write(1, b'%d' % pid)\n"
        "            os.kill(os.getpid(), 9)\n"
        "    share([Waits()], numbered(1), Client())\n"
    )
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, script], stdout=subprocess.PIPE, cwd=root, env=environment, check=False
    )
    child = int(run.stdout)
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the worker went on without its parent")


@pytest.mark.parametrize(
    ("workers", "device", "crew"),
    [
        ("local", "auto", Crew()),
        ("local:256", "cpu", Crew("local", 256)),
        ("ray", "auto", Crew("ray", cores=1)),
        ("ray:10.0.0.1:6379", "cuda", Crew("ray", cores=4, address="10.0.0.1:6379")),
    ],
)
def test_who_works(workers: str, device: str, crew: Crew) -> None:
    assert crew_of(workers, device) == crew


def test_threads_are_divided() -> None:
    assert Crew().threads(None) is None
    assert Crew("local", 256).threads(None) == 1
    assert Crew("local", 1).threads(None) == cores()
    assert Crew("local", 3).threads(8) == 2
    assert [Crew("ray", cores=4).threads(asked) for asked in (None, 2)] == [4, 2]


@pytest.mark.parametrize(
    ("workers", "device"),
    [
        ("locals", "cpu"),
        ("local:0", "cpu"),
        ("local:500", "cpu"),
        ("local:x", "cpu"),
        ("local:2", "cuda:all"),
        ("ray:", "cpu"),
        ("ray", "cuda:all"),
    ],
)
def test_who_cannot_work(workers: str, device: str) -> None:
    with pytest.raises(SettingsError):
        crew_of(workers, device)


def test_every_gpu_has_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    crew = crew_of("local", "cuda:all")
    assert (crew.kind, crew.count) == ("local", 4)
    given: list[Any] = []
    monkeypatch.setattr(sharing, "share", lambda works, *_: given.extend(works))
    share_locally(crew, "cuda:all", iter(()), Mock())
    assert [work.device for work in given] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]


def test_what_is_made_in_one_go_has_no_workers(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="in one go"):
        interp(clip, tmp_path / "b.gif", workers="local:2", encode=EncodeSettings())


def recipe_of(info: Any, **changes: Any) -> Recipe:
    """One that says what to decode, and nothing else."""
    names = {field.name: None for field in fields(Recipe)}
    return Recipe(**{**names, "info": info, "threads": 1, "deinterlace": False, **changes})  # type: ignore[arg-type]


def segment_of(lefts: list[F], rights: list[F | None]) -> Segment:
    pairs = zip(lefts, rights, strict=True)
    return Segment(0, tuple(PlannedFrame(a, b, F(1, 2), a, F(1, 48)) for a, b in pairs))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mpg"])
def test_a_segment_finds_its_frames_anywhere(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    path = write_clip(tmp_path / f"a{suffix}", 40, rate=25, codec=codec, options={"g": "12"})
    info = probe(path)
    recipe = recipe_of(info)
    times = [info.timing.start + F(k, 25) for k in range(40)]
    planes = read_planes(path)
    for first in (0, 1, 11, 13, 38):
        segment = segment_of([times[first], times[first]], [times[first + 1], times[0]])
        _, one, other, end = decoded([Piece(recipe, segment)])
        assert end is segment
        for frame, number in ((one.left, first), (one.right, first + 1), (other.right, 0)):
            for a, b in zip(frame.planes(), planes[number], strict=True):
                np.testing.assert_array_equal(a.numpy(), b)


def test_fields_are_made_whole_alike_anywhere(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", 40, rate=25, codec="libx264", options={"g": "10"})
    recipe = recipe_of(probe(path), deinterlace=True)
    whole = list(Source(path, deinterlace=True).frames())
    for first in (10, 15):
        segment = segment_of([F(first, 25)], [F(first + 1, 25)])
        _, one, _ = decoded([Piece(recipe, segment)])
        assert one.left.same_picture(whole[first])
        assert one.right.same_picture(whole[first + 1])


def test_a_frame_that_is_gone_is_said(clip: Path) -> None:
    with pytest.raises(InputError, match=r"no frame at 1\.500 s any more"):
        list(decoded([Piece(recipe_of(probe(clip)), segment_of([F(3, 2)], [None]))]))
