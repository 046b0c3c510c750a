"""Read the frames for a dream: the end of a video's last scene."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.jobs.extend.scene import read_scene
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.media.info import MediaInfo
from cloudconv.schedule.frames import AnalysedFrame, cadence_of
from cloudconv.settings.groups import SceneCut

MOST_FRAMES = 300
"""The largest number of frames that become material."""
_LEAST_FRAMES, _MEMORY_BYTES = 64, 2**30  # 64 frames are kept even if they need more bytes
_MOST_STEPS = 10 * MOST_FRAMES


def gather_material(
    info: MediaInfo,
    *,
    at: Fraction | None = None,
    scene_cut: SceneCut = "auto",
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> Material:
    """Return the last frames before ``at`` that belong to one scene.

    At most 300 frames are kept. Fewer frames are kept if 300 need more than 1 GiB, but at least 64.
    Frames before a very long gap are left out, as if the gap were a cut. ``at`` is in seconds from
    the first frame; None for the end.

    Raises:
        InputError: there is no frame before ``at``, or none can be decoded.
    """
    bytes_a_sample = 1 if layout(info.working_pix_fmt).depth <= 8 else 2
    size = 3 * info.width * info.height // 2 * bytes_a_sample
    kept = max(_LEAST_FRAMES, min(MOST_FRAMES, _MEMORY_BYTES // size))
    scene = read_scene(info, kept, at=at, scene_cut=scene_cut, threads=threads)
    step = scene.gap if info.timing.rate is None else 1 / info.timing.rate
    if step is not None:
        # The material has a picture for each step: without a limit, a gap of days never ends.
        scene.begin_after(scene.last.time - _MOST_STEPS * step)
    frames, times, cadence = _placed(list(scene.items))
    return Material(
        frames,
        device=device,
        times=times,
        step=step,
        last=scene.last,
        cut=scene.cut,
        cadence=cadence,
    )


def _placed(items: list[AnalysedFrame]) -> tuple[list[Frame], list[Fraction], str | None]:
    """Return the different frames, the time of the content of each, and the cadence.

    With a regular cadence the contents are spread evenly from the first to the last, so that an
    incomplete cycle at the end does not look faster than the others.
    """
    cadence, placed = cadence_of(items)
    kept = [(item.frame, item.shows) for item in placed if item.shows is not None]
    frames = [frame for frame, _ in kept]
    if cadence.description is None:
        return frames, [time for _, time in kept], None
    # Complete cycles last equally long. A cycle begins after a repeat.
    begins = [n for n, (a, b) in enumerate(pairwise(items), 1) if a.repeats > b.repeats]
    distinct = sum(not item.repeats for item in items[begins[0] : begins[-1]])
    gap = (items[begins[-1]].frame.time - items[begins[0]].frame.time) / distinct
    times = [frames[-1].time - (len(frames) - 1 - n) * gap for n in range(len(frames))]
    return frames, times, str(cadence.description)
