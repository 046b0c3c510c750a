"""Forecasts by predictors, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.engine.device import choose_device, choose_precision
from cloudconv.jobs.compare.samples import Sample, SampleImages, SampleScores
from cloudconv.jobs.compare.scores import Meter, as_rgb, texture_around
from cloudconv.jobs.compare.settings import CompareSettings
from cloudconv.models import registry
from cloudconv.models.base import Predictor


class _Predictor:
    """A registered predictor, and the time of the forecast that it is making."""

    def __init__(self, name: str, settings: CompareSettings) -> None:
        self._device = choose_device(settings.device)
        spec = registry.spec(name, "predict")
        dtype = choose_precision(settings.precision, self._device, spec)
        self._model: Predictor = registry.load_predictor(name, self._device, dtype)
        self.seconds: list[tuple[float, int]] = []

    def forecast(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """``steps`` frames, (3, H, W) RGB rounded to 8 bits, from (1, T, 3, H, W)."""
        self.seconds = []
        made = self._model.forecast(context.to(self._device), steps)
        for _ in range(steps):
            began = time.perf_counter()
            rgb = metrics.eight_bit(next(made)[0].cpu())
            self.seconds.append((time.perf_counter() - began, 1))
            yield rgb


class ForecastScorer:
    """The frames that follow others, by one predictor or several; a scorer.

    Args:
        models: for each method's name the predictor that it is.
        settings: of the comparison.
    """

    def __init__(self, models: Mapping[str, str], settings: CompareSettings) -> None:
        self._pictured = settings.report is not None
        self._predictors = {name: _Predictor(model, settings) for name, model in models.items()}
        self._wanted = settings.metrics
        self._meter = Meter(settings.metrics)

    def score(self, sample: Sample) -> SampleScores:
        """Forecast what is scored there from what comes before, and measure it."""
        if not sample.scored:
            return SampleScores()
        first, steps = sample.scored[0], len(sample.scored)
        # A predictor sees what is scored: 8-bit RGB.
        context = torch.stack([as_rgb(frame) for frame in sample.frames[:first]])[None]
        forecasts = {
            name: predictor.forecast(context, steps) for name, predictor in self._predictors.items()
        }
        before = context[0, -1]
        around = texture_around(self._wanted, (before,))
        shown = dict.fromkeys(forecasts, before)
        found = SampleScores({name: [] for name in forecasts})
        for number, k in enumerate(sample.scored):
            true = sample.frames[k]
            rgb = as_rgb(true)
            made = {name: next(frames) for name, frames in forecasts.items()}
            for name, picture in made.items():
                notes = self._meter.add(picture, rgb, around)
                notes += self._meter.change((shown[name], before), (picture, rgb))
                found.notes[name].append(notes)
            if self._pictured:
                found.pictures.append(SampleImages(true.duration, rgb, {**made}, number))
            shown, before = made, rgb
        found.seconds = {name: each.seconds for name, each in self._predictors.items()}
        return found

    def finish(self) -> SampleScores:
        """Nothing is left to be said; see :class:`Scorer`."""
        return SampleScores()
