"""``interp --replace``: source frames that are made again, from file to file."""

import shutil
from fractions import Fraction as F

import numpy as np
import pytest

import cloudconv
from cloudconv.errors import Interrupted, OutputError, SettingsError
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import (
    FIELDS,
    interlaced,
    packets_of,
    picture,
    planes_of,
    read_planes,
    read_times,
    same,
    write_clip,
)
from tests.helpers.jobs import stop_after

LOSSLESS = {**calls.LOSSLESS, "device": "cpu", "precision": "fp32", "threads": 1}


def interp(clip, out, **settings):
    options = {"model": "blend", **LOSSLESS, **settings}
    return calls.interpolate(clip, clip.with_name(out), **options)


def moving(count, damaged=(), **options):
    """Return a linear motion, in which some frames are of another scene."""
    return [picture(k, scene=k in damaged, **options) for k in range(count)]


@pytest.mark.full
@pytest.mark.parametrize("model", ["cloud-best", "rife-4.6"])
def test_replaced_frames_of_a_linear_motion_are_right(tmp_path, model):
    out = (5, 9, 10)
    clip = write_clip(tmp_path / "a.mkv", moving(16, out), rate=24, audio=["flac"])
    result = interp(clip, "b.mkv", factor=1, replace="5,9-10", model=model)
    assert (result.replaced, result.source_frames, result.new_frames) == (3, 16, 3)
    assert (result.output_frames, result.output_fps) == (16, "24")
    assert read_times(tmp_path / "b.mkv") == read_times(clip)
    made = read_planes(tmp_path / "b.mkv")
    for k, (planes, source) in enumerate(zip(made, read_planes(clip), strict=True)):
        if k not in out:
            assert same([planes], [source])
            continue
        for plane, truth in zip(planes, planes_of(picture(k)), strict=True):
            inner = np.abs(plane.astype(int) - truth)[8:-8, 8:-8]
            assert inner.max() <= 3
    assert packets_of(tmp_path / "b.mkv", "audio") == packets_of(clip, "audio")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("30", {}),
        ("0:01.25", {}),
        ("1.25s", {"start": 1}),
        ("30", {"start": 1}),
        ("30", {"start": 1, "end": "1.5"}),
    ],
)
def test_numbers_and_times_count_from_the_first_frame_of_the_input(tmp_path, text, options):
    clip = write_clip(tmp_path / "a.mkv", moving(48, (30,)), rate=24)
    result = interp(clip, "b.mkv", factor=2, replace=text, **options)
    assert result.replaced == 1
    first = 24 * options.get("start", 0)
    new = 2 * (30 - first)
    made = read_planes(tmp_path / "b.mkv")
    truth = [
        (a.astype(int) + b + 1) // 2
        for a, b in zip(planes_of(picture(29)), planes_of(picture(31)), strict=True)
    ]
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(made[new], truth, strict=True))
    kept = [planes for k, planes in enumerate(made[::2], first) if k != 30]
    source = read_planes(clip)[first:][: len(made) // 2]
    assert same(kept, source[: 30 - first] + source[31 - first :])


@pytest.mark.parametrize("start", [None, F(1, 2)])
def test_frames_of_a_variable_rate_are_counted(tmp_path, start):
    gaps = [40, 60, 33, 100]
    times = [F(sum(gaps[i % 4] for i in range(k)), 1000) for k in range(24)]
    clip = write_clip(tmp_path / "a.mkv", moving(24, (15,)), times=times)
    result = interp(clip, "b.mkv", factor=1, replace=15, start=start)
    assert (result.replaced, result.new_frames, result.output_fps) == (1, 1, None)
    used = [k for k, time in enumerate(times) if time >= (start or 0)]
    assert read_times(tmp_path / "b.mkv") == [times[k] - times[used[0]] for k in used]
    made = dict(zip(used, read_planes(tmp_path / "b.mkv"), strict=True))
    source = read_planes(clip)
    assert all(same([made[k]], [source[k]]) for k in used if k != 15)
    assert not same([made[15]], [source[15]])


@pytest.mark.full
@pytest.mark.parametrize("number", [200, 40])
def test_a_number_counts_the_frames_before_the_part(tmp_path, number):
    """A gap lies between the start, which a part of Matroska reads, and the part."""
    times = [F(k + 40 * (k >= 100), 24) for k in range(240)]
    form = {"size": (64, 48), "codec": "libx264", "options": {"g": "25", "bf": "0"}}
    clip = write_clip(
        tmp_path / "a.mkv", moving(240, (200,), width=64, height=48), times=times, **form
    )
    part = {"start": F(477, 48), "end": F(499, 48)}
    result = interp(clip, "b.mkv", factor=1, replace=number, **part)
    source = read_planes(clip)[199:210]
    made = read_planes(tmp_path / "b.mkv")
    changed = [k for k in range(11) if not same([made[k]], [source[k]])]
    texts = [warned.code for warned in result.warnings]
    assert (changed, texts) == (([1], []) if number == 200 else ([], ["replaced-none"]))


def test_a_number_is_a_field_of_an_interlaced_video(tmp_path):
    pictures = [interlaced(k) for k in range(10)]
    clip = write_clip(
        tmp_path / "a.mkv", pictures, rate=25, codec="libx264", options=FIELDS
    )
    options = {"factor": 1, "deinterlace": True}
    interp(clip, "plain.mkv", factor=2, deinterlace=True)
    result = interp(clip, "b.mkv", replace="7", **options)
    assert (result.output_fps, result.output_frames, result.replaced) == ("50", 20, 1)
    fields = read_planes(tmp_path / "plain.mkv")[::2]
    made = read_planes(tmp_path / "b.mkv")
    assert [k for k in range(20) if not same([made[k]], [fields[k]])] == [7]


@pytest.mark.parametrize(
    "options", [{"fps": 60}, {"slowmo": 3}, {"speed": "0=1,0.5=0.5"}, {"speed": "0=2"}]
)
def test_other_rates_and_speeds_do_not_show_the_frame(tmp_path, options):
    clip = write_clip(tmp_path / "a.mkv", moving(24, (12,)), rate=24)
    good = write_clip(tmp_path / "good.mkv", moving(24), rate=24)
    result = interp(clip, "b.mkv", replace=12, **options)
    assert result.replaced == 1
    assert (
        interp(good, "c.mkv", replace=12, **options).output_frames == result.output_frames
    )
    assert same(read_planes(tmp_path / "b.mkv"), read_planes(tmp_path / "c.mkv"))


def test_the_first_and_the_last_frame_are_repeated_with_a_warning(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", moving(12, (0, 11)), rate=24, audio=["flac"])
    result = interp(clip, "b.mkv", factor=1, replace="0,11")
    assert [warned.text for warned in result.warnings] == [
        "2 frames of --replace are the first or the last, or beside a cut or a flash: a "
        "neighbour is repeated there."
    ]
    assert (result.new_frames, result.held_frames) == (0, 2)
    source = read_planes(clip)
    assert same(read_planes(tmp_path / "b.mkv"), [source[1], *source[1:-1], source[-2]])
    assert read_times(tmp_path / "b.mkv") == read_times(clip)
    assert packets_of(tmp_path / "b.mkv", "audio") == packets_of(clip, "audio")


@pytest.mark.parametrize(
    ("text", "shown", "codes"),
    [
        ("8", [6, 7, None], []),
        ("8-9", [6, 7, 7], ["replaced-by-neighbour"]),
        ("9-10", [6, 7, 8], ["replaced-none"]),
        ("0-5", [6, 7, 8], ["replaced-none"]),
        ("6-8", [], []),
        ("6-9", [], []),
    ],
)
def test_the_frame_after_a_part_only_helps(tmp_path, text, shown, codes):
    """A new frame may be made of the frame after the part, which is never shown."""
    clip = write_clip(tmp_path / "a.mkv", moving(12), rate=24)
    options = {"factor": 1, "replace": text, "start": F(1, 4), "end": F(9, 24)}
    if not shown:
        with pytest.raises(SettingsError, match=r"names all frames of .* or of the part"):
            interp(clip, "b.mkv", **options)
        return
    result = interp(clip, "b.mkv", **options)
    assert [warned.code for warned in result.warnings] == codes
    source = read_planes(clip)
    for planes, number in zip(read_planes(tmp_path / "b.mkv"), shown, strict=True):
        assert [k for k in range(12) if same([planes], [source[k]])] == (
            [] if number is None else [number]
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factor": 1}, "A `factor` of 1 makes no new frame, except with `replace`"),
        ({"factor": 2, "replace": "12.48"}, "replace.: '12.48' is no frame"),
        ({"factor": 2, "replace": "5-"}, "replace.: '5-' is no frame"),
        ({"factor": 2, "replace": 48}, "names frame 48, and the input has the frames 0 to"),
        ({"factor": 2, "replace": "0:03"}, "names the time 3, and the input"),
        ({"factor": 2, "replace": "0-47"}, "names all frames of"),
        ({"factor": 2, "replace": "0:01.5-30"}, "1.5s-30 names frames that end before"),
    ],
)
def test_wrong_frames_are_refused_in_one_sentence(tmp_path, options, said):
    clip = write_clip(tmp_path / "a.mkv", 48, rate=24)
    with pytest.raises(SettingsError, match=said):
        interp(clip, "b.mkv", **options)
    assert list(tmp_path.iterdir()) == [clip]


def test_a_warning_about_a_pipe_does_not_name_its_copy(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 12, rate=24)
    words = ["interp", "-", "-o", "-", "--factor", "1", "--replace", "8", "--end", "0.2"]
    done = invoke(*words, "--model", "blend", input=clip.read_bytes())
    assert done.exit_code == 0
    assert "names no frame of standard input, or" in done.stderr


def test_a_dry_run_refuses_a_long_row(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 60, rate=24)
    words = ["interp", clip, "--factor", "1", "--replace", "2-40,41-52", "--dry-run"]
    refused = invoke(*words)
    assert refused.exit_code == 2
    assert "names 2.12 s of frames in a row" in refused.stderr
    assert "cut that part out" in refused.stderr


def test_work_of_other_frames_is_not_resumed(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 64, rate=24)
    options = {"factor": 2, "replace": "20-21,50"}
    interp(clip, "whole.mkv", **options)
    with pytest.raises(Interrupted):
        interp(clip, "b.mkv", **options, watch=stop_after(60))
    with pytest.raises(OutputError, match="differs in replace"):
        interp(clip, "b.mkv", **{**options, "replace": "20-21"})
    assert interp(clip, "b.mkv", **options).resumed
    assert same(read_planes(tmp_path / "b.mkv"), read_planes(tmp_path / "whole.mkv"))


@pytest.mark.usefixtures("ray")
@pytest.mark.full
@pytest.mark.parametrize("options", [{"workers": "local:2"}, {"loop": True}, {"tile": 64}])
def test_workers_and_tiles_replace_the_same_frames(tmp_path, options):
    clip = write_clip(tmp_path / "a.mkv", 40, rate=24, size=(160, 64))
    shared = {"factor": 1, "replace": "9,17-18,39", "model": "tiny"}
    loop = {key: value for key, value in options.items() if key == "loop"}
    interp(clip, "whole.mkv", **shared, **loop)
    result = interp(clip, "b.mkv", **shared, **options)
    assert result.new_frames == 3 + bool(loop)
    made, whole = (read_planes(tmp_path / name) for name in ("b.mkv", "whole.mkv"))
    assert all(
        np.abs(a[0].astype(int) - b[0]).max() <= (2 if "tile" in options else 0)
        for a, b in zip(made, whole, strict=True)
    )


def test_a_batch_replaces_frames_of_each_input(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "a.mkv", moving(12, (4,)), rate=24)
    shutil.copy(folder / "a.mkv", folder / "b.mkv")
    results = cloudconv.interpolate_many(
        [folder],
        out_dir=tmp_path / "made",
        factor=1,
        replace="4",
        model="blend",
        **LOSSLESS,
    )
    assert [result.replaced for result in results] == [1, 1]
    assert {path.name for path in (tmp_path / "made").glob("*.mkv")} == {
        "a_x1_replaced.mkv",
        "b_x1_replaced.mkv",
    }
