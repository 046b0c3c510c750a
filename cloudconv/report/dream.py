"""Write the vitals of a dream as one self-contained HTML page.

Vitals are measurements of the dream's pictures, most of them relative to the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloudconv.report.charts import Chart, Line, draw, round_numbers
from cloudconv.report.data import Picture
from cloudconv.report.page import render

Values = Mapping[str, float | None]

_LEGEND = (Line("dream", (), 0), Line("lower limit", (), 1), Line("upper limit", (), 2))
_MEANINGS = {
    "sharpness": "strength of edges; 1 is that of the source",
    "std": "contrast; 1 is that of the source",
    "saturation": "colourfulness; 1 is that of the source",
    "motion": "change from frame to frame; 1 is that of the source",
    "anisotropy": "agreement of the directions of edges; 1 is that of the source, smears have more",
    "crease": "strength of fine hard lines; 1 is that of the source, distortions have more",
    "mean_shift": "mean brightness minus that of the source, in levels of 255",
    "jump": "the largest change between two frames, relative to the changes around it",
    "static_psnr": "PSNR of the still parts against the last source frame, in dB; more is better",
    "patch": "difference of small areas from those of the source; 0 is equal",
    "patch_time": "difference of small areas over a few frames from those of the source",
    "repeat": "difference from the most similar picture 30 or more frames earlier, of 255",
    "strangeness": "double exposures and smears in the worst part of a picture; 1 is the limit",
    "light": "difference of blurred colours from those of the most similar source frame, of 255",
    "novelty": "similarity to frames 60 or more earlier; 1 is the same picture",
    "silhouette": "percent of the picture where a dark shape is missing, or is new in the sky",
    "border": "clearness of the straightest border in the sky; 1 is the limit",
    "symmetry": "similarity of a part of the sky to a mirrored part beside; 1 is a mirror image",
}


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame of the dream with its caption, as the page shows them."""

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
    to its end. ``strangest`` has one frame for each of the strangest windows of 100 frames; a box
    marks the part of the picture that is least like the source. ``video`` is None if the output is
    not one file.
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
    charts = [chart for key in page.limits if (chart := _chart(page, key)) is not None]
    return render(
        "dream.html",
        charts,
        {},
        command="dream",
        data=page,
        lines=_LEGEND,
        drawings=[draw(chart) for chart in charts],
        meanings=[(chart.title, _MEANINGS[chart.key]) for chart in charts],
    )


def _chart(page: DreamPage, key: str) -> Chart | None:
    values, times = [each.get(key) for each in page.values], page.times
    if not any(value is not None for value in values):
        return None
    lines = [Line("dream", values, 0)]
    for line, limit in zip(_LEGEND[1:], page.limits[key], strict=True):
        # A lower limit of 0 is far from all measured values and would flatten the curve.
        if limit is not None and (limit or key == "mean_shift"):
            lines.append(Line(line.name, [limit] * len(times), line.color))
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
