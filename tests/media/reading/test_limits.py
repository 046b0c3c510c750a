"""Files that name other files are refused, and the memory for one picture is limited."""

import os
import struct
import time
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from cloudconv.errors import InputError, SettingsError
from cloudconv.media.frames.frame import ColorTags
from cloudconv.media.reading.probe import probe
from tests.helpers.factory import write_clip
from tests.helpers.sinks import info_of
from tests.media.writing.test_sink import even, write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "list.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mkv\n#EXT-X-ENDLIST\n",
        ),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nlist.m3u8\n"),
        ("list.mkv", "ffconcat version 1.0\nfile a.mkv\n"),
        ("001.png", "ffconcat version 1.0\nfile a.mkv\n"),
        ("list.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
    ],
)
def test_a_list_of_files_is_refused(tmp_path, name, text):
    write_clip(tmp_path / "a.mkv", 2)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="join the files first"):
        probe(tmp_path / name)
    if name == "001.png":  # one of a sequence is not decoded
        with pytest.raises(InputError, match=r"[Nn]o frame"):
            probe(tmp_path / "%03d.png")


@pytest.mark.full
def test_many_pngs_with_a_colour_profile_are_read(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", icc_profile=profile)
    for _ in range(100):  # a second free ended the process after some dozens
        assert probe(tmp_path / "a.png").width == 16


@cache
def png(profile, *texts):
    """Return a PNG with a colour profile and texts of zeros of these sizes in MiB."""
    file = BytesIO()
    about = PngInfo()
    for size in texts:
        about.add_text("a", "\0" * (size << 20), zip=True)
    profile = bytes(profile << 20)
    Image.new("RGB", (16, 16)).save(file, "PNG", icc_profile=profile, pnginfo=about)
    return file.getvalue()


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        *(pytest.param(n, marks=pytest.mark.full) for n in ("a.apng", "a.mkv", "a.jpg")),
    ],
)
def test_a_png_whose_texts_would_fill_the_memory_is_refused(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(png(1, 1))
    assert probe(file).width == 16
    for sizes in ((80,), (0, 80), (0, *[1] * 70)):
        file.write_bytes(png(*sizes))
        with pytest.raises(InputError, match="colour profile or texts"):
            probe(file)


@pytest.mark.parametrize("suffix", ["mov", "avi", "nut"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_png_inside_a_video_gets_the_same_checks(tmp_path, suffix, place, monkeypatch):
    def clip(name, picture):
        file = tmp_path / f"{name}.{suffix}"
        with av.open(str(file), "w") as out:
            stream = out.add_stream("png", rate=24)
            stream.width = 16
            stream.height = 16
            stream.pix_fmt = "rgb24"
            for number in range(4):
                packet = av.Packet(picture if number == place else png(0))
                packet.pts = packet.dts = number
                packet.time_base = Fraction(1, 24)
                packet.stream = stream
                packet.is_keyframe = True
                out.mux(packet)
        return file

    file = BytesIO()
    Image.new("RGB", (40, 20)).save(file, "PNG")
    assert probe(clip("good", png(1, 1))).timing.frames == 4
    with pytest.raises(InputError, match="colour profile or texts"):
        probe(clip("texts", png(0, 80)))
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", "500")
    with pytest.raises(InputError, match="40x20"):
        probe(clip("large", file.getvalue()))


def webp(width, height, size):
    """Return the first bytes of an animated WebP of ``size`` bytes."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    head = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", size - 8) + head


def test_a_webp_with_a_hole_is_read_at_once(tmp_path):
    file = tmp_path / "a.webp"
    file.write_bytes(webp(16, 16, (256 << 20) - 1))
    os.truncate(file, 256 << 20)
    began = time.monotonic()
    with pytest.raises(InputError):
        probe(file)
    assert time.monotonic() - began < 30


def test_a_small_file_with_huge_pictures_is_refused(tmp_path, monkeypatch):
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 12000, 12000, 0x80, 0, 0) + bytes(6)
    bombs = {"a.gif": head + frame * 2 + b";", "a.webp": webp(12000, 12000, 72) + bytes(42)}
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"12000x12000.*CLOUDCONV_MAX_PIXELS"):
            probe(tmp_path / name)
    clip = write_clip(tmp_path / "clip.mkv", 2, size=(64, 48))
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", str(64 * 48 - 1))
    with pytest.raises(InputError, match="64x48"):
        probe(clip)
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", str(64 * 48))
    assert probe(clip).width == 64
    for wrong in ("abc", "-5", "0", "1e6", "²"):
        monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", wrong)
        with pytest.raises(
            SettingsError, match=rf"CLOUDCONV_MAX_PIXELS must be .* '{wrong}'"
        ):
            probe(clip)


@pytest.mark.parametrize("light", [(65535, 400), (65536, 400), (100_000, 100_000)])
@pytest.mark.parametrize("encoder", ["libx265", "libx264", "libsvtav1"])
def test_light_levels_beyond_16_bits_are_left_out_with_a_warning(tmp_path, light, encoder):
    side_data = {"CONTENT_LIGHT_LEVEL": struct.pack("<2I", *light)}
    info = info_of(tags=ColorTags(9, 16, 9, 1), side_data=side_data)
    sink = write(tmp_path / "out.mkv", even(1), info, rate=1, encoder=encoder)
    warned = [warning.code for warning in sink.warnings]
    with av.open(str(tmp_path / "out.mkv")) as output:
        sides = next(output.decode(video=0)).side_data
        kept = {side.type.name: bytes(side)[:8] for side in sides}
    if max(light) < 2**16:
        assert kept["CONTENT_LIGHT_LEVEL"] == side_data["CONTENT_LIGHT_LEVEL"]
        assert "not-kept" not in warned
    else:
        assert "CONTENT_LIGHT_LEVEL" not in kept
        assert "not-kept" in warned


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=20, max_size=20))
def test_no_numbers_of_a_mastering_display_stop_an_encoder(numbers):
    side_data = {"MASTERING_DISPLAY_METADATA": struct.pack("<22i", *numbers, 1, 1)}
    info = info_of(tags=ColorTags(9, 16, 9, 1), side_data=side_data)
    with TemporaryDirectory() as folder:
        write(Path(folder) / "out.mkv", even(1), info, rate=1, encoder="libx265")


def test_text_is_no_video(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("clouds move over the hill\n" * 2000)
    with pytest.raises(InputError, match=r"v\.txt is text, "):
        probe(path)


@pytest.mark.parametrize("size", [100, 200, 400])
def test_a_file_that_ends_within_its_header_is_called_incomplete(tmp_path, size):
    path = write_clip(tmp_path / "in.mkv", 3)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match="ends before its first frame"):
        probe(path)


def test_a_limit_of_thousands_of_digits_is_a_limit(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "in.mkv", 3)
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", "9" * 5000)
    assert probe(path).width == 96
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", "0" * 5000)
    with pytest.raises(SettingsError, match="whole number above 0"):
        probe(path)
