"""Compare the new frames that ``interp`` names as a guess with an eye's verdicts.

    python benchmarks/doubtful.py CLIPS [--half tune] [--verbose]

CLIPS is the folder of the clips that docs/measurements/clips.csv names. The new frames of
docs/measurements/eyes-new-frames.json are made again, 512 pixels wide, from every second
source frame, or from each of a clip of at most 15 fps. Each line counts the frames of a
grade, and how many of them look wrong to the eye.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import cloudconv

LIST = Path(__file__).parents[1] / "docs" / "measurements" / "eyes-new-frames.json"
WIDTH = 512
SPANS, KEPT = 3, 7  # spans of a clip, and the source frames of each
MOST = 400  # frames of a clip
RATE = 12


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--half", choices=("tune", "held", "val"))
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    entries = json.loads(LIST.read_text())
    seen: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
    for clip in dict.fromkeys(entry["clip"] for entry in entries):
        wanted = [entry for entry in entries if entry["clip"] == clip]
        if options.half in (None, wanted[0]["half"]):
            found = doubts(options.clips / clip)
            for entry in wanted:
                grade, size = found.get(entry["frame"], ("none", 0))
                seen[entry["half"], grade][entry["wrong"]] += 1
                if options.verbose:
                    print(clip, entry["frame"], grade, size, entry["wrong"], flush=True)
    for (half, grade), counts in sorted(seen.items()):
        print(f"{half:5} {grade:12} {counts[True]:3} of {counts.total():3} look wrong")


def doubts(clip: Path) -> dict[int, tuple[str, float]]:
    """Return grade and size of the new frames in doubt, by the source frame before."""
    pictures, rate = reduced(clip)
    stride = 1 if rate <= 15.5 else 2
    need = KEPT * stride
    most = max(0, len(pictures) - need - 1)
    result = {}
    for start in sorted({int(k) for k in np.linspace(0, most, SPANS)}):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source")
            source.mkdir()
            for number, picture in enumerate(pictures[start : start + need : stride]):
                cv2.imwrite(str(source / f"{number:03}.png"), picture)
            settings: dict[str, Any] = {"input_fps": RATE, "encoder": "ffv1"}
            made = cloudconv.interpolate(source, f"{folder}/out.mkv", factor=2, **settings)
        assert made.doubtful is not None
        for frame in made.doubtful["frames"]:
            number = start + stride * int(frame["time"] * RATE)
            result[number] = frame["grade"], frame["size"]
    return result


def reduced(clip: Path) -> tuple[list[Any], float]:
    """Return the first pictures of a clip, as OpenCV takes them, and its rate."""
    pictures = []
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        for frame in source.decode(stream):
            height = max(16, round(WIDTH * frame.height / frame.width / 8) * 8)
            levels = frame.to_ndarray(format="bgr24")
            size = WIDTH, height
            pictures.append(cv2.resize(levels, size, interpolation=cv2.INTER_AREA))
            if len(pictures) == MOST:
                break
        return pictures, float(stream.average_rate or 25)


if __name__ == "__main__":
    main()
