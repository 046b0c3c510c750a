"""Cut the sample clip stream.mp4: two seconds of a stream, 480x360, without sound.

Usage: python make_stream.py SOURCE [OUT]

SOURCE is ``stream-of-water.mp4`` of https://github.com/mdn/interactive-examples (CC0).
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av

FRAMES = 60
RATE = Fraction(30000, 1001)


def make(source: Path, target: Path) -> None:
    """Encode the first frames of ``source`` again, each at its place of a constant rate."""
    with av.open(str(source)) as clip, av.open(str(target), "w") as output:
        stream = output.add_stream(
            "libx264",
            rate=RATE,
            options={"crf": "27", "preset": "veryslow", "threads": "1"},
        )
        stream.width = 480
        stream.height = 360
        stream.pix_fmt = "yuv420p"
        for number, frame in zip(range(FRAMES), clip.decode(video=0), strict=False):
            frame.pts = number
            frame.time_base = 1 / RATE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


if __name__ == "__main__":
    target = (
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("stream.mp4")
    )
    make(Path(sys.argv[1]), target)
    print(target)
