"""Trials of a finer scale on filmed frames, and the warnings that follow."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cloudconv.jobs.interp import scale
from cloudconv.jobs.interp.plan import decide
from cloudconv.media.color import rgb_of
from cloudconv.media.read.probe import probe
from cloudconv.media.read.source import Source
from cloudconv.models import registry
from cloudconv.settings import InterpSettings
from tests.helpers import factory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_clip(tmp_path_factory.mktemp("scale") / "clip.mkv", 8)


def warned(settings: InterpSettings, *, dry_run: bool = False) -> list[str]:
    return [str(each) for each in scale.scale_warnings(decide(settings), dry_run=dry_run)]


def test_trials_compare_two_scales_on_filmed_frames(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Source(clip) as source:
        filmed = [rgb_of(frame, CPU) for frame in source.frames()]

    def interpolate(before: Tensor, after: Tensor, timestep: float, *, scale: float) -> Tensor:
        assert timestep == 0.5
        (number,) = [k for k, each in enumerate(filmed) if torch.equal(each, before)]
        assert torch.equal(filmed[number + 2], after)
        return filmed[number + 1] + (8 if scale == 1 else 4) / 255

    network = SimpleNamespace(interpolate=interpolate)
    monkeypatch.setattr(registry, "load", lambda *_: network)
    gain = scale.try_scales(probe(clip), "a model", CPU, torch.float32)
    assert gain == pytest.approx(20 * math.log10(2), abs=0.6)  # half the error; 8 bits


def test_a_clip_of_two_frames_has_no_trial(tmp_path: Path) -> None:
    short = factory.write_clip(tmp_path / "short.mkv", 2)
    assert scale.try_scales(probe(short), "cloud-best", CPU, torch.float32) is None


@pytest.mark.parametrize("given", [0.5, 1.0])
def test_a_scale_that_is_given_stays(
    clip: Path, monkeypatch: pytest.MonkeyPatch, given: float
) -> None:
    monkeypatch.setattr(scale, "try_scales", lambda *_: 9.0)
    settings = InterpSettings(input=clip, factor=2, model=registry.DEFAULT, scale=given)
    assert decide(settings).settings.given_scale == given
    assert warned(settings, dry_run=True) == []


@pytest.mark.parametrize("model", [registry.DEFAULT, "cloud-turbo"])
def test_a_dry_run_names_a_better_scale(
    clip: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(scale, "try_scales", lambda _, tried, *__: 0.5 if tried == model else None)
    settings = InterpSettings(input=clip, factor=2, model=model)
    assert warned(settings) == []
    (note,) = warned(settings, dry_run=True)
    assert f"{model} was 0.5 dB better at scale 2" in note


def test_a_scale_is_tried_on_frames_of_standard_input(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "try_scales", lambda *_: 0.5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))
    settings = InterpSettings("-", tmp_path / "b.mkv", factor=2, model=registry.DEFAULT)
    (note,) = warned(settings, dry_run=True)
    assert "0.5 dB better at scale 2" in note


@pytest.mark.parametrize(("factor", "hint"), [(2, False), (1000, True)])
def test_a_run_names_a_better_scale_if_trials_are_a_small_part_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int, hint: bool
) -> None:
    monkeypatch.setattr(scale, "try_scales", lambda *_: 0.5)
    clip = factory.write_clip(tmp_path / "clip.mkv", 3, size=(320, 192))
    notes = warned(InterpSettings(input=clip, factor=factor, model=registry.DEFAULT))
    assert ["better at scale 2" in note for note in notes] == [True] * hint
