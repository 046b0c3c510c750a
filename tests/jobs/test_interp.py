"""Interpolation from file to file: frame counts, exact times, pixels, copied streams."""

import itertools
import math
import struct
from fractions import Fraction as F
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import cloudconv
from cloudconv.errors import CloudconvError, InputError, OutputError
from cloudconv.events import Warned
from cloudconv.jobs.interp.plan import decide
from cloudconv.settings.numbers import parse_speed
from cloudconv.timemap import TimeMap
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import (
    packet_times,
    packets_of,
    picture,
    read_planes,
    read_times,
    same,
    write_clip,
)

LOSSLESS = calls.LOSSLESS


def interp(path, out, **settings):
    settings.setdefault("model", "blend")
    return calls.interpolate(path, path.with_name(out), **settings)


def duration_of(path):
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        return stream.duration * stream.time_base


@pytest.mark.parametrize("rate", [F(24000, 1001), F(25), F(30000, 1001), F(60)])
@pytest.mark.parametrize("factor", [2, 5])
def test_a_constant_rate_is_multiplied_exactly(tmp_path, rate, factor):
    clip = write_clip(tmp_path / "a.mp4", 9, rate=rate, codec="libx264")
    result = interp(clip, "b.mp4", factor=factor)
    assert result.output_frames == 9 * factor
    assert result.output_fps == str(rate * factor)
    assert read_times(tmp_path / "b.mp4") == [
        k / (rate * factor) for k in range(9 * factor)
    ]
    assert duration_of(tmp_path / "b.mp4") == 9 / rate


def test_the_size_of_a_video_whose_name_contains_a_number_field_is_reported(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 4, codec="libx264")
    for name in ("b_%03d.mp4", "%03d.png"):
        result = interp(clip, name, factor=2).output_bytes
        assert (
            result == sum(p.stat().st_size for p in tmp_path.glob(f"*[!a]{name[-4:]}")) > 0
        )


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mkv", "ffv1", {}),
        (".mp4", "libx264", {"bf": "3", "g": "8"}),
        (".mov", "libx264", {"bf": "2"}),
    ],
)
def test_source_frames_are_bit_identical_at_their_own_time(
    tmp_path, suffix, codec, options
):
    clip = write_clip(tmp_path / f"a{suffix}", 10, rate=25, codec=codec, options=options)
    interp(clip, f"b{suffix}", factor=3, **calls.lossless(clip), model="tiny")
    after = read_planes(tmp_path / f"b{suffix}")
    assert len(after) == 30
    assert same(after[::3], read_planes(clip))


def test_real_gaps_of_a_variable_rate_are_divided(tmp_path):
    times = [F(k, 1000) for k in (0, 40, 100, 133, 301, 317)]
    end = F(367, 1000)
    options = {"times": times, "last_duration": end - times[-1], "codec": "libx264"}
    result = interp(write_clip(tmp_path / "a.mp4", 6, **options), "b.mp4", factor=4)
    assert (result.source_fps, result.output_fps) == (None, None)
    expected = [
        a + (b - a) * k / 4 for a, b in itertools.pairwise([*times, end]) for k in range(4)
    ]
    assert read_times(tmp_path / "b.mp4") == expected
    assert duration_of(tmp_path / "b.mp4") == end


@pytest.mark.full
@pytest.mark.parametrize(
    ("rate", "fps"),
    [
        *((F(24000, 1001), F(60)), (F(24000, 1001), F(60000, 1001)), (F(25), F(60))),
        *((F(30), F(50)), (F(30), F(48)), (F(50), F(24)), (F(60), F(24000, 1001))),
    ],
)
def test_a_rate_is_resampled_exactly(tmp_path, rate, fps):
    clip = write_clip(tmp_path / "a.mp4", 13, rate=rate, codec="libx264")
    interp(clip, "b.mp4", fps=fps)
    times = read_times(tmp_path / "b.mp4")
    assert times == [k / fps for k in range(len(times))]
    assert 0 <= len(times) / fps - 13 / rate < 1 / fps


def test_a_fractional_factor_keeps_source_frames_whose_times_match(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 9, rate=20)
    assert interp(clip, "b.mkv", factor="2.5", **LOSSLESS).output_frames == 23
    assert same(read_planes(tmp_path / "b.mkv")[::5], read_planes(clip)[::2])


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"workers": "local:2"}, marks=pytest.mark.full), {"refill": True}],
)
def test_the_frame_after_an_excerpt_is_its_right_neighbour(tmp_path, options, varies):
    times = [F(k, 20) + (F(1, 50) if varies and k % 3 else 0) for k in range(20)]
    clip = write_clip(tmp_path / "a.mkv", 20, rate=20, times=times, step=4.0)
    interp(clip, "whole.mkv", slowmo=4, **LOSSLESS)
    frames = read_planes(tmp_path / "whole.mkv")
    # To start workers takes seconds.
    for begin, stop in ((5, 10),) if "workers" in options else ((5, 9), (10, 20)):
        span = {"start": times[begin], "end": [*times, F(1)][stop]}
        result = interp(clip, f"{stop}.mkv", slowmo=4, **span, **LOSSLESS, **options)
        assert (result.source_frames, result.held_frames) == (
            stop - begin,
            3 * (stop == 20),
        )
        assert same(read_planes(tmp_path / f"{stop}.mkv"), frames[4 * begin : 4 * stop])


def test_a_loop_fills_the_last_interval_towards_the_first_frame(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 4, rate=10, step=4.0)
    interp(clip, "held.mkv", factor=2, **LOSSLESS)
    interp(clip, "loop.mkv", factor=2, **LOSSLESS, loop=True)
    first, _, _, last = read_planes(clip)
    held, looped = (read_planes(tmp_path / name)[7] for name in ("held.mkv", "loop.mkv"))
    assert same(held, last)
    assert np.abs(looped[0] - (first[0].astype(float) + last[0]) / 2).max() <= 1.5


def test_a_speed_that_changes_shows_the_source_where_the_map_says(tmp_path):
    """The speed falls evenly to a quarter, rises again, and is then 2 at once."""
    clip = write_clip(tmp_path / "a.mkv", 50, rate=25)
    points = "0=1,0.4=1,0.8=0.25,1.2=1,1.2=2"
    result = interp(clip, "b.mkv", speed=points, **LOSSLESS)
    slow = 2 * F(2, 5) / F(5, 4)
    seconds = F(2, 5) + 2 * slow + F(4, 5) / 2
    count = math.ceil(seconds * 25)
    times = read_times(tmp_path / "b.mkv")
    assert [float(time * 25) for time in times] == pytest.approx(range(count), abs=0.03)
    assert [part["lasts"] for part in result.speed] == pytest.approx(
        [0.4, float(slow), float(slow), 0.4]
    )
    before, after = read_planes(clip), read_planes(tmp_path / "b.mkv")
    assert all(same(after[k], before[k]) for k in range(11))
    # Above speed 1 each frame is one of the source.
    fast = after[math.ceil((F(2, 5) + 2 * slow) * 25) :]
    assert all(any(same(one, own) for own in before) for one in fast)
    shows = TimeMap.through(parse_speed(points))
    for number, planes in enumerate(after[11:]):
        at = shows.source(F(number + 11, 25)) * 25
        if shows.speed_at(at / 25) <= 1 and at < 49:
            left, right = (before[int(at) + k][0].astype(float) for k in (0, 1))
            wanted = left + float(at - int(at)) * (right - left)
            assert np.abs(planes[0] - wanted).max() <= 1.5


@pytest.mark.parametrize(("end", "has"), [("0.12", "no frame"), ("0.13", "a single frame")])
def test_a_part_with_too_few_frames_does_not_blame_the_video(tmp_path, end, has):
    clip = write_clip(tmp_path / "a.mkv", 24)
    with pytest.raises(InputError, match=f"has {has} to use, .* longer video or part"):
        interp(clip, "b.mkv", factor=2, start="0.1", end=end)


def test_sound_is_cut_only_where_the_part_is(tmp_path):
    """The pictures begin a second after the sound, and end a second before it."""
    late = [1 + F(k, 24) for k in range(24)]
    clip = write_clip(
        tmp_path / "a.mkv", 24, times=late, audio=["pcm_s16le"], audio_seconds=F(3)
    )
    interp(clip, "end.mkv", factor=2, end="0.5")
    interp(clip, "start.mkv", factor=2, start="0.5")
    sound, early, later = (
        packet_times(tmp_path / f"{k}.mkv") for k in ("a", "end", "start")
    )
    assert early == [time for time in sound if time < F(3, 2)]
    assert later == [time - F(3, 2) for time in sound if time >= F(3, 2)]
    assert read_times(tmp_path / "end.mkv")[0] == 1


@pytest.mark.parametrize("start", [0, F(1, 2), F(13, 25), F(77, 100)])
def test_sound_chapters_and_result_follow_the_pictures_of_a_part(tmp_path, start):
    """The part begins at a frame, or between two frames."""
    chapters = [(F(0), F(1), "one"), (F(1), F(2), "two")]
    clip = write_clip(
        tmp_path / "a.mkv", 50, rate=25, audio=["pcm_s16le"], chapters=chapters
    )
    points = "0.4=1,0.8=0.25,1.6=1"
    span = {"start": start, "end": F(171, 100)}
    result = interp(clip, "b.mkv", speed=points, audio="stretch", **span, **LOSSLESS)
    shows = TimeMap.through(parse_speed(points))
    first, end = (F(math.ceil(25 * time), 25) for time in span.values())
    begins = shows.output(first)
    lasts = float(shows.output(end) - begins)
    assert result.output_frames == math.ceil(round(25 * lasts, 6))
    assert sum(part["lasts"] for part in result.speed) == pytest.approx(lasts)
    assert result.speed[0]["from"] == float(first)
    assert result.speed[-1]["to"] == float(end)
    with av.open(str(tmp_path / "b.mkv")) as out:
        assert [
            chapter["start"] * chapter["time_base"] for chapter in out.chapters()
        ] == pytest.approx([0, float(shows.output(F(1)) - begins)], abs=0.001)
        sound = sum(frame.samples / frame.sample_rate for frame in out.decode(audio=0))
    assert sound == pytest.approx(float(shows.output(span["end"]) - begins), abs=0.001)


@pytest.mark.parametrize("speed", ["0=1,1=0.5", "0=1,1=2"])
def test_only_sound_that_can_be_stretched_is_advised_to_be(tmp_path, speed):
    clip = write_clip(tmp_path / "a.mkv", 50, rate=25, audio=["pcm_s16le"])
    (warned,) = interp(clip, "b.mkv", speed=speed).warnings
    assert "left out" in str(warned)
    assert ("stretch" in str(warned)) == ("2" not in speed)


def test_one_speed_gives_the_frames_of_slow_motion(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 12, rate=25)
    interp(clip, "b.mkv", slowmo=F(5, 2), **LOSSLESS)
    interp(clip, "c.mkv", speed="0=2/5", **LOSSLESS)
    assert read_times(tmp_path / "b.mkv") == read_times(tmp_path / "c.mkv")
    slow, even = read_planes(tmp_path / "b.mkv"), read_planes(tmp_path / "c.mkv")
    assert all(same(a, b) for a, b in zip(slow, even, strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": "0=1,3=2"}, "names 3 s, and the input lasts 0.48 s"),
        ({"speed": "0=1", "factor": 2}, "exactly one of"),
        ({"speed": "0=1", "slowmo": 2}, "exactly one of"),
        ({"speed": "0=1/2,0.1=2", "audio": "stretch"}, "only lengthens sound"),
        ({"speed": "0=1/2", "audio": "copy"}, "dropped or stretched, never copied"),
    ],
)
def test_a_speed_that_cannot_be_is_refused_in_one_sentence(tmp_path, options, said):
    clip = write_clip(tmp_path / "a.mkv", 12, rate=25)
    with pytest.raises(CloudconvError, match=said):
        interp(clip, "b.mkv", **options)
    assert not (tmp_path / "b.mkv").exists()


def test_a_speed_of_a_variable_rate_needs_the_rate_of_the_output(tmp_path):
    times = [F(k * k, 100) for k in range(12)]
    clip = write_clip(tmp_path / "a.mkv", 12, times=times)
    with pytest.raises(CloudconvError, match="variable frame rate"):
        interp(clip, "b.mkv", speed="0=1/2")
    assert interp(clip, "b.mkv", speed="0=1/2", fps=30).output_fps == "30"


@pytest.mark.parametrize("start", [F(0), F(7, 5), F(5)])
def test_a_late_start_and_b_frames_lose_nothing(tmp_path, start):
    times = [start + F(k, 25) for k in range(12)]
    clip = write_clip(
        tmp_path / "a.mp4", 12, times=times, rate=25, codec="libx264", options={"bf": "3"}
    )
    assert interp(clip, "b.mp4", factor=2).output_frames == 24
    assert read_times(tmp_path / "b.mp4") == [F(k, 50) for k in range(24)]


@pytest.mark.full
def test_no_frame_mixes_two_scenes_across_a_cut(tmp_path):
    shots = [picture(i, 128, 96, scene=s, noise=1.0) for s in (0, 1) for i in range(12)]
    clip = write_clip(tmp_path / "a.mkv", shots, rate=24)
    result = interp(clip, "b.mkv", factor=4, **LOSSLESS)
    assert result.cuts == [0.5]
    after = read_planes(tmp_path / "b.mkv")
    assert same(after[45:48], after[44:45] * 3)
    assert interp(clip, "c.mkv", factor=4, **LOSSLESS, scene_cut="off").cuts == []
    assert not same(read_planes(tmp_path / "c.mkv")[46], after[44])


def test_identical_neighbours_cost_no_inference(tmp_path):
    still = [picture(0) for _ in range(10)]
    clip = write_clip(tmp_path / "a.mkv", still, rate=24)
    result = interp(clip, "b.mkv", factor=4, model="rife-4.6", **LOSSLESS)
    assert (result.new_frames, result.output_frames) == (0, 40)


def test_refilled_duplicates_move_evenly(tmp_path):
    """The clip shows every picture twice.

    Refill replaces each repeat by the picture between.
    """
    shots = [picture(i // 2, 128, 96, step=6.0) for i in range(24)]
    clip = write_clip(tmp_path / "a.mkv", shots, rate=24)
    kept = interp(clip, "kept.mkv", factor=2, **LOSSLESS)
    assert any(
        "1 of every 2 frames repeats" in warning for warning in map(str, kept.warnings)
    )
    interp(clip, "even.mkv", factor=2, **LOSSLESS, refill=True)
    after = [p[0].astype(float) for p in read_planes(tmp_path / "even.mkv")]
    assert len(after) == 48
    steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(after[:45])]
    assert min(steps) > 0.3


@pytest.mark.full
@pytest.mark.parametrize("output", ["b.mkv", pytest.param("b.gif", marks=pytest.mark.full)])
def test_a_cadence_is_named_once(tmp_path, output):
    shots = [
        picture(k - k // 5 - 1 if k % 5 == 4 else k - k // 5, step=6.0) for k in range(120)
    ]
    clip = write_clip(tmp_path / "a.mkv", shots, rate=30)
    events = []

    def watch(event):
        events.append(str(event) if isinstance(event, Warned) else "progress")

    interp(clip, output, fps=F(40), watch=watch)
    named = [k for k, text in enumerate(events) if "1 of every 5 frames repeats" in text]
    assert len(named) == 1
    interp(write_clip(tmp_path / "c.mkv", 40, step=6.0), "d.mkv", fps=F(40), watch=watch)
    assert not any("of every" in str(text) for text in events[named[0] + 1 :])


@pytest.mark.full
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (5, 6, 5, 1), (2, 2, 2, 0), (1, 1, 1, 2)])
def test_new_frames_are_as_bright_as_real_ones(tmp_path, tags):
    shots = [picture(0, 160, 96, noise=6.0 + i / 1e3) for i in range(6)]
    clip = write_clip(tmp_path / "a.mkv", shots, rate=24, colour=tags)
    interp(clip, "b.mkv", factor=4, model="rife-4.6", **LOSSLESS)
    after = [
        [p.astype(float).mean() for p in planes]
        for planes in read_planes(tmp_path / "b.mkv")
    ]
    real = np.mean(after[:21:4], axis=0)
    new = np.mean([v for k, v in enumerate(after[:21]) if k % 4], axis=0)
    assert np.abs(real - new).max() <= 0.15


def test_everything_else_in_the_file_is_copied(tmp_path):
    more = {"metadata": {"title": "Clouds"}, "colour": (9, 16, 9, 1), "aspect": F(8, 9)}
    more |= {
        "chapters": [(F(0), F(1, 2), "one"), (F(1, 2), F(1), "two")],
        "codec": "libx264",
    }
    clip = write_clip(tmp_path / "a.mkv", 24, audio=["aac", "libopus"], **more)
    interp(clip, "b.mkv", factor=2)
    assert packets_of(tmp_path / "b.mkv") == packets_of(clip)
    with av.open(str(tmp_path / "b.mkv")) as out:
        assert out.metadata["title"] == "Clouds"
        assert [c["metadata"]["title"] for c in out.chapters()] == ["one", "two"]
        context = out.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (
            9,
            16,
            9,
        )
        assert context.sample_aspect_ratio == F(8, 9)


def test_an_existing_output_is_kept_unless_overwrite_is_set_and_an_input_always(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 4, rate=25, codec="libx264")
    before = clip.read_bytes()
    target = tmp_path / "b.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        interp(clip, "b.mp4", factor=2)
    assert target.read_bytes() == b"precious"
    with pytest.raises(CloudconvError):
        interp(clip, "b.mp4", factor=2, overwrite=True, encoder="nonesuch")
    assert target.read_bytes() == b"precious"
    interp(clip, "b.mp4", factor=2, overwrite=True)
    assert len(read_times(target)) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    with pytest.raises(OutputError):
        interp(clip, "a.mp4", factor=2, overwrite=True)
    assert clip.read_bytes() == before


def test_corrupt_packets_are_counted_and_the_rest_is_kept(tmp_path):
    options = {"codec": "libx264", "options": {"g": "10", "bf": "0"}, "noise": 2.0}
    clip = write_clip(tmp_path / "a.mp4", 60, **options)
    with av.open(str(clip)) as opened:
        packets = [(p.pos, p.size) for p in opened.demux(video=0) if p.size]
    data = bytearray(clip.read_bytes())
    for position, size in (packets[number] for number in (14, 25, 36)):
        data[position : position + size] = bytes(size)
    clip.write_bytes(bytes(data))
    result = interp(clip, "b.mp4", factor=2)
    assert read_times(tmp_path / "b.mp4") == [F(k, 48) for k in range(120)]
    assert result.source_frames < 60
    assert any(
        "3" in warning and "frame" in warning for warning in map(str, result.warnings)
    )


def _clip_with_gap(folder, seconds):
    times = [F(k, 25) + (seconds if k > 4 else 0) for k in range(9)]
    return write_clip(folder / "a.mkv", 9, times=times, last_duration=F(1, 25))


def test_an_animation_with_uneven_delays_stays_a_gif(tmp_path):
    options = {"times": [F(k, 100) for k in (0, 4, 14, 20, 60)], "last_duration": F(1, 5)}
    clip = write_clip(tmp_path / "a.gif", 5, codec="gif", pix_fmt="rgb8", **options)
    result = cloudconv.interpolate(clip, factor=2, model="blend", device="cpu")
    assert result.output == str(tmp_path / "a_x2.gif")
    made = [100 * time for time in read_times(result.output)]
    assert made == [0, 2, 4, 9, 14, 17, 20, 40, 60, 70]
    settings = cloudconv.InterpSettings(clip, tmp_path / "b.gif", factor=4, model="blend")
    with pytest.raises(OutputError, match="some of these frames are closer"):
        decide(settings)


@pytest.mark.parametrize("goal", [{"factor": 1}, {"fps": 50}])
def test_refill_at_the_own_rate_changes_the_lost_frames_only(tmp_path, goal):
    lost = [6, 14, 23, 31]
    pictures = [picture(k - (k in lost), pix_fmt="yuv444p") for k in range(40)]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=50, pix_fmt="yuv444p")
    interp(clip, "b.mkv", refill=True, **LOSSLESS, **goal)
    made = zip(read_planes(tmp_path / "b.mkv"), read_planes(clip), strict=True)
    assert [k for k, (a, b) in enumerate(made) if not same([a], [b])] == lost


@pytest.mark.parametrize("goal", [{"fps": 50}, {"factor": 2}])
def test_a_picture_that_lasts_unusually_long_is_named(tmp_path, goal):
    def said(clip, **part):
        settings = cloudconv.InterpSettings(
            clip, tmp_path / "b.mkv", model="blend", **goal, **part
        )
        return [str(w) for w in decide(settings).warnings if w.code == "long-gap"]

    (warning,) = said(_clip_with_gap(tmp_path, 3))
    assert warning.startswith(
        "The picture at 0.160 s lasts 3.0 s, and others mostly 0.04 s:"
    )
    assert "fps=30 OUT" in warning
    pictures = [Image.new("RGB", (48, 32), (20 * k, 90, 0)) for k in range(7)]
    lasts = [50, 50, 50, 2500, 50, 50, 4000]
    animation = tmp_path / "a.webp"
    pictures[0].save(animation, save_all=True, append_images=pictures[1:], duration=lasts)
    (warning,) = said(animation)
    assert warning.startswith("The picture at 0.150 s lasts 2.5 s")
    assert not said(tmp_path / "a.mkv", start=1)
    assert not said(tmp_path / "a.mkv", end=2)
    assert not said(_clip_with_gap(tmp_path, 0))
    # At 60 frames a second in milliseconds most frames last 17 ms, which is 59 frames a
    # second.
    times = [F(k, 1000) for k in (0, 17, 33, 50, 67, 3000, 3017)]
    screen = write_clip(tmp_path / "s.mkv", 7, times=times, time_base=F(1, 1000))
    assert "fps=60 OUT" in said(screen)[0]
    # A frame of a slide show lasts no longer than usual.
    times = [F(0), F(3), F(8), F(12)]
    assert not said(write_clip(tmp_path / "c.mkv", 4, times=times, last_duration=F(1)))


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_gap_of_many_frames_is_refused_before_the_work(tmp_path, words):
    clip = _clip_with_gap(tmp_path, 10**6)
    result = invoke("interp", clip, tmp_path / "b.mp4", "--fps", "30", *words)
    assert result.exit_code == 1
    for said in ("30,000,0", "only 11 at their usual rate", "--many-frames"):
        assert said in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == [clip]


def test_a_header_that_states_days_is_refused_with_the_number_of_frames(tmp_path):
    clip = write_clip(tmp_path / "a.avi", 9, rate=25, codec="mpeg4")
    data = bytearray(clip.read_bytes())
    # The scale of the rate.
    struct.pack_into("<I", data, data.index(b"strh") + 28, 8_160_000)
    clip.write_bytes(data)
    with pytest.raises(
        InputError, match=r"88,128,000 frames at 30 fps, .* one frame a minute"
    ):
        interp(clip, "b.mp4", fps=30)
    assert list(tmp_path.iterdir()) == [clip]


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"fps": 50, "start": 3}, 8),  # without the gap
        ({"factor": 2}, 18),
        ({"factor": 2, "end": 3}, 10),
        ({"fps": 30, "end": 3}, 90),  # shows the last frame until the end
    ],
)
def test_a_part_without_the_gap_and_divided_gaps_are_not_refused(tmp_path, options, frames):
    clip = _clip_with_gap(tmp_path, 10**6)
    result = interp(clip, "b.mkv", **options)
    assert result.output_frames == frames
    assert "end" not in options or result.duration == 3


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"factor": 2, "end": 2}, None),
        ({"factor": 2, "end": F(1, 3)}, "60"),
        ({"slowmo": 4, "start": F(1, 4), "end": F(3, 4)}, "30"),
    ],
)
def test_a_part_whose_even_times_a_coarse_clock_rounds_has_a_rate(tmp_path, options, rate):
    times = [F(round(1000 * F(k, 30)), 1000) for k in (*range(30), 40, 45, 60)]
    clip = write_clip(tmp_path / "a.mkv", len(times), times=times, rate=30)
    assert interp(clip, "b.mkv", **options).output_fps == rate


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_part_that_ends_within_a_frame_lasts_as_long_as_the_result_says(tmp_path, suffix):
    times = [F(k, 30) for k in (*range(20), *range(22, 40))]
    clip = write_clip(tmp_path / "a.avi", len(times), times=times, rate=30, codec="mpeg4")
    result = interp(clip, f"b.{suffix}", factor=8, end="1.02")
    assert result.output_fps is None
    assert result.duration == 1.02
    written_times = read_times(Path(result.output))[-8:]
    expected = [1 + F("0.02") * k / 8 for k in range(8)]
    assert all(
        abs(one - other) <= F(1, 2000)
        for one, other in zip(written_times, expected, strict=True)
    )


def test_many_frames_are_planned_if_they_are_allowed_or_usual(tmp_path):
    def planned(clip, **options):
        return decide(
            cloudconv.InterpSettings(clip, tmp_path / "b.mkv", **options)
        ).expected

    clip = _clip_with_gap(tmp_path, 4000)
    with pytest.raises(InputError, match="12,00"):
        planned(clip, fps=30, slowmo=100)
    planned(clip, fps=20)
    assert planned(clip, fps=30, slowmo=100, many_frames=True) > 10**7
    slow = write_clip(tmp_path / "c.mkv", 120, rate=F(1, 30), size=(16, 16))
    assert planned(slow, fps=30, model="blend") == 108_000
