"""Forecast the frames that follow a video's last frame, or any other of its frames.

The job first reads the context, the last frames before the forecast; a seek skips the
earlier frames. Then the job writes the source's frames unchanged, and the forecast after
them. Where frames repeat regularly (24 fps material in a 30 fps file), the model forecasts
different frames only, and the job adds the repeats.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, pairwise
from math import inf, sqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cloudconv.errors import InputError, SettingsError
from cloudconv.events import (
    Finished,
    Job,
    Measured,
    Progress,
    Warned,
    Warnings,
    reporting,
    watched,
)
from cloudconv.forecasting.choice import (
    HELD,
    STANDS,
    camera_motion,
    comes_in,
    fault,
    lasts,
    stands,
)
from cloudconv.forecasting.scene import SIDE
from cloudconv.jobs.extend import plan as extend
from cloudconv.jobs.extend.ending import Ending, read_ending
from cloudconv.jobs.extend.plan import ExtendPlan, ExtendResult, NewFrame
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame
from cloudconv.media.reading.pictures import motion_photo
from cloudconv.media.writing.output import claim
from cloudconv.messages import counted
from cloudconv.models import registry
from cloudconv.models.base import Predictor
from cloudconv.render.device import set_threads
from cloudconv.settings import ExtrapolateSettings, exact
from cloudconv.settings.extend import AUTO_PREDICTOR, MOST_FORECAST, MOST_HELD
from cloudconv.transfer import upload

_WINDOW = 64  # frames before the forecast that show its cadence
CANDIDATES = ("layers", "flow", "voxelflow")
"""The predictors that ``auto`` tries; the one that keeps things whole comes first."""
_TRIED = (1, 3, 7, 15)  # steps ahead of the known frames that a trial makes
_VIEWS = 4  # frames in which the camera's motion is measured for a trial
_ALIKE = 0.04  # part of the fault by which a later predictor must be better

ExtrapolatePlan = ExtendPlan[ExtrapolateSettings]


@dataclass(frozen=True, kw_only=True)
class ExtrapolateResult(ExtendResult):
    """The result of a run.

    ``context_frames`` is the number of frames that the model sees. ``tried_ahead`` is the
    number of known last frames, without repeats, up to which a trial forecasts some.
    ``held_ahead`` is the probable number of new frames, of as many, before the first that
    looks wrong. Both are 0 without enough frames.
    """

    model: str
    context_frames: int
    tried_ahead: int
    held_ahead: int


def decide(settings: ExtrapolateSettings) -> ExtrapolatePlan:
    """Probe the input, and decide everything that does not need its frames."""
    names = _names(settings)
    own = {"model": names[0]} if len(names) == 1 else {}
    network = registry.spec(names[-1], "predict")
    plan = extend.decide(settings, names[-1], "forecast", own, network)
    if plan.new_frames > MOST_FORECAST:
        raise SettingsError(
            f"forecast-too-long: A forecast has at most {MOST_FORECAST} frames, and "
            f"--seconds would make {plan.new_frames}: give fewer, or use 'cloudconv dream'."
        )
    specs = [registry.spec(name, "predict") for name in names]
    context = max(spec.context for spec in specs)
    past = max(spec.past for spec in specs)
    return replace(plan, predictor=replace(plan.predictor, context=context, past=past))


def foresee(plan: ExtrapolatePlan) -> Iterator[dict[str, str]]:
    """Yield the model that the trial chooses, and how many new frames probably hold."""

    def trial() -> Job:
        yield Finished((yield from _trial(*_resolve(plan))))

    name, held, tried = watched(trial())
    yield {"model": f"{name}; in a trial {held} of {counted(tried, 'frame')} hold"}


def _names(settings: ExtrapolateSettings) -> Sequence[str]:
    """Return the predictors to try; without frames for a trial the last one is used."""
    chosen = str(settings.model)
    return CANDIDATES if chosen == AUTO_PREDICTOR else (chosen,)


@reporting
def run(warnings: Warnings, settings: ExtrapolateSettings) -> Job:
    """Write ``settings.input`` and the forecast of the frames that follow.

    The output appears only when it is complete. Yields warnings, progress, and at the end
    an :class:`ExtrapolateResult`.
    """
    began = time.monotonic()
    set_threads(settings.threads)
    plan = decide(settings)
    warnings.add(*plan.warnings)
    plan, scene = _resolve(plan)
    warnings.add(*plan.warnings)
    with claim(plan.output, overwrite=settings.overwrite):
        name, held, tried = yield from _trial(plan, scene)
        is_free = settings.frames is None and settings.seconds is None
        if is_free and tried:
            plan = replace(plan, settings=replace(settings, frames=max(1, held)))
        if held < min(tried, plan.new_frames):
            begins = (
                f"From about new frame {held + 1}" if held else "From the first new frame"
            )
            only = ", so only one is made" if is_free else ""
            holds = (
                f"holds for {held}" if held else f"does not hold for a single frame{only}"
            )
            warnings.add(
                Warned(
                    f"forecast-did-not-hold: {begins} on, things that move probably look "
                    "torn, soft or out of place: trials on the last "
                    f"{counted(tried, 'frame')} of the clip, and its last motion, say that "
                    f"the forecast of {name} {holds}. For a longer one use 'cloudconv "
                    "dream'."
                )
            )
        model = registry.load_predictor(name, plan.device, plan.dtype)
        fields = yield from plan.write(
            lambda _: _pictures(plan, scene, model), began, warnings
        )
    yield Finished(
        ExtrapolateResult(
            **fields, model=name, tried_ahead=tried, held_ahead=held, warnings=warnings
        )
    )


def _resolve(plan: ExtrapolatePlan) -> tuple[ExtrapolatePlan, Ending]:
    spec = plan.predictor
    timing = plan.info.timing
    settings = plan.settings
    needed = spec.context + spec.past
    scene = read_ending(
        plan.info,
        _WINDOW,
        at=exact(settings.at),
        scene_cut=settings.scene_cut,
        threads=settings.threads,
        needed=needed,
        different=needed + MOST_HELD,
    )
    if len(scene.frames) < min(spec.context, 2):
        path = plan.info.path
        model = settings.model
        where = "to forecast from"
        if scene.cut is not None:
            where = f"after a cut at {float(scene.cut - timing.start):.3f} s"
        raise motion_photo(path) or InputError(
            f"one-frame-to-forecast: {path} has a single frame {where}, and {model} needs "
            "two or more: forecast from another time with --at, or give a longer video."
        )
    step = 1 / timing.rate if timing.rate is not None else scene.gap or timing.last_duration
    own = {"context_frames": min(len(scene.frames), spec.context), "cadence": scene.cadence}
    return plan.after(scene.last, step, own), scene


@torch.inference_mode()
def _pictures(plan: ExtrapolatePlan, scene: Ending, model: Predictor) -> Iterator[NewFrame]:
    latest = last = scene.frames[-1]
    pictures = [partial(_batch_of, frame, plan.device) for frame in scene.frames]
    forecasts = _made(plan, model, pictures, range(1, plan.new_frames + 1))
    for repeats in islice(scene.repeats(), plan.new_frames):
        if not repeats:
            latest = extend.new_frame(next(forecasts), last)
        yield NewFrame(latest)


def _batch_of(frame: Frame, device: torch.device) -> Tensor:
    return rgb_of(frame, device)[None]


@torch.inference_mode()
def _made(
    plan: ExtrapolatePlan,
    model: Predictor,
    pictures: Sequence[Callable[[], Tensor]],
    steps: Sequence[int],
) -> Iterator[Tensor]:
    """Yield forecasts from pictures, of which the first stands for any that are missing."""
    missing = model.spec.context - len(pictures)
    with extend.enough_memory(plan.device, plan.info):
        forecast = model.forecast_from([*[pictures[0]] * missing, *pictures], steps)
        yield from (picture[0] for picture in forecast)


def _judged(
    plan: ExtrapolatePlan, model: Predictor, before: Tensor, known: Tensor, steps: list[int]
) -> Iterator[tuple[float, float, float]]:
    """Make and judge forecasts from the frames ``before`` the ``known`` ones.

    Without known frames the last frame stands for them. Yield for each forecast its fault,
    that of a part that comes in, and the part of the motion that the first one lacks.
    """
    sent = upload([before], plan.device)[0]
    context = [partial(_floats, picture[None]) for picture in sent]
    camera = camera_motion([*map(_floats, before[-_VIEWS:])])
    last = _floats(before[-1])
    for step, made in zip(steps, _made(plan, model, context, steps), strict=True):
        picture = made.cpu()
        lost = strange = 0.0
        true = last
        if len(known):
            true = _floats(known[step - 1])
            strange = comes_in(picture, true, last, camera, step)
        if step == 1:
            lost = stands(picture, last, _floats(before[-2:][0]))
        yield fault(picture, true, last), strange, lost


def _trial(
    plan: ExtrapolatePlan, scene: Ending
) -> Generator[Progress | Measured, None, tuple[str, int, int]]:
    """Forecast known frames from earlier ones; see :class:`ExtrapolateResult`.

    Some of the known frames are made, with gaps that double. One more forecast begins at
    the end, and shows what of the motion the last frame does not. Returns the best
    predictor, how many new frames probably hold, and how many frames were tried. Where a
    trial fails, that number of new frames is a geometric mean: of the frames that held, and
    of those until the last motion tears things. No frame holds in which a part that comes
    in from outside looks wrong. A measurement says early that little holds.
    """
    names = _names(plan.settings)
    tried = min(MOST_HELD, plan.new_frames, len(scene.frames) - plan.predictor.context)
    if tried <= 0:
        return names[-1], 0, 0
    needed = plan.predictor.context + plan.predictor.past
    latest = _smalls([*scene.frames][-needed - tried :])
    steps = [*(step for step in _TRIED if step < tried), tried]
    parts = (latest[:-tried], latest[-tried:], steps), (latest, latest[:0], [1])
    count = len(steps) + 1
    taken: tuple[str, list[tuple[float, float, float]]] = names[-1], []
    held = 0
    least = inf
    for place, name in enumerate(names):
        model = registry.load_predictor(name, plan.device, plan.dtype)
        judged: list[tuple[float, float, float]] = []
        for one in chain.from_iterable(_judged(plan, model, *part) for part in parts):
            yield Progress("checking", place * count + len(judged), len(names) * count)
            judged.append(one)
        faults, strange, lacks = zip(*judged, strict=True)
        lost = max(lacks)
        size = sum(faults) * (1 + _ALIKE * place) + lost
        # Where ``layers`` is the same as ``flow``, it is named so.
        if size < least or judged == taken[1]:
            taken = name, judged
            least = size
            right = _holds(steps, faults)
            if right < tried:
                motion = lasts(_floats(latest[-1]), _floats(latest[-2]))
                right = min(tried, round(sqrt(right * motion)))
            # What comes in looks wrong at once, so no line leads to a step that does.
            comes = zip([0, *steps], strange, strict=True)
            clean = min([tried, *(before for before, wrong in comes if wrong > HELD)])
            held = min(right, clean, *([1] if lost > STANDS else []))
        if not place and len(names) > 1 and held <= 1 < plan.new_frames:
            holds = counted(held, "frame") if held else "no frame"
            yield Measured(
                "held",
                f"the trial of {name} holds for {holds}, and others are tried: for more "
                "than a moment use 'cloudconv dream'",
            )
    return taken[0], held, tried


def _holds(steps: Sequence[int], faults: Sequence[float]) -> int:
    """Return how many frames hold by the faults at some steps; between them by a line."""
    known = [(0, 0.0), *zip(steps, faults, strict=False)]
    for (before, least), (step, wrong) in pairwise(known):
        if wrong > HELD:
            part = (HELD - least) / (wrong - least)
            return min(int(before + part * (step - before)), step - 1)
    return steps[-1]


def _smalls(frames: Sequence[Frame]) -> Tensor:
    """Return frames for trials: (n, 3, h, w) uint8, the longest side at most 640."""
    height, width = frames[0].height, frames[0].width
    scale = min(SIDE / max(height, width), 1)
    size = [max(1, round(side * scale)) for side in (height, width)]
    smalls = torch.empty((len(frames), 3, *size), dtype=torch.uint8)
    for small, frame in zip(smalls, frames, strict=True):
        rgb = rgb_of(frame)[None]
        picture = interpolate(rgb, size, mode="area") if scale < 1 else rgb
        small.copy_(picture[0].clamp(0, 1).mul(255).round_())
    return smalls


def _floats(levels: Tensor) -> Tensor:
    return levels.float().div(255)
