"""Times, colours, names and ends of animations and picture files."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

import cloudconv
from cloudconv.errors import InputError, OutputError
from cloudconv.media.containers.animations import shows_of
from cloudconv.media.containers.containers import CONTAINERS
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.media.writing.encoding import EncodingPlan
from tests.helpers.factory import animation, planes_of, read_times, write_clip
from tests.helpers.sinks import info_of
from tests.media.writing.test_sink import even, write

ANIMATIONS = ["gif", "apng", "webp"]
make = partial(cloudconv.interpolate, factor=2, model="blend")


def test_gif_has_exact_centiseconds(tmp_path):
    path = tmp_path / "clip.gif"
    assert write(path, even(6, rate=30), rate=30).plan.choice.encoder == "gif"
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        durations = [picture.info["duration"] for picture in ImageSequence.Iterator(image)]
    assert durations == [30, 40, 30, 30, 40, 30]


@pytest.mark.parametrize(
    ("name", "rate", "is_even"),
    [("clip.gif", 60, True), ("clip.mkv", 1200, True), ("clip.gif", 100, False)],
)
def test_a_rate_too_high_for_the_container_is_an_error(tmp_path, name, rate, is_even):
    clock = {"rate": rate if is_even else None, "time_base": Fraction(1, rate)}
    with pytest.raises(OutputError, match=r"write an \.mp4"):
        write(tmp_path / name, even(3, rate=rate), **clock)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001)])
def test_apng_is_exact_and_lossless_for_rgb(tmp_path, rate):
    path = tmp_path / "clip.apng"
    frames = even(4, (33, 21), "gbrp", rate=rate)
    write(path, frames, info_of((33, 21), "gbrp"), rate=rate)
    with Image.open(path) as image:
        for frame, picture in zip(frames, ImageSequence.Iterator(image), strict=True):
            assert picture.info["duration"] == pytest.approx(float(1000 / rate), rel=1e-9)
            green, blue, red = planes_of(frame.picture)
            result = np.asarray(picture.convert("RGB"))
            np.testing.assert_array_equal(result, np.stack([red, green, blue], -1))


@pytest.mark.parametrize(
    "name", ["out/%03d.png", "out/%03d.tif", "out/%03d.jpg", "clip.gif"]
)
def test_each_picture_format_stores_its_colours(tmp_path, name):
    tags = ColorTags(1, 1, 1, 1)
    frames = even(3, (34, 22), "yuv420p", tags)
    write(tmp_path / name, frames, info_of((34, 22), tags=tags), rate=24)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert names == ([name % k for k in (1, 2, 3)] if "%" in name else [name])
    with Image.open(tmp_path / names[0]) as image:
        result = np.asarray(image.convert("RGB")).astype(float)
    picture = frames[0].picture
    picture.colorspace, picture.color_range = 1, 1
    wanted = picture.to_ndarray(format="rgb24").astype(float)
    assert abs(wanted.mean((0, 1)) - result.mean((0, 1))).max() < 2
    assert abs(wanted - result).mean() < (6 if name == "clip.gif" else 2)


def test_overwriting_a_sequence_leaves_no_old_pictures(tmp_path):
    for count in (4, 2):
        write(tmp_path / "%02d.png", even(count), rate=24)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01.png", "02.png"]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "shots.v2"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 24), (60 * number, 20, 200)).save(
            folder / f"{number:05d}.png"
        )
    return folder


def test_a_late_encoder_gets_every_picture_at_its_own_time(tmp_path, monkeypatch):
    """The encoder returns each file three pictures late, as one with threads may."""
    # FFmpeg's JPEG encoder refuses two pictures of one time, so sequences failed at random.
    times, waiting = [], []

    def encode(picture):
        if picture is None:
            return waiting
        times.append(picture.pts)
        packet = av.Packet(bytes([len(times)]))
        packet.pts = picture.pts
        waiting.append(packet)
        return [waiting.pop(0)] if len(waiting) > 3 else []

    def add_late(plan, out, add_video=EncodingPlan.add_video):
        context = add_video(plan, out).codec_context
        return SimpleNamespace(encode=encode, codec_context=context)

    monkeypatch.setattr(EncodingPlan, "add_video", add_late)
    write(tmp_path / "out" / "%d.jpg", even(8), rate=24)
    assert times == list(range(8))
    files = [(tmp_path / "out" / f"{k}.jpg").read_bytes() for k in range(1, 9)]
    assert files == [bytes([k]) for k in range(1, 9)]


@pytest.mark.parametrize(
    ("pattern", "first"),
    [("%5d.png", "00001.png"), ("%%_%d.png", "%_1.png"), ("5%%%03d.png", "5%001.png")],
)
def test_a_pattern_means_the_same_for_input_and_output(pictures, tmp_path, pattern, first):
    make(pictures, tmp_path / "out" / pattern)
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names[0] == first
    assert probe(tmp_path / "out" / pattern).timing.frames == len(names) == 8
    with pytest.raises(OutputError, match="exist"):
        make(pictures, tmp_path / "out" / pattern)


def test_a_pattern_of_a_million_digits_and_a_folder_that_also_holds_videos_are_errors(
    pictures, tmp_path
):
    with pytest.raises(OutputError, match="one picture"):
        make(pictures, tmp_path / "%099999999d.png")
    with pytest.raises(InputError, match="no file"):
        probe(tmp_path / "%099999999d.png")
    write_clip(pictures / "a.mkv", 3)
    with pytest.raises(InputError, match="holds videos: give one of them"):
        make(pictures)


@pytest.mark.parametrize("suffix", ["webp", "bmp", "tif", "png"])
def test_a_pattern_gives_one_picture_for_each_frame(pictures, tmp_path, suffix):
    make(pictures, tmp_path / "out" / f"%03d.{suffix}")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"{k:03d}.{suffix}" for k in range(1, 9)]
    for number in range(4):
        with Image.open(files[2 * number]) as image:
            assert getattr(image, "n_frames", 1) == 1
            red = image.convert("RGB").getpixel((16, 12))[0]
            assert abs(red - 60 * number) <= (3 if suffix == "webp" else 0)


@pytest.mark.parametrize(
    ("here", "given"),
    [(1, "shots.v2"), (1, "shots.v2/%05d.png"), (0, "."), (0, "%05d.png")],
)
def test_pictures_give_the_output_the_name_of_their_folder(
    pictures, monkeypatch, here, given
):
    monkeypatch.chdir([pictures, pictures.parent][here])
    assert (
        Path(make(given).output).resolve() == pictures.parent.resolve() / "shots.v2_x2.mp4"
    )


def clip_with_pause(path, rate=Fraction(10), frames=6, last=2):
    """Write a clip of constant rate whose last frame is shown for ``last`` seconds."""
    if path.suffix[1:] in ANIMATIONS:
        return animation(path, [int(1000 / rate)] * (frames - 1) + [last * 1000])
    form = {"rate": rate, "codec": "libx264", "size": (32, 32)}
    return write_clip(path, frames, last_duration=Fraction(last), **form)


def length_of(path):
    """Return the length that a reader computes, in seconds."""
    if path.suffix[1:] not in ANIMATIONS:
        with av.open(str(path)) as clip:
            return Fraction(clip.duration, 1_000_000)
    total = Fraction(0)
    with Image.open(path) as image:
        for picture in ImageSequence.Iterator(image):
            picture.load()
            total += Fraction(picture.info["duration"])
    return total / 1000


@pytest.mark.parametrize("target", [*ANIMATIONS, "mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", [*ANIMATIONS, "mp4", "mkv"])
def test_the_last_frame_keeps_its_length(tmp_path, source, target):
    clip = clip_with_pause(tmp_path / f"in.{source}")
    out = tmp_path / f"out.{target}"
    # The encoder of WebP merges two equal pictures.
    count = 11 if target == "webp" else 12
    assert make(clip, out).output_frames == count
    assert length_of(out) == Fraction(5, 2)
    if target != "webp":
        assert read_times(out) == [*(Fraction(k, 20) for k in range(11)), Fraction(3, 2)]
    again = probe(out).timing
    assert again.end - again.start == Fraction(5, 2)
    assert again.frames == count


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001)]
)
def test_all_other_frames_keep_their_exact_times(tmp_path, rate):
    clip = clip_with_pause(tmp_path / "in.mkv", rate, 30, 10)
    out = tmp_path / "out.mp4"
    with Source(clip) as source:
        assert [frame.time for frame in source.frames()] == [k / rate for k in range(30)]
        assert not source.warnings
    make(clip, out)
    assert read_times(out)[:59] == [k / (2 * rate) for k in range(59)]
    assert abs(length_of(out) - (29 / rate + 10)) <= Fraction(1, 1000)


def test_a_fixed_rate_repeats_the_last_frame(tmp_path):
    make(clip_with_pause(tmp_path / "in.gif"), tmp_path / "out.mp4", factor=None, fps=20)
    assert read_times(tmp_path / "out.mp4") == [Fraction(k, 20) for k in range(50)]


def test_an_animation_with_a_pause_is_written_as_an_animation(tmp_path):
    clip = clip_with_pause(tmp_path / "in.gif")
    assert Path(make(clip).output).suffix == ".gif"
    slowed = Path(make(clip, factor=None, slowmo="2.5").output)
    assert 0 <= length_of(slowed) - Fraction(25, 4) < Fraction(1, 10)


@pytest.mark.parametrize("target", ANIMATIONS)
@pytest.mark.parametrize("source", ANIMATIONS)
@pytest.mark.parametrize("shows", [0, 1, 3])
def test_an_animation_is_shown_as_often_as_its_source(tmp_path, source, target, shows):
    # In a GIF, the number is that of repeats, and no number means no repeat.
    loop = {"loop": shows - 1 if source == "gif" and shows else shows}
    loop = {} if (source, shows) == ("gif", 1) else loop
    clip = animation(tmp_path / f"in.{source}", [100] * 4, **loop)
    made = tmp_path / f"out.{target}"
    make(clip, made)
    assert shows_of(made) == shows
    with Image.open(made) as image:
        expected = None if shows == 1 else max(shows - 1, 0)
        assert image.info.get("loop") == (expected if target == "gif" else shows)


FAMILIES = (
    "gray",
    "gray16le",
    "yuv420p",
    "yuv422p10le",
    "yuva420p",
    "gbrp",
    "gbrap",
    "gbrp10le",
)
VIDEOS = tuple(  # FFmpeg cannot read animated WebP
    suffix for suffix in CONTAINERS if suffix not in (".m4v", ".webp")
)
PICTURES = (".png", ".jpg", ".tif", ".exr")


@pytest.mark.full
@pytest.mark.parametrize("suffix", VIDEOS + PICTURES)
@pytest.mark.parametrize("pix_fmt", FAMILIES)
@pytest.mark.parametrize("matrix", [0, 2])
def test_the_tags_of_an_output_suit_its_pixel_format(tmp_path, pix_fmt, suffix, matrix):
    tags = ColorTags(2, 2, matrix, 0 if pix_fmt.startswith("yuv") else 2)
    info = info_of((64, 48), pix_fmt, tags=tags)
    path = tmp_path / ("%05d" if suffix in PICTURES else "out")
    path = path.with_name(path.name + suffix)
    write(path, even(3, (64, 48), pix_fmt, rate=10, tags=tags), info, rate=10)
    with av.open(str(path).replace("%05d", "00001")) as clip:
        context = clip.streams.video[0].codec_context
        decoded = next(clip.decode(video=0))
    family = layout(decoded.format.name).family
    matrices = {int(decoded.colorspace), int(context.colorspace)}
    if family == "rgb":
        assert matrices <= {0, 2}
    elif family == "yuv" or suffix not in (".png", ".apng"):  # FFmpeg reads gray PNG as RGB
        assert 0 not in matrices


@pytest.mark.parametrize(
    "encoder", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"]
)
@pytest.mark.parametrize(
    "tags", [(3, 3, 3), (22, 18, 17), (0, 0, 15), (12, 16, 16), (9, 16, 9)]
)
def test_no_colour_tags_of_a_source_stop_an_encoder(tmp_path, encoder, tags):
    tags_of_source = ColorTags(*tags, 1)
    info = info_of((64, 48), tags=tags_of_source)
    write(
        tmp_path / "out.mkv",
        even(1, (64, 48), tags=tags_of_source),
        info,
        rate=10,
        encoder=encoder,
    )
    with av.open(str(tmp_path / "out.mkv")) as clip:
        decoded = next(clip.decode(video=0))
        result = tuple(
            map(int, (decoded.color_primaries, decoded.color_trc, decoded.colorspace))
        )
    assert 3 not in result
    if tags == (9, 16, 9):
        assert result == tags
