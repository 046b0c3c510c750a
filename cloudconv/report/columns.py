"""Define the name, the better direction and the format of each score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

from cloudconv.messages import counted

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Column:
    """One metric as a column of a table."""

    key: str
    label: str
    unit: str
    digits: int
    higher_is_better: bool
    meaning: str
    signed: bool = False
    """True if 0 is the best score."""

    @property
    def better(self) -> str:
        """Return a word for the better direction."""
        return "nearer 0" if self.signed else "higher" if self.higher_is_better else "lower"

    def text(self, score: float | None) -> str:
        """Return the formatted score; a dash if there is none."""
        return "-" if score is None or not isfinite(score) else f"{score:.{self.digits}f}"

    def best(self, scores: Iterable[float | None]) -> str | None:
        """Return the best of the formatted scores; None if there is none, or if all are equal."""
        numbers = [score for score in scores if score is not None and isfinite(score)]
        if len({self.text(score) for score in numbers}) < 2:
            return None
        if self.signed:
            return self.text(min(numbers, key=abs))
        return self.text(max(numbers) if self.higher_is_better else min(numbers))


COLUMNS: dict[str, Column] = {
    column.key: column
    for column in (
        Column("psnr", "PSNR", "dB", 2, True, "10 log10(1 / mean squared error); perfect is 100"),
        Column(
            "ssim",
            "SSIM",
            "",
            4,
            True,
            "similarity of structure of luma (Wang 2004): Gaussian window of 11 pixels, sigma 1.5",
        ),
        Column("xpsnr", "XPSNR", "dB", 2, True, "PSNR weighted by how visible the errors are"),
        Column("vmaf", "VMAF", "", 2, True, "Netflix's estimate of visible quality, 0 to 100"),
        Column("l2", "L2", "", 6, False, "mean squared error of channels in 0 to 1"),
        Column("gdl", "GDL", "", 5, False, "difference of the edges (Mathieu 2015, alpha 1)"),
        Column("sharpness", "Sharpness", "dB", 2, True, "similarity of the edges (Mathieu 2015)"),
        Column(
            "texture",
            "Texture",
            "dB",
            2,
            True,
            "amount of the finest detail relative to the kept neighbours; below 0 is softer",
            signed=True,
        ),
        Column("fault", "Fault", "", 3, False, "how wrong the frame looks where it moves"),
        Column(
            "flicker",
            "Flicker",
            "",
            5,
            False,
            "error of the change in mean brightness from frame to frame",
        ),
    )
}
"""All scores of ``compare``, in the order of its tables."""

CURVES = ("psnr", "ssim", "texture")
"""The scores of each frame; the first two are always computed."""


def marked(
    columns: Mapping[Key, Column], methods: Mapping[str, Mapping[Key, float | None]]
) -> dict[str, list[tuple[str, bool]]]:
    """Return the scores of each method as text, and whether each is the best of its column."""
    best = {
        key: column.best(scores.get(key) for scores in methods.values())
        for key, column in columns.items()
    }
    return {
        name: [
            (text := column.text(scores.get(key)), text == best[key])
            for key, column in columns.items()
        ]
        for name, scores in methods.items()
    }


def frame_time(seconds: float | None) -> str:
    """Return the time for a frame as text; a dash if there is none."""
    if seconds is None:
        return "-"
    if seconds < 0.0005:
        return "under 1 ms"
    return f"{seconds * 1000:.4g} ms" if seconds < 1 else f"{seconds:.2f} s"


def frames_ahead(step: int) -> str:
    """Return a horizon in words."""
    return f"{counted(step, 'frame')} ahead"
