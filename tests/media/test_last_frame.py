"""The last frame is shown for as long as in the source, in every container."""

from fractions import Fraction as F
from pathlib import Path

import av
import pytest
from PIL import Image

import cloudconv
from cloudconv.media.pictures import shows_of
from cloudconv.media.probe import probe
from cloudconv.media.source import Source
from tests.helpers.factory import picture, read_times, write_clip


def clip_with_pause(path, rate=F(10), frames=6, last=F(2)):
    """Write a clip of constant rate whose last frame is shown for ``last`` seconds."""
    if path.suffix == ".webp":
        shown = [Image.fromarray(picture(k, 32, 32).to_ndarray(format="rgb24")) for k in range(6)]
        held = [int(1000 / rate)] * (frames - 1) + [int(last * 1000)]
        shown[0].save(path, save_all=True, append_images=shown[1:], duration=held, lossless=True)
        return path
    codec, name = {
        ".gif": ("gif", "rgb8"),
        ".apng": ("apng", "rgb24"),
    }.get(path.suffix, ("libx264", "yuv420p"))
    if codec == "libx264":
        return write_clip(path, frames, rate=rate, codec=codec, last_duration=last, size=(32, 32))
    ends = int(last * (100 if codec == "gif" else 1000))
    options = {"final_delay": str(ends) if codec == "gif" else f"{ends}/1000"}
    with av.open(str(path), "w", container_options=options) as out:
        video = out.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = 32, 32, name
        video.codec_context.time_base = 1 / rate
        for k in range(frames):
            frame = picture(k, 32, 32).reformat(format=name)
            frame.pts, frame.time_base = k, 1 / rate
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def length_of(path):
    """Return the length that a reader computes: from the first frame to the end of the last."""
    if path.suffix == ".webp":
        with Image.open(path) as image:
            total = 0
            for k in range(image.n_frames):
                image.seek(k)
                image.load()
                total += image.info["duration"]
        return F(total, 1000)
    with av.open(str(path)) as clip:
        ends = [(p.pts + p.duration) * p.time_base for p in clip.demux(video=0) if p.size]
        if path.suffix == ".mkv":
            assert clip.duration is not None
            return F(clip.duration, 1_000_000)
        stream = clip.streams.video[0]
        if path.suffix in (".mp4", ".mov"):
            assert stream.duration is not None
            return stream.duration * stream.time_base
        return max(ends)


@pytest.mark.parametrize("target", ["gif", "apng", "webp", "mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", ["gif", "apng", "webp", "mp4", "mkv"])
def test_the_last_frame_keeps_its_length(tmp_path, source, target):
    clip, out = clip_with_pause(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    result = cloudconv.interpolate(clip, out, factor=2, model="blend")
    assert result.output_frames == 12
    assert length_of(out) == F(5, 10) + 2
    if target != "webp":
        assert read_times(out) == [*(F(k, 20) for k in range(11)), F(3, 2)]
    again = probe(out).timing
    assert again.end - again.start == F(5, 2)
    # The encoder of WebP merges two equal pictures.
    assert again.frames == (11 if target == "webp" else 12)


@pytest.mark.parametrize("rate", [F(24000, 1001), F(25), F(30000, 1001)])
def test_all_other_frames_keep_their_exact_times(tmp_path, rate):
    clip = clip_with_pause(tmp_path / "in.mkv", rate, 30, F(10))
    with Source(clip) as source:
        frames = list(source.frames())
    assert [frame.time for frame in frames] == [k / rate for k in range(30)]
    assert not source.warnings
    cloudconv.interpolate(clip, tmp_path / "out.mp4", factor=2, model="blend")
    times = read_times(tmp_path / "out.mp4")
    assert times[:59] == [k / (2 * rate) for k in range(59)]
    assert abs(length_of(tmp_path / "out.mp4") - (29 / rate + 10)) <= F(1, 1000)


def test_a_fixed_rate_repeats_the_last_frame(tmp_path):
    clip = clip_with_pause(tmp_path / "in.gif")
    cloudconv.interpolate(clip, tmp_path / "out.mp4", fps=20, model="blend")
    assert read_times(tmp_path / "out.mp4") == [F(k, 20) for k in range(50)]


def test_an_animation_with_a_pause_is_written_as_an_animation(tmp_path):
    result = cloudconv.interpolate(clip_with_pause(tmp_path / "in.gif"), factor=2, model="blend")
    assert Path(result.output).suffix == ".gif"
    result = cloudconv.interpolate(tmp_path / "in.gif", slowmo="2.5", model="blend")
    assert 0 <= length_of(Path(result.output)) - F(25, 4) < F(1, 10)


@pytest.mark.parametrize("target", ["gif", "apng", "webp"])
@pytest.mark.parametrize("source", ["gif", "apng", "webp"])
@pytest.mark.parametrize("shows", [0, 1, 3])
def test_an_animation_is_shown_as_often_as_its_source(tmp_path, source, target, shows):
    pictures = [Image.new("RGB", (64, 48), (40 * k, 0, 90)) for k in range(4)]
    # In a GIF, the number is that of repeats, and no number means no repeat.
    loop = {"loop": shows - 1 if source == "gif" and shows else shows}
    clip = tmp_path / f"in.{source}"
    pictures[0].save(
        clip,
        format={"apng": "PNG"}.get(source),
        save_all=True,
        append_images=pictures[1:],
        duration=100,
        **({} if (source, shows) == ("gif", 1) else loop),
    )
    made = tmp_path / f"out.{target}"
    cloudconv.interpolate(clip, made, factor=2, model="blend")
    assert shows_of(made) == shows
    with Image.open(made) as image:
        expected = None if shows == 1 else max(shows - 1, 0)
        assert image.info.get("loop") == (expected if target == "gif" else shows)
