"""Still marks, clips with much motion, and short gaps in the training of interpolators."""

import numpy as np
import torch

from cloudconv.models import registry
from cloudconv.settings import TrainSettings
from cloudconv.training.clips import Windows, batches, open_clips, overlaid
from cloudconv.training.tasks import goal_for
from tests.helpers.trainees import moving


def test_marks_have_one_place_in_all_frames_and_cover_a_small_part():
    frames = torch.randint(0, 256, (3, 3, 96, 128), dtype=torch.uint8)
    changed = []
    for seed in range(20):
        result = overlaid(frames, np.random.default_rng(seed))
        assert result.shape == frames.shape
        assert result.dtype == torch.uint8
        touched = (result != frames).any(1)
        # A mark may have the colour of the picture below, so a pixel may be unchanged in one frame.
        everywhere = touched.all(0).float().mean()
        anywhere = touched.any(0).float().mean()
        assert anywhere - everywhere < 0.05
        changed.append(float(anywhere))
    assert 0.02 < np.mean(changed) < 0.6
    assert max(changed) > 0


def sampling(**changes):
    given = {"crop": 16, "batch": 1, "crops": 1, "augment": False, "reversal": False}
    recipe = TrainSettings("clip.mkv", model="tiny", **(given | changes))
    return 3, lambda _: [0, 1, 2], recipe


def test_clips_with_much_motion_are_drawn_more_often(tmp_path):
    moving(tmp_path / "slow.mkv", 12, step=0.2)
    moving(tmp_path / "fast.mkv", 12, step=6.0)
    groups = open_clips([str(tmp_path)])

    def liveliness(lively):
        windows = Windows(groups, *sampling(lively=lively))
        found = [windows.draw(k).float() for k in range(16)]
        return float(np.mean([float(w.diff(dim=0).abs().mean()) for w in found]))

    assert liveliness(1.0) > 1.2 * liveliness(0.0)


def test_overlays_are_added_with_the_given_probability(tmp_path):
    clip = str(moving(tmp_path / "a.mkv", 12))

    def first(overlays):
        windows = Windows(open_clips([clip]), *sampling(crop=32, overlays=overlays))
        return next(batches(windows)).frames

    assert not torch.equal(first(1.0), first(0.0))


def test_short_gaps_are_more_frequent_than_long_ones():
    goal = goal_for(registry.spec("tiny"), rollout=None, gap=8)
    random = np.random.default_rng(0)
    picks = [goal.picks(random) for _ in range(600)]
    assert all(x0 < middle < x1 <= x0 + 8 for _, x0, middle, x1, _ in picks)
    gaps = np.bincount([x1 - x0 for _, x0, _, x1, _ in picks], minlength=9)
    # Some pairs have no outer frames, as at a cut; otherwise outer frames are one gap away.
    reaches = [n for p in picks for n in (p[1] - p[0], p[4] - p[3]) if n != p[3] - p[1]]
    assert reaches.count(0) == len(reaches)
    assert 0 < len(reaches) < 120
    assert gaps[2] > 2 * gaps[4] > 2 * gaps[8] > 0
