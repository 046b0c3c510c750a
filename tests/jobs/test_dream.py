"""Dreams from file to file: length, times, audio, pixels, loops and warnings."""

import re
from fractions import Fraction as F
from itertools import pairwise
from unittest.mock import Mock

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from cloudconv.dreaming.vitals.vitals import VITALS, VitalsMeter
from cloudconv.errors import DeviceError, InputError
from cloudconv.jobs.extend import dream as job
from cloudconv.jobs.extend import ending, plan, preview
from cloudconv.media.reading.source import Source
from cloudconv.settings import DreamSettings
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.dreams import ball, ball_is_whole, clouds, tensor, video
from tests.helpers.factory import picture, read_planes, read_times, same, write_clip
from tests.helpers.jobs import finish
from tests.helpers.tiers import first_full


@pytest.fixture(scope="module")
def bouncing(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "ball.mkv"
    return write_clip(path, [video(p, "yuv444p") for p in ball(60)], rate=25)


def dream(path, out, **options):
    options = {"overwrite": True, **calls.lossless(out), **options}
    return calls.dream(
        path, out, **({} if "seconds" in options else {"frames": 12}) | options
    )


def shown(path):
    with av.open(str(path)) as clip:
        return [f.to_ndarray(format="rgb24") for f in clip.decode(video=0)]


def opens_and_closes(pictures):
    """Return whether the first picture follows the last one without a jump."""
    pictures = [picture.astype(float) for picture in pictures]
    steps = [np.abs(b - a).mean() for a, b in pairwise(pictures)]
    return np.abs(pictures[-1] - pictures[0]).mean() < 1.5 * max(steps)


@pytest.mark.full
def test_a_repeating_clip_becomes_a_texture(bouncing, tmp_path):
    result = dream(bouncing, tmp_path / "b.mkv", frames=150)
    assert result.mode == "texture"
    assert result.why == "no steady wind"
    assert (result.source_frames, result.new_frames, result.output_frames) == (60, 150, 210)
    assert read_times(tmp_path / "b.mkv") == [
        F(round(1000 * F(k, 25)), 1000) for k in range(210)
    ]
    assert same(read_planes(tmp_path / "b.mkv")[:60], read_planes(bouncing))
    assert all(ball_is_whole(tensor(p)) for p in shown(tmp_path / "b.mkv"))
    assert [(row["from"], row["to"]) for row in result.vitals] == [(0, 100), (100, 150)]
    assert {row["measured_on"] for row in result.vitals} == {"rehearsal"}
    assert all(
        set(VITALS) | {"from", "to", "alive", "measured_on"} == set(row)
        for row in result.vitals
    )
    assert result.alive
    assert not result.warnings


@pytest.mark.full
def test_vitals_are_complete_before_the_output_has_its_name(
    bouncing, tmp_path, monkeypatch
):
    """After that point, an interrupt would report a complete output as interrupted."""
    complete = []
    push = VitalsMeter.push

    def observe(meter, small, origin, ghost):
        push(meter, small, origin, ghost)
        complete.append((tmp_path / "b.mkv").exists())

    monkeypatch.setattr(VitalsMeter, "push", observe)
    options = {"mode": "texture", "leave": "end", "overwrite": False}
    result = dream(bouncing, tmp_path / "b.mkv", frames=4, **options)
    assert complete == [False] * 4
    assert [row["to"] for row in result.vitals] == [4]


@pytest.mark.full
def test_only_new_frames_of_a_part_can_be_written(bouncing, tmp_path):
    options = {"at": F(48, 25), "frames": 20, "mode": "texture"}
    whole = dream(bouncing, tmp_path / "b.mp4", **options)
    assert (whole.source_frames, whole.at, whole.material_frames) == (48, 48 / 25, 48)
    only = dream(bouncing, tmp_path / "c.mp4", **options, only_new=True)
    assert (only.source_frames, only.output_frames, only.duration) == (0, 20, 0.8)
    assert same(read_planes(tmp_path / "b.mp4")[48:], read_planes(tmp_path / "c.mp4"))
    assert read_times(tmp_path / "c.mp4")[0] == 0


@pytest.mark.full
@pytest.mark.usefixtures("unmeasured")
def test_the_same_seed_gives_the_same_frames(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [video(p) for p in clouds(40, (64, 48))])
    planes = {}
    for name, seed in (("b", 3), ("c", 3), ("d", 5)):
        dream(
            clip,
            tmp_path / f"{name}.mkv",
            mode="collage",
            frames=8,
            seed=seed,
            only_new=True,
        )
        planes[name] = read_planes(tmp_path / f"{name}.mkv")
    assert same(planes["b"], planes["c"])
    assert not same(planes["b"], planes["d"])


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4", ".mkv"])
@pytest.mark.usefixtures("unmeasured")
def test_a_loop_ends_where_it_starts_also_with_the_source(bouncing, tmp_path, suffix):
    out = tmp_path / f"loop{suffix}"
    new = 36 if suffix == ".mkv" else 48
    result = dream(bouncing, out, frames=new, mode="texture", loop=True, only_new=new == 48)
    if suffix != ".webp":
        assert result.output_frames == (48 if new == 48 else 96)
    if suffix != ".webp":
        assert opens_and_closes(shown(out))
        return
    with Image.open(out) as clip:
        assert clip.info["loop"] == 0
        # The encoder joins equal frames where the ball rests.
        assert 40 <= clip.n_frames <= 48
        assert result.output_frames == clip.n_frames


@pytest.mark.full
def test_each_kind_of_fault_is_reported_once_at_the_end(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [video(p) for p in clouds(60)], rate=25)
    result = dream(clip, tmp_path / "b.mkv", frames=210, mode="rollout", model="conv")
    warnings = [*map(str, result.warnings)]
    kinds = {
        (fault["text"], fault["grade"])
        for fault in result.faults
        if fault["grade"] != "hardly seen"
    }
    assert len(warnings) == len(set(warnings)) == len(kinds) > 0
    for text, grade in kinds:
        assert any(f"{text} ({grade}; " in warning for warning in warnings)
    spoils = ["(spoils it; " in warning for warning in warnings]
    assert spoils == sorted(spoils, reverse=True)
    assert result.verdict.startswith("spoiled at ") is any(spoils)
    assert all(text in result.verdict for text, grade in kinds if grade == "spoils it")
    for fault in result.faults:
        x, y, width, height = fault["box"]
        assert 0 <= x < x + width <= 128
        assert 0 <= y < y + height <= 96
    assert re.fullmatch("--mode (collage|texture) is better", result.advice)
    assert result.headline.startswith(f"{result.mode} ({result.why}): {result.verdict}; ")
    assert result.advice in result.headline
    # Times are those of the output, in which the dream begins at 2.4 s.
    assert all(2.4 <= fault["time"] < 10.8 for fault in result.faults)
    assert (result.alive, result.model) == (False, "conv")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("shade", [0, 60])
def test_a_dream_of_an_even_picture_is_not_good(tmp_path, shade):
    pictures = [*clouds(40), *[np.full_like(clouds(1)[0], shade)] * 20]
    clip = write_clip(tmp_path / "a.mkv", [video(p) for p in pictures], rate=25)
    result = dream(clip, tmp_path / "b.mkv", frames=6)
    assert "there is nothing in the picture" in result.verdict
    assert result.advice == "try --at 1.600, where the scene before ends"
    again = dream(clip, tmp_path / "c.mkv", frames=6, at=1.6)
    assert "plain" not in {fault["vital"] for fault in again.faults}


@pytest.mark.full
def test_a_collage_of_a_clip_without_a_wind_gives_a_warning(tmp_path):
    """The ball bounces up and down, and the clouds drift."""
    for name, pictures, torn in (("a", ball(60), True), ("b", clouds(60), False)):
        clip = write_clip(tmp_path / f"{name}.mkv", [video(p) for p in pictures], rate=25)
        out = tmp_path / f"{name}_dream.mkv"
        result = dream(clip, out, frames=2, mode="collage")
        assert ("no-wind" in {w.code for w in result.warnings}) is torn


@pytest.mark.full
def test_a_jump_that_dissolves_is_a_fault_at_its_time(tmp_path):
    more = {"mode": "texture", "leave": "end", "report": tmp_path / "r"}
    result = dream(turning(tmp_path), tmp_path / "b.mkv", frames=60, **more)
    assert result.vitals[0]["ghost"] > 1
    assert not result.alive
    # One fault for a time has the worst word.
    assert "ghost" in {fault["vital"] for fault in result.faults}
    assert " s) two pictures show through each other (" in str(result.warnings[0])
    assert "like the clip" not in result.headline
    check_page((tmp_path / "r" / "index.html").read_text("utf-8"))


@pytest.mark.full
def test_a_report_shows_the_worst_faults_of_a_dream_to_standard_output(tmp_path):
    words = ("--mode=texture", "--frames=60", "--report", tmp_path / "r")
    done = invoke("dream", turning(tmp_path), "-o", "-", *words)
    assert done.exit_code == 0
    check_page((tmp_path / "r" / "index.html").read_text("utf-8"))


def check_page(page):
    places = page.split("<article")[1:]
    assert re.search("<h1>(spoiled at|[0-9]+ places? (is|are) seen)", page)
    assert 0 < len(places) <= 12
    for place in places:
        assert place.count('src="data:image/jpeg;base64,') == 3
        found = re.search(r"<h3>Output frame (\d+) \(([0-9.]+) s\)</h3>", place)
        assert float(found[2]) == int(found[1]) / 25 > 60 / 25  # after the film


def turning(folder):
    """Return a clip whose camera turns slowly, so no picture looks like another."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 200, 3), np.uint8)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    views = [np.ascontiguousarray(wide[:, k : k + 128]) for k in range(60)]
    return write_clip(folder / "a.mkv", [video(view) for view in views], rate=25)


def interrupted(folder):
    """Return a clip of a ball that bounces; a wall comes in by the last ten pictures."""
    pictures = ball(70)
    for number, shown in enumerate(pictures[60:], 1):
        shown[:24, : 5 * number] = 200
    return write_clip(folder / "a.mkv", [video(p, "yuv444p") for p in pictures], rate=25)


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_texture_leaves_before_what_no_other_frame_looks_like(tmp_path, suffix):
    clip = interrupted(tmp_path)
    out = tmp_path / f"b{suffix}"
    result = dream(clip, out, frames=20, mode="texture")
    kept = result.source_frames
    assert 70 - 17 <= kept < 66
    assert (result.at, result.left_at) == (kept / 25, kept / 25)
    assert (result.new_frames, result.output_frames) == (20, kept + 20)
    assert same(read_planes(out)[:kept], read_planes(clip)[:kept])
    tick = 1000 if suffix == ".mkv" else 25
    assert read_times(out) == [F(round(tick * F(k, 25)), tick) for k in range(kept + 20)]
    early = f"{(70 - kept) / 25:.1f} s before the film's end, where a jump is seen less"
    assert result.why == f"requested, {early}"
    assert all(map(ball_is_whole, map(tensor, shown(out)[: kept + 5])))


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [
        {"leave": "end", "mode": "texture"},
        {"only_new": True, "mode": "texture"},
        {"at": F(69, 25), "mode": "texture"},
        {"loop": True, "mode": "texture"},
        {"audio": "copy", "mode": "texture"},
        {"mode": "flow"},
    ],
)
@pytest.mark.usefixtures("unmeasured")
def test_a_film_is_shown_to_its_end_where_this_is_asked_for(tmp_path, options):
    clip = interrupted(tmp_path)
    result = dream(clip, tmp_path / "b.mkv", frames=8, **options)
    ends = 69 if "at" in options else 70
    assert result.left_at is None
    assert result.at == ends / 25
    assert result.source_frames == (0 if "only_new" in options else ends)


@pytest.mark.full
def test_a_preview_judges_a_mode_as_the_dream_in_this_mode_is_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "SECONDS", F(1))
    clip = interrupted(tmp_path)
    modes = calls.dream(clip, preview=tmp_path / "modes.png").modes
    assert [mode["left_at"] is not None for mode in modes] == [False, True, False]
    for mode in modes:
        name = mode["mode"]
        whole = dream(clip, tmp_path / f"{name}.mkv", mode=name, seconds=1)
        assert mode["left_at"] == whole.left_at
        first = whole.source_frames
        faults = [(fault["frame"] - first, fault["vital"]) for fault in whole.faults]
        assert [(fault["frame"], fault["vital"]) for fault in mode["faults"]] == faults
        assert mode["verdict"].split()[:2] == whole.verdict.split()[:2]


def test_a_spoiled_dream_without_a_better_one_says_so(tmp_path):
    """The camera passes a wall, of which no two pictures are alike."""
    wall = np.random.default_rng(5).integers(0, 255, (12, 60, 3), np.uint8)
    wide = cv2.resize(wall, (600, 96), interpolation=cv2.INTER_CUBIC)
    pictures = [video(np.ascontiguousarray(wide[:, 9 * k :][:, :128])) for k in range(40)]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=25)
    result = dream(clip, tmp_path / "b.mkv", frames=30)
    assert result.verdict.startswith("spoiled at ")
    assert result.advice == "none of the modes is right for this film"
    assert result.headline.startswith(f"{result.mode} ({result.why}): {result.verdict}; ")


@pytest.mark.full
def test_only_the_last_scene_is_material(tmp_path):
    scenes = [picture(k, noise=3, scene=2) for k in range(30)]
    clip = write_clip(tmp_path / "a.mkv", [*scenes, *(video(p) for p in ball(60))], rate=25)
    result = dream(clip, tmp_path / "b.mkv", frames=40, mode="texture", loop=True)
    assert (result.cut, result.material_frames, result.loop) == (1.2, 60, False)
    said = "\n".join(map(str, result.warnings))
    assert "Only the last scene, from 1.2 s on" in said
    assert "begins with another scene" in said
    assert all(ball_is_whole(tensor(p)) for p in shown(tmp_path / "b.mkv")[90:])


def dissolving(folder, seconds):
    """Return a clip of 40 frames that dissolves into a ball, which bounces for 60."""
    count = round(25 * seconds) - 1
    earlier = [cv2.resize(p, (96, 64)) for p in clouds(40 + count, (192, 128), 0.5)]
    later = ball(count + 60)
    parts = np.linspace(0, 1, count + 2)[1:-1]
    mixed = [
        cv2.addWeighted(one, 1 - share, two, share, 0)
        for one, two, share in zip(earlier[40:], later, parts, strict=False)
    ]
    pictures = [*earlier[:40], *mixed, *later[count:]]
    clip = write_clip(folder / "a.mkv", [video(p, "yuv444p") for p in pictures], rate=25)
    return clip, F(40 + count, 25)


@pytest.mark.full
@pytest.mark.parametrize("seconds", [0.3, 0.8, 2.0])
@pytest.mark.usefixtures("unmeasured")
def test_a_film_that_dissolves_goes_on_with_its_last_scene_only(tmp_path, seconds):
    clip, ends = dissolving(tmp_path, seconds)
    result = dream(clip, tmp_path / "b.mkv", frames=2, mode="flow")
    assert ends <= result.cut <= ends + F(1, 2)
    assert result.material_frames == round(25 * (ends + F(60, 25) - F(result.cut)))
    assert f"Only the last scene, from {result.cut:g} s on" in str(result.warnings[0])
    assert (result.source_frames, result.new_frames) == (round(25 * ends) + 60, 2)
    whole = dream(clip, tmp_path / "b.mkv", frames=2, mode="flow", scene_cut="off")
    assert (whole.cut, whole.material_frames) == (None, whole.source_frames)


@pytest.mark.full
@pytest.mark.usefixtures("unmeasured")
def test_nothing_of_the_scene_before_a_dissolve_is_dreamed(tmp_path):
    clip, _ = dissolving(tmp_path, 1)
    result = dream(clip, tmp_path / "b.mkv", frames=100, mode="texture")
    new = shown(tmp_path / "b.mkv")[result.source_frames :]
    assert len(new) == 100
    assert all(ball_is_whole(tensor(p)) for p in new)


def test_a_clip_too_short_for_a_mode_is_an_error(bouncing, tmp_path):
    with pytest.raises(InputError, match=r"5 frames .* collage needs 8: use the mode flow"):
        dream(bouncing, tmp_path / "b.mkv", at=F(5, 25), mode="collage")
    assert not (tmp_path / "b.mkv").exists()


def noise(folder, size):
    """Return a folder with pictures of noise that moves."""
    folder.mkdir()
    wide = (
        np.random.default_rng(0)
        .integers(0, 255, (size[1], size[0] + 30, 3))
        .astype(np.uint8)
    )
    for k in range(30):
        Image.fromarray(wide[:, k : k + size[0]]).save(folder / f"{k:02}.png")
    return folder


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 4096), (4096, 15)])
def test_a_clip_of_few_pixels_is_an_error(tmp_path, size):
    with pytest.raises(
        InputError, match=f"has {size[0]}x{size[1]} pixels, and a dream needs"
    ):
        calls.dream(noise(tmp_path / "a", size), tmp_path / "b.mkv", frames=2)


@pytest.mark.parametrize("size", first_full([((16, 2048),), ((2048, 16),)]))
@pytest.mark.usefixtures("unmeasured")
def test_a_very_narrow_clip_is_continued(tmp_path, size):
    clip = noise(tmp_path / "a", size)
    for mode in ("collage", "texture", "flow"):
        result = calls.dream(clip, tmp_path / f"{mode}.mkv", frames=2, mode=mode)
        assert result.new_frames == 2


@pytest.mark.full
def test_black_frames_continue_black(tmp_path):
    black = [video(np.zeros((48, 64, 3), np.uint8)) for _ in range(30)]
    clip = write_clip(tmp_path / "a.mkv", black, rate=25)
    result = dream(clip, tmp_path / "b.mkv", frames=30)
    assert result.alive
    assert all(p.max() < 4 for p in shown(tmp_path / "b.mkv"))


@pytest.mark.full
def test_a_jpeg_that_keeps_its_pixel_format_gives_no_warning(tmp_path):
    Image.new("RGB", (64, 48), (200, 90, 40)).save(tmp_path / "a.jpg", subsampling="4:2:0")
    result = calls.dream(tmp_path / "a.jpg", tmp_path / "o.mp4", frames=2, mode="flow")
    assert not [warning for warning in result.warnings if warning.code == "few-players"]


def test_a_plan_of_decades_ends(bouncing, tmp_path):
    settings = DreamSettings(
        bouncing, tmp_path / "b.mkv", seconds=10**9, mode="flow", loop=True
    )
    assert job.decide(settings).facts["new_frames"] == 25 * 10**9


class Shorter(Source):
    """A source without the last frame."""

    def frames(self, start=None):
        return (frame for frame, _ in pairwise(super().frames(start)))


@pytest.mark.full
@pytest.mark.parametrize("command", ["dream", "extrapolate"])
@pytest.mark.parametrize("shorter", ["sought", "whole"])
def test_a_film_whose_whole_read_ends_otherwise_than_its_sought_one_keeps_its_frames(
    bouncing, tmp_path, monkeypatch, shorter, command
):
    """Near damage, a decoder may show other frames after a seek than in a whole read."""
    monkeypatch.setattr(ending if shorter == "sought" else plan, "Source", Shorter)
    options = {"mode": "flow"} if command == "dream" else {"model": "linear"}
    call = getattr(calls, command)
    out = tmp_path / "b.mkv"
    call(bouncing, out, frames=20, **options, **calls.lossless(out))
    times = read_times(out)
    frames = read_planes(bouncing)[: 59 if shorter == "whole" else 60]
    assert len(times) == len(frames) + 20
    assert all(a < b for a, b in pairwise(times))
    assert all(map(same, read_planes(out), frames))


def test_a_lack_of_memory_is_named(bouncing, tmp_path, monkeypatch):
    clip_class = "cloudconv.dreaming.methods.texture._Clip"
    monkeypatch.setattr(clip_class, Mock(side_effect=MemoryError))
    options = {"frames": 4, "mode": "texture", "device": "cpu"}
    settings = DreamSettings(bouncing, tmp_path / "b.mkv", **options)
    with pytest.raises(DeviceError, match="cpu ran out of memory on a 96x64 frame"):
        finish(job.run(settings))
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_only_modes_with_a_network_have_a_precision(bouncing, tmp_path):
    def precision(mode, name):
        options = {"mode": mode, "precision": name, "device": "cpu"}
        return job.decide(
            DreamSettings(bouncing, tmp_path / "o.mkv", frames=1, **options)
        ).facts["precision"]

    assert precision("flow", "fp16") == precision("collage", "bf16") == "fp32"
    assert precision("texture", "bf16") == "bf16"
    with pytest.raises(DeviceError, match="fp16 is for GPUs"):
        precision("texture", "fp16")
    assert (
        dream(bouncing, tmp_path / "o.mkv", mode="texture", precision="bf16").precision
        == "bf16"
    )
