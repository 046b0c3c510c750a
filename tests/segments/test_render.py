"""Rendering of one segment, with stand-ins for the GPU, the renderer and the encoder."""

import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.frame import Frame
from cloudconv.segments import render
from tests.helpers.factory import picture

SECOND = Fraction(1)


def warnings_of(device, encoder, *, encoding, rendering):
    """Render six frames with a given time per frame in each stage; return the warnings."""

    def frames(*_):
        for number in range(6):
            time.sleep(rendering)
            yield Frame(picture(number, 32, 32), number * SECOND, SECOND)

    renderer = SimpleNamespace(render=frames, new_warnings=list)
    sink = SimpleNamespace(
        encoder=encoder,
        write=lambda _: time.sleep(encoding),
        complete=lambda: None,
        abandon=lambda: None,
    )
    plan = SimpleNamespace(device=device, offset=Fraction(0))
    events = render.render_segments(plan, [(0, (), sink)], renderer, lambda *_: None)
    return [each.content for each in events if isinstance(each.content, Warned)]


@pytest.mark.parametrize(
    ("device", "encoder", "encoding", "rendering", "opens", "is_said"),
    [
        ("cuda", "libx264", 0.02, 0.0, True, True),
        ("cuda", "libx264", 0.02, 0.0, False, False),
        ("cuda", "libx264", 0.0, 0.02, True, False),
        ("cuda", "h264_nvenc", 0.02, 0.0, True, False),
        ("cpu", "libx264", 0.02, 0.0, True, False),
    ],
)
def test_a_warning_names_nvenc_if_encoding_is_the_slow_stage(
    monkeypatch, device, encoder, encoding, rendering, opens, is_said
):
    monkeypatch.setattr(render, "_LEAST_SECONDS", 0.01)
    state = "works" if opens else "fails"
    monkeypatch.setattr(render, "encoder_state", lambda _: state)
    found = warnings_of(device, encoder, encoding=encoding, rendering=rendering)
    assert [each.code for each in found] == ["nvenc-is-there"] * is_said
    assert all("`encoder='nvenc'`" in str(each) for each in found)


def test_a_short_segment_gives_no_warning(monkeypatch):
    monkeypatch.setattr(render, "encoder_state", lambda _: "works")
    assert not warnings_of("cuda", "libx264", encoding=0.01, rendering=0.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this GPU may have an encoder")
def test_without_a_gpu_nvenc_does_not_open():
    assert render.encoder_state("h264_nvenc") != "works"


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
