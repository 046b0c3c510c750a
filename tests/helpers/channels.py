"""MOV files that list the channels of their sound one by one, as some recorders write."""

import struct
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame

from tests.helpers.factory import picture

LABELS = {
    "FL": 1,
    "FR": 2,
    "FC": 3,
    "LFE": 4,
    "SL": 5,
    "SR": 6,
    "BC": 9,
    "UNSD": 0xFFFFFFFF,
}
"""Apple's numbers of channels, by FFmpeg's names; the last one is an unknown channel."""
_AROUND = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"sowt")


def write_listed(path: Path, names: Sequence[str], *, seconds: int = 1) -> Path:
    """Write a MOV with PCM: channel k has a tone of 440·(k + 1) Hz, and the given name."""
    count = len(names)
    layout = hex((1 << count) - 1)  # any layout, which the list replaces
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width, video.height = 64, 48
        sound = out.add_stream("pcm_s16le", rate=48000)
        sound.codec_context.layout = layout
        for number in range(10 * seconds):
            out.mux(video.encode(picture(number, 64, 48)))
        out.mux(video.encode(None))
        times = np.arange(48000 * seconds) / 48000
        waves = [8000 * np.sin(2 * np.pi * 440 * (k + 1) * times) for k in range(count)]
        samples = np.stack(waves, 1).astype(np.int16).reshape(1, -1)
        frame = AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    data = bytearray(path.read_bytes())
    at = data.rfind(b"chan") - 4
    described = b"".join(struct.pack(">5I", LABELS[name], 0, 0, 0, 0) for name in names)
    box = struct.pack(">I4s4I", 24 + len(described), b"chan", 0, 0, 0, count) + described
    longer = len(box) - int.from_bytes(data[at : at + 4], "big")
    data[at : at + len(box) - longer] = box
    for name in _AROUND:
        begin = data.rfind(name, 0, at) - 4
        size = int.from_bytes(data[begin : begin + 4], "big") + longer
        data[begin : begin + 4] = size.to_bytes(4, "big")
    path.write_bytes(data)
    return path
