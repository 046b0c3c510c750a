"""Define the contents of reports, and the name, better direction and format of scores."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import isfinite
from typing import Any, TypeVar

from cloudconv.messages import counted

Key = TypeVar("Key")


_BEST: dict[str, Callable[[Iterable[float]], float]] = {
    "higher": max,
    "lower": min,
    "nearer 0": partial(min, key=abs),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One metric as a column of a table, and the word for its better direction."""

    key: str
    label: str
    unit: str
    digits: int
    better: str
    meaning: str

    def text(self, score: float | None) -> str:
        """Return the formatted score; a dash if there is none."""
        return "-" if score is None or not isfinite(score) else f"{score:z.{self.digits}f}"

    def best(self, scores: Iterable[float | None]) -> str | None:
        """Return the best of the formatted scores.

        The result is None if there is none, or if all are equal.
        """
        numbers = [score for score in scores if score is not None and isfinite(score)]
        if len({self.text(score) for score in numbers}) < 2:
            return None
        return self.text(_BEST[self.better](numbers))


_TEXTURE = "amount of the finest detail relative to the kept neighbours; below 0 is softer"

COLUMNS: dict[str, Column] = {
    column.key: column
    for column in (
        Column(
            "psnr",
            "PSNR",
            "dB",
            2,
            "higher",
            "10 log10(1 / mean squared error); perfect is 100",
        ),
        Column(
            "ssim", "SSIM", "", 4, "higher", "similarity of structure of luma (Wang 2004)"
        ),
        Column(
            "vmaf",
            "VMAF",
            "",
            2,
            "higher",
            "Netflix's estimate of visible quality, 0 to 100",
        ),
        Column("l2", "L2", "", 6, "lower", "mean squared error of channels in 0 to 1"),
        Column(
            "gdl", "GDL", "", 5, "lower", "difference of the edges (Mathieu 2015, alpha 1)"
        ),
        Column(
            "sharpness",
            "Sharpness",
            "dB",
            2,
            "higher",
            "similarity of the edges (Mathieu 2015)",
        ),
        Column("texture", "Texture", "dB", 2, "nearer 0", _TEXTURE),
        Column(
            "fault", "Fault", "", 3, "lower", "how wrong the frame looks where it moves"
        ),
        Column(
            "flicker",
            "Flicker",
            "",
            5,
            "lower",
            "error of brightness changes between frames",
        ),
    )
}
"""All scores of ``compare``, in the order of its tables."""

CURVES = ("psnr", "ssim", "texture")
"""The scores of each frame; the first two are always computed."""


def marked(
    columns: Mapping[Key, Column], methods: Mapping[str, Mapping[Key, float | None]]
) -> dict[str, list[tuple[str, bool]]]:
    """Return each method's scores as text, and whether each is the best of its column."""
    rows: dict[str, list[tuple[str, bool]]] = {name: [] for name in methods}
    for key, column in columns.items():
        best = column.best(scores.get(key) for scores in methods.values())
        for name, scores in methods.items():
            text = column.text(scores.get(key))
            rows[name].append((text, text == best))
    return rows


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


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """A JPEG in base64 with its size in pixels, 0 for unknown."""

    base64: str = field(repr=False)
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """The scores of one frame by method.

    ``index`` counts the source frames of the compared part from 0. ``time`` is in seconds
    from the clip's first frame. ``horizon`` is the number of frames ahead, None for a frame
    between two kept ones.
    """

    index: int
    time: Fraction
    horizon: int | None
    scores: Mapping[str, Mapping[str, float | None]]

    def gain(self, model: str, baseline: str) -> float | None:
        """Return the model's PSNR minus the baseline's, in dB.

        The result is None if one made no frame.
        """
        own, other = (self.scores[name]["psnr"] for name in (model, baseline))
        return None if own is None or other is None else own - other

    def as_json(self) -> dict[str, Any]:
        """Return the row for ``per_frame`` in the command's JSON."""
        ahead = {} if self.horizon is None else {"horizon": self.horizon}
        return {
            "index": self.index,
            "pts_seconds": float(self.time),
            **ahead,
            **self.scores,
        }


@dataclass(frozen=True, slots=True)
class Card:
    """A frame on a page: its pictures, each as (key, name, picture), below words.

    A card with a ``key`` can be opened in the viewer of the page.
    """

    title: str
    words: str
    views: tuple[tuple[str, str, ReportPicture], ...]
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The contents of a page about a run of ``command``; the worst of the ``cards`` first.

    ``summary`` describes the source and the test in a line. ``files`` are the names of
    files beside the page.
    """

    command: str
    source: str
    verdict: str
    summary: str
    cards: tuple[Card, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePage(Page):
    """The contents of a page with scores, whose cards are the frames of lowest PSNR.

    ``model`` is the first model, and ``baseline`` the method with which the verdict
    compares it. ``methods`` are mean scores as in the command's JSON. ``facts`` are (name,
    value). ``cuts`` are the times of the first frames of new scenes.
    """

    command: str = "compare"
    model: str
    baseline: str
    metrics: tuple[str, ...]
    methods: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...] = ()
    cuts: tuple[Fraction, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def horizons(self) -> tuple[int, ...]:
        """Return the scored horizons in order; none in a report without forecasts."""
        return tuple(int(key) for key in self.methods[self.model] if key.isdigit())
