"""Write the vitals of a dream as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .charts import Chart, Line, draw, round_numbers
from .data import Picture
from .page import render

Values = Mapping[str, float | None]

POINTS = 600
"""The most points of a curve that are drawn."""

_LEGEND = (Line("dream", (), 0), Line("lower limit", (), 1), Line("upper limit", (), 2))
_MEANINGS = {
    "sharpness": "strength of edges against the source's",
    "std": "contrast against the source's",
    "saturation": "colourfulness against the source's",
    "motion": "change from frame to frame against the source's",
    "anisotropy": "how far edges run alike, against the source's: melting paint has more",
    "crease": "fine hard lines against the source's: folds have more",
    "mean_shift": "mean brightness less the source's, of 255",
    "jump": "the largest change between two frames against the usual one",
    "static_psnr": "dB, what stands still against the last real frame",
    "patch": "how unlike the source's the small patches are",
    "patch_time": "the same of patches in space and time",
    "repeat": "distance to the most alike picture 30 or more frames before, of 255",
    "strangeness": "double exposures and smears in the worst place; 1 is the limit",
    "light": "distance of the field of colours to that of the nearest source frame, of 255",
    "novelty": "likeness to frames 60 or more away, without the mean picture; 1 is the same",
    "silhouette": "percent of the picture where a dark shape stands that no source frame has there",
    "border": "the straightest border in the sky; 1 is the limit",
}


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame with its caption."""

    caption: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class Video:
    """The video file of a dream: its name, and its address relative to the page."""

    name: str
    address: str

    @property
    def shown_by(self) -> str | None:
        """Return the HTML element that shows such a file: video, img, or None."""
        suffix = self.name.rpartition(".")[2].lower()
        if suffix in ("mp4", "webm", "mov"):
            return "video"
        return "img" if suffix in ("gif", "webp", "apng") else None


@dataclass(frozen=True, slots=True)
class DreamPage:
    """The contents of the page.

    ``times`` are in seconds from the first new frame, ``values`` the vitals at each time.
    ``limits`` are (low, high); None means no limit. ``shots`` are frames from the dream's beginning
    to its end. ``strangest`` are the frames with the strangest place of each window marked.
    ``video`` is None if there is no file.
    """

    source: str
    verdict: str
    summary: str
    times: Sequence[float]
    values: Sequence[Values]
    limits: Mapping[str, tuple[float | None, float | None]]
    shots: Sequence[Shot] = ()
    strangest: Sequence[Shot] = ()
    video: Video | None = None


def render_dream(page: DreamPage) -> str:
    """Return the page as HTML. The page needs no network."""
    group = max(1, -(-len(page.times) // POINTS))
    kept = range(0, len(page.times), group)
    charts = [chart for key in page.limits if (chart := _chart(page, key, list(kept))) is not None]
    return render(
        "dream.html",
        charts,
        {},
        command="dream",
        source=page.source,
        verdict=page.verdict,
        summary=page.summary,
        lines=_LEGEND,
        drawings=[draw(chart) for chart in charts],
        video=page.video,
        shots=page.shots,
        strangest=page.strangest,
        meanings=[(chart.title, _MEANINGS[chart.key]) for chart in charts],
    )


def _chart(page: DreamPage, key: str, kept: list[int]) -> Chart | None:
    values = [page.values[k].get(key) for k in kept]
    if not any(value is not None for value in values):
        return None
    times = [page.times[k] for k in kept]
    lines = [Line("dream", values, 0)]
    for color, name, limit in zip((1, 2), ("least", "most"), page.limits[key], strict=True):
        # A limit far from all measured values would flatten the curve.
        if limit is not None and (limit or key == "mean_shift"):
            lines.append(Line(name, [limit] * len(kept), color))
    return Chart(
        key=key,
        title=key,
        unit="dB" if key == "static_psnr" else "",
        digits=3,
        x=times,
        labels=[f"{time:.1f} s" for time in times],
        ticks=[(second, f"{second:g} s") for second in round_numbers(times[0], times[-1], 8)],
        lines=lines,
    )
