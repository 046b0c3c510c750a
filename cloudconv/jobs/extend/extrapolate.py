"""Forecast the frames that follow a video's last frame, or any other of its frames.

The job first reads the context, the last frames before the forecast; a seek skips the
earlier frames. Then the job writes the source's frames unchanged, and the forecast after
them. Where frames repeat regularly (24 fps material in a 30 fps file), the model forecasts
different frames only, and the job adds the repeats.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import inf, sqrt
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cloudconv.errors import InputError, SettingsError
from cloudconv.events import Finished, Job, Measured, Progress, Reported, Warned
from cloudconv.forecasting.choice import (
    HELD,
    STANDS,
    camera_velocity,
    comes_in,
    fault,
    lasts,
    stands,
)
from cloudconv.forecasting.scene import SIDE
from cloudconv.jobs.extend import plan as extend
from cloudconv.jobs.extend.ending import Ending, read_ending
from cloudconv.jobs.extend.plan import ExtendPlan, ExtendResult
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
"""The predictors that ``auto`` tries; those that keep things whole come first."""
_VIEWS = 4  # frames in which the camera's motion is measured for a trial
_ALIKE = 0.04  # part of the fault by which a later predictor must be better

ExtrapolatePlan = ExtendPlan[ExtrapolateSettings]


@dataclass(frozen=True, kw_only=True)
class ExtrapolateResult(ExtendResult):
    """The result of a run.

    ``context_frames`` is the number of frames that the model sees. ``tried_ahead`` is the
    number of known last frames that the model forecast as a trial, without repeats.
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


def _names(settings: ExtrapolateSettings) -> Sequence[str]:
    """Return the predictors to try; without frames for a trial the last one is used."""
    chosen = str(settings.model)
    return CANDIDATES if chosen == AUTO_PREDICTOR else (chosen,)


def run(settings: ExtrapolateSettings) -> Job:
    """Write ``settings.input`` and the forecast of the frames that follow.

    The output appears only when it is complete. Yields warnings, progress, and at the end
    an :class:`ExtrapolateResult`.
    """
    began = time.monotonic()
    reported = Reported()
    set_threads(settings.threads)
    plan = decide(settings)
    yield from reported.new(plan.warnings)
    plan, scene = _resolve(plan)
    yield from reported.new(plan.warnings)
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
            not_held = Warned(
                f"forecast-did-not-hold: {begins} on, things that move probably look torn, "
                f"soft or out of place: trials on the last {counted(tried, 'frame')} of "
                f"the clip, and its last motion, say that the forecast of {name} {holds}. "
                "For a longer one use 'cloudconv dream'."
            )
            yield from reported.new([not_held])
        model = registry.load_predictor(name, plan.device, plan.dtype)
        fields = yield from plan.write(
            lambda _: _pictures(plan, scene, model), began, reported
        )
    fields |= {
        "model": name,
        "tried_ahead": tried,
        "held_ahead": held,
        "warnings": reported,
    }
    yield Finished(ExtrapolateResult(**fields))


def _resolve(plan: ExtrapolatePlan) -> tuple[ExtrapolatePlan, Ending]:
    spec = plan.predictor
    timing = plan.info.timing
    settings = plan.settings
    needed = spec.context + spec.past
    warnings: list[Warned] = []
    at = exact(settings.at)
    finds = settings.scene_cut
    threads = settings.threads
    most = needed + MOST_HELD
    scene = read_ending(
        plan.info,
        _WINDOW,
        at=at,
        scene_cut=finds,
        threads=threads,
        needed=needed,
        different=most,
    )
    if len(scene.frames) < min(spec.context, 2):
        path = plan.info.path
        model = settings.model
        code, where = "one-frame-to-forecast", "to forecast from"
        if scene.cut is not None:
            cut = float(scene.cut - timing.start)
            code = "one-frame-after-cut"
            where = f"after a cut at {cut:g} s"
        raise motion_photo(path) or InputError(
            f"{code}: {path} has a single frame {where}, and {model} needs two or more: "
            "forecast from another time with --at, or give a longer video."
        )
    if len(scene.frames) < spec.context:
        code = "context-short"
        where = "in the video"
        if scene.cut is not None:
            code = "context-short-after-cut"
            where = "since a cut"
        short_of = (
            f"{code}: {spec.name} uses {spec.context} frames, and there are "
            f"{len(scene.frames)} {where}: the first one is repeated for those that are "
            "missing."
        )
        warnings.append(Warned(short_of))
    step = 1 / timing.rate if timing.rate is not None else scene.gap or timing.last_duration
    own = {"context_frames": min(len(scene.frames), spec.context), "cadence": scene.cadence}
    return plan.after(scene.last, step, own, *warnings), scene


def _pictures(plan: ExtrapolatePlan, scene: Ending, model: Predictor) -> Iterator[Frame]:
    spec = model.spec
    count = plan.new_frames
    frames = [*scene.frames][-(spec.context + spec.past) :]
    last = frames[-1]
    missing = max(spec.context - len(frames), 0)
    pictures = [
        partial(_batch_of, frame, plan.device) for frame in [frames[0]] * missing + frames
    ]
    forecasts = _made(plan, model, pictures, count)
    latest = last
    for repeats in islice(scene.repeats(), count):
        if not repeats:
            picture = next(forecasts)
            with torch.inference_mode():
                latest = extend.new_frame(picture, last)
        yield latest


def _batch_of(frame: Frame, device: torch.device) -> Tensor:
    return rgb_of(frame, device)[None]


def _made(
    plan: ExtrapolatePlan,
    model: Predictor,
    pictures: Sequence[Callable[[], Tensor]],
    count: int,
) -> Generator[Tensor, None, None]:
    with extend.enough_memory(plan.device, plan.info):
        with torch.inference_mode():
            forecast = model.forecast_from(pictures, count)
        for _ in range(count):
            with torch.inference_mode():
                picture = next(forecast)[0]
            yield picture


def _trial(
    plan: ExtrapolatePlan, scene: Ending
) -> Generator[Progress | Measured, None, tuple[str, int, int]]:
    """Forecast known frames from earlier ones; see :class:`ExtrapolateResult`.

    A second trial on half as many frames begins nearer to the end, where the motion is more
    like the motion to come. The third begins at the end, and counts what the last frame
    does not show. Returns the best predictor, how many new frames probably hold, and how
    many frames were tried. Where a trial fails, that number of new frames is a geometric
    mean: of the frames that held in all trials, and of those until the last motion tears
    things. No frame holds in which a part that comes in from outside looks wrong. A
    measurement says early that little holds.
    """
    names = _names(plan.settings)
    tried = min(MOST_HELD, plan.new_frames, len(scene.frames) - plan.predictor.context)
    if tried <= 0:
        return names[-1], 0, 0
    needed = tried + plan.predictor.context + plan.predictor.past
    latest = [*_smalls([*scene.frames][-needed:])]
    trials = [
        (latest[:-span], latest[-span:]) for span in sorted({tried, max(1, tried // 2)})
    ]
    trials.append((latest, latest[-1:] * len(trials[0][1])))
    total = len(names) * sum(len(wanted) for _, wanted in trials)
    done = 0
    best = names[-1]
    held = 0
    least = inf
    for place, name in enumerate(names):
        model = registry.load_predictor(name, plan.device, plan.dtype)
        size = 0.0
        lost = 0.0
        right = tried
        strange = tried  # frames before the first in which a part that comes in looks wrong
        for before, wanted in trials:
            faults: list[float] = []
            velocity = camera_velocity([*map(_floats, before[-_VIEWS:])])
            recent = before[-(model.spec.context + model.spec.past) :]
            missing = [recent[0]] * (model.spec.context - len(recent))
            context = [
                partial(_floats, picture[None])
                for picture in upload([*missing, *recent], plan.device)
            ]
            last = _floats(before[-1])
            with closing(_made(plan, model, context, len(wanted))) as pictures:
                for number, (forecast, levels) in enumerate(
                    zip(pictures, wanted, strict=True)
                ):
                    yield Progress("checking", done, total)
                    done += 1
                    picture = forecast.cpu()
                    true = last if levels is before[-1] else _floats(levels)
                    if not faults:
                        lost = max(lost, stands(picture, last, _floats(before[-2:][0])))
                    faults.append(fault(picture, true, last))
                    if before is not latest and number < strange:
                        invented = comes_in(picture, true, last, velocity, number + 1)
                        strange = number if invented > HELD else strange
            size += fmean(faults)
            if before is not latest:
                right = min([right, *(n for n, wrong in enumerate(faults) if wrong > HELD)])
        size = size * (1 + _ALIKE * place) + lost
        if size < least:
            best = name
            least = size
            if right < tried:
                right = min(
                    tried, round(sqrt(right * lasts(*map(_floats, latest[:-3:-1]))))
                )
            held = min(right, strange, *([1] if lost > STANDS else []))
        if not place and len(names) > 1 and held <= 1 < plan.new_frames:
            holds = counted(held, "frame") if held else "no frame"
            yield Measured(
                "held",
                f"the trial of {best} holds for {holds}, and others are tried: for more "
                "than a moment use 'cloudconv dream'",
            )
    return best, held, tried


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
