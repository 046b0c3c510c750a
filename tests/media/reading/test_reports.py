"""Files that users of other programs reported: read as players show them, or named."""

from dataclasses import replace
from fractions import Fraction
from itertools import count

import av
import numpy as np
import pytest
from PIL import Image

from cloudconv.errors import InputError
from cloudconv.media.containers.containers import MP4
from cloudconv.media.containers.muxing import add_copy
from cloudconv.media.frames.frame import ColorTags
from cloudconv.media.reading.pictures import motion_photo
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.media.writing.encoders import DEFAULTS, choose
from tests.helpers import calls
from tests.helpers.factory import (
    animation,
    planes_of,
    remux,
    write_clip,
)
from tests.helpers.sinks import info_of
from tests.media.carried.test_carry import convert, said
from tests.media.writing.test_sink import even, write


def codes(warnings):
    return [warning.code for warning in warnings]


def level(number):
    return 40 + 20 * number


@pytest.mark.parametrize("suffix", [".avif", ".sgi", ".pcx"])
def test_a_folder_of_any_common_kind_of_pictures_is_read(tmp_path, suffix):
    for number in range(3):
        Image.new("RGB", (32, 16), (level(number),) * 3).save(
            tmp_path / f"{number}{suffix}"
        )
    with Source(tmp_path) as source:
        levels = [planes_of(frame.picture)[0].mean() for frame in source.frames()]
    assert len(levels) == 3
    assert levels[0] < levels[1] < levels[2]


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_the_pages_of_a_tiff_are_its_frames(tmp_path, mode):
    path = tmp_path / "stack.tif"
    wide = mode == "I;16"
    kind = np.uint16 if wide else np.uint8
    pages = [np.full((16, 32), level(k) << 8 * wide, kind) for k in range(4)]
    images = [Image.fromarray(page) for page in pages]
    images = images if wide else [image.convert(mode) for image in images]
    images[0].save(path, save_all=True, append_images=images[1:])
    with Source(path) as source:
        assert codes(source.info.warnings) == ["rate-assumed"]
        levels = [planes_of(frame.picture)[0][0, 0] for frame in source.frames()]
        assert levels == [page[0, 0] for page in pages]
        assert [
            planes_of(f.picture)[0][0, 0] for f in source.frames(Fraction(2, 25))
        ] == levels[2:]


def test_further_pages_of_tiffs_in_a_folder_are_named(tmp_path):
    images = [Image.new("L", (32, 16), level(k)) for k in range(3)]
    images[0].save(tmp_path / "1.tif", save_all=True, append_images=images[1:])
    images[1].save(tmp_path / "2.tif")
    info = probe(tmp_path)
    assert info.timing.frames == 2
    (named,) = [warning for warning in info.warnings if warning.code == "pages-left-out"]
    assert "1.tif" in str(named)


@pytest.mark.parametrize("has_date", [False, True])
def test_exif_of_a_tiff_is_named_only_if_there_is_any(tmp_path, has_date):
    options = {"tiffinfo": {306: "2026:01:01 00:00:00"}} if has_date else {}
    Image.new("RGB", (32, 16)).save(tmp_path / "1.tif", **options)
    assert ("EXIF" in probe(tmp_path / "1.tif").side_data) == has_date


@pytest.mark.parametrize("cmyk", [False, True])
def test_jpegs_of_several_kinds_are_one_sequence(tmp_path, cmyk):
    grey = Image.new("RGB", (32, 16), (level(1),) * 3)
    grey.save(tmp_path / "1.jpg", subsampling=2, quality=95)
    grey.save(tmp_path / "2.jpg", subsampling=0, quality=95)
    grey.convert("L").save(tmp_path / "3.jpg", quality=95)
    if cmyk:
        grey.convert("CMYK").save(tmp_path / "4.jpg", quality=95)
    with Source(tmp_path) as source:
        assert source.info.working_pix_fmt == ("gbrp" if cmyk else "yuv444p")
        levels = [planes_of(frame.picture)[0].mean() for frame in source.frames()]
    assert len(levels) == 3 + cmyk
    assert max(abs(value - level(1)) for value in levels) <= 2


def test_a_motion_photo_is_named(tmp_path):
    path = tmp_path / "motion.jpg"
    clip = write_clip(tmp_path / "in.mp4", 3, codec="libx264")
    Image.new("RGB", (32, 16)).save(path)
    assert motion_photo(path) is None
    path.write_bytes(path.read_bytes() + clip.read_bytes())
    error = motion_photo(path)
    assert isinstance(error, InputError)
    assert f"tail -c {clip.stat().st_size} " in str(error)


@pytest.mark.parametrize("kind", ["gif", "apng", "webp"])
def test_pictures_of_an_animation_last_as_long_as_in_browsers(tmp_path, kind):
    delays = [0, 10, 50, 20, 40]
    if kind == "gif":
        delays = [10, 50, 20, 10, 40]  # Pillow writes no duration of 0
    info = probe(animation(tmp_path / f"in.{kind}", delays))
    assert "short-delays" in codes(info.warnings)
    with Source(info) as source:
        durations = [frame.duration for frame in source.frames()]
    assert durations == [
        Fraction(100 if length <= 10 else length, 1000) for length in delays
    ]
    assert "short-delays" not in codes(
        probe(animation(tmp_path / f"b.{kind}", [20, 40])).warnings
    )


def test_frames_before_the_first_key_frame_are_counted(tmp_path):
    options = {"g": "12", "bf": "0", "sc_threshold": "0"}
    whole = write_clip(tmp_path / "whole.mkv", 36, codec="libx264", options=options)
    number = count()

    def later(packet):
        return None if next(number) < 3 else packet

    info = probe(remux(whole, tmp_path / "in.mkv", later))
    assert codes(info.warnings) == ["starts-without-key"]
    assert "9 frames" in str(info.warnings[0])


def test_lossless_sound_stays_lossless_in_mov(tmp_path):
    source = write_clip(tmp_path / "in.mkv", 24, codec="libx264", audio=["flac"])
    sink = convert(source, tmp_path / "out.mov")
    assert said(sink, "becomes alac")
    sounds = []
    for path in (source, tmp_path / "out.mov"):
        with av.open(str(path)) as clip:
            to_s32 = av.AudioResampler("s32", "stereo", 48000)
            frames = [to_s32.resample(frame) for frame in clip.decode(audio=0)]
            parts = [each.to_ndarray() for made in frames for each in made]
            sounds.append(np.concatenate(parts, 1))
    assert np.array_equal(sounds[0], sounds[1])


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuv420p", "gbrp"])
@pytest.mark.parametrize("frames", [1, 5])
def test_pictures_become_420_for_players(pix_fmt, frames):
    timing = replace(info_of().timing, frames=frames)
    info = info_of(pix_fmt=pix_fmt, container="image2", suffix=".jpg", timing=timing)
    choice = choose(MP4, info, DEFAULTS)
    assert choice.working == "yuv420p"
    assert codes(choice.warnings) == ([] if pix_fmt == "yuv420p" else ["few-players"])


@pytest.mark.parametrize("size", [(61, 45), (62, 45), (61, 46)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_animation_of_odd_sides_becomes_h264_of_even_sides(tmp_path, size, suffix):
    width, height = size
    source = tmp_path / "in.gif"
    slope = np.arange(width) + 2 * np.arange(height)[:, None]
    first, *others = [Image.fromarray(np.uint8(slope + 30 * k)) for k in range(3)]
    first.save(source, save_all=True, append_images=others, duration=80)
    out = tmp_path / f"out{suffix}"
    result = calls.interpolate(source, out, factor=2, model="hold", threads=1)
    (even_sides,) = [warned for warned in result.warnings if warned.code == "even-sides"]
    assert f"{width}x{height} is repeated: the output has 62x46" in even_sides.text
    with av.open(str(out)) as video:
        stream = video.streams.video[0]
        shape = stream.codec.name, stream.pix_fmt, stream.width, stream.height
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert shape == ("h264", "yuv420p", 62, 46)
    with av.open(str(source)) as video:
        filmed = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(pictures) == 2 * len(filmed) == 6
    for made, shown in zip(pictures[::2], filmed, strict=True):
        whole = np.pad(shown, [(0, 46 - height), (0, 62 - width), (0, 0)], mode="edge")
        assert np.abs(made.astype(int) - whole).max() < 16
        assert np.abs(made.astype(int) - whole).mean() < 2


def test_422_of_another_codec_is_kept_with_a_warning():
    choice = choose(MP4, info_of(pix_fmt="yuv422p", codec="mpeg2video"), DEFAULTS)
    assert choice.working == "yuv422p"
    assert codes(choice.warnings) == ["kept-few-players"]


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_in_8_bits_is_named(tmp_path, transfer):
    tags = ColorTags(9, transfer, 9, 1)
    info = info_of(pix_fmt="yuv420p10le", tags=tags)
    frames = even(1, (96, 64), "yuv420p10le", tags=tags)
    sink = write(tmp_path / "out.mp4", frames, info, rate=1, pix_fmt="yuv420p")
    assert "hdr-few-bits" in codes(sink.warnings)


def test_a_track_of_data_that_only_sounds_like_chapters_is_named(tmp_path):
    chapters = [(Fraction(0), Fraction(1), "one")]
    path = write_clip(tmp_path / "in.mp4", 24, codec="libx264", chapters=chapters)
    assert not said(convert(path, tmp_path / "out.mkv"), "left out")
    with av.open(str(path)) as clip, av.open(str(tmp_path / "b.ts"), "w") as out:
        streams = [add_copy(out, stream) for stream in clip.streams.video]
        streams.append(out.add_mux_stream("bin_data", time_base=Fraction(1, 90000)))
        for packet in clip.demux(video=0):
            if packet.size:
                packet.stream = streams[0]
                out.mux(packet)
                text = av.Packet(b"one")
                text.pts = text.dts = packet.dts
                text.time_base = packet.time_base
                text.stream = streams[1]
                out.mux(text)
    with av.open(str(tmp_path / "b.ts")) as clip:
        assert [stream.type for stream in clip.streams] == ["video", "data"]
    assert said(convert(tmp_path / "b.ts", tmp_path / "b.mkv"), "Data stream 1")
