"""What pictures carry beside their samples is kept, or a warning names it."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from av.sidedata.sidedata import Type
from PIL import Image, ImageCms

from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.sidedata import KINDS, marks_of
from cloudconv.media.reading.probe import probe
from tests.helpers.calls import interpolate
from tests.helpers.factory import picture, write_clip
from tests.helpers.sinks import info_of
from tests.media.writing.test_sink import FAST, even, write

EQUAL = [("mp4", "libx264"), ("mov", "libx265"), ("mkv", "libx265"), ("webm", "libvpx-vp9")]


def stereo(kind, *, inverted=False):
    return struct.pack("<5I4i", kind, inverted, 0, 0, 0, 0, 1, 0, 1)


def carried(path, kind):
    with av.open(str(path)) as clip:
        first = next(clip.decode(video=0))
    return {side.type.name: bytes(side) for side in first.side_data}.get(kind)


def carrying(picture, kind, data):
    """Return the picture with side data, which raw video's decoders take from packets."""
    context = {mode: av.CodecContext.create("rawvideo", mode) for mode in "rw"}
    for filter_ in context.values():
        filter_.width = picture.width
        filter_.height = picture.height
        filter_.pix_fmt = picture.format.name
    (packet,) = context["w"].encode(picture)
    side = PacketSideData(packet_sidedata_type_from_literal(kind), len(data))
    side.update(data)
    packet.set_sidedata(side)
    (carried,) = context["r"].decode(packet)
    return carried


def captioned(path, texts, *, rate=24, codec="libx264"):
    """Write a clip whose pictures have these captions, each of pairs of letters."""
    pictures = [picture(k) for k in range(len(texts))]
    for number, text in enumerate(texts):
        data = b"".join(b"\xfc" + text[k : k + 2] for k in range(0, len(text), 2))
        if data:
            pictures[number] = carrying(pictures[number], "a53_cc", data)
    options = {"a53cc": "1"} if codec == "libx265" else {}
    return write_clip(path, pictures, rate=rate, codec=codec, options=options)


def captions(path):
    """Return the time of each picture with captions, and the letters."""
    with av.open(str(path)) as clip:
        frames = [(f.pts * f.time_base, readable(f)) for f in clip.decode(video=0)]
    return [(time, text) for time, text in frames if text]


def readable(frame):
    sides = {side.type.name: bytes(side) for side in frame.side_data}
    data = sides.get("A53_CC", b"")
    return b"".join(data[i + 1 : i + 3] for i in range(0, len(data), 3))


def test_the_table_has_all_kinds_that_pyav_knows():
    assert {kind.name for kind in Type} <= KINDS.keys()


@pytest.mark.parametrize(("suffix", "encoder"), EQUAL)
@pytest.mark.parametrize(
    "view",
    [
        (0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 655360, -1310720, 196608, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0, 0, 0, 7),
    ],
)
def test_a_360_degree_projection_is_kept_or_named(tmp_path, suffix, encoder, view):
    data = struct.pack("<4i5I", *view)
    path = tmp_path / f"clip.{suffix}"
    info = info_of(side_data={"SPHERICAL": data})
    options = FAST if encoder != "libvpx-vp9" else {}
    warnings = write(path, even(2), info, rate=24, encoder=encoder, **options).warnings
    kept = suffix != "mov" or not any(view)
    assert ["360" in str(warning) for warning in warnings] == ([] if kept else [True])
    assert carried(path, "SPHERICAL") == (data if kept else None)


@pytest.mark.parametrize(
    ("suffix", "encoder", "kind", "inverted", "kept"),
    [
        ("mp4", "libx264", 1, False, True),
        ("mp4", "libx264", 4, False, True),
        ("mp4", "libx265", 2, False, True),
        ("mp4", "libx265", 3, False, False),
        ("mkv", "libx265", 2, True, True),
        ("webm", "libvpx-vp9", 1, False, True),
        ("webm", "libvpx-vp9", 4, False, False),
        ("mov", "libx264", 1, True, False),
        ("mov", "libx264rgb", 1, False, True),
    ],
)
def test_a_3d_layout_is_kept_or_named(tmp_path, suffix, encoder, kind, inverted, kept):
    path = tmp_path / f"clip.{suffix}"
    data = stereo(kind, inverted=inverted)
    options = FAST if encoder != "libvpx-vp9" else {}
    info = info_of(side_data={"STEREO3D": data})
    sink = write(path, even(2), info, rate=24, encoder=encoder, **options)
    assert any("stereo 3D" in str(warning) for warning in sink.warnings) != kept
    result = carried(path, "STEREO3D")
    assert (result is not None and result[:8] == data[:8]) == kept


@pytest.mark.parametrize(
    ("suffix", "encoder", "pix_fmt", "preset"),
    [
        ("mkv", "ffv1", "yuv420p", {}),
        ("webm", "libvpx-vp9", "yuv420p", {}),
        ("mov", "prores_ks", "yuv422p10le", {}),
        ("mp4", "libx264", "yuv420p10le", FAST),
        ("mp4", "libx265", "yuv420p10le", FAST),
        ("mp4", "libsvtav1", "yuv420p10le", {"preset": "12"}),
    ],
)
def test_hdr10_metadata_is_kept(tmp_path, suffix, encoder, pix_fmt, preset):
    numbers = [34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450]
    ratios = [part for number in numbers for part in (number, 50000)]
    display = np.array([*ratios, 1, 10000, 1000, 1, 1, 1], "<i4").tobytes()
    light = np.array([1000, 400], "<u4").tobytes()
    options = {"MASTERING_DISPLAY_METADATA": display, "CONTENT_LIGHT_LEVEL": light}
    path = tmp_path / f"clip.{suffix}"
    info = info_of(pix_fmt=pix_fmt, side_data=options)
    sink = write(path, even(2, pix_fmt=pix_fmt), info, rate=24, encoder=encoder, **preset)
    # Phones and TVs refuse H.264 of 10 bits.
    codes = [warning.code for warning in sink.warnings]
    assert codes == ["few-devices"] * (encoder == "libx264")
    side_data = probe(path).side_data
    assert side_data["CONTENT_LIGHT_LEVEL"] == light
    stored = side_data["MASTERING_DISPLAY_METADATA"]
    found, wanted = (
        np.frombuffer(content, "<i4")[:20].reshape(-1, 2) for content in (stored, display)
    )
    np.testing.assert_allclose(
        found[:, 0] / found[:, 1], wanted[:, 0] / wanted[:, 1], atol=1e-4
    )


@pytest.mark.parametrize(
    ("place", "encoder"),
    [
        ("left", "libx264"),
        ("center", "libx265"),
        ("topleft", "libx265"),
        ("top", "libx264"),
    ],
)
def test_the_place_of_chroma_samples_is_kept(tmp_path, place, encoder):
    source = write_clip(
        tmp_path / "in.mp4", 4, codec="libx265", options={"chroma_sample_location": place}
    )
    info = probe(source)
    path = tmp_path / "out.mkv"
    write(path, even(2), info, rate=24, encoder=encoder, **FAST)
    with av.open(str(path)) as clip:
        assert marks_of(clip.streams.video[0])[0] == place


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [*EQUAL, ("mkv", "ffv1"), ("mov", "prores_ks"), ("%03d.png", "png")],
)
def test_the_marks_of_the_shown_part_are_kept_or_named(tmp_path, suffix, encoder):
    """A container may say that players show a part of the pictures only."""
    data = struct.pack("<4I", 1, 4, 2, 6)  # top, bottom, left, right
    shape = Fraction(4, 3)
    options = FAST if encoder.startswith("libx26") else {}
    info = info_of(side_data={"FRAME_CROPPING": data}, aspect=shape)
    path = tmp_path / f"a.{suffix}"
    warnings = write(path, even(2), info, rate=24, encoder=encoder, **options).warnings
    if suffix == "%03d.png":
        assert any("shown part of the picture" in str(warning) for warning in warnings)
        return
    found = probe(path)
    assert (found.side_data["FRAME_CROPPING"], found.aspect) == (data, shape)
    assert not any("shown" in str(warning) for warning in warnings)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_captions_stay_with_their_frames(tmp_path, codec, suffix):
    texts = [b"", b"HE", b"LL", b"", b"O!", b"abcd", b"", b"x "]
    source = captioned(tmp_path / "in.mkv", texts, codec=codec)
    target = tmp_path / f"out.{suffix}"
    encoder = "libx264" if codec == "mpeg2video" else codec
    interpolate(source, target, factor=2, model="blend", encoder=encoder, **FAST)
    expected = [(Fraction(k, 24), text) for k, text in enumerate(texts) if text]
    result = captions(target)
    assert [text for _, text in result] == [text for _, text in expected]
    assert all(
        abs(a[0] - b[0]) < Fraction(1, 500) for a, b in zip(result, expected, strict=True)
    )


def test_captions_of_left_out_and_repeated_frames_are_shown_once(tmp_path):
    texts = [bytes([65 + k, 97 + k]) for k in range(24)]
    source = captioned(tmp_path / "in.mkv", texts)
    for fps in (60, 23, 10):
        target = tmp_path / f"{fps}.mkv"
        interpolate(source, target, fps=fps, model="blend", scene_cut="off", **FAST)
        assert b"".join(text for _, text in captions(target)) == b"".join(texts)


@pytest.mark.parametrize(
    ("name", "options"),
    [("out.mkv", {"encoder": "ffv1"}), ("out.gif", {}), ("out.webm", {})],
)
def test_captions_that_the_encoder_cannot_store_are_named(tmp_path, name, options):
    source = captioned(tmp_path / "in.mkv", [b"", b"", b"HI", b"ya"])
    result = interpolate(source, tmp_path / name, factor=2, model="blend", **options)
    (warning,) = [
        str(warning_) for warning_ in result.warnings if "captions" in str(warning_)
    ]
    assert (
        container_of(tmp_path / name).encoders[0] in warning
        or options["encoder"] in warning
    )


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.gif"])
def test_every_other_kind_is_named(tmp_path, name):
    kept = {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "FRAME_CROPPING"}
    kinds = KINDS.keys() - {"A53_CC", *kept}
    info = info_of(side_data=dict.fromkeys(kinds, b"\5" + bytes(35)))
    options = {} if name == "out.gif" else FAST
    told = "".join(
        map(str, write(tmp_path / name, even(2), info, rate=24, **options).warnings)
    )
    assert all(KINDS[kind] in told for kind in kinds if KINDS[kind])


def test_a_single_view_of_3d_video_is_not_called_3d(tmp_path):
    info = info_of(side_data={"STEREO3D": stereo(3), "VIEW_ID": b""})
    sink = write(tmp_path / "out.mp4", even(2), info, rate=24, encoder="libx264", **FAST)
    assert [text for text in map(str, sink.warnings) if "second view" in text]
    assert carried(tmp_path / "out.mp4", "STEREO3D") is None


def test_side_data_that_begins_later_is_named(tmp_path):
    pictures = [picture(k) for k in range(6)]
    pictures[3] = carrying(pictures[3], "stereo_3d", stereo(1))
    source = write_clip(tmp_path / "in.mkv", pictures, codec="mpeg2video")
    result = interpolate(source, tmp_path / "out.mkv", factor=2, model="blend", **FAST)
    (warning,) = [str(warning_) for warning_ in result.warnings if "3D" in str(warning_)]
    assert "0.125 s" in warning


def test_side_data_of_an_unknown_kind_that_begins_later_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(KINDS, "STEREO3D")
    pictures = [picture(0), carrying(picture(1), "stereo_3d", stereo(1)), picture(2)]
    source = write_clip(tmp_path / "in.mkv", pictures, codec="mpeg2video")
    result = interpolate(source, tmp_path / "out.mkv", factor=2, model="blend", **FAST)
    assert [
        warning
        for warning in result.warnings
        if "STEREO3D of the source begin" in warning.text
    ]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_colour_profile_of_pictures_is_named(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        image = Image.new("RGB", (32, 32), (number * 80, 10, 10))
        image.save(folder / f"{number}.{suffix}", icc_profile=profile)
    result = interpolate(
        folder, tmp_path / "out.mkv", factor=2, model="blend", encoder="ffv1"
    )
    (warning,) = [
        str(warning_) for warning_ in result.warnings if "profile" in str(warning_)
    ]
    assert warning.endswith("which are left out: ICC colour profile.")


def test_unknown_kinds_do_not_hide_others(tmp_path):
    """PyAV refuses all side data of a picture with a kind that it does not know."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    Image.new("RGB", (32, 32)).save(buffer, "jpeg", exif=exif)
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        stream = out.add_stream("mjpeg", rate=24)
        stream.width = 32
        stream.height = 32
        stream.pix_fmt = "yuvj420p"
        for k in range(3):
            packet = av.Packet(buffer.getvalue())
            packet.pts = packet.dts = k
            packet.time_base = Fraction(1, 24)
            packet.stream = stream
            out.mux(packet)
    assert probe(tmp_path / "in.mkv").side_data == {"EXIF": b""}
