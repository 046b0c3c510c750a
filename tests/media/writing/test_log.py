"""FFmpeg's log: an opening encoder's messages are read, decoders' are not printed."""

import io
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cloudconv.media.containers.containers import container_of
from cloudconv.media.writing.encoders import EncodeSettings, choose
from cloudconv.media.writing.encoding import open_strictly
from tests.helpers.factory import write_clip
from tests.helpers.sinks import info_of

MKV = container_of(Path("a.mkv"))
SIZE = 64, 48


def damaged(path, codec):
    """Return a Matroska file of noise in which 40 bytes are random."""
    noise = np.random.default_rng(0)
    places = random.Random(1)
    shape = SIZE[1] * 3 // 2, SIZE[0]
    samples = noise.integers(0, 255, (12, *shape), np.uint8)
    pictures = [av.VideoFrame.from_ndarray(planes, "yuv420p") for planes in samples]
    content = bytearray(write_clip(path, pictures, rate=25, codec=codec).read_bytes())
    for _ in range(40):
        content[places.randrange(600, len(content) - 100)] = places.randrange(256)
    return bytes(content)


def decode(data):
    with suppress(av.error.FFmpegError), av.open(io.BytesIO(data)) as opened:
        stream = opened.streams.video[0]
        stream.thread_type = "AUTO"
        for packet in opened.demux(stream):
            with suppress(av.error.FFmpegError):
                stream.codec_context.decode(packet)


def open_encoder():
    choice = choose(MKV, info_of(SIZE), EncodeSettings(encoder="ffv1"))
    context = av.CodecContext.create(choice.encoder, "w")
    context.options = choice.options
    context.width, context.height = SIZE
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, 25)
    open_strictly(choice, context.open)


def open_encoders(seconds, work, threads):
    """Open encoders again and again, while threads repeat some work."""
    ends = threading.Event()

    def repeat():
        while not ends.is_set():
            work()

    workers = [threading.Thread(target=repeat) for _ in range(threads)]
    for worker in workers:
        worker.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        open_encoder()
    ends.set()
    for worker in workers:
        worker.join()


@pytest.mark.parametrize("codec", ["ffv1", "mpeg2video"])
def test_messages_of_decoders_are_not_printed_while_an_encoder_opens(
    codec, tmp_path, capfd, caplog
):
    data = damaged(tmp_path / "a.mkv", codec)
    open_encoders(0.8, lambda: decode(data), 2)
    assert capfd.readouterr().err == ""
    assert caplog.records == []


STOPS_EARLY = """
import sys
from itertools import islice
from cloudconv.media.reading.source import Source
from tests.media.writing.test_log import open_encoders

def read():
    with Source(sys.argv[1], threads=3) as source:
        list(islice(source.frames(), 6))

open_encoders(5, read, 3)
"""


@pytest.mark.full
def test_decoders_that_stop_early_do_not_stall_while_an_encoder_opens(tmp_path):
    """A thread that logs needs the interpreter; PyAV keeps it while it frees a decoder."""
    clip = write_clip(tmp_path / "a.mp4", 48, codec="libx264", size=(320, 240))
    subprocess.run([sys.executable, "-c", STOPS_EARLY, str(clip)], timeout=60, check=True)
