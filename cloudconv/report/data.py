"""Hold the contents of a report as plain data, which a job fills in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

Scores = Mapping[str, float | None]
"""Scores by metric key (see ``COLUMNS``); None or NaN where a score is not defined."""

_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded JPEG or PNG with its size in pixels.

    Raises:
        ValueError: the bytes are neither JPEG nor PNG.
    """

    data: bytes = field(repr=False)
    width: int
    height: int

    def __post_init__(self) -> None:
        """Check the type of the picture.

        Raises:
            ValueError: the bytes are neither JPEG nor PNG.
        """
        if not self.data.startswith(tuple(_SIGNATURES)):
            raise ValueError(f"a report takes JPEG or PNG pictures; got {self.data[:8]!r}")

    @property
    def media_type(self) -> str:
        """Return the media type: ``image/jpeg`` or ``image/png``."""
        return next(kind for start, kind in _SIGNATURES.items() if self.data.startswith(start))

    @property
    def uri(self) -> str:
        """Return the picture as a ``data:`` address."""
        return f"data:{self.media_type};base64,{b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Method:
    """One method of making frames, with its results.

    ``scores`` are the means over all scored frames. ``horizons``, for forecasts only, are the means
    for each number of frames ahead. ``missing`` counts frames that the method could not make.
    """

    name: str
    scores: Scores
    seconds_per_frame: float | None = None
    missing: int = 0
    horizons: Mapping[int, Scores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Curves:
    """The scores of each scored frame in order of time.

    ``psnr``, ``ssim`` and ``texture`` contain one score per frame for each method. A score that was
    not requested is empty. ``cuts`` are the times of the first frames of new scenes.
    """

    frames: tuple[int, ...]
    times: tuple[Fraction, ...]
    psnr: Mapping[str, tuple[float | None, ...]]
    ssim: Mapping[str, tuple[float | None, ...]]
    cuts: tuple[Fraction, ...] = ()
    texture: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the lengths of the curves.

        Raises:
            ValueError: a curve has another number of scores than there are frames.
        """
        rows = [self.times, *self.psnr.values(), *self.ssim.values(), *self.texture.values()]
        if any(len(row) != len(self.frames) for row in rows):
            raise ValueError("every curve needs one score, or None, for each frame")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One frame in four pictures: the true one, the model's, the baseline's, and the error.

    ``model_psnr`` and ``baseline_psnr`` are in dB. ``horizon``, for forecasts, is in frames ahead.
    """

    frame: int
    time: Fraction
    truth: Picture
    model: Picture
    baseline: Picture
    error: Picture
    model_psnr: float
    baseline_psnr: float
    horizon: int | None = None


@dataclass(frozen=True, slots=True)
class ReportData:
    """All contents of a report.

    ``source`` is the clip's name. ``summary`` describes the test in a line ("one frame of every 2
    kept, 165 frames scored, 2 cuts left out"). ``model`` and ``baseline`` are names of methods: the
    first model, and its reference (``blend``; ``hold`` for forecasts). ``metrics`` are the keys of
    the columns to show. ``worst`` and ``loses`` are sorted, the worst first. ``facts`` describe the
    measurement as (name, value). ``files`` are the names of files beside the report.
    """

    source: str
    verdict: str
    summary: str
    model: str
    baseline: str
    metrics: tuple[str, ...]
    methods: tuple[Method, ...]
    curves: Curves | None = None
    worst: tuple[Comparison, ...] = ()
    loses: tuple[Comparison, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    @property
    def horizons(self) -> tuple[int, ...]:
        """Return the scored horizons in order; empty unless the report is about forecasts."""
        return tuple(sorted({step for method in self.methods for step in method.horizons}))
