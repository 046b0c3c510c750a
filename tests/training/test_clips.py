"""Training samples: their choice, what is left out, and their reproducibility."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from PIL import Image
from torch import Tensor

from cloudconv.errors import InputError, SettingsError
from cloudconv.settings import TrainSettings
from cloudconv.settings.values import parse_spans, without
from cloudconv.training.clips import Windows, batches, excluding, open_clips
from tests.helpers.factory import picture, write_clip
from tests.helpers.trainees import moving


def sampling(length: int = 3, **changes: object) -> tuple[Any, ...]:
    given = {"crop": 16, "batch": 2, "crops": 2, "augment": False, "reversal": False}
    recipe = TrainSettings("clip.mkv", model="tiny", **(given | changes))  # type: ignore[arg-type]
    return length, lambda _: list(range(length)), recipe


def write_numbered_clip(path: Path, frames: int = 30, shown: object = None) -> Path:
    """Write a clip whose frame k has a mean level of 30 + 4·k, or of 30 + 4·``shown[k]``."""

    def one(k: int) -> VideoFrame:
        level = 30 + 4 * (shown[k] if isinstance(shown, list) else k)
        values = np.full((24, 32), level, np.uint8)
        return VideoFrame.from_ndarray(values, format="gray")

    return write_clip(path, [one(k) for k in range(frames)])


def frame_numbers(window: Tensor) -> list[int]:
    return [round((float(frame.float().mean()) - 30) / 4) for frame in window]


def test_a_window_has_frames_at_the_interval(tmp_path: Path) -> None:
    clip = write_numbered_clip(tmp_path / "a.mkv")
    for interval in (1, 3):
        drawn = Windows(open_clips([str(clip)]), *sampling(4, interval=(interval, interval)))
        for k in range(6):
            found = frame_numbers(drawn.draw(k))
            assert np.diff(found).tolist() == [interval] * 3


def test_starts_are_random_and_reach_both_ends(tmp_path: Path) -> None:
    drawn = Windows(open_clips([str(write_numbered_clip(tmp_path / "a.mkv", 8))]), *sampling(3))
    first = {frame_numbers(drawn.draw(k))[0] for k in range(40)}
    assert first == {0, 1, 2, 3, 4, 5}


def test_hidden_folders_are_no_clips(tmp_path: Path) -> None:
    write_numbered_clip(tmp_path / "a.mkv", 4)
    for name in ("b", ".thumbnails"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (32, 24)).save(tmp_path / name / f"{number}.png")
    (group,) = open_clips([str(tmp_path)])
    assert [clip.info.path.name for clip in group] == ["a.mkv", "b"]


def test_repeated_frames_are_skipped_or_kept(tmp_path: Path) -> None:
    shown = [k - k // 5 for k in range(40)]  # every fifth frame repeats the one before
    clip = write_numbered_clip(tmp_path / "a.mkv", 40, shown)
    drawn = Windows(open_clips([str(clip)]), *sampling(6))
    for k in range(8):
        assert np.diff(frame_numbers(drawn.draw(k))).tolist() == [1] * 5
    drawn = Windows(open_clips([str(clip)]), *sampling(6, repeats=True))
    assert all(0 in np.diff(frame_numbers(drawn.draw(k))) for k in range(8))


def test_parts_of_a_clip_are_kept_apart(tmp_path: Path) -> None:
    clip = write_numbered_clip(tmp_path / "a.mkv", 40)
    early = Windows(open_clips([f"{clip}[0:0.5]"]), *sampling(4))
    late = Windows(open_clips([str(clip)], parse_spans("0.5:1")), *sampling(4))
    assert max(max(frame_numbers(early.draw(k))) for k in range(20)) < 20
    assert min(min(frame_numbers(late.draw(k))) for k in range(20)) >= 20


def test_a_part_of_a_variable_rate_has_only_its_frames(tmp_path: Path) -> None:
    gaps = [Fraction(1, 24) * (1 + k % 3) for k in range(20)]
    times = [sum(gaps[:k], Fraction(0)) for k in range(20)]
    frames = [picture(k, 32, 24, "gray") for k in range(20)]
    clip = write_clip(tmp_path / "v.mkv", frames, times=times, time_base=Fraction(1, 1000))
    drawn = Windows(open_clips([str(clip)], parse_spans("0:0.6")), *sampling(3))
    assert drawn.draw(0).shape == (3, 3, 24, 32)


def test_windows_with_cuts_are_left_out(tmp_path: Path) -> None:
    frames = [picture(k, 64, 48, scene=1 + k // 10) for k in range(20)]
    clip = write_clip(tmp_path / "c.mkv", frames)
    drawn = Windows(open_clips([str(clip)]), *sampling(6))
    for k in range(6):
        window = drawn.draw(k).float()
        assert float((window[1:] - window[:-1]).abs().mean((1, 2, 3)).max()) < 12


def test_min_motion_leaves_still_clips_out(tmp_path: Path) -> None:
    still = write_numbered_clip(tmp_path / "still.mkv", 20, [0] * 20)
    lively = write_numbered_clip(tmp_path / "lively.mkv", 20)
    both = [str(still), str(lively)]
    drawn = Windows(open_clips(both), *sampling(3, min_motion=2.0))
    for k in range(6):
        assert np.diff(frame_numbers(drawn.draw(k))).tolist() == [1, 1]
    with pytest.raises(InputError, match=r"hardly moves|repeats too many"):
        Windows(open_clips([str(still)]), *sampling(3, min_motion=2.0)).draw(0)


def test_large_clips_are_shrunk_and_small_ones_are_not(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 4, size=(96, 64))
    for text, size, shape in (
        (f"{clip}", 48, (32, 48)),
        (f"{clip}", 480, (64, 96)),
        (f"{clip}@72", 48, (48, 72)),
        (f"{clip}[0:1]@24", None, (16, 24)),
    ):
        assert Windows(open_clips([text], size=size), *sampling(2)).draw(0).shape[2:] == shape


def test_batches_can_be_resumed_at_any_step(tmp_path: Path) -> None:
    clip = str(moving(tmp_path / "a.mkv"))
    plan = sampling(3, augment=True, reversal=True, crops=3, seed=5)
    all_of_them = list(islice(batches(Windows(open_clips([clip]), *plan)), 7))
    for position in (0, 2, 3, 5):
        again = next(batches(Windows(open_clips([clip]), *plan), position))
        assert torch.equal(again.frames, all_of_them[position].frames)
        assert torch.equal(again.indices, all_of_them[position].indices)
    other = Windows(open_clips([clip]), *sampling(3, augment=True, crops=3, seed=6))
    assert not torch.equal(next(batches(other)).frames, all_of_them[0].frames)


def test_samples_are_flipped_turned_and_reversed(tmp_path: Path) -> None:
    clip = str(moving(tmp_path / "a.mkv", step=2))
    plan = sampling(2, augment=True, reversal=True, crops=16, batch=1, crop=24)
    ways = set()
    for batch in islice(batches(Windows(open_clips([clip]), *plan)), 32):
        first, second = batch.frames[0, :, 0].float()
        errors = {
            "right": (second[:, 2:] - first[:, :-2]).abs().mean(),
            "left": (second[:, :-2] - first[:, 2:]).abs().mean(),
            "down": (second[2:] - first[:-2]).abs().mean(),
            "up": (second[:-2] - first[2:]).abs().mean(),
        }
        ways.add(min(errors, key=lambda way: float(errors[way])))
    assert ways == {"right", "left", "down", "up"}


def test_clips_may_be_folders_of_clips_or_of_pictures(tmp_path: Path) -> None:
    for name in ("b.mkv", "a.mkv"):
        write_numbered_clip(tmp_path / name, 6)
    (tmp_path / "notes.txt").write_text("nothing")
    pictures = tmp_path / "sequence"
    pictures.mkdir()
    for k in range(6):
        Image.new("RGB", (32, 24), (100 + 3 * k,) * 3).save(pictures / f"{k:03}.png")
    camera = tmp_path / "camera"  # its pictures are photos beside the videos, and no sequence
    camera.mkdir()
    write_numbered_clip(camera / "c.mkv", 6)
    Image.new("RGB", (32, 24)).save(camera / "photo.jpg")
    found = open_clips([str(tmp_path), str(pictures)])
    assert [[clip.info.path.name for clip in group] for group in found] == [
        ["a.mkv", "b.mkv", "sequence"],
        ["sequence"],
    ]
    assert Windows(found[1:], *sampling(3)).draw(0).shape == (3, 3, 24, 32)


def result_of(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_validation_windows_are_spread_over_clips_and_time(tmp_path: Path) -> None:
    clips = [str(write_numbered_clip(tmp_path / f"{k}.mkv", 20)) for k in range(3)]
    drawn = Windows(open_clips(clips), *sampling(4, val_windows=6))
    firsts = [frame_numbers(window)[0] for window in result_of(drawn.spread())]
    assert firsts == [0, 16, 0, 16, 0, 16]
    fewer = Windows(open_clips(clips), *sampling(4, val_windows=2))
    assert len(result_of(fewer.spread())) == 2


def test_validation_clips_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_numbered_clip(tmp_path / f"{name}.mkv", 10)
    all_clips = open_clips([str(tmp_path)])
    held = open_clips([str(tmp_path / "b.mkv")])
    assert [clip.info.path.name for clip in excluding(all_clips, held)[0]] == ["a.mkv"]
    halves = open_clips([f"{tmp_path / 'b.mkv'}[0:0.5]"])
    late = open_clips([f"{tmp_path / 'b.mkv'}[0.5:1]"])
    assert len(excluding(halves, late)[0]) == 1


@pytest.mark.parametrize("text", ["", "a:b", "0.5", "0.8:0.2", "0:1.5", "0:0.4,0.3:0.6", "1/0:1"])
def test_impossible_parts_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no part of a clip"):
        parse_spans(text)


def test_the_rest_of_a_clip_is_what_its_parts_leave() -> None:
    assert parse_spans("0.75:") == ((Fraction(3, 4), Fraction(1)),)
    assert without(parse_spans("0.2:0.4,0.9:1")) == parse_spans("0:0.2,0.4:0.9")


def test_unusable_clips_are_named(tmp_path: Path) -> None:
    short = str(write_numbered_clip(tmp_path / "short.mkv", 4))
    with pytest.raises(InputError, match=r"has at most 4 frames in a row, and 9 are needed"):
        Windows(open_clips([short]), *sampling(5, interval=(2, 2)))
    with pytest.raises(InputError, match=r"at most 1 frame in a row in its part 0.75:1, and 2 are"):
        Windows(open_clips([short + "[0.75:1]"]), *sampling(2))
    with pytest.raises(InputError, match="smaller than the crop of 64"):
        Windows(open_clips([short]), *sampling(2, crop=64))
    long = str(write_numbered_clip(tmp_path / "long.mkv", 12))
    warned = Windows(open_clips([short, long]), *sampling(6))
    assert "Some of the 2 clips are left out" in str(warned.warnings[0])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no video and no pictures"):
        open_clips([str(empty)])
    with pytest.raises(InputError):
        open_clips([str(tmp_path / "nowhere.mp4")])
