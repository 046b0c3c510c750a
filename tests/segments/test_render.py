"""Rendering of one segment, with stand-ins for the GPU, the renderer and the encoder."""

import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import pytest

from cloudconv.errors import OutputError
from cloudconv.media.frame import Frame
from cloudconv.segments import render
from tests.helpers.factory import picture

SECOND = Fraction(1)


def test_an_error_of_one_segment_closes_the_file_of_the_next():
    written, abandoned = threading.Event(), []

    def finish(*_):
        raise OutputError("frame-gone: in.mp4 has no frame at 0.000 s any more.")

    def segment(number):
        def complete():
            written.wait(10)
            time.sleep(0.2)  # the next segment is rendered to its end in this time

        sink = SimpleNamespace(
            encoder="ffv1",
            write=lambda _: written.set() if number else None,
            complete=complete,
            abandon=lambda: abandoned.append(number),
        )
        return number, (), sink

    plan = SimpleNamespace(device="cpu", offset=Fraction(0))
    frame = Frame(picture(0, 32, 32), 0 * SECOND, SECOND)
    renderer = SimpleNamespace(render=lambda *_: iter([frame]), new_warnings=list)
    with pytest.raises(OutputError):
        list(render.render_segments(plan, [segment(0), segment(1)], renderer, finish))
    assert abandoned == [1]
