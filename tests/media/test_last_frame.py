"""The last frame is shown for as long as in the source, in every container."""

from fractions import Fraction as F
from functools import partial
from pathlib import Path

import av
import pytest
from PIL import Image, ImageSequence

import cloudconv
from cloudconv.media.pictures import shows_of
from cloudconv.media.probe import probe
from cloudconv.media.source import Source
from tests.helpers.factory import animation, read_times, write_clip

ANIMATIONS = ["gif", "apng", "webp"]
interp = partial(cloudconv.interpolate, model="blend")


def clip_with_pause(path, rate=F(10), frames=6, last=2):
    """Write a clip of constant rate whose last frame is shown for ``last`` seconds."""
    if path.suffix[1:] in ANIMATIONS:
        return animation(path, [int(1000 / rate)] * (frames - 1) + [last * 1000])
    form = {"rate": rate, "codec": "libx264", "size": (32, 32)}
    return write_clip(path, frames, last_duration=F(last), **form)


def length_of(path):
    """Return the length that a reader computes, in seconds."""
    if path.suffix[1:] not in ANIMATIONS:
        with av.open(str(path)) as clip:
            return F(clip.duration, 1_000_000)
    total = F(0)
    with Image.open(path) as image:
        for shown in ImageSequence.Iterator(image):
            shown.load()
            total += F(shown.info["duration"])
    return total / 1000


@pytest.mark.parametrize("target", [*ANIMATIONS, "mp4", "mov", "mkv"])
@pytest.mark.parametrize("source", [*ANIMATIONS, "mp4", "mkv"])
def test_the_last_frame_keeps_its_length(tmp_path, source, target):
    clip, out = clip_with_pause(tmp_path / f"in.{source}"), tmp_path / f"out.{target}"
    assert interp(clip, out, factor=2).output_frames == 12
    assert length_of(out) == F(5, 2)
    if target != "webp":
        assert read_times(out) == [*(F(k, 20) for k in range(11)), F(3, 2)]
    again = probe(out).timing
    assert again.end - again.start == F(5, 2)
    # The encoder of WebP merges two equal pictures.
    assert again.frames == (11 if target == "webp" else 12)


@pytest.mark.parametrize("rate", [F(24000, 1001), F(25), F(30000, 1001)])
def test_all_other_frames_keep_their_exact_times(tmp_path, rate):
    clip, out = clip_with_pause(tmp_path / "in.mkv", rate, 30, 10), tmp_path / "out.mp4"
    with Source(clip) as source:
        assert [frame.time for frame in source.frames()] == [k / rate for k in range(30)]
        assert not source.warnings
    interp(clip, out, factor=2)
    assert read_times(out)[:59] == [k / (2 * rate) for k in range(59)]
    assert abs(length_of(out) - (29 / rate + 10)) <= F(1, 1000)


def test_a_fixed_rate_repeats_the_last_frame(tmp_path):
    interp(clip_with_pause(tmp_path / "in.gif"), tmp_path / "out.mp4", fps=20)
    assert read_times(tmp_path / "out.mp4") == [F(k, 20) for k in range(50)]


def test_an_animation_with_a_pause_is_written_as_an_animation(tmp_path):
    clip = clip_with_pause(tmp_path / "in.gif")
    assert Path(interp(clip, factor=2).output).suffix == ".gif"
    slowed = Path(interp(clip, slowmo="2.5").output)
    assert 0 <= length_of(slowed) - F(25, 4) < F(1, 10)


@pytest.mark.parametrize("target", ANIMATIONS)
@pytest.mark.parametrize("source", ANIMATIONS)
@pytest.mark.parametrize("shows", [0, 1, 3])
def test_an_animation_is_shown_as_often_as_its_source(tmp_path, source, target, shows):
    # In a GIF, the number is that of repeats, and no number means no repeat.
    loop = {"loop": shows - 1 if source == "gif" and shows else shows}
    loop = {} if (source, shows) == ("gif", 1) else loop
    clip, made = animation(tmp_path / f"in.{source}", [100] * 4, **loop), tmp_path / f"out.{target}"
    interp(clip, made, factor=2)
    assert shows_of(made) == shows
    with Image.open(made) as image:
        expected = None if shows == 1 else max(shows - 1, 0)
        assert image.info.get("loop") == (expected if target == "gif" else shows)
