"""A probe reports what the frames show, even if the header claims something else."""

import errno
import os
from contextlib import ExitStack
from fractions import Fraction
from unittest.mock import Mock

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloudconv.errors import InputError
from cloudconv.media.containers.muxing import add_copy
from cloudconv.media.frames.timing import constant_rate
from cloudconv.media.reading import demux
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from tests.helpers.factory import animation, picture, sound, tone, write_clip

NTSC = Fraction(24000, 1001)
RATES = [Fraction(n) for n in (1, 8, 12, 15, 24, 25, 30, 48, 50, 60, 120, 240)]
RATES += [Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)] + [
    Fraction(25, 2),
    Fraction(15, 2),
]
CLOCKS = [
    Fraction(1, d) for d in (1000, 600, 90_000, 15_360, 30_000, 1_000_000, 1_000_000_000)
]


def rounded_times(rate, clock, count, start=0):
    return [start + round(k / rate / clock) for k in range(count)]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(RATES),
    st.sampled_from(CLOCKS),
    st.integers(2, 400),
    st.integers(0, 10**7),
)
def test_a_constant_rate_is_found_with_any_clock(rate, clock, count, start):
    times = rounded_times(rate, clock, count, start)
    result = constant_rate(times, clock, [rate])
    if (
        clock in (Fraction(1, 90_000), Fraction(1, 15_360), Fraction(1, 30_000))
        and count < 20
    ):
        # The times of a fine clock are taken as exact unless a frame contradicts them.
        assert result is not None
        assert abs(result / rate - 1) < Fraction(1, 50)
    else:
        assert result == rate


@pytest.mark.full
@settings(deadline=None, max_examples=100)
@given(st.sampled_from(RATES), st.sampled_from(CLOCKS), st.integers(400, 3000))
def test_the_rate_of_a_long_video_is_found_without_its_header(rate, clock, count):
    assume(rate <= 60 or clock != Fraction(1, 600))
    lies = [Fraction(1000), Fraction(90_000), Fraction(29)]
    assert constant_rate(rounded_times(rate, clock, count), clock, lies) == rate


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_one_shifted_frame_makes_the_rate_variable(data):
    rate = data.draw(st.sampled_from([24, 30, 50]))
    clock = data.draw(st.sampled_from(CLOCKS[:3]))
    times = rounded_times(Fraction(rate), clock, data.draw(st.integers(4, 60)))
    moved = data.draw(st.integers(1, len(times) - 2))
    by = data.draw(st.integers(3, 8))
    times[moved] += by if clock != CLOCKS[2] else by * 50 + 7
    assert constant_rate(times, clock, [Fraction(rate)]) is None


@pytest.mark.parametrize("rate", [24, 600])
def test_frames_of_one_tick_have_a_constant_rate(tmp_path, rate):
    clip = write_clip(tmp_path / "a.avi", 9, rate=rate, codec="huffyuv", pix_fmt="yuv422p")
    timing = probe(clip).timing
    assert (timing.rate, timing.end) == (rate, Fraction(9, rate))


def test_a_gif_has_a_whole_rate_if_that_fits(tmp_path):
    """FFmpeg guesses 12000/1001, which fits the same hundredths of a second."""
    clip = write_clip(tmp_path / "a.gif", 12, rate=12, codec="gif", pix_fmt="rgb8")
    assert probe(clip).timing.rate == 12


@pytest.mark.parametrize("hundredths", [2, 3, 4, 5, 6, 7, 8, 10, 15])
@pytest.mark.parametrize("count", [1, 2, 10, 45])
def test_a_gif_with_even_delays_keeps_them(tmp_path, hundredths, count):
    clip = animation(tmp_path / "a.gif", [10 * hundredths] * count)
    timing = probe(clip).timing
    if count > 1:  # the delay of a single picture is not stored
        assert timing.rate == Fraction(100, hundredths)
        assert timing.end - timing.start == Fraction(count * hundredths, 100)


@pytest.mark.parametrize(
    ("delays", "rate"),
    [
        ([30, 40] * 20, Fraction(57, 2)),
        ([30, 30, 40] * 15, Fraction(30)),
        ([100, 200] * 10, None),
        ([40] * 20 + [500], None),
    ],
)
def test_a_gif_whose_delays_alternate_by_a_tick_has_even_times(tmp_path, delays, rate):
    info = probe(animation(tmp_path / "a.gif", delays))
    assert info.timing.rate == rate
    assert not info.warnings


JITTER = np.random.default_rng(1).integers(-3, 4, 90).tolist()


@pytest.mark.parametrize(
    ("times", "hint", "rate"),
    [
        # Pulldown: 2, 3, 2, 3 of 1/60 s. Then small jitter.
        ([1500 * n for k in range(20) for n in (5 * k, 5 * k + 2)], 24, None),
        ([3003 * k + by for k, by in enumerate(JITTER)], 30, Fraction(30000, 1001)),
        # Stamps of a coarser clock before.
        ([90 * t for t in rounded_times(NTSC, Fraction(1, 1000), 200)], NTSC, NTSC),
        ([150 * t for t in rounded_times(NTSC, Fraction(1, 600), 200)], NTSC, NTSC),
    ],
)
def test_uneven_times_of_a_fine_clock_have_a_rate_only_if_they_are_rounded(
    times, hint, rate
):
    assert constant_rate(times, Fraction(1, 90_000), [Fraction(hint)]) == rate


def test_a_wrong_rate_in_the_header_is_ignored(tmp_path):
    times = [Fraction(k, 12) for k in range(10)]
    timing = probe(write_clip(tmp_path / "lie.mkv", 10, rate=60, times=times)).timing
    assert (timing.rate, timing.frames) == (12, 10)


def test_full_range_jpeg_formats_become_a_range_tag(tmp_path):
    frames = [picture(k, pix_fmt="yuvj420p") for k in range(2)]
    info = probe(write_clip(tmp_path / "a.mov", frames, codec="mjpeg"))
    assert (info.pix_fmt, info.working_pix_fmt, info.tags.range) == (
        "yuvj420p",
        "yuv420p",
        2,
    )


def test_a_folder_and_a_pattern_give_the_same_pictures(tmp_path):
    for number in (1, 2, 10):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{number}.png")
    for name in ("notes.txt", "._1.png", ".hidden.mp4"):
        (tmp_path / name).write_text("not a picture")
    for path in (tmp_path, tmp_path / "%d.png"):
        info = probe(path)
        assert (info.timing.frames, info.timing.rate) == (3, 25)
        (said,) = [w.text for w in info.warnings if w.code == "rate-assumed"]
        assert "are read at 25 fps: give another rate with --input-fps" in said
        assert "rate-assumed" not in [w.code for w in probe(path, Fraction(25)).warnings]
        assert (info.width, info.height, info.working_pix_fmt) == (8, 6, "gbrp")


def test_a_picture_or_a_container_without_durations_may_have_one_frame(tmp_path):
    path = tmp_path / "100%d.png"  # a name that looks like a pattern
    Image.new("RGB", (8, 6)).save(path)
    assert probe(path).timing.frames == 1
    timing = probe(write_clip(tmp_path / "a.flv", 1, codec="flv1")).timing
    assert (timing.frames, timing.rate) == (1, 24)
    assert timing.end - timing.start == Fraction(1, 24)


def test_an_animated_webp_that_ends_in_its_header_cannot_be_read(tmp_path):
    path = animation(tmp_path / "a.webp", [100] * 3)
    header = path.read_bytes()[:30]
    for length in (16, 20, 21, 29):
        path.write_bytes(header[:length])
        with pytest.raises(InputError):
            probe(path)


def test_every_bad_input_gets_one_clear_sentence(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", 5, codec="libx264").read_bytes()
    contents = {
        "empty.mp4": b"",
        "noise.mp4": np.random.default_rng(0).bytes(4096),
        "text.mp4": b"This is no video.\n" * 50,
        "unfinished.mp4": whole[: whole.index(b"moov")],
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\na text\n")
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        sound(out, out.add_stream("pcm_s16le", rate=48000), tone(440, 4800))
    with av.open(str(tmp_path / "none.mkv"), "w") as out:
        video = out.add_stream("ffv1", rate=24)
        video.width = 96
        video.height = 64
        video.pix_fmt = "yuv420p"
        out.start_encoding()
    words = {
        "nowhere.mp4": "no file",
        "whole.mp4/a.mp4": "no file",
        "empty.mp4": "empty",
        "noise.mp4": "not a video",
        "text.mp4": "not a video",
        "folder": "no pictures",
        "folder/%03d.png": "No picture matches",
        "nowhere/%03d.png": "No picture matches",
        "unfinished.mp4": "incomplete",
        "sound.wav": "only audio:",
        "a.srt": "only subtitles:",
        "none.mkv": "before its first frame",
    }
    for name, word in words.items():
        path = tmp_path / name
        with pytest.raises(InputError) as caught:
            probe(path)
        message = str(caught.value)
        assert word in message, name
        assert str(path) in message or str(path.parent) in message, name
        assert "\n" not in message, name


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "gif"])
@pytest.mark.parametrize("lasts", [Fraction(1, 1000), Fraction(5000)])
@pytest.mark.parametrize("varies", [True, False])
def test_a_last_frame_of_absurd_length_lasts_as_long_as_the_others(
    tmp_path, suffix, lasts, varies
):
    numbers = (0, 1, 2, 3, 6, 7, 8, 9, 10, 13, 14, 15) if varies else range(12)
    about = {"codec": "libvpx" if suffix == "webm" else "mpeg4", "last_duration": lasts}
    if suffix == "gif":
        duration = min(max(lasts, Fraction(1, 100)), Fraction(655))
        about = {"codec": "gif", "pix_fmt": "rgb8", "last_duration": duration}
    elif suffix == "webm":
        about["last_duration"] = Fraction(1, 1000)  # the encoder refuses hours
    times = [Fraction(number, 10) for number in numbers]
    # Matroska says that every frame lasts a millisecond.
    path = write_clip(tmp_path / f"a.{suffix}", 12, times=times, rate=1000, **about)
    timing = probe(path).timing
    assert timing.rate == (None if varies else 10)
    assert timing.last_duration == Fraction(1, 10)
    assert timing.end == timing.start + times[-1] + Fraction(1, 10)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_stream_with_one_frame_is_not_taken_for_the_video(tmp_path, suffix, place):
    """The thumbnail is larger, and the default.

    ``stream`` takes any video stream, and no other.
    """
    clips = [write_clip(tmp_path / "a.mkv", 12, codec="mpeg2video")]
    clips.insert(
        place, write_clip(tmp_path / "b.mkv", 1, codec="mpeg2video", size=(192, 128))
    )
    path = tmp_path / f"in.{suffix}"
    with ExitStack() as stack:
        out = stack.enter_context(av.open(str(path), "w"))
        streams = [
            stack.enter_context(av.open(str(clip))).streams.video[0] for clip in clips
        ]
        added = [add_copy(out, stream) for stream in streams]
        added[place].disposition = Disposition.default
        added[1 - place].disposition = Disposition(0)
        for stream in (streams[place], streams[1 - place]):
            for packet in stream.container.demux(stream):
                if packet.size:
                    packet.stream = added[streams.index(stream)]
                    out.mux(packet)
    info = probe(path)
    assert (info.video_index, info.timing.frames, info.width) == (1 - place, 12, 96)
    assert f"stream {1 - place} is used" in str(info.warnings[0])
    with Source(info) as source:
        assert len(list(source.frames())) == 12
    info = probe(path, stream=place)
    assert (info.video_index, info.timing.frames, info.width) == (place, 1, 192)
    with pytest.raises(InputError, match="no video stream 2: give 0 or 1"):
        probe(path, stream=2)


def pictures(folder, names):
    for name in names:
        Image.new("RGB", (16, 16)).save(folder / f"{name}.png")


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1, 2, 3, 5, 10, 11], "4, 6-9."),
        ([0, 2, 4, 8, 10], "6."),
        ([98, 99, 100, 102], "101."),
        ([1, 2, 3, 4], ""),
        ([0, 10, 20, 30], ""),
        ([1_700_000_003, 1_700_000_011, 1_700_000_012, 1_700_000_040], ""),
        (
            [k for k in range(40) if k % 5 != 3 or k > 35],
            "3, 8, 13, 18, 23, 28 and 1 more.",
        ),
    ],
)
@pytest.mark.parametrize("given", ["", "shot2_%d_v3.png"])
def test_gaps_among_numbered_pictures_are_named(tmp_path, numbers, said, given):
    pictures(tmp_path, [f"shot2_{number}_v3" for number in numbers])
    info = probe(tmp_path / given)
    assert info.timing.frames == len(numbers)
    result = [
        str(text) for text in info.warnings if "missing among the pictures" in str(text)
    ]
    assert [said in text for text in result] == [True] * bool(said)


@pytest.mark.parametrize(
    "names",
    [
        ("a1", "b5", "take2_7", "take3_9"),
        ("take1_1", "take1_2", "take1_3", "take2_10", "take2_11"),
        ("1", "2", "5", "title"),
        ("1", "01", "5"),
    ],
)
def test_pictures_without_one_numbering_have_no_gaps(tmp_path, names):
    pictures(tmp_path, names)
    assert not probe(tmp_path, Fraction(25)).warnings


@pytest.mark.parametrize("varies", [True, False])
def test_one_packet_without_a_time_keeps_the_rate(tmp_path, varies):
    numbers = (0, 1, 2, 3, 5, 8, 9, 10, 12, 15, 16, 17, 20, 21) if varies else range(14)
    times = [Fraction(k, 25) for k in numbers]
    clip = tmp_path / "a.ts"
    write_clip(clip, len(times), times=times, rate=25, codec="libx264", options={"bf": "2"})
    data = bytearray(clip.read_bytes())
    at = 0
    # The eighth packet loses both of its time stamps, which are optional.
    for _ in range(8):
        at = data.index(b"\0\0\1\xe0", at) + 1
    length = 5 if data[at + 6] & 0xC0 == 0x80 else 10
    data[at + 6] &= 0x3F
    data[at + 8 : at + 8 + length] = b"\xff" * length
    clip.write_bytes(data)
    timing = probe(clip).timing
    assert (timing.rate, timing.frames) == (None if varies else 25, 14)
    with Source(clip) as source:
        frame_times = [frame.time - timing.start for frame in source.frames()]
    assert len(frame_times) == len(times)
    assert sum(a != b for a, b in zip(frame_times, times, strict=True)) <= varies


def test_a_decoder_whose_threads_cannot_start_is_no_damaged_file(tmp_path, monkeypatch):
    refused = av.error.BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def opened(stream):
        about = {"codec": stream.codec_context.codec, "sample_aspect_ratio": None}
        about["reorder_depth"] = 0
        return Mock(**about, decode=Mock(side_effect=refused))

    monkeypatch.setattr("cloudconv.media.reading.demux.open_decoder", opened)
    with pytest.raises(BlockingIOError):
        probe(write_clip(tmp_path / "a.mkv", 3))


def test_two_packets_show_that_the_best_of_two_videos_moves(tmp_path, monkeypatch):
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        streams = [out.add_stream("ffv1", rate=24) for _ in range(2)]
        for stream, width in zip(streams, (64, 32), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 32, "yuv420p"
        for number in range(40):
            for stream in streams:
                frame = av.VideoFrame(stream.width, 32, "yuv420p")
                frame.pts = number
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    taken = []
    read = demux.read_packets

    def counted(container, wanted):
        for packet in read(container, wanted):
            taken.append(packet.stream.index)
            yield packet

    monkeypatch.setattr(demux, "read_packets", counted)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert demux.main_video(container, tmp_path / "a.mkv").index == 0
    assert len(taken) <= 4
