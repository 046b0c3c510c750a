"""Everything that is decided before a dream's first frame: its material, its mode, its output."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import MethodSpec, Options
from cloudconv.dreaming.methods.registry import METHODS, method
from cloudconv.dreaming.select import choose, is_sky
from cloudconv.errors import InputError, OutputError, SettingsError
from cloudconv.events import Progress, Warned
from cloudconv.jobs.dream.report import PAGE, RESULT
from cloudconv.jobs.dream.settings import AUTO, DreamSettings, check_mode
from cloudconv.jobs.extend.analysis import Tell, analysed
from cloudconv.jobs.extend.history import gather_material
from cloudconv.jobs.extend.plan import ExtendPlan, begun, enough_memory
from cloudconv.media.read.source import Source
from cloudconv.media.write.target import noted
from cloudconv.models import registry
from cloudconv.render.device import auto_remarks, choose_device, choose_precision
from cloudconv.report import check_folder
from cloudconv.settings import exact

CHOSEN = 0.5
"""The share of the analysis that is done when the mode is chosen, by the time that it takes."""

_READ = 0.1


@dataclass(frozen=True, slots=True)
class DreamJob:
    """Settings, source and material: everything that is decided before the first frame.

    ``sky``: whether what moves is sky, so that no picture may come again.
    """

    settings: DreamSettings
    place: ExtendPlan
    material: Material
    spec: MethodSpec
    why: str
    sky: bool
    options: Options
    warnings: list[Warned]

    @property
    def loops(self) -> bool:
        """Whether the end can lead into the output's first frame: one of the same scene."""
        settings = self.settings
        return settings.loop and (settings.only_new or self.material.cut is None)

    @property
    def model(self) -> str | None:
        takes = "model" in self.spec.options
        return self.settings.predictor if takes else None


def prepare(
    settings: DreamSettings,
    stack: ExitStack,
    refusals: list[OutputError] | None = None,
) -> Generator[Progress, None, DreamJob]:
    """Read the material, and decide all that comes before the first frame.

    ``stack`` keeps the source open; ``refusals``: see :func:`~cloudconv.jobs.extend.plan.begun`.
    Yields the progress of the analysis, up to ``CHOSEN``.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    check_mode(settings)
    pages: list[Path] = []
    if settings.report is not None:
        pages = [Path(settings.report) / name for name in (PAGE, RESULT)]
        with noted(refusals):
            check_folder(Path(settings.report), (PAGE, RESULT), overwrite=settings.overwrite)
    device = choose_device(settings.device)
    network = registry.spec(settings.predictor, "predict")
    precise = choose_precision(settings.precision, device, network)
    info, output = begun(settings, "dream", refusals, pages)
    # A copy of standard input is kept until it is closed.
    stack.enter_context(Source(info))

    def gathered(tell: Tell) -> Material:
        with enough_memory(device, info):
            return gather_material(
                info,
                at=exact(settings.at),
                scene_cut=settings.scene_cut,
                device=device,
                threads=settings.threads,
                tell=tell,
            )

    def chosen(tell: Tell) -> tuple[MethodSpec, str, Warned | None, bool]:
        with enough_memory(device, info):
            spec, why, doubt = _method(settings, material, tell)
            return spec, why, doubt, spec.skies or (spec.as_filmed and is_sky(material))

    material = yield from analysed(gathered, 0.0, _READ)
    spec, why, doubt, sky = yield from analysed(chosen, _READ, CHOSEN)
    warnings = [*info.warnings, *auto_remarks(settings.device), *([doubt] if doubt else [])]
    count = len(material)
    start = None if material.cut is None else float(material.cut - info.timing.start)
    if start is not None:
        warnings.append(Warned("last-scene", {"start": start, "count": count}))
    if count < spec.least_frames:
        raise InputError(
            f"{info.path} has {count} frame{'s' if count > 1 else ''} "
            f"{'since its last cut' if start is not None else 'to go on from'}, and the mode "
            f"{spec.name} needs {spec.least_frames}: use the mode {choose(material).mode}."
        )
    if settings.loop and not settings.only_new and start is not None:
        warnings.append(Warned("loop-of-another-scene"))
    last = material.last
    place = ExtendPlan(
        settings,
        info,
        output,
        last.time + last.duration,
        material.step,
        sound_goes_on=settings.audio == "loop",
    )
    options = Options(
        wind=settings.direction,
        model=settings.predictor,
        texture_keep=settings.texture_keep,
        dtype=precise if "model" in spec.options else torch.float32,
    )
    return DreamJob(settings, place, material, spec, why, sky, options, warnings)


def _method(
    settings: DreamSettings, material: Material, tell: Tell
) -> tuple[MethodSpec, str, Warned | None]:
    """The method to use, why, and why it may not hold."""
    if settings.mode != AUTO:
        spec = method(settings.mode)
        return spec, f"{settings.mode}: asked for.", spec.doubt(material)
    chosen = choose(material, tell)
    spec = method(chosen.mode)
    if set(settings.given) <= set(spec.options):
        return spec, chosen.why, chosen.doubt
    named = " and ".join(f"`{name}`" for name in settings.given)
    for other in METHODS:
        if set(settings.given) <= set(other.options):
            return other, f"{other.name}: the mode that {named} is for.", None
    raise SettingsError(f"No mode takes {named} together: leave one of them out.")
