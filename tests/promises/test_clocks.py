"""Joined recordings and times that go back: all packets are kept, audio in step."""

import struct
from fractions import Fraction as F
from functools import partial
from itertools import pairwise, product

import av
import numpy as np
import pytest

import cloudconv
from tests.helpers.factory import (
    packet_times,
    packets_of,
    read_times,
    remux,
    sound,
    tone,
    write_clip,
)

FRAMES = 25
interp = partial(cloudconv.interpolate, model="blend", factor=2)


def recording(path, video, audio, **options):
    """Write one second of video, with audio if a codec is given."""
    tracks = [audio] if audio else []
    return write_clip(path, FRAMES, rate=25, codec=video, audio=tracks, **options)


def twice(one):
    """Return a file of two equal recordings, one after the other."""
    clip = one.with_stem("in")
    clip.write_bytes(one.read_bytes() * 2)
    return clip


@pytest.mark.full
@pytest.mark.parametrize("target", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("suffix", "video", "audio"),
    [
        ("ts", "libx264", "aac"),
        ("mpg", "mpeg2video", "mp2"),
        ("mpg", "mpeg2video", None),
        ("mkv", "libx264", "aac"),
    ],
)
def test_joined_recordings_give_one_continuous_video(
    tmp_path, suffix, video, audio, target
):
    one = recording(tmp_path / f"one.{suffix}", video, audio, options={"bf": "2"})
    out = tmp_path / f"out.{target}"
    result = interp(twice(one), out)
    assert any("start again once" in text for text in map(str, result.warnings))
    assert read_times(out) == [F(k, 50) for k in range(4 * FRAMES)]
    if audio is not None:
        times = packet_times(out)
        # The first packet is priming: its time may be before the video, or 0.
        gaps = [b - a for a, b in pairwise(times[1:])]
        lasts = F(1152 if audio == "mp2" else 1024, 48000)
        # At a seam a packet starts late or is left out, because packets may not overlap.
        assert all(lasts / 2 - F(1, 500) <= gap <= lasts * 2 for gap in gaps)
        assert abs(times[-1] + lasts - 2) < F(1, 20)
        kept = packets_of(out)[0]
        packets = packets_of(one)[0]
        assert 2 * len(packets) - 3 <= len(kept) <= 2 * len(packets)


def test_sound_that_begins_before_the_zero_of_a_later_clock_stays_in_step(tmp_path):
    """The clock of a transport stream has 33 bits: times below 0 are near 26 hours."""
    one = recording(tmp_path / "one.ts", "libx264", "mp2")

    def early(packet):
        earlier = 27_000 * (packet.stream.type == "audio")
        packet.pts -= earlier
        packet.dts -= earlier
        return packet

    exact = {"avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
    later = remux(one, tmp_path / "later.ts", early, **exact, muxdelay="0")
    assert packet_times(later)[0] < 0 < packet_times(later, "video")[0]
    clip = tmp_path / "in.ts"
    clip.write_bytes(one.read_bytes() + later.read_bytes())
    result = interp(clip, tmp_path / "out.mkv")
    assert any("start again once" in text for text in map(str, result.warnings))
    assert read_times(tmp_path / "out.mkv") == [F(k, 50) for k in range(4 * FRAMES)]
    times = packet_times(tmp_path / "out.mkv")
    assert all(0 < b - a < F(1, 10) for a, b in pairwise(times))
    assert abs(times[-1] - F(17, 10)) < F(1, 10)


@pytest.mark.parametrize(
    ("channels", "hertz", "how"),
    [
        ("mono", 48000, None),
        ("5.1", 48000, None),
        ("mono", 32000, None),
        ("mono", 32000, "copy"),
    ],
)
def test_sound_whose_format_changes_is_heard_to_the_end(tmp_path, channels, hertz, how):
    silent = recording(tmp_path / "silent.ts", "libx264", None)
    parts = []
    for layout, rate in (("mono", 48000), (channels, hertz)):
        path = tmp_path / f"{layout} {rate}.ts"
        with av.open(str(path), "w") as out, av.open(str(silent)) as clip:
            video = out.add_stream_from_template(clip.streams.video[0])
            track = out.add_stream("aac", rate=rate, layout=layout)
            for packet in clip.demux(video=0):
                packet.stream = video
                if packet.size:
                    out.mux(packet)
            sound(out, track, tone(440, 48000))
        parts.append(path.read_bytes())
    (tmp_path / "in.ts").write_bytes(b"".join(parts))
    result = interp(tmp_path / "in.ts", tmp_path / "out.mp4", audio=how)
    named = [str(warning) for warning in result.warnings if "change at" in str(warning)]
    changes = (channels, hertz) != ("mono", 48000)
    assert ["1.0 s" in warning for warning in named] == [True] * changes
    assert ["encoded again" in warning for warning in named] == [how is None] * changes
    if not changes or how == "copy":
        return
    to_mono = av.AudioResampler("flt", "mono", 48000)
    with av.open(str(result.output)) as clip:
        blocks = [to_mono.resample(frame) for frame in clip.decode(audio=0)]
    samples = np.concatenate([block.to_ndarray()[0] for (block,) in blocks])
    assert abs(len(samples) - 2 * 48000) < 4800
    late = samples[60000:84000]
    assert abs(np.abs(np.fft.rfft(late)).argmax() * 48000 / len(late) - 440) < 3
    assert np.abs(late).max() > 0.1


def test_a_wrong_duration_of_frames_leaves_the_seam_of_two_recordings_even(tmp_path):
    """The header states 24 fps, ticks of 1/25 s: FFmpeg reads durations of 1/600 s."""
    times = [F(k, 25) for k in range(20)]
    one = write_clip(
        tmp_path / "one.ts", 20, times=times, codec="libx264", options={"bf": "0"}
    )
    interp(twice(one), tmp_path / "out.mkv")
    assert read_times(tmp_path / "out.mkv") == [F(k, 50) for k in range(80)]


@pytest.mark.full
@pytest.mark.parametrize("start", [F(7, 5), F(1, 5)])
def test_a_part_of_joined_recordings_has_its_length(tmp_path, start):
    one = recording(tmp_path / "one.ts", "libx264", "aac", options={"bf": "2"})
    interp(twice(one), tmp_path / "out.mp4", start=start)
    assert len(read_times(tmp_path / "out.mp4")) == 2 * 25 * (2 - start)
    assert abs(packet_times(tmp_path / "out.mp4")[-1] - (2 - start)) < F(1, 20)


def without_middle(path):
    """Hide the middle of three seconds of both tracks by an edit list, like QuickTime."""
    data = bytearray(path.read_bytes())
    moov = at = data.rindex(b"moov")
    for _ in range(2):
        trak = data.index(b"trak", at)
        boxes = edts, elst = data.index(b"edts", trak), data.index(b"elst", trak)
        (scale,) = struct.unpack_from(">I", data, data.index(b"mdhd", trak) + 16)
        lasts, start = struct.unpack_from(">Ii", data, elst + 12)
        parts = lasts // 3, start, 1 << 16, lasts // 3, start + 2 * scale, 1 << 16
        data[elst + 8 : elst + 24] = struct.pack(">IIiIIiI", 2, *parts)
        for box in (moov, trak, *boxes):
            (size,) = struct.unpack_from(">I", data, box - 4)
            struct.pack_into(">I", data, box - 4, size + 12)
        at = edts
    path.write_bytes(data)
    return path


@pytest.mark.full
@pytest.mark.parametrize("target", ["mkv", "mp4"])
@pytest.mark.parametrize(("audio", "frames"), [("pcm_s16le", 0), ("aac", 2)])
def test_an_edit_list_cuts_video_and_audio_alike(tmp_path, audio, frames, target):
    options = {"audio": [audio], "options": {"g": "5", "bf": str(frames)}}
    source = write_clip(tmp_path / "in.mov", 75, rate=25, codec="libx264", **options)
    result = interp(without_middle(source), tmp_path / f"out.{target}")
    assert not [
        str(warning) for warning in result.warnings if "Few players" not in str(warning)
    ]
    assert read_times(result.output) == [F(k, 50) for k in range(100)]
    times = packet_times(result.output)
    assert all(b - a <= F(1, 40) for a, b in pairwise(times))
    assert abs(times[-1] + F(1024, 48000) - 2) < F(1, 40)


def with_shifted_audio(path, moves):
    """Write a recording in which these audio packets have moved by milliseconds."""
    data = bytearray(recording(path, "flv1", "libmp3lame").read_bytes())
    at, count = 13, 0
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] == 8:
            time = int.from_bytes(data[at + 4 : at + 7], "big") + moves.get(count, 0)
            data[at + 4 : at + 7] = time.to_bytes(3, "big")
            count += 1
        at += 11 + size + 4
    path.write_bytes(data)
    return path


def moved_packets(times, source):
    """Return the numbers of the packets whose times moved relative to the others."""
    source_times = packet_times(source)
    shift = times[5] - source_times[5]
    pairs = enumerate(zip(source_times, times, strict=False))
    return {k for k, (a, b) in pairs if k > 1 and b - a != shift}


@pytest.mark.parametrize(
    ("target", "moves"),
    [
        *product(["mkv", "mp4"], [{10: -60, 20: -30}, {15: -350}]),
        ("mp4", {10: -60, 11: -48}),
    ],
)
def test_audio_whose_times_go_back_is_kept_with_one_warning(tmp_path, target, moves):
    clip = with_shifted_audio(tmp_path / "in.flv", moves)
    out = tmp_path / f"out.{target}"
    result = interp(clip, out)
    assert packets_of(out) == packets_of(clip)
    (warning,) = (text for text in map(str, result.warnings) if "step back" in text)
    assert f"step back: {len(moves)} of its packets" in warning
    times = packet_times(out)
    assert times == sorted(times)
    assert moved_packets(times, clip) == {*moves}


def test_audio_whose_clock_starts_again_stays_continuous(tmp_path):
    clip = with_shifted_audio(tmp_path / "in.flv", dict.fromkeys(range(32, 60), -700))
    interp(clip, tmp_path / "out.mp4")
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip)
    times = packet_times(tmp_path / "out.mp4")
    assert moved_packets(times[:32], clip) == set()
    gaps = [b - a for a, b in pairwise(times)]
    assert max(gaps) - min(gaps) < F(1, 200)
