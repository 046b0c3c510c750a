"""Times, pixels and tags of written files, and the folder's state after a failure."""

import os
import sys
import threading
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloudconv.errors import EncoderError, EncoderUsageError, OutputError
from cloudconv.media.frames.formats import repack, working_format
from cloudconv.media.frames.frame import ColorTags, Frame
from cloudconv.media.reading.probe import probe
from cloudconv.media.writing.sink import Sink
from cloudconv.settings import EncodeSettings
from tests.helpers.factory import picture, planes_of, read_planes, read_times, same
from tests.helpers.sinks import info_of, open_sink
from tests.helpers.system import largest_file

FAST = {"preset": "ultrafast"}
QUICK_VP9 = {"encoder_option": (("cpu-used", "8"),)}
NO_TAGS = ColorTags()
LIMITED_709 = ColorTags(1, 1, 1, 1)


def frames_of(times, last, size=(96, 64), pix_fmt="yuv420p", tags=NO_TAGS, **options):
    ends = [*times[1:], times[-1] + last]
    for index, (time, end) in enumerate(zip(times, ends, strict=True)):
        yield Frame(picture(index, *size, pix_fmt, **options), time, end - time, tags)


def even(count, *form, rate=24, **options):
    tick = 1 / Fraction(rate)
    return list(frames_of([k * tick for k in range(count)], tick, *form, **options))


def write(path, frames, info=None, *, rate=None, time_base=None, carry=None, **encode):
    """Write frames with these settings of the encoder; return the sink."""
    tick = time_base or 1 / Fraction(rate or 24)
    plan = {"rate": rate and Fraction(rate), "spans": [tick], "carry": carry}
    plan["settings"] = EncodeSettings(**encode)
    with open_sink(path, info or info_of(), overwrite=True, **plan) as sink:
        for frame in frames:
            sink.write(frame)
    return sink


@pytest.mark.parametrize("rate", [Fraction(96000, 1001), Fraction(60), Fraction(1000, 7)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_constant_rate_is_exact_in_mp4_and_mov(tmp_path, rate, suffix):
    path = tmp_path / f"clip{suffix}"
    frames = even(40, rate=rate)
    write(path, frames, rate=rate, **FAST)
    assert read_times(path) == [frame.time for frame in frames]
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert (stream.average_rate, stream.base_rate, stream.frames) == (rate, rate, 40)
        assert stream.duration * stream.time_base == 40 / rate
        assert clip.duration == round(40 / rate * 1_000_000)


@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=12),
    st.sampled_from([90000, 1001, 600]),
)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
@pytest.mark.parametrize("reordered", [0, 3])
def test_variable_times_are_exact_in_mp4(tmp_path, name, reordered, gaps, ticks):
    """B-frames are included: their packets are not stored in the order of display."""
    path = tmp_path / name
    tick = Fraction(1, ticks)
    options = (("bf", str(reordered)), ("b_strategy", "0"))
    times = [sum(gaps[:k]) * tick for k in range(len(gaps))]
    last = gaps[-1] * tick
    frames = frames_of(times, last, (16, 16))
    encode = {"encoder": "libx264", "encoder_option": options}
    write(path, frames, info_of((16, 16)), time_base=tick, **encode)
    assert read_times(path) == times
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert stream.duration * stream.time_base == times[-1] + last
        assert abs(clip.duration - (times[-1] + last) * 1_000_000) <= 1
        packets = [packet for packet in clip.demux(stream) if packet.size]
        assert all(a.dts < b.dts for a, b in pairwise(packets))
        assert all(packet.dts <= packet.pts for packet in packets)
    timing = probe(path).timing
    is_absurd = len(gaps) > 1 and 4 * gaps[-1] < min(gaps[:-1])
    assert timing.rate is not None or timing.last_duration == last or is_absurd


@pytest.mark.parametrize(("suffix", "encode"), [(".mkv", FAST), (".webm", QUICK_VP9)])
def test_matroska_is_exact_to_the_millisecond(tmp_path, suffix, encode):
    path = tmp_path / f"clip{suffix}"
    rate = Fraction(60000, 1001)
    write(path, even(20, rate=rate), rate=rate, **encode)
    away = [abs(time - k / rate) for k, time in enumerate(read_times(path))]
    assert len(away) == 20
    assert max(away) <= Fraction(1, 2000)


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
@pytest.mark.parametrize(
    "pix_fmt",
    [
        *("yuv420p", "yuv422p10le", "yuv444p12le", "yuva420p", "yuv411p"),
        *("gray", "gray16le", "gbrp", "gbrap", "gbrp10le"),
    ],
)
def test_lossless_planes_are_unchanged(tmp_path, pix_fmt, size):
    path = tmp_path / "clip.mkv"
    frames = even(3, size, pix_fmt, LIMITED_709)
    info = info_of(size, pix_fmt, tags=LIMITED_709)
    sink = write(path, frames, info, rate=24, encoder="ffv1")
    assert sink.plan.choice.working == pix_fmt
    with av.open(str(path)) as clip:
        for frame, decoded in zip(frames, clip.decode(video=0), strict=True):
            kept = repack(decoded, working_format(decoded.format.name))
            assert same(planes_of(frame.picture), planes_of(kept))


def test_forced_pixel_format_uses_the_sources_matrix(tmp_path):
    """Pure red becomes 63, 102, 240 in BT.709.

    With that of BT.601 it would be 81, 90, 240.
    """
    path = tmp_path / "clip.mkv"
    # The file has no matrix tag, so its size decides: BT.709, as in players.
    info = info_of((1280, 32), "gbrp")
    wide = av.VideoFrame(1280, 32, "gbrp")
    for plane, level in zip(wide.planes, (0, 0, 255), strict=True):
        np.frombuffer(plane, np.uint8)[:] = level
    frames = [Frame(wide, Fraction(0), Fraction(1))]
    write(path, frames, info, rate=1, encoder="ffv1", pix_fmt="yuv444p")
    (planes,) = read_planes(path)
    assert [int(plane[5, 5]) for plane in planes] == [63, 102, 240]
    with av.open(str(path)) as clip:
        result = next(clip.decode(video=0))
        assert (result.colorspace, result.color_range) == (1, 1)


def test_more_bits_and_chroma_do_not_change_levels(tmp_path):
    path = tmp_path / "clip.mkv"
    frames = even(2, tags=LIMITED_709)
    deeper = {"encoder": "ffv1", "pix_fmt": "yuv444p10le"}
    write(path, frames, info_of(tags=LIMITED_709), rate=24, **deeper)
    for frame, planes in zip(frames, read_planes(path), strict=True):
        assert same(planes_of(frame.picture)[0].astype(int) * 4, planes[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_tags_aspect_and_rotation_are_kept(tmp_path, suffix, encoder):
    turn = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], "<i4").tobytes()
    info = info_of(
        tags=ColorTags(9, 16, 9, 2), aspect=Fraction(16, 11), display_matrix=turn
    )
    path = tmp_path / f"clip{suffix}"
    write(path, even(1), info, rate=1, encoder=encoder, **FAST)
    with av.open(str(path)) as clip:
        result = next(clip.decode(video=0))
        assert (result.color_primaries, result.color_trc) == (9, 16)
        assert (result.colorspace, result.color_range) == (9, 2)
        assert clip.streams.video[0].codec_context.sample_aspect_ratio == Fraction(16, 11)
        sides = {side.type.name: bytes(side) for side in result.side_data}
        assert sides["DISPLAYMATRIX"] == turn


@pytest.mark.parametrize("aspect", [Fraction(239, 97), Fraction(16, 11), Fraction(5, 4)])
@pytest.mark.parametrize("rate", [Fraction(24), None])
@pytest.mark.parametrize(("suffix", "encoder"), [(".mkv", "ffv1"), (".webm", "libvpx-vp9")])
def test_aspect_is_kept_if_the_codec_cannot_store_it(
    tmp_path, aspect, rate, suffix, encoder
):
    path = tmp_path / f"clip{suffix}"
    info = info_of((97, 65), aspect=aspect, metadata={})
    assert not write(path, even(30, (97, 65)), info, rate=rate, encoder=encoder).warnings
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert stream.sample_aspect_ratio == aspect
        assert len(list(clip.decode(stream))) == 30
        clip.seek(1_000_000)
        assert next(clip.decode(stream)).time is not None
    assert (b"\x23\xe3\x83" in path.read_bytes()[:2000]) == (rate is not None)


def test_a_dropped_aspect_gives_a_warning(tmp_path):
    sink = write(tmp_path / "clip.gif", even(1), info_of(aspect=Fraction(4, 3)))
    assert any("4/3" in warning for warning in map(str, sink.warnings))


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="SVT-AV1 changes its priority only as root on Linux",
)
def test_av1_does_not_get_real_time_priority(tmp_path):
    """SVT-AV1 run by root requests real-time priority, which nearly stops others."""
    before = os.sched_getscheduler(0)

    def watched():
        yield from even(3)
        threads = [int(name) for name in os.listdir("/proc/self/task")]
        assert {os.sched_getscheduler(thread) for thread in threads} == {before}

    write(tmp_path / "a.mkv", watched(), rate=24, encoder="libsvtav1", preset="12")


def test_an_mp4_plays_while_it_is_downloaded_and_names_hevc_as_apple_players_want(tmp_path):
    path = tmp_path / "clip.mp4"
    write(path, even(1), encoder="libx265", **FAST)
    data = path.read_bytes()
    assert b"hvc1" in data
    assert data.index(b"moov") < data.index(b"mdat")


def test_writing_a_picture_many_times_does_not_change_it(tmp_path):
    """The same picture is written at many times while another thread reads its planes."""
    image = picture(3, noise=2)
    path = tmp_path / "clip.mkv"
    image.pts = 77
    image.time_base = Fraction(1, 13)
    image.pict_type = 1
    before = planes_of(image)
    stop = threading.Event()
    seen = []

    def watch():
        while not stop.wait(0.001):
            seen.append(same(before, planes_of(image)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        held = (Frame(image, Fraction(k, 24), Fraction(1, 24)) for k in range(30))
        write(path, held, rate=24, encoder="ffv1")
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert all(seen)
    assert (image.pts, image.time_base, int(image.pict_type)) == (77, Fraction(1, 13), 1)
    assert same(read_planes(path), [before] * 30)


def test_an_error_leaves_the_old_file_unchanged(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"precious")

    def failing():
        yield from even(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, failing(), rate=24, **FAST)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_frames_is_an_error_and_no_file(tmp_path):
    with pytest.raises(OutputError, match="no frames"):
        write(tmp_path / "clip.mp4", [], rate=24)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [((("x264-params", "nosuch=1"),), "nosuch"), ((("aq-mode", "nosuch"),), "nosuch"),
     ((("profile", "nosuch"),), "did not start"), ((("tune", "nosuch"),), "nosuch"),
     ((("level", "99"),), "99"), ((("b", "-1"),), "'b' out of range")],
)  # fmt: skip
def test_wrong_option_values_are_errors_before_any_frame(tmp_path, options, words):
    with pytest.raises(EncoderUsageError, match=words) as caught:
        write(tmp_path / "clip.mp4", [], encoder_option=options)
    assert "avcodec_open2" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "most"), [(".gif", 655), (".webp", 16_777)])
@pytest.mark.parametrize("times", [[0], [0, 1]])
def test_a_frame_that_lasts_too_long_for_an_animation_is_an_error(
    tmp_path, suffix, most, times
):
    path = tmp_path / f"clip{suffix}"
    info = info_of((16, 16))
    frames = list(frames_of(times, Fraction(most), (16, 16)))
    write(path, frames, info)
    with Image.open(path) as result:
        result.seek(result.n_frames - 1)
        result.load()
        assert suffix == ".webp" or result.info["duration"] == most * 1000
    frames = list(frames_of(times, Fraction(most + 1), (16, 16)))
    with pytest.raises(EncoderError, match=f"lasts at most {most} s"):
        write(tmp_path / f"new{suffix}", frames, info)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("most", [20, 5_000])  # the header fits, or does not
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", "_%03d.png"])
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path, suffix, most):
    encode = {"crf": 1, **FAST} if suffix in (".mp4", ".mkv") else {}
    with (
        largest_file(most),
        pytest.raises(OutputError, match=r"could not be|largest file"),
    ):
        write(tmp_path / f"clip{suffix}", even(30, noise=40), rate=24, **encode)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_silently_truncated_is_an_error(tmp_path, monkeypatch):
    def cut(sink, file, shown, verify=Sink._verify):
        os.truncate(file, file.stat().st_size // 2)
        verify(sink, file, shown)

    monkeypatch.setattr(Sink, "_verify", cut)
    with pytest.raises(OutputError, match="is incomplete"):
        write(tmp_path / "clip.mkv", even(30, noise=20), rate=24, **FAST)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [None, Fraction(25)])
@pytest.mark.parametrize("target", ["webm", "mkv", "mp4"])
def test_libvpx_accepts_a_time_base_that_is_too_fine(tmp_path, rate, target):
    fine = Fraction(1, 25_000_001)
    path = tmp_path / f"out.{target}"
    times = [Fraction(k, 25) + (0 if rate else k * fine) for k in range(6)]
    frames = frames_of(times, Fraction(1, 25))
    write(path, frames, rate=rate, time_base=fine, encoder="libvpx-vp9", **QUICK_VP9)
    away = [abs(time - Fraction(k, 25)) for k, time in enumerate(read_times(path))]
    assert len(away) == 6
    assert max(away) <= Fraction(1, 1_000_000 if target == "mp4" else 1000)
