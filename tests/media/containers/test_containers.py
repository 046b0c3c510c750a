"""Each container holds a video whole, and a new one refuses by default."""

import struct
from fractions import Fraction

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudconv.media.containers.containers import CONTAINERS, Container, Content
from cloudconv.media.containers.sidedata import KINDS, left_out
from cloudconv.media.reading.source import Source
from tests.helpers.calls import interpolate
from tests.helpers.factory import write_clip
from tests.helpers.sinks import info_of

READERS_ROUND = {".apng": Fraction(1, 200_000)}  # each duration, by so much
QUICK = {".webm": {"encoder_option": (("cpu-used", "8"),)}}


@given(
    rate=st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(12), Fraction(7)]),
    count=st.integers(2, 7),
)
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.full
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_video_is_written_and_read_whole(tmp_path, suffix, rate, count):
    container = CONTAINERS[suffix]
    source = write_clip(
        tmp_path / "in.mkv", count, rate=rate, audio=["flac"], audio_seconds=count / rate
    )
    output = tmp_path / f"out{suffix}"
    interpolate(
        source, output, factor=2, model="blend", overwrite=True, **QUICK.get(suffix, {})
    )
    with Source(output) as written:
        frames = list(written.frames())
    # WebP joins the last frame with the repeat of that frame, which ends the output.
    assert len(frames) == 2 * count - (suffix == ".webp")
    zero = frames[0].time
    error = max((container.clock or 0) / 2, READERS_ROUND.get(suffix, 0) * 2 * count)
    for number, frame in enumerate(frames):
        assert abs(frame.time - zero - number / (2 * rate)) <= error
    end = frames[-1].time + frames[-1].duration
    assert abs(end - zero - count / rate) <= 2 * error
    if Content.STREAMS in container.keeps:
        with av.open(str(output)) as clip:
            (track,) = clip.streams.audio
            samples = sum(frame.samples for frame in clip.decode(track))
            heard = Fraction(samples, track.rate)
        assert abs(heard - count / rate) < Fraction(1, 20)


def test_a_new_container_keeps_nothing_that_nobody_has_tried():
    data = dict.fromkeys(KINDS, bytes(88))
    data["STEREO3D"] = struct.pack("<5I4i", 1, 0, 0, 0, 0, 0, 1, 0, 1)
    data["CONTENT_LIGHT_LEVEL"] = struct.pack("<2I", 1000, 400)
    container = Container(name="New", encoders=("mpeg4", "ffv1"), keeps=Content.COLOURS)
    words = left_out(info_of(side_data=data), container, packs=False)
    named = {KINDS[kind] for kind in KINDS if KINDS[kind] is not None and kind != "A53_CC"}
    assert {*words} == named
