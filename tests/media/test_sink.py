"""Times, pixels and tags of written files, and the state of the folder when writing fails."""

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

from cloudconv.errors import EncoderError, OutputError
from cloudconv.media.formats import repack, working_format
from cloudconv.media.frame import ColorTags, Frame
from cloudconv.media.muxer import FileWriter
from cloudconv.media.probe import probe
from cloudconv.settings import EncodeSettings
from tests.helpers.factory import picture, planes_of, read_planes, read_times
from tests.helpers.sinks import info_of, open_sink
from tests.helpers.system import largest_file

FAST = EncodeSettings(preset="ultrafast")
LOSSLESS = EncodeSettings(encoder="ffv1")
UNTAGGED = ColorTags()
LIMITED_709 = ColorTags(1, 1, 1, 1)


def frames_of(times, last, size=(96, 64), pix_fmt="yuv420p", tags=UNTAGGED, **options):
    ends = [*times[1:], times[-1] + last]
    for index, (time, end) in enumerate(zip(times, ends, strict=True)):
        yield Frame(picture(index, *size, pix_fmt, **options), time, end - time, tags)


def write(path, frames, info=None, *, rate=None, time_base=Fraction(1, 24), encode=FAST):
    info = info or info_of()
    with open_sink(
        path, info, rate=rate, time_base=time_base, settings=encode, overwrite=True
    ) as sink:
        for frame in frames:
            sink.write(frame)
    return sink


def constant(rate, count):
    return [k / Fraction(rate) for k in range(count)]


@pytest.mark.parametrize("rate", [Fraction(96000, 1001), Fraction(60), Fraction(1000, 7)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_constant_rate_is_exact_in_mp4_and_mov(tmp_path, rate, suffix):
    path = tmp_path / f"clip{suffix}"
    times = constant(rate, 40)
    write(path, frames_of(times, 1 / rate), rate=rate, time_base=1 / rate)
    assert read_times(path) == times
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert stream.average_rate == rate
        assert stream.base_rate == rate
        assert stream.frames == 40
        assert stream.duration * stream.time_base == 40 / rate
        assert clip.duration == round(40 / rate * 1_000_000)


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=12), st.sampled_from([90000, 1001, 600]))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
@pytest.mark.parametrize("reordered", [0, 3])
def test_variable_times_are_exact_in_mp4(tmp_path, name, reordered, gaps, ticks):
    """B-frames are included: their packets are not stored in the order of display."""
    path = tmp_path / name
    encode = EncodeSettings(
        encoder="libx264", encoder_option=(("bf", str(reordered)), ("b_strategy", "0"))
    )
    times = [Fraction(sum(gaps[:k]), ticks) for k in range(len(gaps))]
    last = Fraction(gaps[-1], ticks)
    frames = frames_of(times, last, (16, 16))
    write(path, frames, info_of((16, 16)), time_base=Fraction(1, ticks), encode=encode)
    assert read_times(path) == times
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert stream.duration * stream.time_base == times[-1] + last
        assert abs(clip.duration - (times[-1] + last) * 1_000_000) <= 1
        packets = [packet for packet in clip.demux(stream) if packet.size]
        assert all(a.dts < b.dts for a, b in pairwise(packets))
        assert all(packet.dts <= packet.pts for packet in packets)
    timing = probe(path).timing
    assert timing.rate is not None or timing.last_duration == last


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_is_exact_to_the_millisecond(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    rate = Fraction(60000, 1001)
    times = constant(rate, 20)
    encode = FAST if suffix == ".mkv" else EncodeSettings(encoder_option=(("cpu-used", "8"),))
    write(path, frames_of(times, 1 / rate), rate=rate, time_base=1 / rate, encode=encode)
    assert all(
        abs(a - b) <= Fraction(1, 2000) for a, b in zip(read_times(path), times, strict=True)
    )


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [
        ("yuv420p", (97, 65)),
        ("yuv422p10le", (96, 64)),
        ("yuv444p12le", (97, 65)),
        ("yuva420p", (96, 64)),
        ("gray", (97, 65)),
        ("gray16le", (96, 64)),
        ("gbrp", (97, 65)),
        ("gbrap", (97, 65)),
        ("gbrp10le", (97, 65)),
        ("yuv411p", (96, 64)),
    ],
)
def test_lossless_planes_are_unchanged(tmp_path, pix_fmt, size):
    path = tmp_path / "clip.mkv"
    frames = list(frames_of(constant(24, 3), Fraction(1, 24), size, pix_fmt, LIMITED_709))
    sink = write(
        path, frames, info_of(size, pix_fmt, tags=LIMITED_709), rate=Fraction(24), encode=LOSSLESS
    )
    assert sink.plan.choice.working == pix_fmt
    with av.open(str(path)) as clip:
        for frame, made in zip(frames, clip.decode(video=0), strict=True):
            kept = planes_of(repack(made, working_format(made.format.name)))
            for a, b in zip(planes_of(frame.picture), kept, strict=True):
                np.testing.assert_array_equal(a, b)


def test_forced_pixel_format_uses_the_sources_matrix(tmp_path):
    """Pure red becomes 63, 102, 240 in BT.709; with that of BT.601 it would be 81, 90, 240."""
    path = tmp_path / "clip.mkv"
    # The file has no matrix tag, so its size decides: BT.709, as in players.
    info = info_of((1280, 32), "gbrp")
    wide = av.VideoFrame(1280, 32, "gbrp")
    for plane, level in zip(wide.planes, (0, 0, 255), strict=True):
        np.frombuffer(plane, np.uint8)[:] = level
    encode = EncodeSettings(encoder="ffv1", pix_fmt="yuv444p")
    write(path, [Frame(wide, Fraction(0), Fraction(1))], info, rate=Fraction(1), encode=encode)
    (planes,) = read_planes(path)
    assert [int(plane[5, 5]) for plane in planes] == [63, 102, 240]
    with av.open(str(path)) as clip:
        made = next(clip.decode(video=0))
        assert (made.colorspace, made.color_range) == (1, 1)


def test_more_bits_and_chroma_do_not_change_levels(tmp_path):
    path = tmp_path / "clip.mkv"
    frames = list(frames_of(constant(24, 2), Fraction(1, 24), tags=LIMITED_709))
    encode = EncodeSettings(encoder="ffv1", pix_fmt="yuv444p10le")
    write(path, frames, info_of(tags=LIMITED_709), rate=Fraction(24), encode=encode)
    for frame, made in zip(frames, read_planes(path), strict=True):
        np.testing.assert_array_equal(planes_of(frame.picture)[0].astype(int) * 4, made[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_tags_aspect_and_rotation_are_kept(tmp_path, suffix, encoder):
    turn = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], "<i4").tobytes()
    info = info_of(tags=ColorTags(9, 16, 9, 2), aspect=Fraction(16, 11), display_matrix=turn)
    path = tmp_path / f"clip{suffix}"
    encode = EncodeSettings(encoder=encoder, preset="ultrafast")
    write(path, frames_of([Fraction(0)], Fraction(1)), info, rate=Fraction(1), encode=encode)
    with av.open(str(path)) as clip:
        made = next(clip.decode(video=0))
        assert (made.color_primaries, made.color_trc) == (9, 16)
        assert (made.colorspace, made.color_range) == (9, 2)
        assert clip.streams.video[0].codec_context.sample_aspect_ratio == Fraction(16, 11)
        sides = {side.type.name: bytes(side) for side in made.side_data}
        assert sides["DISPLAYMATRIX"] == turn


@pytest.mark.parametrize("aspect", [Fraction(239, 97), Fraction(16, 11), Fraction(5, 4)])
@pytest.mark.parametrize("rate", [Fraction(24), None])
@pytest.mark.parametrize(("suffix", "encoder"), [(".mkv", "ffv1"), (".webm", "libvpx-vp9")])
def test_aspect_is_kept_if_the_codec_cannot_store_it(tmp_path, aspect, rate, suffix, encoder):
    path = tmp_path / f"clip{suffix}"
    info = info_of((97, 65), aspect=aspect, metadata={})
    frames = frames_of(constant(24, 30), Fraction(1, 24), (97, 65))
    sink = write(path, frames, info, rate=rate, encode=EncodeSettings(encoder=encoder))
    assert not sink.warnings
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        assert stream.sample_aspect_ratio == aspect
        assert len(list(clip.decode(stream))) == 30
        clip.seek(1_000_000)
        assert next(clip.decode(stream)).time is not None
    assert (b"\x23\xe3\x83" in path.read_bytes()[:2000]) == (rate is not None)


def test_a_dropped_aspect_gives_a_warning(tmp_path):
    path = tmp_path / "clip.gif"
    info = info_of(aspect=Fraction(4, 3))
    frames = frames_of([Fraction(0)], Fraction(1))
    sink = write(path, frames, info, encode=EncodeSettings())
    assert any("4/3" in warning for warning in map(str, sink.warnings))


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="SVT-AV1 changes its priority only as root on Linux",
)
def test_av1_does_not_get_real_time_priority(tmp_path):
    """SVT-AV1 requests real-time priority if run by root, which nearly stops other processes."""
    before = os.sched_getscheduler(0)
    rate, encode = Fraction(24), EncodeSettings(encoder="libsvtav1", preset="12")
    path, tick = tmp_path / "a.mkv", 1 / rate
    with open_sink(path, info_of(), rate=rate, time_base=tick, settings=encode) as sink:
        for frame in frames_of(constant(24, 3), tick):
            sink.write(frame)
        threads = [int(name) for name in os.listdir("/proc/self/task")]
        assert {os.sched_getscheduler(thread) for thread in threads} == {before}


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1"])
def test_hdr10_metadata_is_kept(tmp_path, encoder):
    numbers = [34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450]
    display = np.array(
        [v for n in numbers for v in (n, 50000)] + [1, 10000, 1000, 1, 1, 1], "<i4"
    ).tobytes()
    light = np.array([1000, 400], "<u4").tobytes()
    info = info_of(pix_fmt="yuv420p10le", mastering_display=display, content_light=light)
    path = tmp_path / "clip.mp4"
    preset = "12" if encoder == "libsvtav1" else "ultrafast"
    frames = frames_of(constant(24, 2), Fraction(1, 24), pix_fmt="yuv420p10le")
    encode = EncodeSettings(encoder=encoder, preset=preset)
    write(path, frames, info, rate=Fraction(24), encode=encode)
    made = probe(path)
    assert made.content_light == light
    found, wanted = (np.frombuffer(each, "<i4")[:20].reshape(-1, 2)
                     for each in (made.mastering_display, display))  # fmt: skip
    np.testing.assert_allclose(found[:, 0] / found[:, 1], wanted[:, 0] / wanted[:, 1], atol=1e-4)


def test_an_mp4_plays_while_it_is_downloaded_and_names_hevc_as_apple_players_want(tmp_path):
    path = tmp_path / "clip.mp4"
    encode = EncodeSettings(encoder="libx265", preset="ultrafast")
    write(path, frames_of([Fraction(0)], Fraction(1)), encode=encode)
    data = path.read_bytes()
    assert b"hvc1" in data
    assert data.index(b"moov") < data.index(b"mdat")


def test_writing_a_picture_many_times_does_not_change_it(tmp_path):
    """The same picture is written at many times while another thread reads its planes."""
    shown = picture(3, noise=2)
    shown.pts, shown.time_base, shown.pict_type = 77, Fraction(1, 13), 1
    before = planes_of(shown)
    stop = threading.Event()
    seen = []

    def watch():
        while not stop.wait(0.001):
            planes = planes_of(shown)
            seen.append(all(np.array_equal(a, b) for a, b in zip(before, planes, strict=True)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    path = tmp_path / "clip.mkv"
    try:
        held = (Frame(shown, Fraction(k, 24), Fraction(1, 24)) for k in range(30))
        write(path, held, rate=Fraction(24), encode=LOSSLESS)
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert all(seen)
    assert (shown.pts, shown.time_base, int(shown.pict_type)) == (77, Fraction(1, 13), 1)
    made = read_planes(path)
    assert len(made) == 30
    assert all(np.array_equal(a, b) for p in made for a, b in zip(before, p, strict=True))


def test_an_error_leaves_the_old_file_unchanged(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"precious")

    def failing():
        yield from frames_of(constant(24, 3), Fraction(1, 24))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, failing(), rate=Fraction(24))
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_video_without_frames_is_an_error_and_no_file(tmp_path):
    with pytest.raises(OutputError, match="no frames"):
        write(tmp_path / "clip.mp4", [], rate=Fraction(24))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [((("x264-params", "nosuch=1"),), "nosuch"), ((("aq-mode", "nosuch"),), "nosuch"),
     ((("profile", "nosuch"),), "did not start")],
)  # fmt: skip
def test_wrong_option_values_are_errors_before_any_frame(tmp_path, options, words):
    with pytest.raises(EncoderError, match=words):
        write(tmp_path / "clip.mp4", [], encode=EncodeSettings(encoder_option=options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "most"), [(".gif", 655), (".webp", 16_777)])
@pytest.mark.parametrize("times", [[0], [0, 1]])
def test_a_frame_that_lasts_too_long_for_an_animation_is_an_error(tmp_path, suffix, most, times):
    path, info = tmp_path / f"clip{suffix}", info_of((16, 16))
    frames = list(frames_of(times, Fraction(most), (16, 16)))
    write(path, frames, info, encode=EncodeSettings())
    with Image.open(path) as made:
        made.seek(made.n_frames - 1)
        made.load()
        assert suffix == ".webp" or made.info["duration"] == most * 1000
    frames = list(frames_of(times, Fraction(most + 1), (16, 16)))
    with pytest.raises(EncoderError, match=f"lasts at most {most} s"):
        write(tmp_path / f"new{suffix}", frames, info, encode=EncodeSettings())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", "_%03d.png"])
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    encode = EncodeSettings(crf=1, preset="ultrafast") if suffix in (".mp4", ".mkv") else None
    frames = frames_of(constant(24, 30), Fraction(1, 24), noise=40)
    with largest_file(5_000), pytest.raises(OutputError, match=r"could not be|largest file"):
        write(path, frames, rate=Fraction(24), encode=encode or EncodeSettings())
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_silently_truncated_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "clip.mkv"
    finish = FileWriter.finish

    def cut(self):
        finish(self)
        (part,) = tmp_path.iterdir()
        os.truncate(part, part.stat().st_size // 2)

    monkeypatch.setattr(FileWriter, "finish", cut)
    with pytest.raises(OutputError, match="is incomplete"):
        write(path, frames_of(constant(24, 30), Fraction(1, 24), noise=20), rate=Fraction(24))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [None, Fraction(25)])
@pytest.mark.parametrize("target", ["webm", "mkv", "mp4"])
def test_libvpx_accepts_a_time_base_that_is_too_fine(tmp_path, rate, target):
    fine, path = Fraction(1, 25_000_001), tmp_path / f"out.{target}"
    encode = EncodeSettings(encoder="libvpx-vp9", encoder_option=(("cpu-used", "8"),))
    times = [Fraction(k, 25) + (0 if rate else k * fine) for k in range(6)]
    write(path, frames_of(times, Fraction(1, 25)), rate=rate, time_base=fine, encode=encode)
    near, made = Fraction(1, 1_000_000 if target == "mp4" else 1000), read_times(path)
    assert len(made) == 6
    assert all(abs(time - Fraction(k, 25)) <= near for k, time in enumerate(made))
