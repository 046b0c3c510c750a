"""How methods are scored against the truth: sums that take a few bytes a frame, and the verdict."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.errors import SettingsError
from cloudconv.media.color import rgb_of
from cloudconv.media.filters import XpsnrMeter
from cloudconv.media.frame import Frame
from cloudconv.media.vmaf import VmafMeter

SEQUENCE_METRICS = ("xpsnr", "vmaf")
"""Metrics that must see every frame in order; FFmpeg's filters."""

METRICS = (*metrics.PER_FRAME, *metrics.TEXTURE, "flicker", *SEQUENCE_METRICS)
DEFAULT_METRICS = tuple(name for name in METRICS if name not in ("ms_ssim", *SEQUENCE_METRICS))
CURVES = ("psnr", "ssim", "texture")
"""What is kept for every frame, the first two whatever else was asked for."""


def check_metrics(names: Sequence[str]) -> None:
    """Raises SettingsError for a metric that there is not, or if there is none at all."""
    if not names:
        raise SettingsError(f"name at least one metric of {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise SettingsError(
                f"There is no metric called {name!r}: choose from {', '.join(METRICS)}."
            )


def as_rgb(frame: Frame) -> Tensor:
    """A frame as it is scored: (3, H, W) float32 RGB, rounded to 8 bits, in [0, 1]."""
    return metrics.eight_bit(rgb_of(frame))


def texture_around(wanted: Sequence[str], kept: Sequence[Tensor]) -> Tensor | None:
    """What the texture of frames between ``kept`` ones is measured by, if it is wanted at all."""
    if not any(name in wanted for name in metrics.TEXTURE):
        return None
    return torch.stack([metrics.texture_energy(rgb) for rgb in kept]).log().mean(0).exp()


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame of the output, kept or made.

    ``rgb`` is it as of :func:`as_rgb`; ``frame`` is None for a forecast, which is RGB alone.
    """

    rgb: Tensor
    frame: Frame | None = None


FrameScore = tuple[str, Any]
"""What a :class:`Meter` measures: the name of a metric over several frames and its value for one
of them, or one of these:

- ``made``, the metrics of a scored frame by name; None where the method made none;
- ``light``, how much brighter a frame is than the true one, for the flicker;
- ``break``: what comes next does not follow what came before.
"""


class Meter:
    """Measures one method's frames as they are shown; :class:`Scores` adds up its frame scores.

    Args:
        wanted: names of metrics.
        rate: of the frames, for the metrics that see them in order.
    """

    def __init__(self, wanted: Sequence[str], rate: Fraction | None = None) -> None:
        self._wanted = tuple(wanted)
        self._rate = rate or Fraction(25)
        self._xpsnr = XpsnrMeter(self._rate) if "xpsnr" in wanted else None
        self._vmaf = VmafMeter(self._rate) if "vmaf" in wanted else None
        self._made_in_vmaf: list[bool] = []
        self._light: list[FrameScore] = []

    def follow(
        self, truth: ShownFrame, shown: ShownFrame | None, around: Tensor | None = None
    ) -> list[FrameScore]:
        """Take in the next frame of the output.

        Args:
            truth: the true frame.
            shown: the very same for a kept frame, a made one, or None where the method made none.
            around: of :func:`texture_around`, for a made one.
        """
        if shown is None:
            return [("made", None), *self.interrupt()]
        made = shown is not truth
        scores: list[FrameScore] = []
        if made:
            scores.append(("made", self._measure(shown.rgb, truth.rgb, around)))
        if "flicker" in self._wanted:
            self._light = [("light", metrics.brightness(shown.rgb, truth.rgb))]
            scores += self._light
        if truth.frame is None or shown.frame is None:
            return scores
        if self._xpsnr is not None:
            xpsnr = self._xpsnr.push(truth.frame, shown.frame)
            if xpsnr is not None and made:
                scores.append(("xpsnr", xpsnr.weighted))
        if self._vmaf is not None:
            self._vmaf.push(truth.frame, shown.frame)
            self._made_in_vmaf.append(made)
        return scores

    def repeat(self) -> list[FrameScore]:
        """The last frame again, where the next one is not added up with those before it."""
        return [("break", None), *self._light]

    def interrupt(self) -> list[FrameScore]:
        """The next frame does not follow the last one."""
        if self._xpsnr is not None and self._xpsnr.begun:
            self._xpsnr = XpsnrMeter(self._rate)
        return [*self.finish(), ("break", None)]

    def finish(self) -> list[FrameScore]:
        """The scores that are only known once the last of several frames was seen."""
        if self._vmaf is None or not self._made_in_vmaf:
            return []
        pairs = zip(self._made_in_vmaf, self._vmaf.finish(), strict=True)
        scores: list[FrameScore] = [("vmaf", score) for made, score in pairs if made]
        self._made_in_vmaf.clear()
        self._vmaf = VmafMeter(self._rate)
        return scores

    def _measure(self, made: Tensor, truth: Tensor, around: Tensor | None) -> dict[str, float]:
        names = dict.fromkeys((*CURVES[:2], *self._wanted))
        scores = {
            name: float(metrics.PER_FRAME[name](made, truth))
            for name in names
            if name in metrics.PER_FRAME
        }
        if around is not None:
            texture = metrics.texture(made, around)
            scores |= dict(zip(metrics.TEXTURE, map(float, texture), strict=True))
        return scores


class Scores:
    """What one method has scored so far.

    ``curves`` holds a value for each scored frame, NaN where the method made none.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = tuple(wanted)
        kept = [name for name in CURVES if name in (*CURVES[:2], *wanted)]
        self.curves: dict[str, array[float]] = {name: array("d") for name in kept}
        self.made = 0
        self.seconds = 0.0, 0
        self._sums: dict[str, tuple[float, int]] = {}
        self._flicker = metrics.Flicker() if "flicker" in wanted else None

    @property
    def missing(self) -> int:
        """Frames that the method could not make."""
        return len(self.curves["psnr"]) - self.made

    def spend(self, seconds: float, made: int) -> None:
        """Add up how long the method took, and how many frames it has made in that time."""
        self.seconds = self.seconds[0] + seconds, self.seconds[1] + made

    def add(self, scores: Iterable[FrameScore]) -> None:
        """Add up what a meter has measured, in the order of the frames."""
        for name, value in scores:
            if name == "made":
                self._add_frame(value)
            elif name == "break":
                if self._flicker is not None:
                    self._flicker.interrupt()
            elif name == "light":
                assert self._flicker is not None
                self._flicker.add(value)
            else:
                self._count(name, value)

    def _add_frame(self, scores: dict[str, float] | None) -> None:
        self.made += scores is not None
        for name, value in (scores or {}).items():
            self._count(name, value)
        for name, values in self.curves.items():
            values.append((scores or {}).get(name, math.nan))

    def means(self) -> dict[str, float | None]:
        """Every wanted metric's mean over the frames that were made; None where there is none."""
        means: dict[str, float | None] = {}
        for name in self.wanted:
            total, count = self._sums.get(name, (0.0, 0))
            means[name] = total / count if count else None
        if self._flicker is not None:
            means["flicker"] = self._flicker.score
        return means

    def at(self, number: int) -> dict[str, float | None]:
        """PSNR and SSIM of a scored frame, and its texture if that is wanted."""
        return {name: _known(values[number]) for name, values in self.curves.items()}

    def curve(self, name: str) -> tuple[float | None, ...]:
        """One of ``CURVES`` for every scored frame, in order; empty if it was not wanted."""
        return tuple(map(_known, self.curves.get(name, ())))

    def _count(self, name: str, value: float) -> None:
        if not math.isnan(value):
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1


class Bucket:
    """The scored frames of one horizon, or all those between others, and each method's scores.

    ``indices`` are their numbers from the beginning of what is compared, ``times`` in seconds from
    the clip's first frame.
    """

    def __init__(self, methods: Sequence[str], wanted: Sequence[str]) -> None:
        self.indices = array("q")
        self.times: list[Fraction] = []
        self.scores = {name: Scores(wanted) for name in methods}

    def losses(self, model: str, baseline: str) -> list[int]:
        """Places among the scored frames where the model's PSNR is below the baseline's."""
        pairs = self._psnr(model, baseline)
        return [k for k, (own, other) in enumerate(pairs) if own < other]

    def gain(self, model: str, baseline: str) -> float | None:
        """How much more PSNR, in dB, over the frames that both made."""
        gains = [a - b for a, b in self._psnr(model, baseline) if not math.isnan(a - b)]
        return sum(gains) / len(gains) if gains else None

    def where_it_loses(self, model: str, baseline: str) -> str:
        """In words: on how many frames, and around which time most."""
        lost = self.losses(model, baseline)
        frames = f"{len(self.times)} frame{'s' if len(self.times) > 1 else ''}"
        if not lost:
            return f"none of {frames}"
        pairs = self._psnr(model, baseline)
        worst = max(lost, key=lambda k: pairs[k][1] - pairs[k][0])
        return f"{len(lost)} of {frames}, around {float(self.times[worst]):.1f} s"

    def _psnr(self, model: str, baseline: str) -> list[tuple[float, float]]:
        curves = (self.scores[name].curves["psnr"] for name in (model, baseline))
        return list(zip(*curves, strict=True))


def overall(several: Sequence[Scores]) -> dict[str, float | None]:
    """The means over all frames that were scored in several parts."""
    if len(several) == 1:
        return several[0].means()
    means: dict[str, float | None] = {}
    for name in several[0].wanted:
        known = [(part.means()[name], part.made) for part in several]
        frames = sum(made for mean, made in known if mean is not None)
        total = sum(mean * made for mean, made in known if mean is not None)
        means[name] = total / frames if frames else None
    return means


def seconds_per_frame(several: Sequence[Scores]) -> float | None:
    """How long a method takes for a frame."""
    made = sum(part.seconds[1] for part in several)
    return sum(part.seconds[0] for part in several) / made if made > 0 else None


def verdict(model: str, baseline: str, buckets: Sequence[Bucket], *, ahead: bool) -> str:
    """Who wins by how much, and where the model loses, in one sentence.

    With ``ahead`` the buckets are horizons: it is about the first one, and about the farthest that
    was scored.
    """
    if model == baseline:
        return f"{model} was compared with nothing but itself"
    gains = [(step, bucket.gain(model, baseline)) for step, bucket in enumerate(buckets, 1)]
    known = [(step, gain) for step, gain in gains if gain is not None]
    if not known:
        return f"{model} made no frame that could be scored"
    first, near = known[0]
    where = f"{frames_ahead(first)} " if ahead else ""
    sentence = f"{where}{model} is {_better(near, baseline)}"
    if len(known) > 1:
        far, gain = known[-1]
        sentence += f", {far} ahead {_better(gain, '')}"
    lost = buckets[first - 1].where_it_loses(model, baseline)
    return f"{sentence}; {where}it loses on {lost}"


def frames_ahead(step: int) -> str:
    """A horizon in words."""
    return f"{step} frame{'s' if step > 1 else ''} ahead"


def _better(gain: float, baseline: str) -> str:
    """In words; without naming the baseline if that is empty."""
    called = {"blend": "blending", "hold": "holding the last frame"}.get(baseline, baseline)
    if abs(gain) < 0.05:
        return f"as good as {called}" if called else "as good"
    words = f"{abs(gain):.1f} dB {'better' if gain > 0 else 'worse'}"
    return f"{words} than {called}" if called else words


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
