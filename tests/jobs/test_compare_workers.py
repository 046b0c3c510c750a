"""Scores are the same whether one process or several compute them."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import cloudconv
from cloudconv.cli.app import app
from cloudconv.errors import CloudconvError, InputError, SettingsError
from cloudconv.events import Progress, TaskEvent
from cloudconv.jobs.compare import work as compare_work
from cloudconv.jobs.compare.plan import decide
from cloudconv.jobs.compare.results import MINTERPOLATE
from cloudconv.jobs.compare.run import CompareResult, CompareSettings
from cloudconv.jobs.compare.samples import ClipFrame, Sample
from cloudconv.jobs.compare.work import ScoreTask, ScoreWork, chunked, decoded
from cloudconv.media.read.decode import DecoderCache
from cloudconv.media.read.probe import probe
from cloudconv.workers.events import Tasks
from tests.helpers import calls
from tests.helpers.factory import picture, read_planes, read_times, write_clip
from tests.helpers.jobs import on
from tests.helpers.system import kill_this_process

QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a clip of three scenes with B-frames and long groups of pictures."""
    shown = [picture(k, scene=k // 33 * 3, step=1) for k in range(99)]
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return write_clip(path, shown, codec="libx264", options={"bf": "3", "g": "40"})


def compare(clip: Path, **options: Any) -> CompareResult:
    return calls.compare(clip, **{**QUICK, **options})


def without_times(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        name: without_times(value) if isinstance(value, dict) else value
        for name, value in scores.items()
        if name != "seconds_per_frame"
    }


def assert_same(found: CompareResult, expected: CompareResult) -> None:
    one, other = asdict(found), asdict(expected)
    for each in (one, other):
        assert each.pop("wall_seconds") > 0
        each["methods"] = without_times(each["methods"])
    assert one == other


@pytest.mark.parametrize(
    "options",
    [
        {"drop": 3, "model": ("tiny",), "against": ("hold",)},
        pytest.param(
            {"model": ("tiny",), "metrics": ("xpsnr", "psnr", "flicker", "ms_ssim"), "frames": 15},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"horizon": 3, "every": 8, "model": ("linear",), "against": ("hold",)},
            marks=pytest.mark.full,
        ),
    ],
    ids=["drop", "in order", "horizon"],
)
def test_two_processes_give_the_same_scores(clip: Path, options: dict[str, Any]) -> None:
    seen: list[tuple[int, int]] = []
    note = on("scoring", lambda at: seen.append((at.done, at.total or 0)))
    shared = compare(clip, workers="local:2", watch=note, **options)
    alone = compare(clip, **options)
    assert_same(shared, alone)
    assert alone.cuts
    for scores in shared.methods.values():
        by_step = [scores] if "seconds_per_frame" in scores else list(scores.values())
        assert all(step["seconds_per_frame"] >= 0 for step in by_step)
    assert seen == sorted(seen)
    assert seen[-1] == (99, 99)


@pytest.mark.slow
def test_two_processes_write_the_same_report(clip: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": ("tiny",), "against": (MINTERPOLATE, "hold"), "frames": 16}
    compare(clip, report=tmp_path / "alone", **options)
    compare(clip, report=tmp_path / "shared", workers="local:2", **options)
    tables = [(tmp_path / name / "frames.csv").read_text() for name in ("alone", "shared")]
    assert tables[0] == tables[1]
    videos = [tmp_path / name / "side_by_side.mp4" for name in ("alone", "shared")]
    assert read_times(videos[0]) == read_times(videos[1])
    # The output of libx264 is not reproducible, so the pictures may differ a little.
    pairs = zip(read_planes(videos[0]), read_planes(videos[1]), strict=True)
    away = [np.abs(a[0].astype(int) - b[0].astype(int)).mean() for a, b in pairs]
    assert max(away) < 1
    pages = [(tmp_path / name / "index.html").read_text() for name in ("alone", "shared")]
    pictures = [[part for part in page.split('"') if part.startswith("data:")] for page in pages]
    assert pictures[0]
    assert pictures[0] == pictures[1]


def test_an_error_of_a_worker_is_one_sentence(clip: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"no weights")
    with pytest.raises(CloudconvError, match=r"w\.safetensors"):
        compare(clip, model=(str(weights),), workers="local:1")


def test_the_option_workers_reaches_the_job(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[CompareSettings] = []

    def remember(settings: CompareSettings, *_: object) -> None:
        options.append(settings)
        raise InputError("no-file: There is no file enough.")

    monkeypatch.setattr("cloudconv.jobs.compare.run.run", remember)
    run = CliRunner().invoke(app, ["compare", str(clip), "--workers", "local:3"])
    assert (run.exit_code, options[0].workers) == (1, "local:3")
    assert CliRunner().invoke(app, ["compare", str(clip), "--workers", "me"]).exit_code == 2
    with pytest.raises(SettingsError):
        compare(clip, workers="local:2", device="cuda:all")


def sample(numbers: Sequence[int], times: Sequence[F], *, scored: bool) -> Sample:
    middle = tuple(range(1, len(numbers) - 1)) if scored else ()
    items = tuple(ClipFrame(n, time, time) for n, time in zip(numbers, times, strict=True))
    return Sample(items, middle, numbers[-1] + 1)


samples_of = st.lists(st.booleans(), max_size=120).map(
    lambda scored: [
        sample(range(2 * k, 2 * k + 3), [F(2 * k + each) for each in range(3)], scored=yes)
        for k, yes in enumerate(scored)
    ]
)


@given(samples_of, st.booleans())
def test_chunks_contain_each_sample_once_in_order(samples: list[Sample], in_order: bool) -> None:
    chunks = list(chunked(samples, in_order=in_order))
    assert [each for chunk in chunks for each in chunk] == samples
    assert all(chunks)
    if in_order:
        assert not any(chunk[-1].scored for chunk in chunks[:-1])


def test_a_chunk_at_any_position_decodes_its_frames(clip: Path) -> None:
    info = probe(clip)
    planes = read_planes(clip)
    times = read_times(clip)
    cache = DecoderCache()
    for first in (0, 58, 80):
        chunk = [
            sample(range(k, k + 3), times[k : k + 3], scored=k != first + 4)
            for k in range(first, first + 10, 2)
        ]
        whole = list(decoded(chunk, info, 1, cache))
        assert len(whole) == len(chunk)
        for each in whole:
            assert bool(each.frames) == bool(each.scored)
            for number, frame in enumerate(each.frames):
                for a, b in zip(frame.planes(), planes[each.items[number].number], strict=True):
                    np.testing.assert_array_equal(a.numpy(), b)


class DiesOnce(ScoreWork):
    """Work whose process dies once, after some samples of a chunk are reported."""

    def __call__(self, tasks: Tasks[ScoreTask]) -> Generator[TaskEvent[ScoreTask], None, None]:
        marker = Path(os.environ["CLOUDCONV_TEST_DIED"])
        for number, event in enumerate(super().__call__(tasks)):
            yield event
            if number == 6 and not marker.exists():
                marker.touch()
                kill_this_process()


@pytest.mark.full
def test_samples_that_are_scored_twice_count_once(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDCONV_TEST_DIED", str(tmp_path / "died"))
    monkeypatch.setattr(compare_work, "ScoreWork", DiesOnce)
    options: dict[str, Any] = {"drop": 3, "model": ("hold",), "against": (MINTERPOLATE,)}
    shared = compare(clip, workers="local:2", **options)
    assert (tmp_path / "died").exists()
    assert_same(shared, compare(clip, **options))


def test_a_task_uses_the_files_of_its_machine(clip: Path) -> None:
    plan = decide(CompareSettings(input=clip, model=("tiny",), **QUICK))
    work = ScoreWork(plan, 1)
    models = {"tiny": "tiny", "own": "w.safetensors"}
    task = ScoreTask((), probe(clip), models)
    assert work.files(task) == (clip, Path("w.safetensors"))
    moved = work.moved(task, {clip: Path("/there/a.mp4"), Path("w.safetensors"): Path("/there/w")})
    assert moved.info.path == Path("/there/a.mp4")
    assert moved.models == {"tiny": "tiny", "own": "/there/w"}


@pytest.mark.full
def test_interrupted_workers_leave_no_temporary_files(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # used by the new processes
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = CompareSettings(clip, **QUICK, model="blend", metrics="vmaf", workers="local:1")
    with closing(cloudconv.run(settings)) as events:
        next(event for event in events if isinstance(event, Progress))
        assert list(tmp_path.rglob("vmaf.json")) or list(tmp_path.rglob("errors.txt"))
    assert os.listdir(tmp_path) == []
