"""What a report shows, as plain data for a job to fill."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

Scores = Mapping[str, float | None]
"""Score by metric key (see ``COLUMNS``); None or NaN where it is not defined."""

_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded JPEG or PNG and its size in pixels.

    Raises:
        ValueError: the bytes are neither.
    """

    data: bytes = field(repr=False)
    width: int
    height: int

    def __post_init__(self) -> None:
        if not self.data.startswith(tuple(_SIGNATURES)):
            raise ValueError(f"a report takes JPEG or PNG pictures; got {self.data[:8]!r}")

    @property
    def media_type(self) -> str:
        return next(kind for start, kind in _SIGNATURES.items() if self.data.startswith(start))

    @property
    def uri(self) -> str:
        """The picture itself as an address."""
        return f"data:{self.media_type};base64,{b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Method:
    """One way of making frames, and how it did.

    ``scores`` are the means over all scored frames; ``horizons``, for forecasts, the means for
    each number of frames ahead. ``missing`` counts frames that the method could not make.
    """

    name: str
    scores: Scores
    seconds_per_frame: float | None = None
    missing: int = 0
    horizons: Mapping[int, Scores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Curves:
    """Scores of each scored frame in order of time.

    ``psnr``, ``ssim`` and ``texture`` hold, for each method, one score a frame; one that was not
    asked for is empty. ``cuts`` are the times of the
    first frames of new scenes.
    """

    frames: tuple[int, ...]
    times: tuple[Fraction, ...]
    psnr: Mapping[str, tuple[float | None, ...]]
    ssim: Mapping[str, tuple[float | None, ...]]
    cuts: tuple[Fraction, ...] = ()
    texture: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = [self.times, *self.psnr.values(), *self.ssim.values(), *self.texture.values()]
        if any(len(row) != len(self.frames) for row in rows):
            raise ValueError("every curve needs one score, or None, for each frame")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One frame, four times: as it was, as the model and the baseline made it, and the error.

    ``model_psnr`` and ``baseline_psnr`` in dB; ``horizon`` in frames ahead, for forecasts.
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
    """All that a report says.

    ``source`` is the clip's name; ``summary`` what was done to it in a line ("one frame of every
    2 kept, 165 frames scored, 2 cuts left out"). ``model`` and ``baseline`` are names of methods:
    the first model, and what it has to beat (``blend``; ``hold`` for forecasts). ``metrics`` are
    the keys of the columns to show. ``worst`` and ``loses`` come sorted, the worst first. ``facts``
    say how it was measured, as (name, value). ``files`` are the names of files beside the report.
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
        """The horizons that were scored, in order; none unless this is about forecasts."""
        return tuple(sorted({step for method in self.methods for step in method.horizons}))
