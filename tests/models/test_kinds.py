"""Drawn kinds of clips: cloud-best against rife-4.6, the network that it started from."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LEAST = -0.3
"""The least gain over ``rife-4.6``, in dB."""
KNOWN = {"crossing-20": -0.6, "chart": -0.7, "scroll": -0.5, "snow": -2.1}
"""The kinds that lose more, with the least gain that they had; remove a kind that loses less."""
MARKS = 0.9
"""The least gain of text that stands still over a moving picture, in dB."""


@pytest.fixture(scope="module")
def kinds() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import kinds
    finally:
        sys.path.remove(str(BENCHMARKS))
    return kinds


@pytest.mark.full
def test_no_drawn_kind_is_far_behind_rife(kinds: ModuleType) -> None:
    gains = {}
    for clip in kinds.KINDS:
        own, rife = (kinds.score(clip, name, frames=13) for name in ("cloud-best", "rife-4.6"))
        gains[clip.name] = own.psnr - rife.psnr
    behind = {name: gain for name, gain in gains.items() if gain < KNOWN.get(name, LEAST)}
    assert behind == {}
    assert min(gains["subtitles"], gains["subtitles-fast"]) > MARKS
