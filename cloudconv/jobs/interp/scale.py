"""Try a finer scale of motion estimation on source frames.

At scale 2 a network estimates small motion more exactly and large motion worse, and takes four
times as long. The better scale depends on the clip. So the model reconstructs source frames from
their neighbours at scales 1 and 2, in the middle of the picture. If scale 2 is clearly better, a
warning names that scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.errors import InputError
from cloudconv.events import Warned
from cloudconv.jobs.interp.plan import InterpPlan
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.models import registry
from cloudconv.training.clips import Sampling, TrainingClip, Windows

FINER = 2.0  # the scale that is tried
LEAST_GAIN = 0.3  # least gain in dB for which the finer scale is named

_WINDOWS = 3  # number of windows, spread over the clip
_FRAMES = 4  # frames in a window; the inner two are reconstructed from their neighbours
_WIDTH, _HEIGHT = 480, 272  # largest size of the trial, in pixels
_WORTH_A_TRIAL = 100.0
"""Megapixels of new frames for which the trials take at most a twentieth of the total time."""


def try_scales(
    info: MediaInfo, model: str, device: torch.device, dtype: torch.dtype
) -> float | None:
    """Run the model at scale 1 and the finer scale on source frames.

    Returns:
        The mean PSNR at the finer scale minus that at scale 1, in dB; None if no part of the clip
        is usable.

    Raises:
        CloudconvError: the model cannot be loaded, or has no scale option.
    """
    network = registry.load(model, device, dtype)
    gains: list[float] = []
    for frames in _windows(info):
        pictures = [_middle(frame, device) for frame in frames]
        for before, filmed, after in zip(pictures, pictures[1:], pictures[2:], strict=False):
            scores = []
            for scale in (1.0, FINER):
                with torch.inference_mode():
                    made = metrics.eight_bit(network.interpolate(before, after, 0.5, scale=scale))
                # Scores are float64, which not every device has.
                scores.append(float(metrics.psnr(made.cpu(), filmed.cpu())))
            gains.append(scores[1] - scores[0])
    return mean(gains) if gains else None


def _windows(info: MediaInfo) -> Iterator[list[Frame]]:
    """Yield windows of consecutive frames of one scene without repeats, spread over the clip."""
    sampling = Sampling(length=_FRAMES, picks=lambda _: [], crop=1, batch=1)
    try:
        windows = Windows([[TrainingClip(info)]], sampling).spread_frames(_WINDOWS)
        yield from (frames for _, frames in windows)
    except InputError:  # no window can be used
        return


def _middle(frame: Frame, device: torch.device) -> Tensor:
    rgb = rgb_of(frame, device).clamp(0, 1)
    height, width = rgb.shape[1:]
    top, left = max(0, height - _HEIGHT) // 2, max(0, width - _WIDTH) // 2
    return rgb[:, top : top + _HEIGHT, left : left + _WIDTH].contiguous()


def scale_warnings(plan: InterpPlan, *, dry_run: bool = False) -> list[Warned]:
    """Return a warning with the finer scale if the trials clearly prefer that scale.

    Trials run only for a user who gave no scale, in a dry run or if they take a small part of the
    total time.

    Raises:
        CloudconvError: see :func:`try_scales`.
    """
    info, spec, new_frames = plan.info, plan.spec, plan.expected_new
    area = info.width * info.height / 1e6
    is_worth = dry_run or (new_frames or 0) * area >= _WORTH_A_TRIAL
    is_open = plan.settings.given_scale is None and not info.timing.open_ended
    # The least gain was measured on models of cloudconv, not on networks of other programs.
    if not (is_open and spec.scale_option and is_worth) or spec.published:
        return []
    gain = try_scales(info, plan.settings.chosen_model, plan.device, plan.dtype)
    if gain is None or gain < LEAST_GAIN:
        return []
    return [
        Warned(
            f"finer-scale: In a trial on source frames {spec.name} was {gain:.1f} dB better at "
            "scale 2, which takes about four times as long: --scale=2 uses that scale."
        )
    ]
