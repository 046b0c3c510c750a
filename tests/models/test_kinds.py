"""Drawn kinds of clips: cloud-best against rife-4.6, the network that it started from."""

import sys
from functools import cache
from pathlib import Path

import pytest

from cloudconv.models import registry

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LEAST = -0.3
"""The least gain over ``rife-4.6``, in dB."""
MARKS = 0.9
"""The least gain of text that stands still over a moving picture, in dB."""


@pytest.fixture(scope="module")
def kinds():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import kinds
    finally:
        sys.path.remove(str(BENCHMARKS))
    return kinds


@pytest.mark.full
def test_no_drawn_kind_is_far_behind_rife(kinds, monkeypatch):
    monkeypatch.setattr(registry, "load", cache(registry.load))  # half of a second for each clip
    gains = {}
    for clip in kinds.KINDS:
        # Things enter and leave the screens and drawings; the other kinds are alike at all times.
        frames = 13 if clip.group in ("screen", "drawn") else 7
        own, rife = (kinds.score(clip, name, frames=frames) for name in ("cloud-best", "rife-4.6"))
        gains[clip.name] = own.psnr - rife.psnr
    assert {name: gain for name, gain in gains.items() if gain < LEAST} == {}
    assert min(gains["subtitles"], gains["subtitles-fast"]) > MARKS
