"""Draw quality against time as a small SVG, from the output of quality.py and speed.py.

    python benchmarks/plot.py quality.json speed.json quality.svg --size "960x720 x2"

If speed.py ran with a clip, the time is that of the new frames alone; for FFmpeg it is that of the
whole command. Methods without a time of speed.py are left out.
"""

from __future__ import annotations

import argparse
import json
import math
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 20, 52
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}"
    ".grid{stroke:#d0d7de}.ours{fill:#0969da}.other{fill:#8c959f}"
    "@media (prefers-color-scheme:dark){text{fill:#c9d1d9}.grid{stroke:#30363d}}"
)

Points = dict[str, tuple[float, float]]


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("quality", type=Path)
    parser.add_argument("speed", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--drop", default="2")
    parser.add_argument("--size", default="960x720 x2")
    options = parser.parse_args()
    quality = json.loads(options.quality.read_text(encoding="utf-8"))[options.drop]["methods"]
    speed = json.loads(options.speed.read_text(encoding="utf-8"))["sizes"][options.size]
    points = _points(quality, speed)
    options.output.write_text(_drawn(points, options.size.split(" ")[0]) + "\n", encoding="utf-8")


def _points(quality: dict[str, Any], speed: dict[str, Any]) -> Points:
    """Return seconds for a new frame and PSNR of each method that has both."""
    found = {}
    for name, row in quality.items():
        known = (speed.get(key) for key in (name, f"{name}: new frames", f"ffmpeg {name}"))
        timed = next((times["seconds"] for times in known if times is not None), None)
        if timed is not None and row["psnr"]:
            found[name] = (timed, row["psnr"])
    return found


def _drawn(points: Points, size: str) -> str:
    times = [seconds for seconds, _ in points.values()]
    scores = [score for _, score in points.values()]
    low, high = math.log10(min(times)) - 0.15, math.log10(max(times)) + 0.35
    bottom, top = math.floor(min(scores) * 2 - 0.5) / 2, math.ceil(max(scores) * 2 + 0.5) / 2

    def x(seconds: float) -> float:
        return _LEFT + (math.log10(seconds) - low) / (high - low) * _ACROSS

    def y(score: float) -> float:
        return _HEIGHT - _BOTTOM - (score - bottom) / (top - bottom) * _DOWN

    parts = []
    for k in range(round((top - bottom) * 2) + 1):
        score = bottom + k / 2
        parts.append(_line("grid", _LEFT, y(score), _WIDTH - _RIGHT, y(score)))
        parts.append(_text(_LEFT - 8, y(score) + 4, f"{score:g}", "end"))
    for seconds in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5):
        if low <= math.log10(seconds) <= high:
            parts.append(_line("grid", x(seconds), _TOP, x(seconds), _HEIGHT - _BOTTOM))
            parts.append(_text(x(seconds), _HEIGHT - _BOTTOM + 18, f"{seconds:g}", "middle"))
    parts.append(_text(_LEFT, _TOP - 6, "PSNR in dB", "start"))
    label = f"seconds for a new {size} frame"
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 12, label, "end"))
    for name, (seconds, score) in points.items():
        kind = "ours" if name.startswith("cloud-") else "other"
        parts.append(f'<circle class="{kind}" cx="{x(seconds):.1f}" cy="{y(score):.1f}" r="5"/>')
        parts.append(_text(x(seconds) + 9, y(score) + 4, name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img"><title>Quality against time</title><style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _line(kind: str, x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


if __name__ == "__main__":
    main()
