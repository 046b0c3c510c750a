"""A picture or an animation is read by its content, a folder by endings and numbers."""

import io
import struct
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from cloudconv.errors import InputError
from cloudconv.media.containers.sidedata import has_own_colours
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from tests.helpers import calls
from tests.helpers.factory import animation, planes_of, write_clip

ANIMATED = ["gif", "png", "webp", "tif", "avif"]


def frames_of(path):
    with Source(path) as source:
        return [(f.time, planes_of(f.picture)[0].mean()) for f in source.frames()]


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_is_read_from_standard_input_and_under_any_name(
    tmp_path, monkeypatch, kind
):
    path = animation(tmp_path / f"a.{kind}", [100] * 3)
    frames = frames_of(path)
    assert len(frames) == 3
    for name in ("a", "b.mp4", *(f"c.{other}" for other in ANIMATED if other != kind)):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert frames_of(tmp_path / name) == frames
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    assert frames_of("-") == frames


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "webp", "tif", "avif", "bmp"])
def test_a_single_picture_has_no_rate_of_its_own(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (32, 16), (90, 30, 30)).save(path, duration=700)
    assert probe(path).timing.rate == 25
    timing = probe(path, Fraction(30)).timing
    assert (timing.frames, timing.rate, timing.last_duration) == (1, 30, Fraction(1, 30))


def test_a_video_of_one_frame_keeps_its_rate(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 1)
    assert probe(path).timing.rate == 24
    with pytest.raises(InputError, match="times of its own"):
        probe(path, Fraction(30))


def box(name, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def full_box(name, *parts, version=0, flags=0):
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def tiled(path, tiles):
    """Write an AVIF whose picture is a row of tiles, as phones write their photos."""
    coded = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(coded, "avif")
    data = coded.getvalue()
    begin = data.index(b"av1C") - 4
    settings = data[begin : begin + int.from_bytes(data[begin : begin + 4])]
    tile = data[data.index(b"mdat") + 4 :]
    grid = struct.pack(">4B2H", 0, 0, 0, tiles - 1, 64 * tiles, 64)
    numbers = range(1, tiles + 1)
    whole = tiles + 1
    items = [(number, b"av01", 1) for number in numbers] + [(whole, b"grid", 0)]
    names = [
        full_box(b"infe", struct.pack(">HH4sx", number, 0, kind), version=2, flags=hidden)
        for number, kind, hidden in items
    ]
    sizes = [full_box(b"ispe", struct.pack(">2I", width, 64)) for width in (64, 64 * tiles)]
    uses = [struct.pack(">HBBB", number, 2, 0x81, 2) for number in numbers]
    uses.append(struct.pack(">HBB", whole, 1, 3))
    lengths = [len(tile)] * tiles + [len(grid)]

    def head(begins):
        places = [
            struct.pack(">3H2I", number, 0, 1, begins + len(tile) * (number - 1), length)
            for number, length in enumerate(lengths, 1)
        ]
        refers = box(b"dimg", struct.pack(f">{tiles + 2}H", whole, tiles, *numbers))
        return box(b"ftyp", b"avif\0\0\0\0avifmif1") + full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s13x", 0, b"pict")),
            full_box(b"pitm", struct.pack(">H", whole)),
            full_box(b"iloc", struct.pack(">2BH", 0x44, 0, whole), *places),
            full_box(b"iinf", struct.pack(">H", whole), *names),
            full_box(b"iref", refers),
            box(
                b"iprp",
                box(b"ipco", settings, *sizes),
                full_box(b"ipma", struct.pack(">I", whole), *uses),
            ),
        )

    path.write_bytes(head(len(head(0)) + 8) + box(b"mdat", tile * tiles, grid))
    return path


def test_a_photo_in_tiles_is_refused_and_never_shown_as_one_tile(tmp_path):
    path = tiled(tmp_path / "a.avif", 3)
    with Image.open(path) as whole:
        assert whole.size == (192, 64)
    with pytest.raises(InputError, match="a photo in 3 tiles"):
        probe(path)
    tiled(tmp_path / "b.avif", 3)
    with pytest.raises(InputError, match="a photo in 3 tiles"):
        probe(tmp_path)
    assert probe(path, stream=1).width == 64


def shaded(folder, *names):
    """Write a picture for each name, one level of red brighter than the one before."""
    for number, name in enumerate(names):
        path = folder / name
        kind = None if path.suffix == ".png" else "JPEG"
        Image.new("RGB", (16, 16), (10 * number, 0, 0)).save(path, kind)


def shades(path):
    with Source(path) as source:
        reds = [f.to_ndarray(format="rgb24")[0, 0, 0] for f in pictures_of(source)]
    return [round(int(red) / 10) for red in reds]


def pictures_of(source):
    return (frame.picture for frame in source.frames())


@pytest.mark.parametrize(
    "names",
    [
        ("shot.png", "shot-1.png", "shot-2.png", "shot-10.png"),
        ("name.jpg", "name (1).jpg", "name (2).jpg"),
        ("v1.8.png", "v1.9.png", "v1.10.png", "v1.11.png"),
        ("shot.-0010.png", "shot.-0005.png", "shot.0000.png", "shot.0001.png"),
        ("-2.png", "-1.png", "0.png", "10.png"),
        ("a-1.jpg", "a-2.JPG", "a-3.jpeg", "a-10.jfif"),
        ("1.png", "1b.png", "2.png", "b.png"),
        ("shot.001.png", "shot.002.png", "shot.999.png", "shot.1000.png"),
        ("2026.1.9.png", "2026.1.11.png", "2026.2.1.png"),
    ],
)
def test_pictures_come_in_the_order_of_their_names(tmp_path, names):
    shaded(tmp_path, *names)
    assert shades(tmp_path) == list(range(len(names)))


def test_a_folder_is_read_by_the_ending_of_most_of_its_pictures(tmp_path):
    shaded(tmp_path, *(f"f{k}.{end}" for k, end in enumerate(("jpg", "JPG", "jpe"))))
    shaded(tmp_path, ".f9.jpg")
    # What a camera or a program leaves beside pictures.
    for name in ("f1.jpg.bak", "cover.thumb", "f0.raw", "f7.jpg~"):
        (tmp_path / name).write_bytes((tmp_path / "f0.jpg").read_bytes())
    (tmp_path / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    shaded(tmp_path, "f3.png", "f4.png")
    assert shades(tmp_path) == [0, 1, 2]
    said = [w.text for w in probe(tmp_path).warnings if w.code == "files-left-out"]
    assert len(said) == 1
    assert "its .jpg pictures" in said[0]
    assert said[0].endswith("cover.thumb, f0.raw, f1.jpg.bak and 4 more.")


def test_pictures_alone_leave_nothing_out(tmp_path):
    shaded(tmp_path, "f1.png", "f2.png")
    assert not [w for w in probe(tmp_path).warnings if w.code == "files-left-out"]


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("f1.png", "f2.png", "f5.png", "f6.png"), "3-4."),
        (("x.-1.png", "x.0.png", "x.1.png", "x.3.png"), "2."),
        (("f1.png", "f3.png", "f5.png", "f9.png"), "7."),
        (("f1.png", "f5.png", "f6.png", "f90.png"), None),
        (("a1.png", "b2.png", "c9.png"), None),
        (("f1.png", "f2.png", "f3.png"), None),
        (("f1.jpg", "f1.jpeg", "f3.jpg"), None),
    ],
)
def test_missing_numbers_are_named(tmp_path, names, missing):
    shaded(tmp_path, *names)
    said = [w.text for w in probe(tmp_path).warnings if w.code == "pictures-missing"]
    assert len(said) == (missing is not None)
    assert all(f": {missing}" in text for text in said)


@pytest.mark.parametrize("pattern", ["f*.png", "f?.png", "f[0-9].png"])
def test_a_pattern_that_the_shell_leaves_alone_names_pictures(tmp_path, pattern):
    shaded(tmp_path, "f0.png", "f1.png", "f2.png", "g0.png")
    (tmp_path / "f8.txt").write_text("notes")
    assert shades(tmp_path / pattern) == [0, 1, 2]
    with pytest.raises(InputError, match="No picture matches"):
        probe(tmp_path / pattern.replace("f", "h"))


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    shaded(tmp_path, "f[0].png", "f0.png")
    assert shades(tmp_path / "f[0].png") == [0]


def test_an_animated_avif_keeps_its_transparency_and_its_times(tmp_path):
    pictures = [Image.new("RGBA", (32, 32), (200, 30, 30, 60 * k)) for k in range(4)]
    path = tmp_path / "a.avif"
    durations = [100, 100, 300, 200]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations)
    with Source(path) as source:
        frames = list(source.frames())
    assert [f.time * 10 for f in frames] == [0, 1, 2, 5]
    assert frames[-1].duration == Fraction(1, 5)
    alpha = [int(planes_of(f.picture)[3][0, 0]) for f in frames]
    assert [abs(a - 60 * k) <= 3 for k, a in enumerate(alpha)] == [True] * 4
    assert not source.info.has_streams


def gif(folder, pictures, **options):
    path = folder / "a.gif"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=100, **options
    )
    return path


def test_a_gif_has_an_opacity_only_if_a_picture_is_transparent_somewhere(tmp_path):
    plain = [Image.new("RGB", (16, 16), (40 * k, 30, 30)) for k in range(3)]
    info = probe(gif(tmp_path, plain))
    assert info.working_pix_fmt == "gbrp"
    with Source(info) as source:
        assert [int(f.planes()[2][0, 0]) for f in source.frames()] == [0, 40, 80]
    clear = [Image.new("RGBA", (16, 16), (90, 30, 9 * k, 255)) for k in range(3)]
    for picture in clear:
        picture.putpixel((3, 3), (0, 0, 0, 0))
    assert probe(gif(tmp_path, clear, disposal=2)).working_pix_fmt == "gbrap"


@pytest.mark.parametrize("kind", ["zmbv.avi", "smc.mov", "png", "bmp"])
def test_palettes_are_opaque_unless_a_colour_is_transparent(tmp_path, kind):
    """Emulators, old QuickTime and shrunk screenshots store palettes."""
    picture = Image.new("RGB", (32, 16), (200, 30, 40))
    picture.paste((20, 30, 200), (4, 4, 12, 12))
    shades = picture.quantize(8)
    path = tmp_path / kind
    if kind in ("png", "bmp"):
        path.mkdir()
        for number in range(2):
            shades.save(path / f"{number}.{kind}")
    else:
        colours = np.zeros((256, 4), np.uint8)
        colours[:, 0] = 255
        colours[:2, 1:] = np.reshape(shades.getpalette()[:6], (2, 3))
        frame = VideoFrame.from_ndarray((np.asarray(shades), colours), format="pal8")
        write_clip(path, [frame] * 3, codec=path.stem)
    info = probe(path)
    assert info.working_pix_fmt == "gbrp"
    with Source(info) as source:
        red = [int(frame.planes()[2][0, 0]) for frame in source.frames()]
    assert set(red) == {200}
    if kind == "png":
        shades.save(path / "1.png", transparency=0)
        assert probe(path).working_pix_fmt == "gbrap"


def test_the_pictures_of_a_webp_are_counted_as_its_file_has_them(tmp_path):
    """The encoder joins pictures that are equal."""
    still = [Image.new("RGB", (32, 32), (9 * k, 30, 30)) for k in (0, 8, 9, 9, 9, 20)]
    path = gif(tmp_path, still)
    result = calls.interpolate(path, tmp_path / "a.webp", factor=2, model="blend")
    with Image.open(tmp_path / "a.webp") as image:
        assert result.output_frames == image.n_frames


def test_colours_that_need_dolby_vision_are_named():
    header = struct.pack("=Q", 24) + bytes(16)
    profile_5 = header + bytes(10) + b"\1"
    assert has_own_colours({"DOVI_METADATA": profile_5})
    assert not has_own_colours({"DOVI_METADATA": header + bytes(11)})
    assert not has_own_colours({"DOVI_METADATA": header[:3]})
    assert not has_own_colours({})
