"""Score made frames against the true frames, and state the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.forecasting.choice import fault
from cloudconv.media.color import rgb_of
from cloudconv.media.filters import XpsnrMeter
from cloudconv.media.frame import Frame
from cloudconv.media.vmaf import VmafMeter
from cloudconv.messages import counted
from cloudconv.report.columns import frames_ahead
from cloudconv.report.data import Row
from cloudconv.settings.compare import FAULT

TIME = "seconds_per_frame"
"""The name of the mean time for a frame among the scores of a method."""

CURVES = ("psnr", "ssim", "texture")
"""The metrics that the result gives for each frame; the first two are always computed."""


def as_rgb(frame: Frame) -> Tensor:
    """Return a frame for scoring: (3, H, W) float32 RGB, rounded to 8 bits, in [0, 1]."""
    return metrics.eight_bit(rgb_of(frame))


def texture_between(wanted: Sequence[str], kept: Sequence[Tensor]) -> Tensor | None:
    """Return the geometric mean of the kept frames' texture energy, if that is wanted."""
    if "texture" not in wanted:
        return None
    return torch.stack([metrics.texture_energy(rgb) for rgb in kept]).log().mean(0).exp()


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame that is shown: a kept source frame, or a frame that a method made.

    ``rgb`` has the form of :func:`as_rgb`. ``frame`` is None for a forecast, which is RGB only.
    """

    rgb: Tensor
    frame: Frame | None = None


FrameScores = dict[str, float] | None
"""Metrics of a made frame by name; None if a method made no frame."""

SequenceScores = list[tuple[str, float]]
"""Values of metrics that need frames in order: the metric's name, and the value of one frame."""


@dataclass(slots=True)
class StepScores:
    """The scores of one method in one sample: at one horizon, or of all frames between kept frames.

    ``frames`` has the metrics of each scored frame. ``sequence`` has the values of metrics that
    need frames in order. The method made ``made`` frames in ``seconds``.
    """

    frames: list[FrameScores] = field(default_factory=list)
    sequence: SequenceScores = field(default_factory=list)
    seconds: float = 0.0
    made: int = 0


class SequenceMeter:
    """The state of metrics that need the frames of one method in order.

    :class:`Scores` adds up the scores that the methods of this class return.
    """

    def __init__(self, wanted: Sequence[str], rate: Fraction | None) -> None:
        """Start without frames.

        Args:
            wanted: names of metrics.
            rate: the frame rate, for metrics that need frames in order; None counts as 25.
        """
        self._rate = rate or Fraction(25)
        self._xpsnr = XpsnrMeter(self._rate) if "xpsnr" in wanted else None
        self._vmaf = VmafMeter(self._rate) if "vmaf" in wanted else None
        self._made_in_vmaf: list[bool] = []
        self._brighter: float | None = None

    def follow(self, truth: ShownFrame, shown: ShownFrame | None) -> SequenceScores:
        """Add the next frame of the output and return new scores.

        ``shown`` is the same object as ``truth`` for a kept frame; None if the method made no
        frame.
        """
        if shown is None:
            return self.interrupt()
        made = shown is not truth
        scores: SequenceScores = []
        if made:
            scores = self.flicker(metrics.brightness(shown.rgb, truth.rgb))
        else:
            self._brighter = 0.0
        if truth.frame is None or shown.frame is None:
            return scores
        if self._xpsnr is not None:
            xpsnr = self._xpsnr.push(truth.frame, shown.frame)
            if xpsnr is not None and made:
                scores.append(("xpsnr", xpsnr))
        if self._vmaf is not None:
            self._vmaf.push(truth.frame, shown.frame)
            self._made_in_vmaf.append(made)
        return scores

    def flicker(self, brighter: float = 0.0) -> SequenceScores:
        """Return the error of the change of brightness since the last frame, if there is one.

        ``brighter`` is the brightness of the next frame less that of the true frame.
        """
        before, self._brighter = self._brighter, brighter
        return [] if before is None else [("flicker", abs(brighter - before))]

    def interrupt(self) -> SequenceScores:
        """End the sequence of frames and return its remaining scores."""
        self._brighter = None
        if self._xpsnr is not None:
            self._xpsnr = XpsnrMeter(self._rate)
        if self._vmaf is None:
            return []
        pairs = list(zip(self._made_in_vmaf, self._vmaf.finish(), strict=True))
        self._made_in_vmaf.clear()
        return [("vmaf", score) for made, score in pairs if made]


def frame_scores(
    truth: ShownFrame,
    made: ShownFrame | None,
    kept: tuple[Tensor, Tensor | None],
    wanted: Sequence[str],
) -> FrameScores:
    """Return the metrics of one made frame that are defined for its size.

    ``kept`` is the kept frame before it, as RGB, and the result of :func:`texture_between`.
    """
    if made is None:
        return None
    scores = {
        name: value
        for name in dict.fromkeys((*CURVES[:2], *wanted))
        if name in metrics.PER_FRAME
        and not math.isnan(value := float(metrics.PER_FRAME[name](made.rgb, truth.rgb)))
    }
    before, kept_texture = kept
    if FAULT in wanted:
        scores[FAULT] = fault(made.rgb.cpu(), truth.rgb.cpu(), before.cpu())
    if kept_texture is not None:
        scores |= texture_scores(made, kept_texture)
    return scores


def texture_scores(shown: ShownFrame, kept_texture: Tensor) -> dict[str, float]:
    """Return a frame's texture, in dB relative to the texture of the kept frames."""
    return {"texture": float(metrics.texture(shown.rgb, kept_texture))}


class Scores:
    """The sums of a method's scores.

    ``missing``: the number of frames that the method did not make.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        """Start without scores; ``wanted`` are names of metrics, or :data:`TIME`."""
        self._wanted = wanted
        self.missing = 0
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, step: StepScores) -> None:
        """Add the scores of the next sample."""
        for scores in step.frames:
            self.add_frame(scores)
        for name, value in step.sequence:
            self._count(name, value)
        self._count(TIME, step.seconds, step.made)

    def add_frame(self, scores: FrameScores) -> None:
        """Add the scores of a frame; None counts as a missing frame."""
        self.missing += scores is None
        for name, value in (scores or {}).items():
            self._count(name, value)

    def means(self) -> dict[str, float | None]:
        """Return the mean of each metric over the made frames; None without frames."""
        sums = {name: self._sums.get(name, (0.0, 0)) for name in self._wanted}
        return {name: total / count if count > 0 else None for name, (total, count) in sums.items()}

    def _count(self, name: str, value: float, frames: int = 1) -> None:
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = total + value, count + frames


def losses(model: str, baseline: str, rows: Sequence[Row]) -> list[Row]:
    """Return the frames on which the model's PSNR is below the baseline's, the worst first."""
    lost = [row for row in rows if (row.gain(model, baseline) or 0) < 0]
    return sorted(lost, key=lambda row: row.gain(model, baseline) or 0)


def verdict(model: str, baseline: str, rows: Sequence[Row]) -> str:
    """Return the mean gain in PSNR, and the frames on which the model loses, in one sentence.

    For forecasts the sentence names the nearest and the farthest horizon.
    """
    if model == baseline:
        return f"{model} was compared only with itself"
    gains: dict[int, list[float]] = {}
    for row in rows:
        if (gain := row.gain(model, baseline)) is not None:
            gains.setdefault(row.horizon or 0, []).append(gain)
    if not gains:
        scored = any(row.scores[model]["psnr"] is not None for row in rows)
        return f"{baseline if scored else model} made no frame that could be scored"
    steps = sorted(gains)
    means = [sum(gains[step]) / len(gains[step]) for step in steps]
    where = f"{frames_ahead(steps[0])} " if steps[0] else ""
    far = f", {steps[-1]} ahead {_better(means[-1], '')}" if len(steps) > 1 else ""
    near = [row for row in rows if (row.horizon or 0) == steps[0]]
    lost = losses(model, baseline, near)
    frames = counted(len(near), "forecast" if steps[0] else "frame")
    worst = f"{len(lost)} of {frames}, most at {float(lost[0].time):.1f} s" if lost else ""
    return (
        f"{where}{model} is {_better(means[0], baseline)}{far}; {where}it is worse on "
        f"{worst or f'none of {frames}'}"
    )


def _called(baseline: str) -> str:
    return {"blend": "blending", "hold": "holding the last frame"}.get(baseline, baseline)


def _better(gain: float, baseline: str) -> str:
    """Return a gain in PSNR, in dB, as words; an empty ``baseline`` is not named."""
    called = _called(baseline)
    if abs(gain) < 0.05:
        return f"as good as {called}" if called else "as good"
    words = f"{abs(gain):.1f} dB {'better' if gain > 0 else 'worse'}"
    return f"{words} than {called}" if called else words
