"""Training samples: their choice, what is left out, and their reproducibility."""

from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from PIL import Image

from cloudconv.errors import InputError, SettingsError
from cloudconv.models import registry
from cloudconv.settings import TrainSettings
from cloudconv.settings.values import parse_spans, without
from cloudconv.training.clips import Windows, batches, excluding, open_clips, overlaid
from cloudconv.training.goals import goal_for
from tests.helpers.factory import picture, write_clip
from tests.helpers.trainees import moving


def windows(*clips, length=3, part="0:1", **changes):
    """Return the windows of ``length`` frames of clips."""
    options = {"crop": 16, "batch": 2, "crops": 2, "augment": False, "reversal": False}
    recipe = TrainSettings("clip.mkv", model="tiny", **(options | changes))
    opened = open_clips([*map(str, clips)], parse_spans(part))
    return Windows(opened, length, lambda _: list(range(length)), recipe)


def write_numbered_clip(path, frames=30, shown=None):
    """Write a clip whose frame k has a mean level of 30 + 4·k, or 30 + 4·``shown[k]``."""
    levels = [30 + 4 * k for k in shown or range(frames)]
    result = [np.full((24, 32), level, np.uint8) for level in levels]
    return write_clip(
        path, [VideoFrame.from_ndarray(each, format="gray") for each in result]
    )


def frame_numbers(window):
    return [round((float(frame.float().mean()) - 30) / 4) for frame in window]


def drawn_from(windows, count):
    """Return the numbers of the frames of each of ``count`` windows."""
    return [frame_numbers(windows.draw(k)) for k in range(count)]


@pytest.mark.parametrize("interval", [1, 3])
def test_a_window_has_frames_at_the_interval(tmp_path, interval):
    clip = write_numbered_clip(tmp_path / "a.mkv")
    for found in drawn_from(windows(clip, length=4, interval=(interval, interval)), 6):
        assert np.diff(found).tolist() == [interval] * 3


def test_starts_are_random_and_reach_both_ends(tmp_path):
    drawn = drawn_from(windows(write_numbered_clip(tmp_path / "a.mkv", 8)), 40)
    assert {found[0] for found in drawn} == {0, 1, 2, 3, 4, 5}


def test_clips_may_be_folders_of_clips_or_of_pictures(tmp_path):
    """Photos beside videos are no sequence, and hidden folders are no clips."""
    for name in ("b.mkv", "a.mkv", "camera/c.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_numbered_clip(tmp_path / name, 6)
    (tmp_path / "notes.txt").write_text("nothing")
    pictures = [
        f"{folder}/{k:03}.png" for folder in ("sequence", ".thumbs") for k in range(6)
    ]
    for number, name in enumerate((*pictures, "camera/photo.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 24), (100 + 3 * number,) * 3).save(tmp_path / name)
    found = open_clips([str(tmp_path), str(tmp_path / "sequence")])
    names = [[clip.info.path.name for clip in group] for group in found]
    assert names == [["a.mkv", "b.mkv", "sequence"], ["sequence"]]
    assert windows(tmp_path / "sequence").draw(0).shape == (3, 3, 24, 32)


def test_repeated_frames_are_skipped_or_kept(tmp_path):
    shown = [k - k // 5 for k in range(40)]  # every fifth frame repeats the one before
    clip = write_numbered_clip(tmp_path / "a.mkv", shown=shown)
    skipped, kept = (
        drawn_from(windows(clip, length=6, repeats=on), 8) for on in (False, True)
    )
    assert all(np.diff(found).tolist() == [1] * 5 for found in skipped)
    assert all(0 in np.diff(found) for found in kept)


def test_parts_of_a_clip_are_kept_apart(tmp_path):
    clip = write_numbered_clip(tmp_path / "a.mkv", 40)
    early = windows(f"{clip}[0:0.5]", length=4)
    late = windows(clip, length=4, part="0.5:1")
    assert max(map(max, drawn_from(early, 20))) < 20
    assert min(map(min, drawn_from(late, 20))) >= 20


def test_a_part_of_a_variable_rate_has_only_its_frames(tmp_path):
    gaps = [Fraction(1, 24) * (1 + k % 3) for k in range(20)]
    times = [sum(gaps[:k], Fraction(0)) for k in range(20)]
    frames = [picture(k, 32, 24, "gray") for k in range(20)]
    clip = write_clip(tmp_path / "v.mkv", frames, times=times, time_base=Fraction(1, 1000))
    assert windows(clip, part="0:0.6").draw(0).shape == (3, 3, 24, 32)


def test_windows_with_cuts_are_left_out(tmp_path):
    frames = [picture(k, 64, 48, scene=1 + k // 10) for k in range(20)]
    drawn = windows(write_clip(tmp_path / "c.mkv", frames), length=6)
    for window in (drawn.draw(k).float() for k in range(6)):
        assert float((window[1:] - window[:-1]).abs().mean((1, 2, 3)).max()) < 12


@pytest.mark.full
def test_min_motion_leaves_still_clips_out(tmp_path):
    still = write_numbered_clip(tmp_path / "still.mkv", shown=[0] * 20)
    lively = write_numbered_clip(tmp_path / "lively.mkv", 20)
    for found in drawn_from(windows(still, lively, min_motion=2.0), 6):
        assert np.diff(found).tolist() == [1, 1]
    with pytest.raises(InputError, match=r"hardly moves|repeats too many"):
        windows(still, min_motion=2.0).draw(0)


@pytest.mark.parametrize(
    ("more", "shape"),
    [("", (64, 96)), ("@480", (64, 96)), ("@72", (48, 72)), ("[0:1]@24", (16, 24))],
)
def test_large_clips_are_shrunk_and_small_ones_are_not(tmp_path, more, shape):
    clip = write_clip(tmp_path / "a.mkv", 4, size=(96, 64))
    assert windows(f"{clip}{more}", length=2).draw(0).shape[2:] == shape


def test_batches_can_be_resumed_at_any_step(tmp_path):
    clip = moving(tmp_path / "a.mkv")

    def made(position=0, **changes):
        options = {"augment": True, "reversal": True, "crops": 3, "seed": 5} | changes
        return batches(windows(clip, **options), position)

    all_of_them = list(islice(made(), 7))
    for position in (0, 2, 3, 5):
        again = next(made(position))
        assert all(map(torch.equal, again, all_of_them[position]))
    assert not torch.equal(next(made(seed=6))[0], all_of_them[0][0])


def test_samples_are_flipped_turned_and_reversed(tmp_path):
    options = {"augment": True, "reversal": True, "crops": 16, "batch": 1, "crop": 24}
    drawn = windows(moving(tmp_path / "a.mkv", step=2), length=2, **options)
    ways = set()
    for frames, _ in islice(batches(drawn), 32):
        first, second = frames[0, :, 0].float()
        errors = {
            "right": (second[:, 2:] - first[:, :-2]).abs().mean(),
            "left": (second[:, :-2] - first[:, 2:]).abs().mean(),
            "down": (second[2:] - first[:-2]).abs().mean(),
            "up": (second[:-2] - first[2:]).abs().mean(),
        }
        ways.add(min(errors, key=lambda way: float(errors[way])))
    assert ways == {"right", "left", "down", "up"}


def result_of(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize(("count", "starts"), [(6, [0, 16] * 3), (2, None)])
def test_validation_windows_are_spread_over_clips_and_time(tmp_path, count, starts):
    clips = [write_numbered_clip(tmp_path / f"{k}.mkv", 20) for k in range(3)]
    chosen = result_of(windows(*clips, length=4, val_windows=count).chosen())
    assert len(chosen) == count
    assert starts is None or [frame_numbers(window)[0] for window in chosen] == starts


def test_validation_clips_are_not_trained_on(tmp_path):
    for name in ("a", "b"):
        write_numbered_clip(tmp_path / f"{name}.mkv", 10)
    all_clips = open_clips([str(tmp_path)])
    held = open_clips([str(tmp_path / "b.mkv")])
    assert [clip.info.path.name for clip in excluding(all_clips, held)[0]] == ["a.mkv"]
    halves = open_clips([f"{tmp_path / 'b.mkv'}[0:0.5]"])
    late = open_clips([f"{tmp_path / 'b.mkv'}[0.5:1]"])
    assert len(excluding(halves, late)[0]) == 1


@pytest.mark.parametrize(
    "text", ["", "a:b", "0.5", "0.8:0.2", "0:1.5", "0:0.4,0.3:0.6", "1/0:1"]
)
def test_impossible_parts_are_refused(text):
    with pytest.raises(SettingsError, match="no part of a clip"):
        parse_spans(text)
    assert parse_spans("0.75:") == ((Fraction(3, 4), Fraction(1)),)
    assert without(parse_spans("0.2:0.4,0.9:1")) == parse_spans("0:0.2,0.4:0.9")


def test_unusable_clips_are_named(tmp_path):
    short = write_numbered_clip(tmp_path / "short.mkv", 4)
    long = write_numbered_clip(tmp_path / "long.mkv", 12)
    (tmp_path / "empty").mkdir()
    for clip, given, said in (
        (
            short,
            {"length": 5, "interval": (2, 2)},
            "at most 4 frames in a row, and 9 are needed",
        ),
        (
            f"{short}[0.75:1]",
            {"length": 2},
            "1 frame in a row in its part 0.75:1, and 2 are",
        ),
        (short, {"length": 2, "crop": 64}, "smaller than the crop of 64"),
        (tmp_path / "empty", {}, "no video and no pictures"),
        (tmp_path / "nowhere.mp4", {}, "nowhere.mp4"),
    ):
        with pytest.raises(InputError, match=said):
            windows(clip, **given)
    warned = windows(short, long, length=6)
    assert "Some of the 2 clips are left out" in str(warned.warnings[0])


def test_marks_have_one_place_in_all_frames_and_cover_a_small_part(tmp_path):
    frames = torch.randint(0, 256, (3, 3, 96, 128), dtype=torch.uint8)
    changed = []
    for seed in range(20):
        result = overlaid(frames, np.random.default_rng(seed))
        assert result.shape == frames.shape
        assert result.dtype == torch.uint8
        touched = (result != frames).any(1)
        # A mark may have the colour of the picture below, so a pixel may be unchanged in
        # one frame.
        everywhere = touched.all(0).float().mean()
        anywhere = touched.any(0).float().mean()
        assert anywhere - everywhere < 0.05
        changed.append(float(anywhere))
    assert 0.02 < np.mean(changed) < 0.6
    assert max(changed) > 0
    # They are added with the given probability.
    clip = moving(tmp_path / "a.mkv", 12)
    one, other = (
        next(batches(windows(clip, batch=1, crops=1, crop=32, overlays=share)))[0]
        for share in (1.0, 0.0)
    )
    assert not torch.equal(one, other)


@pytest.mark.full
def test_clips_with_much_motion_are_drawn_more_often(tmp_path):
    moving(tmp_path / "slow.mkv", 12, step=0.2)
    moving(tmp_path / "fast.mkv", 12, step=6.0)

    def liveliness(lively):
        drawn = windows(tmp_path, batch=1, crops=1, lively=lively)
        result = [drawn.draw(k).float() for k in range(16)]
        return float(np.mean([float(w.diff(dim=0).abs().mean()) for w in result]))

    assert liveliness(1.0) > 1.2 * liveliness(0.0)


def test_short_gaps_are_more_frequent_than_long_ones():
    goal = goal_for(registry.spec("tiny"), rollout=None, gap=8)
    random = np.random.default_rng(0)
    picks = [goal.picks(random) for _ in range(600)]
    assert all(x0 < middle < x1 <= x0 + 8 for x0, middle, x1 in picks)
    gaps = np.bincount([x1 - x0 for x0, _, x1 in picks], minlength=9)
    assert gaps[2] > 2 * gaps[4] > 2 * gaps[8] > 0
