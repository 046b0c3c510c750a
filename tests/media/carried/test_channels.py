"""Sound with channels that a file lists singly is copied or encoded again, no abort."""

import os

import av
import numpy as np
import pytest

from tests.helpers.channels import write_listed
from tests.helpers.system import finished
from tests.helpers.tiers import first_full
from tests.media.carried.test_carry import convert


def converted(source, target):
    """Convert in a process of its own, which may abort; return the warnings."""
    run = finished(warn, source, target)
    assert run.returncode == 0, run.stderr
    return run.stdout


def warn(source, target):
    for warning in convert(source, target, factor=1).warnings:
        os.write(1, f"{warning}\n".encode())


def tones_of(path, count):
    """Return the loudest frequency of each channel, in multiples of 440 Hz."""
    with av.open(str(path)) as clip:
        frames = list(clip.decode(audio=0))
        rate = frames[0].sample_rate
        resampler = av.AudioResampler("fltp")
        samples = np.concatenate(
            [each.to_ndarray() for frame in frames for each in resampler.resample(frame)], 1
        )
    assert len(samples) == count
    loudest = np.abs(np.fft.rfft(samples, axis=1)).argmax(1) * rate / samples.shape[1]
    return [round(float(hertz) / 440) for hertz in loudest]


@pytest.mark.parametrize("suffix", first_full([".mp4", ".mkv", ".mov", ".webm"]))
def test_unknown_channels_listed_one_by_one_are_carried(tmp_path, suffix):
    source = write_listed(tmp_path / "in.mov", ["UNSD", "UNSD"])
    target = tmp_path / f"out{suffix}"
    converted(source, target)
    assert tones_of(target, 2) == [1, 2]


@pytest.mark.parametrize("suffix", first_full([".mkv", ".webm"]))
def test_listed_channels_keep_their_names_in_a_file_without_a_list(tmp_path, suffix):
    source = write_listed(tmp_path / "in.mov", ["FR", "FL"])
    target = tmp_path / f"out{suffix}"
    converted(source, target)
    assert tones_of(target, 2) == [2, 1]  # left, right


@pytest.mark.full
def test_a_copy_in_mov_keeps_the_list_of_channels(tmp_path):
    source = write_listed(tmp_path / "in.mov", ["FR", "FL"])
    target = tmp_path / "out.mov"
    converted(source, target)
    before, after = (path.read_bytes().partition(b"chan")[2] for path in (source, target))
    # Two channels, of which the first is the right one.
    assert before[12:20] == after[12:20]
