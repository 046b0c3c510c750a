"""The model adapted to the clip, as one more method, scored on what it has not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cloudconv.engine.device import choose_precision
from cloudconv.jobs.compare.methods import renderer_of
from cloudconv.jobs.compare.settings import CompareSettings
from cloudconv.jobs.interp.adapt import WEIGHTS, AdaptPlan, OnAdapting, adapt, check, save
from cloudconv.media.read.probe import MediaInfo
from cloudconv.models import registry
from cloudconv.workers.pool import parse_workers, settle


@contextmanager
def adapting(
    settings: CompareSettings,
    info: MediaInfo,
    on_adapting: OnAdapting | None,
    warn: Callable[[str], None],
) -> Iterator[tuple[CompareSettings, AdaptPlan | None]]:
    """Adapt the first model, if that is asked for; within, its weights are there.

    Yields:
        The settings with those weights, and the plan, which knows what was held back.

    Raises:
        CloudconvError: it cannot be adapted, or its weights cannot be saved.
    """
    minutes, model = settings.adapt, settings.model
    if minutes is None:
        yield settings, None
        return
    check(minutes, model, settings.save_model, overwrite=settings.overwrite)
    _, device, _ = settle(parse_workers(settings.workers, settings.device), settings.device)
    own = replace(settings, device=str(device))
    plan = AdaptPlan(
        info=info,
        model=model,
        minutes=minutes,
        start=settings.start,
        end=settings.end,
        device=device,
        dtype=choose_precision(settings.precision, device, registry.spec(model, "interpolate")),
        threads=settings.threads,
        renderer=lambda name: renderer_of(name, own, warn),
    )
    with TemporaryDirectory(prefix="cloudconv-") as name:
        folder = Path(name)
        _, result = adapt(plan, folder, on_adapting=on_adapting, on_warning=warn)
        save(folder, settings.save_model, overwrite=settings.overwrite, on_warning=warn)
        file = folder / WEIGHTS
        warn("Only what was held back is scored: the adapted model has learnt from the rest.")
        weights = str(file) if file.exists() else model
        yield replace(settings, adapted=result, adapted_weights=weights), plan
