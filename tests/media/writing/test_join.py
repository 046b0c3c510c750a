"""Joined segments have the times and frames of a video encoded in one piece."""

import os
from fractions import Fraction as F

import av
import numpy as np
import pytest

from cloudconv.errors import OutputError
from cloudconv.events import Warnings
from cloudconv.media.writing.packets import PacketFile, read_segment
from cloudconv.media.writing.sink import Sink, join
from cloudconv.settings import EncodeSettings
from tests.helpers.factory import read_planes, read_times
from tests.helpers.sinks import info_of, plan_encoding
from tests.media.writing.test_sink import frames_of

RATE = F(60000, 1001)
EVEN = [k / RATE for k in range(40)]
UNEVEN = [F(k * k + 10 * k, 1000) for k in range(40)]
BORDERS = ((0, 17), (17, 18), (18, 40))


def stamps(path):
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        decoded = [packet.dts for packet in clip.demux(stream) if packet.size]
        return stream.duration, stream.start_time, decoded


def plan_of(path, rate=RATE, pix_fmt="yuv420p", encoder="libx264", **settings):
    clock = {"rate": rate, "spans": [F(1, 1000)]}
    encode = EncodeSettings(encoder=encoder, **settings)
    return plan_encoding(path, info_of(working_pix_fmt=pix_fmt), settings=encode, **clock)


def stored(plan, path, frames):
    """Write frames to a packet file; return the file and its summary."""
    encoder = PacketFile(plan, path, Warnings())
    for frame in frames:
        encoder.write(frame)
    return path, encoder.complete()


def write_whole_and_joined(folder, suffix, encoder, pix_fmt, rate):
    """Write the same frames in one piece and joined from three segments.

    One has a single frame.
    """
    times, last = (EVEN, 1 / RATE) if rate else (UNEVEN, F(1, 20))
    frames = list(frames_of(times, last, pix_fmt=pix_fmt))
    whole, joined = (folder / f"{name}{suffix}" for name in ("whole", "joined"))
    with Sink(plan_of(whole, rate, pix_fmt, encoder, threads=1)) as output:
        for frame in frames:
            output.write(frame)
    plan = plan_of(joined, rate, pix_fmt, encoder, threads=1)
    segments = [stored(plan, folder / f"{a}.packets", frames[a:b]) for a, b in BORDERS]
    assert not joined.exists()
    with Sink(plan) as target:
        assert [*join(segments, target)] == [*range(1, 41)]
    return whole, joined


@pytest.mark.parametrize("rate", [RATE, None])
@pytest.mark.parametrize(
    ("suffix", "encoder", "pix_fmt"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".mp4", "libx265", "yuv420p"),
        (".mp4", "libsvtav1", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".mov", "prores_ks", "yuv422p10le"),
        (".mkv", "ffv1", "yuva420p"),
        (".mkv", "ffv1", "gray10le"),
    ],
)
def test_joined_segments_have_the_times_of_one_piece(
    tmp_path, suffix, encoder, pix_fmt, rate
):
    whole, joined = write_whole_and_joined(tmp_path, suffix, encoder, pix_fmt, rate)
    # Encoders may reorder frames differently at a border, but the decoding times are the
    # same.
    assert stamps(joined) == stamps(whole)
    assert read_times(joined) == read_times(whole)
    for a, b in zip(read_planes(whole), read_planes(joined), strict=True):
        for one, other in zip(a, b, strict=True):
            assert np.abs(one.astype(int) - other).mean() <= (0 if encoder == "ffv1" else 8)


def test_alpha_in_packet_side_data_is_kept(tmp_path):
    _, joined = write_whole_and_joined(tmp_path, ".webm", "libvpx-vp9", "yuva420p", RATE)
    with av.open(str(joined)) as clip:
        packets = [p for p in clip.demux(video=0) if p.size]
        tags = {key.lower(): value for key, value in clip.streams.video[0].metadata.items()}
        assert tags["alpha_mode"] == "1"
    assert len(packets) == 40
    assert all(packet.has_sidedata("matroska_block_additional") for packet in packets)


def store(folder, **settings):
    plan = plan_of(folder / "a.mp4", **settings)
    frames = frames_of(EVEN[:20], 1 / RATE)
    return stored(plan, folder / "0.packets", frames)


def test_segments_of_other_encoder_settings_are_refused(tmp_path):
    segment = store(tmp_path, crf=30, preset="ultrafast")
    plan = plan_of(tmp_path / "a.mp4")
    with pytest.raises(OutputError, match="`resume=False`"), Sink(plan) as target:
        list(join([segment], target))
    assert os.listdir(tmp_path) == ["0.packets"]


def test_a_packet_file_has_a_correct_summary(tmp_path):
    path, summary = store(tmp_path)
    assert (summary.packets, summary.bytes) == (20, path.stat().st_size)
    times = [packet.pts for packet in read_segment(path, summary)]
    assert sorted(times) == list(range(0, 20 * 1001, 1001))
    assert (summary.first, summary.last) == (0, max(times))
    assert next(read_segment(path, summary)).is_keyframe
    assert summary.delay == 2


@pytest.mark.parametrize("at", [0, 40, 60, -300, -1, "10", "60", "300"])
def test_a_changed_byte_or_a_lost_end_is_noticed(tmp_path, at):
    path, summary = store(tmp_path)
    data = bytearray(path.read_bytes())
    if isinstance(at, str):
        del data[int(at) :]
    else:
        data[at] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(OutputError, match="damaged"):
        list(read_segment(path, summary))
    assert not path.exists()
