"""Make frames by each method, score them against the true frames, and state the verdict."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.events import Warnings
from cloudconv.forecasting.choice import fault, stands
from cloudconv.jobs.compare.methods import ShownFrame, as_rgb, method
from cloudconv.jobs.compare.plan import ClipFrame, ComparePlan, Excerpt
from cloudconv.media.writing.meters import VmafMeter
from cloudconv.messages import counted
from cloudconv.report.data import CURVES, Row, frames_ahead
from cloudconv.settings.compare import FAULT

EQUAL = 0.1  # a difference of PSNR in dB; a smaller one is none

Values = Iterable[tuple[str, float]]  # values of metrics by name, for one frame


@dataclass(frozen=True, slots=True)
class ScoredFrame:
    """A true frame beside the frames of all methods, None where a method made none.

    ``row`` has the scores; None for a kept frame, which no method makes again.
    """

    duration: Fraction
    truth: Tensor
    made: Mapping[str, Tensor]
    row: Row | None


class SequenceMeter:
    """The state of metrics that need the frames of one method in order."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._vmaf = VmafMeter() if "vmaf" in wanted else None
        self._made_in_vmaf: list[bool] = []
        self._brighter: float | None = None

    def follow(self, truth: ShownFrame, frame: ShownFrame) -> list[tuple[str, float]]:
        """Add the next frame and return new scores.

        ``frame`` is ``truth`` for a kept frame.
        """
        is_new = frame is not truth
        scores = []
        if is_new:
            scores = self.flicker(metrics.brightness(frame.rgb, truth.rgb))
        else:
            self._brighter = 0.0
        if self._vmaf is not None and truth.frame is not None and frame.frame is not None:
            self._vmaf.push(truth.frame, frame.frame)
            self._made_in_vmaf.append(is_new)
        return scores

    def flicker(self, brighter: float = 0.0) -> list[tuple[str, float]]:
        """Return the error of the change of brightness since the last frame, if any."""
        before = self._brighter
        self._brighter = brighter
        return [] if before is None else [("flicker", abs(brighter - before))]

    def interrupt(self) -> list[tuple[str, float]]:
        """End the sequence of frames and return its remaining scores."""
        self._brighter = None
        if self._vmaf is None:
            return []
        pairs = list(zip(self._made_in_vmaf, self._vmaf.finish(), strict=True))
        self._made_in_vmaf.clear()
        return [("vmaf", score) for is_new, score in pairs if is_new]


Scores = dict[str, list[float]]
"""The scores of all frames, by the name of the metric."""


def _add(scores: Scores, values: Values) -> None:
    for name, value in values:
        if name in scores:
            scores[name].append(value)


def mean_scores(scores: Scores) -> dict[str, float | None]:
    """Return the mean of each metric over the made frames; None without frames."""
    return {name: fmean(own) if own else None for name, own in scores.items()}


class Scorer:
    """A set of methods, and the scores of the frames that they make.

    ``scores`` has a list for each method: an entry for each horizon, or one. ``filmed`` has
    the texture of the true frames.
    """

    def __init__(self, plan: ComparePlan, warnings: Warnings) -> None:
        self._plan = plan
        self._makers = {name: method(name, plan, warnings) for name in plan.methods}
        self._meters = {name: SequenceMeter(plan.metrics) for name in plan.methods}
        steps = range(plan.settings.horizon or 1)
        scored = (*plan.metrics, "seconds_per_frame")
        self.scores: dict[str, list[Scores]] = {}
        for name in plan.methods:
            self.scores[name] = [{key: [] for key in scored} for _ in steps]
        self.filmed: Scores = {key: [] for key in plan.metrics if key == "texture"}

    def score(self, excerpt: Excerpt) -> Iterator[ScoredFrame]:
        """Make and score the frames of the next excerpt.

        Yield them and the first kept frame.
        """
        if not excerpt.scored:
            for name, meter in self._meters.items():
                _add(self.scores[name][0], meter.interrupt())
            return
        ahead = self._plan.forecasts
        frames = excerpt.frames
        last = excerpt.scored[0] - 1 if ahead else 0
        context = torch.stack([as_rgb(frame) for frame in frames[: last + 1]])
        kept = ShownFrame(context[-1], frames[last])
        neighbours = [kept.rgb, *([] if ahead else [as_rgb(frames[-1])])]
        texture = _texture_between(self._plan.metrics, neighbours)
        for name, meter in self._meters.items():
            _add(self.scores[name][0], meter.follow(kept, kept))
        if not ahead:  # no report shows the frame before a forecast
            yield ScoredFrame(
                frames[0].duration, kept.rgb, dict.fromkeys(self._makers, kept.rgb), None
            )
        making = {name: make(excerpt, context) for name, make in self._makers.items()}
        for number, k in enumerate(excerpt.scored):
            truth = ShownFrame(as_rgb(frames[k]), frames[k])
            if texture is not None and not ahead:
                _add(self.filmed, _texture(truth.rgb, texture).items())
            frames_shown: dict[str, Tensor] = {}
            curves: dict[str, Mapping[str, float]] = {}
            for name, meter in self._meters.items():
                scored_frame, seconds = next(making[name])
                scores = self.scores[name][number if ahead else 0]
                if k != last + 1:
                    _add(self.scores[name][0], meter.interrupt())
                _add(scores, meter.follow(truth, scored_frame))
                values = self._values(truth, scored_frame, kept.rgb, texture)
                _add(scores, [*values.items(), ("seconds_per_frame", seconds)])
                frames_shown[name] = scored_frame.rgb
                curves[name] = values
            row = self._row(excerpt.items[k], number + 1 if ahead else None, curves)
            yield ScoredFrame(frames[k].duration, truth.rgb, frames_shown, row)
            last = k
        if not ahead:
            complete = last == len(excerpt.items) - 2
            for name, meter in self._meters.items():
                rest = meter.flicker() if complete else meter.interrupt()
                _add(self.scores[name][0], rest)

    def _row(
        self,
        item: ClipFrame,
        horizon: int | None,
        values: Mapping[str, Mapping[str, float]],
    ) -> Row:
        curves = [name for name in CURVES if name in (*CURVES[:2], *self._plan.metrics)]
        scores = {name: {key: values[name].get(key) for key in curves} for name in values}
        return Row(item.number, item.time - self._plan.info.timing.start, horizon, scores)

    def _values(
        self,
        truth: ShownFrame,
        frame: ShownFrame,
        before: Tensor,
        texture: Tensor | None,
    ) -> dict[str, float]:
        wanted = self._plan.metrics
        scores = {
            name: value
            for name in dict.fromkeys((*CURVES[:2], *wanted))
            if name in metrics.PER_FRAME
            and not math.isnan(
                value := float(metrics.PER_FRAME[name](frame.rgb, truth.rgb))
            )
        }
        if FAULT in wanted:
            pictures = frame.rgb.cpu(), truth.rgb.cpu(), before.cpu()
            # The alignment excuses a frozen picture, so missing motion is measured
            # separately.
            scores[FAULT] = max(
                fault(*pictures), stands(pictures[0], pictures[2], pictures[1])
            )
        return scores if texture is None else scores | _texture(frame.rgb, texture)


def _texture_between(wanted: Sequence[str], kept: Sequence[Tensor]) -> Tensor | None:
    """Return the geometric mean of the kept frames' texture energy, if that is wanted."""
    if "texture" not in wanted:
        return None
    return torch.stack([metrics.texture_energy(rgb) for rgb in kept]).log().mean(0).exp()


def _texture(rgb: Tensor, kept: Tensor) -> dict[str, float]:
    return {"texture": float(metrics.texture(rgb, kept))}


def losses(model: str, baseline: str, rows: Sequence[Row]) -> list[Row]:
    """Return the frames on which the model's PSNR is the lower one, the worst first."""
    lost = [row for row in rows if (row.gain(model, baseline) or 0) <= -EQUAL]
    return sorted(lost, key=lambda row: row.gain(model, baseline) or 0)


def verdict(model: str, baseline: str, rows: Sequence[Row]) -> str:
    """Return one sentence: the mean gain in PSNR, and where the model loses."""
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
    far = f", {steps[-1]} ahead {better(means[-1], '')}" if len(steps) > 1 else ""
    near = [row for row in rows if (row.horizon or 0) == steps[0]]
    lost = losses(model, baseline, near)
    frames = counted(len(near), "forecast" if steps[0] else "frame")
    worst = f"{len(lost)} of {frames}, most at {float(lost[0].time):.3f} s" if lost else ""
    return (
        f"{where}{model} is {better(means[0], baseline)}{far}; {where}it is worse on "
        f"{worst or f'none of {frames}'}"
    )


def better(gain: float, baseline: str) -> str:
    """Return a gain in PSNR, in dB, as words; an empty ``baseline`` is not named."""
    called = {"blend": "blending", "hold": "holding the last frame"}.get(baseline, baseline)
    if abs(gain) < EQUAL:
        return f"as good as {called}" if called else "as good"
    words = f"{abs(gain):.1f} dB {'better' if gain > 0 else 'worse'}"
    return f"{words} than {called}" if called else words
