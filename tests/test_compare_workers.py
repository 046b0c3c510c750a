"""Whoever examines a clip, the scores are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from cloudconv.jobs import compare_sharing
from cloudconv.jobs.compare import CompareResult, CompareSettings
from cloudconv.jobs.compare_settings import MINTERPOLATE
from cloudconv.jobs.compare_sharing import examine_stretch
from cloudconv.jobs.examining import Found, Pictured, Place, Stretch, decoded, stretches
from cloudconv.media.probe import probe
from tests.factory import picture, read_planes, read_times, write_clip

QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes with B-frames and long groups of pictures."""
    shown = [picture(k, scene=k // 33 * 3, step=1) for k in range(99)]
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return write_clip(path, shown, codec="libx264", options={"bf": "3", "g": "40"})


def compare(clip: Path, **asked: Any) -> CompareResult:
    return cloudconv.compare(clip, **{**QUICK, **asked})


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
    "asked",
    [
        {"drop": 3, "models": ("tiny",), "against": ("hold", MINTERPOLATE)},
        pytest.param(
            {"models": ("tiny",), "metrics": ("xpsnr", "psnr", "flicker", "ms_ssim"), "frames": 15},
            marks=pytest.mark.slow,
        ),
        {"horizon": 3, "every": 8, "models": ("linear",), "against": ("hold",)},
    ],
    ids=["drop", "in order", "horizon"],
)
def test_two_processes_find_the_same(clip: Path, asked: dict[str, Any]) -> None:
    seen: list[tuple[int, int]] = []
    shared = compare(clip, workers="local:2", on_progress=lambda *at: seen.append(at), **asked)
    alone = compare(clip, **asked)
    assert_same(shared, alone)
    assert alone.cuts
    for scores in shared.methods.values():
        by_step = [scores] if "seconds_per_frame" in scores else list(scores.values())
        assert all(step["seconds_per_frame"] >= 0 for step in by_step)
    assert seen == sorted(seen)
    assert seen[-1] == (99, 99)


@pytest.mark.slow
def test_a_report_is_the_same(clip: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"models": ("tiny",), "against": (MINTERPOLATE, "hold"), "frames": 16}
    compare(clip, report=tmp_path / "alone", **asked)
    compare(clip, report=tmp_path / "shared", workers="local:2", **asked)
    tables = [(tmp_path / name / "frames.csv").read_text() for name in ("alone", "shared")]
    assert tables[0] == tables[1]
    films = [tmp_path / name / "side_by_side.mp4" for name in ("alone", "shared")]
    assert read_times(films[0]) == read_times(films[1])
    # libx264 itself does not repeat, so the pictures may differ a little.
    pairs = zip(read_planes(films[0]), read_planes(films[1]), strict=True)
    away = [np.abs(a[0].astype(int) - b[0].astype(int)).mean() for a, b in pairs]
    assert max(away) < 1
    pages = [(tmp_path / name / "index.html").read_text() for name in ("alone", "shared")]
    pictures = [[part for part in page.split('"') if part.startswith("data:")] for page in pages]
    assert pictures[0]
    assert pictures[0] == pictures[1]


def test_what_a_worker_cannot_do_is_one_sentence(clip: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"no weights")
    with pytest.raises(CloudconvError, match=r"w\.safetensors"):
        compare(clip, models=(str(weights),), workers="local:1")


def test_the_option(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CompareSettings] = []

    def remember(settings: CompareSettings, *_: object) -> None:
        asked.append(settings)
        raise InputError("enough")

    monkeypatch.setattr("cloudconv.jobs.compare.run", remember)
    run = CliRunner().invoke(app, ["compare", str(clip), "--workers", "local:3"])
    assert (run.exit_code, asked[0].workers) == (1, "local:3")
    assert CliRunner().invoke(app, ["compare", str(clip), "--workers", "me"]).exit_code == 2
    with pytest.raises(SettingsError):
        CompareSettings(input=clip, workers="local:2", device="cuda:all")


places_of = st.lists(st.booleans(), max_size=120).map(
    lambda scored: [
        Place(2 * k, (F(2 * k), F(2 * k + 1), F(2 * k + 2)), (1,) if yes else (), 2 * k + 3)
        for k, yes in enumerate(scored)
    ]
)


@given(places_of, st.booleans())
def test_stretches_are_the_clip(places: list[Place], in_order: bool) -> None:
    found = list(stretches(places, in_order=in_order))
    assert [place for stretch in found for place in stretch.places] == places
    assert [stretch.number for stretch in found] == list(range(len(found)))
    for stretch in found:
        assert stretch.places
        if in_order and stretch.number:
            assert not stretch.places[0].scored


def test_a_stretch_finds_its_frames_anywhere(clip: Path) -> None:
    info = probe(clip)
    planes = read_planes(clip)
    times = read_times(clip)
    for first in (0, 58, 80):
        places = tuple(
            Place(k, tuple(times[k : k + 3]), () if k == first + 4 else (1,), k + 3)
            for k in range(first, first + 10, 2)
        )
        for place in decoded(Stretch(0, places), info, 1):
            assert bool(place.frames) == bool(place.scored)
            for number, frame in enumerate(place.frames):
                for a, b in zip(frame.planes(), planes[place.index + number], strict=True):
                    np.testing.assert_array_equal(a.numpy(), b)


class Desk(compare_sharing._Desk):
    """One that takes down what it hands on."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        settings = CompareSettings(input="a.mp4", models=("tiny",))
        super().__init__(settings, None, self._note, print)  # type: ignore[arg-type]

    def _note(self, place: Place, found: Found) -> None:
        self.taken.append(place.index)


def test_what_is_examined_twice_counts_once_and_in_order() -> None:
    desk = Desk()
    places = [Place(k, (F(k),), (0,), k) for k in range(4)]
    given_out = [Stretch(0, tuple(places[:2])), Stretch(1, tuple(places[2:]))]
    ahead: Iterator[Stretch] = iter(given_out)
    assert list(desk.given(ahead)) == given_out
    nothing = Found().packed()
    for number, k in ((1, 0), (0, 0), (1, 1), (0, 0), (0, 1), (0, 2), (0, 1), (1, 0), (1, 2)):
        desk.told(0, (number, k, nothing))
    # -1 is where a stretch ends.
    assert desk.taken == [0, 1, -1, 2, 3, -1]
    assert not desk._found


def test_pictures_are_sent_without_loss() -> None:
    import torch

    rgb = torch.arange(256).repeat(3, 2, 1) / 255
    found = Found(
        {"a": [[("light", 0.1)]]}, {"a": [(0.5, 1)]}, [Pictured(F(1, 24), rgb, {"a": None}, 0)]
    )
    back = Found.unpacked(found.packed())
    assert (back.notes, back.seconds) == (found.notes, found.seconds)
    assert torch.equal(back.pictures[0].truth, rgb)


def test_a_machine_without_the_clip_asks_for_it(clip: Path) -> None:
    shared = compare_sharing.SharedInput.of(clip)
    info = probe(clip)
    settings = CompareSettings(input=clip, models=("tiny",), **QUICK)
    job = compare_sharing._Job(settings, info, {"tiny": "tiny"}, 1)
    times = read_times(clip)
    stretch = Stretch(0, (Place(0, tuple(times[:3]), (1,), 3),))
    result = examine_stretch(stretch, (shared, job), [])
    assert result is not None
    found = Found.unpacked(result[0][0])
    assert [name for name, _ in found.notes["tiny"][0]] == ["light", "made", "light"]
    assert len(result[0]) == 2
    elsewhere = compare_sharing.SharedInput(shared.token, shared.path, shared.size + 1, shared.ends)
    assert examine_stretch(stretch, (elsewhere, job), []) is None
    json.dumps(found.seconds)
