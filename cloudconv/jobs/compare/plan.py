"""Plan a comparison: its methods, its metrics, and its excerpts of neighbouring frames.

The scores of an excerpt depend on its frames alone. Metrics that need frames in order also
depend on the excerpts before.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice, pairwise
from typing import Any, TypeVar

import torch

from cloudconv.errors import InputError, SettingsError
from cloudconv.events import Warned, Warnings
from cloudconv.jobs import as_json
from cloudconv.jobs.reports import PAGE, check_report
from cloudconv.jobs.video import JobResult, probed
from cloudconv.media.frames.frame import Frame, MediaInfo
from cloudconv.media.reading.source import Source
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.render.device import (
    auto_warnings,
    choose_device,
    choose_precision,
    precision_name,
)
from cloudconv.schedule.cadence import Cadence
from cloudconv.schedule.tasks import analyse, cadence_of, evened
from cloudconv.settings import CompareSettings, exact
from cloudconv.settings.compare import DEFAULT_METRICS, FAULT
from cloudconv.settings.extend import DEFAULT_PREDICTOR
from cloudconv.settings.groups import DEFAULT_MODEL
from cloudconv.settings.values import names

_, VIDEO, RESULT = PAGES = (PAGE, "side_by_side.mp4", "result.json")
"""The files of a report."""

HOLD, BLEND = "hold", "blend"
_FORECASTS = (HOLD, "linear", "flow", "layers")


@dataclass(frozen=True, kw_only=True)
class CompareResult(JobResult):
    """The result of a comparison.

    ``methods`` maps each name to its mean scores, or for forecasts to the scores of each
    horizon. ``loses_to_blend`` and ``loses_to_hold`` are the numbers of the frames on which
    the first model's PSNR is below that method's. ``skipped_frames`` counts repeats, and
    frames left out because of a cut. ``filmed`` has the texture of the dropped source
    frames in dB: where light changes, even these differ from 0.
    """

    input: str
    drop: int | None
    horizon: int | None
    scored_frames: int
    skipped_frames: int
    cuts: list[float]
    methods: dict[str, dict[str, Any]]
    filmed: dict[str, float | None]
    per_frame: list[dict[str, Any]]
    baseline: str
    loses_to_blend: list[int] = field(default_factory=list)
    loses_to_hold: list[int] = field(default_factory=list)
    verdict: str

    @property
    def summary(self) -> str:
        """Return the numbers of frames, the device, and the dropped frames' texture."""
        left = (
            f", {self.skipped_frames} left out (cuts, repeats)"
            if self.skipped_frames
            else ""
        )
        filmed = self.filmed.get("texture")
        where = f"{self.device}, {self.precision}"
        scored = f"{counted(self.scored_frames, 'frame')} scored{left} ({where})"
        if filmed is None:
            return scored
        return f"{scored}; the texture of the dropped frames is {filmed:+z.2f} dB"

    def as_json(self) -> dict[str, Any]:
        """Return the command's JSON, with the keys of either ``drop`` or ``horizon``."""
        other = ("drop", "loses_to_blend")
        if self.horizon is None:
            other = ("horizon", "loses_to_hold")
        return {key: value for key, value in as_json(self).items() if key not in other}


@dataclass(frozen=True)
class ComparePlan:
    """The decisions before the first frame.

    The verdict compares the first of ``methods`` with ``baseline``: the first other method
    of ``against``, otherwise ``naive``, the method that every model should beat.
    """

    settings: CompareSettings
    info: MediaInfo
    device: torch.device
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    naive: str
    baseline: str
    drop: int
    warnings: tuple[Warned, ...]

    @property
    def forecasts(self) -> bool:
        """Return whether the models are predictors."""
        return self.settings.horizon is not None

    @property
    def judged(self) -> str:
        """Return the name of the first model."""
        return self.methods[0]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the fields of the result that are decided."""
        model, _ = self.settings.of_method(self.methods[0])
        spec = registry.spec(model, self.settings.models_task)
        dtype = choose_precision(self.settings.precision, self.device, spec)
        return {
            "input": str(self.settings.input),
            "drop": None if self.forecasts else self.drop,
            "horizon": self.settings.horizon,
            "device": str(self.device),
            "precision": precision_name(dtype),
            "baseline": self.baseline,
            "methods": list(self.methods),
        }


def decide(settings: CompareSettings) -> ComparePlan:
    """Probe the input, and decide everything that does not need its frames."""
    forecasts = settings.horizon is not None
    methods = methods_of(settings)
    used = [settings.of_method(name) for name in methods]
    models = [model for model, _ in used]
    specs = [
        registry.spec(name, settings.models_task, settings.timesteps) for name in models
    ]
    registry.check_timesteps(settings.timesteps, specs)
    scaled = [
        spec
        for spec, (_, own) in zip(specs, used, strict=True)
        if own.scale not in (None, 1.0)
    ]
    if scaled and not any(spec.cls.scale_option for spec in scaled):
        raise SettingsError(
            f"scale-for-none: None of the models {', '.join(models)} has --scale: leave it "
            "at 1."
        )
    drop = settings.drop or 2
    for spec in () if forecasts else specs:
        registry.check_times(spec, Fraction(drop))
    device = choose_device(settings.device)
    info = probed(settings, (exact(settings.start), exact(settings.end)))
    check_report(settings, PAGES, [info.path])
    metrics = names(settings.metrics)
    naive = HOLD if forecasts else BLEND
    others = (*names(settings.against or ()), naive, *methods)
    if forecasts and metrics == DEFAULT_METRICS:
        metrics = (*metrics, FAULT)
    baseline = next((name for name in others if name != methods[0]), methods[0])
    warnings = (*info.warnings, *auto_warnings(settings.device))
    return ComparePlan(
        settings, info, device, methods, metrics, naive, baseline, drop, warnings
    )


def methods_of(settings: CompareSettings) -> tuple[str, ...]:
    """Return the names of all methods, the first model first."""
    against = names(settings.against or ())
    if settings.horizon is not None:
        models = settings.models or (DEFAULT_PREDICTOR,)
        return tuple(dict.fromkeys((*models, *(against or _FORECASTS), HOLD)))
    models = settings.models or (DEFAULT_MODEL,)
    return tuple(dict.fromkeys((*models, *against, BLEND)))


EVERY = 6  # the number of frames between the starts of two forecasts

_CADENCE_FRAMES = 300  # first source frames that are searched for regular repeats

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """A source frame that is compared.

    ``number`` counts all source frames of the compared part. In a clip with regular repeats
    the time of ``frame`` is evenly spaced, unlike ``time``. ``cut``: whether it starts a
    scene.
    """

    number: int
    time: Fraction
    cut: bool
    frame: Frame


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Neighbouring source frames; those at the positions ``scored`` are made again.

    ``read`` is the number of source frames up to its end; ``skipped`` are left out because
    of a cut. With ``drop``, ``before`` and ``after`` are the kept frames beside it in the
    same scene.
    """

    items: tuple[ClipFrame, ...]
    scored: tuple[int, ...]
    read: int
    skipped: int = 0
    before: ClipFrame | None = None
    after: ClipFrame | None = None

    @property
    def frames(self) -> list[Frame]:
        """Return the decoded frames of ``items``."""
        return [item.frame for item in self.items]


class ComparedClip:
    """The compared part of a clip without regular repeats, and its division into excerpts.

    ``cuts`` and ``left_out``, the number of repeats, are complete when all frames have been
    read. With ``drop`` an excerpt is two kept frames and those between. With ``horizon`` it
    is the frames that a predictor sees and those that follow, up to the next cut.
    """

    def __init__(self, plan: ComparePlan) -> None:
        self.info = info = plan.info
        self._settings = settings = plan.settings
        self.cuts: list[Fraction] = []
        self.left_out = 0
        timing = info.timing
        begins, ends = timing.span(exact(settings.start), exact(settings.end))
        used = max(ends - begins, Fraction(0)) / (timing.end - timing.start)
        self.frames_expected = frames = round(timing.frames * used)
        with self.source() as source:
            first = islice(analyse(source.frames(), settings.scene_cut), _CADENCE_FRAMES)
            cadence, _ = cadence_of(first)
        self.has_cadence = cadence.description is not None
        distinct = int(frames * (cadence.distinct_fraction if self.has_cadence else 1))
        if settings.horizon is None:
            self._context = 1
            self._inside = plan.drop - 1
            self._step = plan.drop
            self._most = self._least = plan.drop + 1
            task = f"keeping one of every {plan.drop}"
        else:
            specs = [registry.spec(name, "predict") for name in plan.methods]
            self._context = max(spec.context for spec in specs)
            roomy = max(spec.context + spec.past for spec in specs)
            if distinct >= roomy + settings.horizon:
                self._context = roomy
            self._inside = settings.horizon
            self._step = EVERY
            self._most = self._context + settings.horizon
            self._least = self._context + 1
            task = f"a forecast from {self._context} of them"
        self._total = (distinct - self._least) // self._step + 1
        if self._total < 1:
            part_of = (
                " in that part" if (settings.start, settings.end) != (None, None) else ""
            )
            raise InputError(
                f"too-few-to-score: {info.path} has {counted(frames, 'frame')}{part_of}; "
                f"{task} needs at least {self._least}: give a longer video or part."
            )

    def source(self, warnings: Warnings | None = None) -> Source:
        """Return the requested part of the source."""
        s = self._settings
        return Source(
            self.info,
            start=exact(s.start),
            end=exact(s.end),
            threads=s.threads,
            warnings=warnings,
        )

    def frames(self, source: Source) -> Iterator[ClipFrame]:
        """Yield the compared frames in order."""
        analysed = analyse(source.frames(), self._settings.scene_cut)
        analysed_frames = evened(analysed, Cadence()) if self.has_cadence else analysed
        for number, item in enumerate(analysed_frames):
            if item.shows is None:
                self.left_out += 1
                continue
            if item.cut:
                self.cuts.append(item.frame.time)
            frame = item.frame.at(item.shows, item.frame.duration)
            yield ClipFrame(number, item.frame.time, item.cut, frame)

    def excerpts(self, source: Source) -> Iterator[Excerpt]:
        """Yield all excerpts in order, with their frames; an empty one ends the clip."""
        wanted = self._settings.frames
        drops = self._settings.horizon is None
        wanted_each = self._inside if wanted is None else min(wanted, self._inside)
        chosen = evenly(self._total, None if wanted is None else wanted // wanted_each)
        within = evenly(self._inside, wanted_each)
        # The kept frames at the ends of an excerpt.
        first = self._context
        last = int(drops)
        every = windows(self.frames(source), self._most, self._step, self._least)
        beside: list[tuple[ClipFrame, ...] | None] = [None]
        pairs = pairwise(pairwise(chain(beside, every, beside)))
        for number, ((before, items), (_, after)) in enumerate(pairs):
            assert items is not None
            cut = next((k for k, item in enumerate(items) if k and item.cut), len(items))
            end = first if drops and cut < len(items) else max(cut, first)
            taken = chosen(number)
            yield Excerpt(
                items[:end],
                tuple(k for k in range(first, end - last) if taken and within(k - first)),
                read=items[-1].number + 1,
                skipped=max(len(items) - end - last, 0) if taken or last else 0,
                before=_kept(before, 0) if drops else None,
                after=_kept(after, -1) if drops else None,
            )
        yield Excerpt((), (), self.info.timing.frames)


def _kept(items: Sequence[ClipFrame] | None, index: int) -> ClipFrame | None:
    """Return the first or the last frame of a neighbouring excerpt.

    The result is None if it contains a cut.
    """
    if items is None or any(item.cut for item in items[1:]):
        return None
    return items[index]


def windows(
    items: Iterable[Item], most: int, step: int, least: int
) -> Iterator[tuple[Item, ...]]:
    """Yield windows of ``most`` items (at the end ``least``) at every ``step``-th item."""
    ring: deque[Item] = deque(maxlen=most)
    read = 0
    for item in items:
        ring.append(item)
        read += 1
        if read >= most and (read - most) % step == 0:
            yield tuple(ring)
    for first in range(max(read - most + 1, 0), read - least + 1):
        if first % step == 0:
            yield tuple(ring)[first - read :]


def evenly(total: int, wanted: int | None) -> Callable[[int], bool]:
    """Return a test that accepts at most ``wanted`` of ``total`` numbers, spread evenly."""
    if wanted is None or wanted >= total:
        return lambda number: True
    return {(2 * k + 1) * total // (2 * wanted) for k in range(wanted)}.__contains__
