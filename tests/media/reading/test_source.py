"""Every frame is decoded once, in order, at its time, from intact and damaged files."""

import gc
import io
import sys
from fractions import Fraction
from itertools import count, pairwise, permutations
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image

from cloudconv.errors import InputError
from cloudconv.events import Warned, Warnings
from cloudconv.media.containers.muxing import add_copy
from cloudconv.media.reading import decode as decode_module
from cloudconv.media.reading import demux
from cloudconv.media.reading.account import Account
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from tests.helpers.factory import (
    FIELDS,
    animation,
    packet_times,
    picture,
    planes_of,
    read_planes,
    remux,
    same,
    write_clip,
)

CLIPS = Path(__file__).parents[4] / "shared" / "clips"
# One thread: libvpx's threads spin while they wait, which takes minutes on a busy machine.
VP8 = {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "10", "threads": "1"}
X264 = {"bf": "3", "g": "12", "sc_threshold": "0"}
CLOSED = "log-level=none:keyint=12:min-keyint=12:bframes=3"


def frames_of(path, **options):
    with Source(path, **options) as source:
        return list(source.frames())


def test_a_frame_that_nobody_uses_is_freed_without_the_garbage_collector(tmp_path):
    def alive():
        return sum(type(k) is av.VideoFrame for k in gc.get_objects())

    write_clip(tmp_path / "a.mp4", 30)
    gc.collect()
    before = alive()  # in the fixtures of other tests
    gc.disable()
    try:
        with Source(probe(tmp_path / "a.mp4")) as source:
            for _ in source.frames():
                assert alive() < before + 10
    finally:
        gc.enable()


def check_times(frames):
    assert frames[-1].duration > 0
    for a, b in pairwise(frames):
        assert a.time < b.time == a.time + a.duration


def assert_same(found, expected):
    assert [(f.time, f.duration) for f in found] == [(f.time, f.duration) for f in expected]
    assert all(a.same_picture(b) for a, b in zip(found, expected, strict=True))


FAST_VP9 = {"g": "20", "deadline": "realtime", "cpu-used": "8"}
FILES = [
    ("mp4", "libx264", X264, 0),
    ("mkv", "libx264", X264, 5),
    ("mov", "libx265", {"x265-params": CLOSED}, 0),
    ("webm", "libvpx-vp9", FAST_VP9, 0),
    ("ts", "libx264", X264, 3),
    ("avi", "mpeg4", {"bf": "2"}, 0),
    ("h264", "libx264", X264, 0),
    ("mpg", "mpeg2video", {"bf": "2", "g": "9"}, 0),
    ("m1v", "mpeg1video", {"bf": "2", "g": "9"}, 0),
]
MORE_FILES = [
    ("mkv", "ffv1", {}, 0),
    ("mp4", "libx264", {**X264, "x264-params": "open-gop=1"}, 1),
    ("ts", "libx264", {**X264, "x264-params": "open-gop=1"}, 0),
    ("mp4", "libx265", {"x265-params": CLOSED + ":open-gop=1"}, 0),
    ("avi", "libx264", X264, 0),
    ("avi", "mpeg4", {"g": "9"}, 0),
    ("flv", "libx264", X264, 0),
    ("asf", "wmv2", {"g": "9"}, 0),
    ("nut", "mpeg4", {"bf": "2", "g": "9"}, 0),
    ("webm", "libvpx", VP8, 0),
]


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "start"),
    [*FILES, *(pytest.param(*each, marks=pytest.mark.full) for each in MORE_FILES)],
)
def test_every_frame_is_decoded_once_at_its_exact_time(
    tmp_path, suffix, codec, options, start, monkeypatch
):
    """A part, which may begin between two keyframes, has the same frames as the whole.

    The file is decoded from one place for each part.
    """
    path = tmp_path / f"a.{suffix}"
    rate = Fraction(24)
    times = [start + k / rate for k in range(72)]
    write_clip(path, 72, times=times, codec=codec, options=options, noise=3.0)
    with Source(path) as source:
        frames = list(source.frames())
        info = source.info
        assert source.warnings == []
    timing = info.timing
    assert [f.time for f in frames] == [timing.start + k / rate for k in range(72)]
    assert timing.end == frames[-1].time + frames[-1].duration
    check_times(frames)
    assert same([planes_of(frame.picture) for frame in frames], read_planes(path))
    begun = Mock(side_effect=decode_module.VideoFile._from, autospec=True)
    monkeypatch.setattr(decode_module.VideoFile, "_from", lambda *given: begun(*given))
    parts = [(0, 5), (11, 13), (25, 26), (37, 60), (60, 72), (71, 72)]
    for first, last in parts:
        assert_same(
            frames_of(info, start=first / rate, end=last / rate), frames[first:last]
        )
    assert begun.call_count == len(parts)


@pytest.mark.parametrize(
    "rate", [25, *(pytest.param(k, marks=pytest.mark.full) for k in (10, 30))]
)
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "0"}),
        ("libx264", X264),
        ("mpeg4", {}),
        ("mpeg4", {"bf": "2", "g": "12"}),
    ],
)
@pytest.mark.parametrize("suffix", ["avi", "asf", "mov", "mkv"])
def test_sound_is_in_step_if_stamps_are_decode_times(
    tmp_path, suffix, codec, options, rate
):
    """AVI delays no audio.

    ASF delays it as the video. The others lack presentation times.
    """
    about = {"rate": rate, "codec": codec, "options": options, "audio": ["pcm_s16le"]}
    path = write_clip(tmp_path / f"a.{suffix}", 36, **about)
    pictures = read_planes(path)
    numbers = count()

    def decoded(packet):
        if packet.stream.type == "video":
            time = Fraction(next(numbers), rate)
            packet.pts = packet.dts = round(time / packet.time_base)
        return packet

    if suffix in ("mov", "mkv"):
        path = remux(path, tmp_path / f"old.{suffix}", decoded)
    frames = frames_of(path)
    heard = packet_times(path)[0]
    assert abs(frames[0].time - heard) <= Fraction(1, 1000)
    assert [f.time - frames[0].time for f in frames] == [
        Fraction(k, rate) for k in range(36)
    ]
    assert same([planes_of(frame.picture) for frame in frames], pictures)


def test_a_frame_that_an_avi_leaves_out_moves_no_other(tmp_path):
    """An encoder fills its delay with three empty frames.

    A later packet holds no picture.
    """
    whole = write_clip(tmp_path / "a.avi", 36, rate=25, codec="mpeg4", options={"bf": "2"})
    numbers = count()

    def change(packet):
        if number := next(numbers):
            packet.pts = packet.dts = packet.dts + 3
        if number != 9:
            return packet
        result = av.Packet(b"\0\0\1\xb6\x50\x4f")
        result.pts = packet.pts
        result.dts = packet.dts
        result.time_base = packet.time_base
        return result

    frames = frames_of(remux(whole, tmp_path / "b.avi", change))
    times = {frame.time * 25: planes_of(frame.picture) for frame in frames}
    assert len(times) == 35
    before = read_planes(whole)
    assert all(same(times[k], before[k]) for k in (*range(8), *range(12, 36)))


FILM = [2, 3] * 8


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ([*FILM, *FILM], Fraction(24000, 1001)),
        ([*FILM, 2, 2, *reversed(FILM), 3, 3], Fraction(24000, 1001)),
        ([2] * 9 + [*FILM, 2] + [2] * 9, None),
    ],
)
def test_film_with_repeated_fields_gets_even_times(tmp_path, suffix, fields, rate):
    """The cadence may break at a cut, and a part may be video."""
    field = Fraction(1001, 60000)
    tick = Fraction(1, 90000 if suffix == "ts" else 1000)
    times = [round(sum(fields[:k]) * field / tick) * tick for k in range(len(fields))]
    about = {"times": times, "rate": Fraction(30000, 1001), "codec": "libx264"}
    path = write_clip(tmp_path / f"a.{suffix}", len(times), **about)
    for deinterlace in (False, True):
        info = probe(path, deinterlace=deinterlace and rate is not None)
        result = [frame.time - info.timing.start for frame in frames_of(info)]
        if rate is not None:
            assert result == [k / rate for k in range(len(fields))]
        else:
            assert all(abs(b - a - 2.5 * field) <= tick for a, b in pairwise(result[9:26]))
            assert result[:9] == times[:9]
        assert sum("soft telecine" in str(text) for text in info.warnings) == 1


@pytest.mark.parametrize(
    ("ticks", "rate"),
    [
        ([0, 2, 3, 4, 5, 6, 7, 8, 9, 10], None),  # one frame lacks at 30 fps
        # 24 fps, rounded to ticks of 1/30 s.
        ([0, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14], 24),
    ],
)
def test_no_frame_is_lost_if_a_tick_is_about_as_long_as_a_frame(tmp_path, ticks, rate):
    times = [Fraction(tick, 30) for tick in ticks]
    clip = write_clip(tmp_path / "a.avi", len(ticks), rate=30, times=times, codec="ffv1")
    timing = probe(clip).timing
    assert timing.rate == rate
    assert timing.end == (Fraction(11, 30) if rate is None else Fraction(len(ticks), rate))
    with Source(clip) as source:
        result = [frame.time for frame in source.frames()]
    assert result == (
        times if rate is None else [Fraction(k, rate) for k in range(len(ticks))]
    )


def test_frames_hidden_by_an_edit_list_are_left_out(tmp_path):
    times = [Fraction(k - 4, 24) for k in range(16)]
    path = write_clip(
        tmp_path / "e.mp4", 16, times=times, codec="mpeg4", options={"g": "30"}
    )
    timing = probe(path).timing
    assert (timing.frames, timing.start, timing.rate) == (12, 0, 24)
    assert [f.time for f in frames_of(path)] == [Fraction(k, 24) for k in range(12)]


@pytest.mark.parametrize(
    "kinds", [*permutations(["RGB", "RGBA", "P", "L", "LA", "1", "I;16"], 2), ("P", "P")]
)
def test_pngs_of_several_kinds_in_a_folder_keep_their_colours(tmp_path, kinds):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8))
    expected = []
    for number, kind in enumerate(kinds):
        image = noise.convert("L" if kind == "I;16" else kind)
        if kind == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(tmp_path / f"{number}.png")
        expected.append(noise.convert("L" if kind == "I;16" else kind).convert("RGBA"))
    for frame, image in zip(frames_of(tmp_path), expected, strict=True):
        planes = planes_of(frame.picture)
        codes = [p if p.dtype == np.uint8 else p // 257 for p in planes]
        channels = [np.asarray(image)[..., k] for k in (1, 2, 0, 3)]  # green comes first
        assert same(codes, channels[: len(codes)])
        assert all(p.dtype == np.uint8 or not (p % 257).any() for p in planes)


def test_an_empty_part_is_an_error(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 12, codec="libx264")
    with pytest.raises(InputError, match="no frame in the part"):
        frames_of(path, start=Fraction(9))


def test_frames_are_decoded_lazily_and_decoding_can_restart(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 30, codec="libx264")
    with Source(path, threads=1) as source:
        frames = source.frames()
        assert next(frames).time == 0
        frames.close()
        assert len(list(source.frames())) == 30


def damaged(path, packets, **options):
    """Copy the clip with the data of some packets overwritten.

    ``options`` of the container.
    """
    numbers = count()

    def spoiled(packet):
        if next(numbers) not in packets:
            return packet
        result = av.Packet(b"\xff" * packet.size)
        result.pts = packet.pts
        result.dts = packet.dts
        result.duration = packet.duration
        result.time_base = packet.time_base
        return result

    return remux(path, path.with_name(f"damaged{path.suffix}"), spoiled, **options)


def without_its_second_key_frame(path):
    """Copy the clip as if the network had lost a packet."""
    keys = count()
    return remux(
        path,
        path.with_name(f"lost{path.suffix}"),
        lambda packet: None if packet.is_keyframe and next(keys) == 1 else packet,
    )


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", X264), ("libx265", {"x265-params": CLOSED})],
)
def test_frames_that_a_decoder_leaves_out_without_an_error_are_counted(
    tmp_path, codec, options
):
    """The second key frame is lost, and pictures that refer to it cannot be shown."""
    whole = write_clip(tmp_path / "a.mkv", 40, codec=codec, rate=25, options=options)
    path = without_its_second_key_frame(whole)
    with Source(path) as source:
        frames = list(source.frames())
    gaps = [b.time - a.time for a, b in pairwise(frames)]
    (text,) = [w.text for w in source.warnings]
    lost = 39 - len(frames)
    assert lost > 5
    first = frames[gaps.index(max(gaps))].time
    assert text.startswith(f"{lost} frames could not be decoded and are missing, the first")
    assert text.endswith(f"the first at {float(first + Fraction(1, 25)):.3f} s.")


def test_a_loss_at_time_0_stays_the_first():
    account = Account(Fraction(-1), None, Warnings())
    for time in range(-1, 6):
        account.expect(Fraction(time))
        if time not in (0, 3):
            account.show(Fraction(time))
    account.finish(Fraction(6))
    assert (account.lost, account.first_lost) == (2, 0)


@pytest.mark.parametrize("start", [None, Fraction(1)])
def test_nvdec_or_its_lack_changes_no_frame(tmp_path, start):
    """The machine has or lacks a GPU; a packet in the middle of the file is damaged."""
    path = damaged(write_clip(tmp_path / "a.mkv", 40, codec="libx264", options=X264), {30})
    with Source(path, start=start, nvdec=0) as source:
        assert_same(list(source.frames()), frames_of(path, start=start))
        assert source.by_gpu != any(
            "not NVDEC" in text for text in map(str, source.warnings)
        )


def test_pictures_without_a_time_come_once_if_another_mode_decodes_again(
    tmp_path, monkeypatch
):
    path = damaged(write_clip(tmp_path / "a.mkv", 40, codec="libx264", options=X264), {30})
    expected = [frame.time for frame in frames_of(path)]
    time_of = decode_module._Queue.time_of

    def without_some_times(self, picture):
        return None if picture.pts % 7 == 3 else time_of(self, picture)

    monkeypatch.setattr(decode_module._Queue, "time_of", without_some_times)
    assert [frame.time for frame in frames_of(path)] == expected


@pytest.fixture
def pretend_nvdec(monkeypatch):
    """Return a function that simulates a GPU that decodes a file, and returns its maker."""

    def pretend(gives, real=demux.open_container):
        accelerator = Mock()
        opened = Mock(
            side_effect=lambda path, hardware=None, **_: real(gives if hardware else path)
        )
        monkeypatch.setattr(decode_module, "HWAccel", accelerator)
        monkeypatch.setattr(demux, "open_container", opened)
        monkeypatch.setattr(decode_module, "is_hardware", lambda decoder: True)
        return accelerator

    return pretend


@pytest.mark.parametrize(
    ("other", "taken"),
    [({}, True), ({"size": (96, 80)}, False), ({"pix_fmt": "yuv444p"}, False)],
)
def test_nvdec_is_used_only_if_its_first_picture_matches_the_probe(
    tmp_path, pretend_nvdec, other, taken
):
    path = write_clip(tmp_path / "a.mkv", 12, codec="libx264")
    expected = frames_of(path)
    # The encoder's output is not reproducible on every machine, so the same file is used.
    gives = write_clip(tmp_path / "b.mkv", 12, codec="libx264", **other) if other else path
    accelerator = pretend_nvdec(gives)
    with Source(path, nvdec=1) as source:
        assert_same(list(source.frames()), expected)
        assert source.by_gpu == taken
        assert (
            any("another size or format" in text for text in map(str, source.warnings))
            != taken
        )
    # FFmpeg must not fall back to the CPU in silence.
    accelerator.assert_called_once_with("cuda", "1", allow_software_fallback=False)


@pytest.mark.parametrize(
    ("given", "codec", "pix_fmt", "reason"),
    [("a.mkv", "mpeg4", "yuv420p", "NVDEC is used for h264, hevc, vp9, av1 only, not for "
                                   "mpeg4"),
     ("%d.png", "png", "rgb24", "the input is pictures")],
)  # fmt: skip
def test_nvdec_is_not_used_for_other_codecs(
    tmp_path, pretend_nvdec, given, codec, pix_fmt, reason
):
    path = tmp_path / given.replace("%d", "0")
    write_clip(path, [picture(0, pix_fmt=pix_fmt)], codec=codec)
    accelerator = pretend_nvdec(path)
    with Source(tmp_path / given, nvdec=0) as source:
        assert len(list(source.frames())) == 1
        assert not source.by_gpu
        assert [*map(str, source.warnings)] == [f"The CPU decodes, not NVDEC: {reason}."]
    accelerator.assert_not_called()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_truncated_file_gives_its_complete_frames(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_clip(path, 40, codec="libx264", options={"crf": "5"}, noise=9.0)
    if suffix == "mp4":  # readable because its index comes first
        path = damaged(path, {}, movflags="faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with Source(path) as source:
        frames = list(source.frames())
        info = source.info
    assert any("cut off" in w for w in map(str, info.warnings))
    assert 10 < info.timing.frames < 36
    assert info.timing.last_duration < Fraction(1, 10)  # and no pause
    assert 5 < len(frames) < 36
    assert frames[0].time == 0
    check_times(frames)


def test_a_stream_that_appears_late_does_not_end_the_video(tmp_path):
    clip = write_clip(tmp_path / "late.flv", 300, codec="flv", rate=25, size=(16, 16))
    audio = b"\x2f\xff\xfb\x90\x00"
    tag = (
        b"\x08" + len(audio).to_bytes(3, "big") + bytes(7) + audio + (16).to_bytes(4, "big")
    )
    clip.write_bytes(clip.read_bytes() + 3 * tag)
    assert len(frames_of(clip)) == 300


def test_frames_with_repeated_time_stamps_are_left_out(tmp_path):
    ticks = iter([0, 40, 40, 80, 120])

    def restamped(packet):
        packet.pts = packet.dts = next(ticks)
        return packet

    clip = write_clip(tmp_path / "a.mkv", 5, rate=25)
    with Source(remux(clip, tmp_path / "r.mkv", restamped)) as source:
        frames = list(source.frames())
        assert [f.time for f in frames] == [Fraction(k, 25) for k in range(4)]
        assert any("1 frame with a repeated" in w for w in map(str, source.warnings))


def joined(folder, *kinds):
    """Write a stream of five frames of each kind, given as the options of a clip."""
    path = folder / "joined.h264"
    parts = [write_clip(folder / "a.h264", 5, rate=25, codec="libx264", **kind).read_bytes()
             for kind in kinds]  # fmt: skip
    path.write_bytes(b"".join(parts))
    return path


def test_a_change_of_aspect_is_named_with_its_time(tmp_path):
    path = joined(tmp_path, {"aspect": Fraction(4, 3)}, {"aspect": Fraction(16, 11)})
    assert probe(path).aspect == Fraction(4, 3)
    said = "changes from 4:3 to 16:11 at 0.200 s; the output has 4:3"
    with Source(path) as source:
        assert len(list(source.frames())) == 10
        assert [said in w for w in map(str, source.warnings)].count(True) == 1
    with Source(path, end=Fraction(1, 5)) as source:
        assert len(list(source.frames())) == 5
        assert not any("changes" in w for w in map(str, source.warnings))


@pytest.mark.parametrize(
    "order", [("interlaced", "progressive"), ("progressive", "interlaced")]
)
def test_interlacing_that_changes_is_named_with_its_time(tmp_path, order):
    path = joined(
        tmp_path, *({"options": FIELDS if k == "interlaced" else {}} for k in order)
    )
    with Source(path) as source:
        assert len(list(source.frames())) == 10
        said = f"changes from {order[0]} to {order[1]} at 0.200 s"
        assert [said in w for w in map(str, source.warnings)].count(True) == 1
    with Source(probe(path, deinterlace=True)) as source:
        assert len(list(source.frames())) == 20
        assert not any("changes" in w for w in map(str, source.warnings))


def test_a_change_of_size_is_named_with_its_time(tmp_path):
    path = joined(tmp_path, {"size": (96, 64)}, {"size": (128, 64)})
    with pytest.raises(
        InputError, match=r"from 0\.200 s on, is 128x64 yuv420p, and .* is 96x64 yuv420p"
    ):
        frames_of(path)


def test_a_picture_of_another_size_in_a_folder_is_named(tmp_path):
    for number in range(1, 13):
        size = (16, 8) if number < 11 else (8, 16)
        Image.new("RGB", size).save(tmp_path / f"f{number}.png")
    with pytest.raises(InputError, match=r"f11\.png is 8x16 rgb24, and .* is 16x8 rgb24"):
        frames_of(tmp_path)
    with pytest.raises(InputError, match=r"f11\.png is 8x16 rgb24"):
        frames_of(tmp_path, start=Fraction(9, 25))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("is_tagged", [False, True])
def test_webm_keeps_its_alpha_channel(tmp_path, codec, is_tagged):
    options = {"auto-alt-ref": "0", **FAST_VP9}
    form = {"codec": codec, "pix_fmt": "yuva420p", "options": options}
    path = write_clip(tmp_path / "a.webm", 4, **form)
    if is_tagged:  # as by users of FFmpeg: -metadata:s:v alpha_mode=1
        tagged = tmp_path / "b.webm"
        with av.open(str(path)) as clip, av.open(str(tagged), "w") as out:
            stream = add_copy(out, clip.streams.video[0])
            stream.metadata["alpha_mode"] = "1"
            for packet in clip.demux(video=0):
                packet.stream = stream
                if packet.size:
                    out.mux(packet)
        path = tagged
    frames = frames_of(path)
    assert [f.pix_fmt for f in frames] == ["yuva420p"] * 4
    wanted = planes_of(picture(3, pix_fmt="yuva420p"))[3].astype(float)
    assert abs(frames[3].planes()[3].numpy() - wanted).mean() < 8


def test_a_folder_of_pictures_is_a_video(tmp_path):
    for number in (0, 1, 2, 10, 11):
        Image.new("RGB", (8, 6), (number, 0, 7)).save(tmp_path / f"f{number}.png")
    (tmp_path / "f5.png").write_bytes(b"this is no picture")
    with Source(tmp_path / "f%d.png", start=Fraction(1, 25)) as source:
        frames = list(source.frames())
        assert source.warnings == [
            Warned(
                "frames-lost: 1 frame could not be decoded and is missing, the first "
                "f5.png."
            )
        ]
    assert [int(f.planes()[2][0, 0]) for f in frames] == [1, 2, 10, 11]
    assert [f.time * 25 for f in frames] == [1, 2, 4, 5]
    assert [f.duration * 25 for f in frames] == [1, 2, 1, 1]


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_animations_keep_times_and_pictures(tmp_path, kind):
    frames = frames_of(animation(tmp_path / f"a.{kind}", [40, 80, 120, 200]))
    assert [f.time * 100 for f in frames] == [0, 4, 12, 24]
    assert [f.duration * 100 for f in frames] == [4, 8, 12, 20]
    assert [int(f.planes()[2][0, 0]) for f in frames] == [0, 60, 120, 180]


def test_the_copy_of_standard_input_is_deleted_after_use(tmp_path, monkeypatch):
    data = write_clip(tmp_path / "a.mp4", 7, codec="libx264").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    with Source(probe("-")) as source:
        folder = Path(str(source.info.path.parent))
        assert len(list(source.frames())) == 7
    with Source(source.info) as again:
        assert len(list(again.frames())) == 7
    del source, again
    assert not folder.exists()


@pytest.mark.parametrize(
    ("share", "words"), [(0, "Nothing came"), (2, "^standard input is")]
)
def test_a_message_names_standard_input_and_not_its_copy(
    tmp_path, monkeypatch, share, words
):
    data = write_clip(tmp_path / "a.mp4", 7).read_bytes()
    data = data[: len(data) // share] if share else b""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    with pytest.raises(InputError, match=words) as caught:
        Source("-")
    assert "cloudconv-" not in str(caught.value)


def test_nothing_is_printed_for_broken_files(tmp_path, capfd):
    path = write_clip(tmp_path / "a.mp4", 20, codec="libx264", options={"bf": "0"})
    frames_of(damaged(path, {4, 5, 6}))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are missing")
def test_damaged_sample_files_decode_or_give_an_error():
    wanted = {
        "generated/editlist_copycut.mp4": 45,
        "generated/truncated.mkv": 174,
        "real/media__roadtrip-vp92-10bit.webm": 72,
        "real/media__sample-with-large-length.avi": 58,
        "real/testsuite__enst_video.h264": 173,
        "real/media__sample_with_invalid_nalu.mp4": 29,
        "real/media__water_180_mvhevc_5frames.mov": 5,
    }
    for name, frames in wanted.items():
        assert len(frames_of(CLIPS / "torture" / name)) == frames, name
    for name in ("header_only.mp4", "no_first_keyframe.h264", "reschange_midstream.ts"):
        with pytest.raises(InputError):
            frames_of(CLIPS / "torture" / "generated" / name)
