"""The scale at which a clip's motion is looked for, tried on frames that were filmed.

At scale 2 a network sees small motion more exactly and large motion worse, and takes four times as
long. Which counts for more depends on the clip. So the model makes filmed frames again from their
neighbours at both scales, on the middle of the picture, and the finer scale is used only where it
is clearly better.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.errors import InputError
from cloudconv.events import Warned
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.models import registry
from cloudconv.models.base import ModelSpec
from cloudconv.training.clips import Clip, Sampling, Windows

FINER = 2.0
LEAST_GAIN = 0.3  # dB

_PLACES = 3  # in the clip
_FRAMES = 4  # at each: two filmed frames have a neighbour on either side
_WIDTH, _HEIGHT = 480, 272  # pixels, at most


@dataclass(frozen=True, slots=True)
class ScaleTrial:
    """What trials showed of scale 2 against scale 1.

    ``gain``: of the mean PSNR, in dB. ``seconds``: for one run of the network on one megapixel, at
    scale 1 and at scale 2.
    """

    gain: float
    seconds: tuple[float, float]

    @property
    def scale(self) -> float:
        """The scale to use."""
        return FINER if self.gain >= LEAST_GAIN else 1.0


def try_scales(
    info: MediaInfo, model: str, device: torch.device, dtype: torch.dtype
) -> ScaleTrial | None:
    """Return what trials on a clip show, or None where it has too few frames of one scene.

    Raises:
        CloudconvError: the model cannot be loaded, or has no scale option.
    """
    network = registry.load(model, device, dtype)
    gains: list[float] = []
    seconds: tuple[list[float], list[float]] = ([], [])
    for frames in _windows(info):
        pictures = [_middle(frame, device) for frame in frames]
        for before, filmed, after in zip(pictures, pictures[1:], pictures[2:], strict=False):
            scores = []
            for scale, times in zip((1.0, FINER), seconds, strict=True):
                began = time.perf_counter()
                with torch.inference_mode():
                    made = metrics.eight_bit(network.interpolate(before, after, 0.5, scale=scale))
                    scores.append(float(metrics.psnr(made, filmed)))  # waits for the device
                area = made.shape[-2] * made.shape[-1] / 1e6
                times.append((time.perf_counter() - began) / area)
            gains.append(scores[1] - scores[0])
    if not gains:
        return None
    # The first run pays for getting ready.
    return ScaleTrial(mean(gains), (min(seconds[0]), min(seconds[1])))


def _windows(info: MediaInfo) -> Iterator[list[Frame]]:
    """Yield some frames that differ, of one scene each, from places all over the clip."""
    sampling = Sampling(length=_FRAMES, picks=lambda _: [], crop=1, batch=1)
    try:
        windows = Windows([[Clip(info)]], sampling).spread_frames(_PLACES)
        yield from (frames for _, frames in windows)
    except InputError:  # no place is fit
        return


def _middle(frame: Frame, device: torch.device) -> Tensor:
    rgb = rgb_of(frame, device).clamp(0, 1)
    height, width = rgb.shape[1:]
    top, left = max(0, height - _HEIGHT) // 2, max(0, width - _WIDTH) // 2
    return rgb[:, top : top + _HEIGHT, left : left + _WIDTH].contiguous()


def settle_scale(
    info: MediaInfo,
    spec: ModelSpec,
    scale: float,
    new_frames: int | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    only_hint: bool,
) -> tuple[float, list[Warned]]:
    """Return the scale to use, and what is worth saying before the work starts.

    A model that ``tries_scales`` gets the scale that trials prefer, where none was asked for, and
    the time that its new frames take is told. For other models, with ``only_hint``, the scale
    stays, and a warning names a finer one that is clearly better.

    Raises:
        CloudconvError: as :func:`try_scales`.
    """
    if scale != 1 or not spec.scale_option or not (spec.tries_scales or only_hint):
        return scale, []
    trial = try_scales(info, registry.DEFAULT, device, dtype)
    if trial is None:
        return scale, []
    if not spec.tries_scales:
        finer = [Warned("finer-scale", {"gain": trial.gain})] if trial.scale != 1 else []
        return scale, finer
    told: dict[str, Any] = {"scale": trial.scale, "gain": trial.gain, "minutes": None}
    if new_frames is not None and spec.time is not None:
        one = trial.seconds[trial.scale != 1] * spec.time * info.width * info.height / 1e6
        told["minutes"] = new_frames * one / 60
    return trial.scale, [Warned("takes-long", told)]
