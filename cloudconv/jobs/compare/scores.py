"""How methods are scored against the truth: sums that take a few bytes a frame, and the verdict."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
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
DEFAULT_METRICS = (
    "psnr",
    "ssim",
    "l1",
    "l2",
    "gdl",
    "sharpness",
    "texture",
    "texture2",
    "flicker",
)
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


FrameScore = tuple[str, Any]
"""What a :class:`Meter` has found: the name of a metric over several frames and its value for one
of them, or one of these:

- ``made``, the metrics of a scored frame by name; None where the method made none;
- ``light``, how much brighter a frame is than the true one, for the flicker;
- ``break``: what comes next does not follow what came before.
"""


class Meter:
    """Measures one method's frames as they are shown; :class:`Scores` adds up what it finds.

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

    def add(
        self, made: Tensor | None, truth: Tensor, around: Tensor | None = None
    ) -> list[FrameScore]:
        """Score one made frame against the true one, both as of :func:`as_rgb`.

        Args:
            around: of :func:`texture_around`.
        """
        if made is None:
            return [("made", None)]
        names = dict.fromkeys((*CURVES[:2], *self._wanted))
        scores = {
            name: float(metrics.PER_FRAME[name](made, truth))
            for name in names
            if name in metrics.PER_FRAME
        }
        if around is not None:
            texture = metrics.texture(made, around)
            scores |= dict(zip(metrics.TEXTURE, map(float, texture), strict=True))
        return [("made", scores)]

    def follow(
        self, truth: Frame, true_rgb: Tensor, made: Frame | None, rgb: Tensor | None
    ) -> list[FrameScore]:
        """Take in the next frame of the output, a kept one or a made one (None: no such frame)."""
        if made is None or rgb is None:
            return self.interrupt()
        found = self._light(rgb, true_rgb)
        if self._xpsnr is not None:
            score = self._xpsnr.push(truth, made)
            if score is not None and made is not truth:
                found.append(("xpsnr", score.weighted))
        if self._vmaf is not None:
            self._vmaf.push(truth, made)
            self._made_in_vmaf.append(made is not truth)
        return found

    def change(
        self, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]
    ) -> list[FrameScore]:
        """Take in two neighbouring frames, each as (made, true) RGB, for the flicker alone."""
        return [("break", None), *self._light(*before), *self._light(*after)]

    def interrupt(self) -> list[FrameScore]:
        """The next frame does not follow the last one."""
        if self._xpsnr is not None and self._xpsnr.begun:
            self._xpsnr = XpsnrMeter(self._rate)
        return [*self.finish(), ("break", None)]

    def finish(self) -> list[FrameScore]:
        """The scores that are only known once the last frame of a run was seen."""
        if self._vmaf is None or not self._made_in_vmaf:
            return []
        pairs = zip(self._made_in_vmaf, self._vmaf.finish(), strict=True)
        found: list[FrameScore] = [("vmaf", score) for made, score in pairs if made]
        self._made_in_vmaf.clear()
        self._vmaf = VmafMeter(self._rate)
        return found

    def _light(self, rgb: Tensor, truth: Tensor) -> list[FrameScore]:
        return [("light", metrics.brightness(rgb, truth))] if "flicker" in self._wanted else []


class Scores:
    """What one method has scored so far.

    ``curves`` holds a value for each scored frame, NaN where the method made none.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = tuple(wanted)
        kept = [name for name in CURVES if name in (*CURVES[:2], *wanted)]
        self.curves: dict[str, array[float]] = {name: array("d") for name in kept}
        self.made = 0
        self._sums: dict[str, tuple[float, int]] = {}
        self._flicker = metrics.Flicker() if "flicker" in wanted else None

    @property
    def missing(self) -> int:
        """Frames that the method could not make."""
        return len(self.curves["psnr"]) - self.made

    def take(self, notes: Iterable[FrameScore]) -> None:
        """Add up what a meter has found, in the order of the frames."""
        for name, value in notes:
            if name == "made":
                self._take_frame(value)
            elif name == "break":
                if self._flicker is not None:
                    self._flicker.interrupt()
            elif name == "light":
                assert self._flicker is not None
                self._flicker.add(value)
            else:
                self._count(name, value)

    def _take_frame(self, scores: dict[str, float] | None) -> None:
        self.made += scores is not None
        for name, value in (scores or {}).items():
            self._count(name, value)
        for name, values in self.curves.items():
            values.append((scores or {}).get(name, math.nan))

    def means(self) -> dict[str, float | None]:
        """Every wanted metric's mean over the frames that were made; None where there is none."""
        found = {name: self.mean(name) for name in self.wanted}
        if self._flicker is not None:
            found["flicker"] = self._flicker.score
        return found

    def mean(self, name: str) -> float | None:
        """One metric's mean; PSNR and SSIM are there whatever was wanted."""
        total, count = self._sums.get(name, (0.0, 0))
        return total / count if count else None

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


def overall(several: Sequence[Scores]) -> dict[str, float | None]:
    """The means over all frames that were scored in several parts."""
    found: dict[str, float | None] = {}
    for name in several[0].wanted:
        known = [(part.means()[name], part.made) for part in several]
        frames = sum(made for mean, made in known if mean is not None)
        total = sum(mean * made for mean, made in known if mean is not None)
        found[name] = total / frames if frames else None
    return found


def losses(model: Scores, baseline: Scores) -> list[int]:
    """Numbers of the scored frames on which the model's PSNR is below the baseline's."""
    pairs = zip(model.curves["psnr"], baseline.curves["psnr"], strict=True)
    return [k for k, (own, other) in enumerate(pairs) if own < other]


def verdict(
    model: str, baseline: str, own: Scores, other: Scores, times: Sequence[Fraction]
) -> str:
    """Who wins by how much, and where the model loses, in one sentence."""
    if model == baseline:
        return f"{model} was compared with nothing but itself"
    gain = _gain(own, other)
    if gain is None:
        return f"{model} made no frame that could be scored"
    return f"{model} is {_better(gain, baseline)}; it loses on {_where(own, other, times)}"


def forecast_verdict(
    model: str,
    baseline: str,
    own: Sequence[Scores],
    other: Sequence[Scores],
    times: Sequence[Sequence[Fraction]],
) -> str:
    """The same for forecasts: one frame ahead, and at the farthest horizon that was scored.

    ``own``, ``other`` and ``times`` have an entry for each horizon.
    """
    if model == baseline:
        return f"{model} was compared with nothing but itself"
    scored = [step for step, part in enumerate(own) if part.made]
    if not scored:
        return f"{model} made no frame that could be scored"
    ends = sorted({scored[0], scored[-1]})
    gains = [(step, _gain(own[step], other[step]) or 0.0) for step in ends]
    (first, near), *rest = gains
    sentence = f"{ahead(first + 1)} {model} is {_better(near, baseline)}"
    for step, gain in rest:
        sentence += f", {step + 1} ahead {_better(gain, '')}"
    lost = _where(own[first], other[first], times[first])
    return f"{sentence}; {ahead(first + 1)} it loses on {lost}"


def ahead(step: int) -> str:
    """A horizon in words."""
    return f"{step} frame{'s' if step > 1 else ''} ahead"


def _gain(own: Scores, other: Scores) -> float | None:
    """How much more PSNR, in dB, over the frames that both made."""
    pairs = zip(own.curves["psnr"], other.curves["psnr"], strict=True)
    gains = [a - b for a, b in pairs if not math.isnan(a - b)]
    return sum(gains) / len(gains) if gains else None


def _better(gain: float, baseline: str) -> str:
    """In words; without naming the baseline if that is empty."""
    called = {"blend": "blending", "hold": "holding the last frame"}.get(baseline, baseline)
    if abs(gain) < 0.05:
        return f"as good as {called}" if called else "as good"
    found = f"{abs(gain):.1f} dB {'better' if gain > 0 else 'worse'}"
    return f"{found} than {called}" if called else found


def _where(own: Scores, other: Scores, times: Sequence[Fraction]) -> str:
    lost = losses(own, other)
    frames = f"{len(times)} frame{'s' if len(times) > 1 else ''}"
    if not lost:
        return f"none of {frames}"
    worst = max(lost, key=lambda k: other.curves["psnr"][k] - own.curves["psnr"][k])
    return f"{len(lost)} of {frames}, around {float(times[worst]):.1f} s"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
