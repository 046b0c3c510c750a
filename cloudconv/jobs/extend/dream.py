"""Continue a video with new frames for any length of time.

The job first reads the material: the last frames of the source. Then the job writes the
source's frames unchanged, perhaps without the last of them, and the frames of the dream
after them. Each new frame adds to the vitals, which measure whether the dream still looks
like the clip.
"""

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from itertools import islice
from typing import Any

import torch

from cloudconv.doubts import Grade, kinds_of
from cloudconv.dreaming.auto import ModeChoice, better_mode, choose, torn_by_collage
from cloudconv.dreaming.heard import Listener
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import DreamFrame, Filmed, Jump, Options
from cloudconv.dreaming.methods.modes import METHODS, method
from cloudconv.dreaming.rehearsal import Rehearsal, Rehearse
from cloudconv.dreaming.vitals.features import WINDOW
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.errors import InputError, SettingsError
from cloudconv.events import Finished, Job, Measured, Progress, Warned, Warnings, reporting
from cloudconv.images import picture_of, tensor_of
from cloudconv.jobs.extend import plan as extend
from cloudconv.jobs.extend import preview
from cloudconv.jobs.extend.ending import gather_material, last_scene
from cloudconv.jobs.extend.faults import as_json, verdict_of
from cloudconv.jobs.extend.plan import (
    ExtendPlan,
    ExtendResult,
    NewFrame,
    enough_memory,
    new_frame,
)
from cloudconv.jobs.reports import (
    PAGE,
    Glimpses,
    check_report,
    opened_report,
    write_places,
)
from cloudconv.media.frames.frame import Frame
from cloudconv.media.reading.source import Source
from cloudconv.media.sound.edits import EditList
from cloudconv.media.writing.output import claim
from cloudconv.messages import counted, flag, listed
from cloudconv.render.device import precision_name, set_threads
from cloudconv.settings import DreamSettings, exact
from cloudconv.settings.extend import AUTO

_LOOK = 20  # least number of frames between two measurements

_VIEWS = ("before", "here", "after")
_EARLY = "before the film's end, where a jump is seen less"
_EARLIER = 1  # seconds of sound before the material that may be heard in fades

DreamPlan = ExtendPlan[DreamSettings]


@dataclass(frozen=True, kw_only=True)
class DreamResult(ExtendResult):
    """The result of a run.

    ``why`` is the reason for the mode. ``model`` is the predictor, None in a mode without
    one. ``material_frames`` is the number of frames that the dream is made of. ``cut`` is
    the time of the cut before them, in seconds from the first frame, or None. ``left_at``
    is the end of the source's frames in the output, None for the end of the film.
    ``vitals`` has a row for every 100 frames. ``limits`` are the lowest and highest healthy
    value of each vital. ``alive`` states whether a viewer sees no fault. ``repeats_every``
    is the time in seconds after which most frames of the film come again, None if few do.
    ``sound_encoded`` are the codecs with loss in which the film's sound is encoded again,
    because it goes on with the new frames. ``jumps`` has each jump, see docs/json.md.
    ``faults`` has the time of each fault in seconds of the output, its vital, a text for
    viewers, the grade, and the box: x, y, width and height in pixels. ``verdict`` is about
    all of them. ``advice`` is what to try if a viewer sees a fault, or says that no mode is
    right for a film whose dream is spoiled; None if no rehearsal is better.
    """

    mode: str
    why: str
    model: str | None
    seed: int
    loop: bool
    material_frames: int
    cut: float | None
    left_at: float | None
    vitals: list[dict[str, Any]]
    limits: dict[str, tuple[float, float]]
    alive: bool
    repeats_every: float | None
    sound_encoded: list[str]
    jumps: list[dict[str, float | None]]
    faults: list[dict[str, Any]]
    verdict: str
    advice: str | None

    @property
    def headline(self) -> str:
        """Return the mode and the verdict on the new frames, and what else to know."""
        clauses = [f"{self.mode} ({self.why}): {self.verdict}", self.advice or ""]
        if self.repeats_every is not None:
            clauses.append(f"repeats every {self.repeats_every:.1f} s")
        if self.sound_encoded:
            codecs = listed(self.sound_encoded, "and")
            clauses.append(f"the whole sound is encoded again ({codecs})")
        return "; ".join(filter(None, clauses))


def decide(settings: DreamSettings) -> DreamPlan | preview.PreviewPlan:
    """Probe the input, and decide everything that does not need its frames."""
    return _decide(settings) if settings.preview is None else preview.decide(settings)


def _decide(settings: DreamSettings) -> DreamPlan:
    own: dict[str, Any] = {"seed": settings.seed}
    if (choice := _requested(settings)) is not None:
        has_model = "model" in method(choice.mode).options
        own |= {"mode": choice.mode, "model": settings.predictor if has_model else None}
    # Of the modes that are chosen without a request, only texture has a network.
    spec = method("texture" if choice is None else choice.mode)
    network = extend.network_of(spec, settings)
    plan = extend.decide(settings, settings.predictor, "dream", own, network)
    extend.check_sides(plan.info)
    check_report(settings, [PAGE], [plan.info.path], plan.output)
    return plan


def foresee(plan: DreamPlan | preview.PreviewPlan) -> Iterator[dict[str, str]]:
    """Yield the mode of a dream, with the reason, as the run chooses the mode."""
    if not isinstance(plan, preview.PreviewPlan):
        with enough_memory(plan.device, plan.info):
            own = _resolve(plan).plan.own
            yield {"mode": f"{own['mode']} ({own['why']})"}


@dataclass
class _Dream:
    """A dream of a film, which follows its rehearsal.

    ``rehearse``: rehearses another mode. ``advice``: what to try, when all frames are made,
    see :class:`DreamResult`. ``jumps``: those so far, by the number of the first picture.
    """

    plan: DreamPlan
    rehearsal: Rehearsal
    rehearse: Rehearse
    advice: str | None = None
    jumps: dict[int, Jump] = field(default_factory=dict)

    @property
    def material(self) -> Material:
        """Return what the dream is made of."""
        return self.rehearsal.material

    @torch.inference_mode()
    def frames(self, glimpses: Glimpses | None, _: Frame | None) -> Iterator[NewFrame]:
        """Make the new frames, and judge those that the rehearsal has not judged."""
        plan = self.plan
        meter = self.rehearsal.meter
        every = max(_LOOK, round(1 / plan.step))
        with enough_memory(plan.device, plan.info):
            dream = self.rehearsal.spec.dream(self.material, self.rehearsal.options)
            for number, frame in enumerate(islice(dream, plan.new_frames), 1):
                small = frame.small(self.material)
                if number > meter.seen:
                    meter.push(small, frame.origin, frame.ghost)
                is_due = number % every == 0 or number == plan.new_frames
                if glimpses is not None:
                    glimpses.push(small)
                    if is_due:
                        glimpses.take(meter.faults)
                if isinstance(frame.origin, Jump):
                    self.jumps.setdefault(frame.origin.start, frame.origin)
                row = meter.rows[(number - 1) // WINDOW]
                yield NewFrame(
                    _frame(frame, self.material),
                    frame.origin,
                    Measured("vitals", row) if is_due else None,
                )
            if meter.fails:
                self.advice = self._better(meter.faults)

    def _better(self, faults: list[Fault]) -> str | None:
        """Return what is better than a dream with faults that are seen."""
        cut = self.material.cut
        if cut is not None and "plain" in {fault.vital for fault in faults}:
            inside = float(cut - self.plan.info.timing.start)
            return f"try --at {inside:.3f}, where the scene before ends"
        spoils = any(fault.grade is Grade.SPOILS for fault in faults)
        if spoils or _requested(self.plan.settings) is not None:
            better = better_mode(self.rehearsal, self.rehearse)
            if better is not None:
                return f"--mode {better} is better"
        return "none of the modes is right for this film" if spoils else None

    def jumps_as_json(self, begins: Fraction | int) -> list[dict[str, float | None]]:
        """Return the jumps, which begin at times in the output; ``begins``: its first."""
        times = [time - self.plan.info.timing.start for time in self.material.times]
        return [
            {
                "time": round(float(begins + start * self.plan.step), 3),
                "from": round(float(times[jump.before]), 3),
                "to": None if jump.after is None else round(float(times[jump.after]), 3),
                "frames": jump.length,
            }
            for start, jump in self.jumps.items()
        ]

    def listener(self) -> Listener | None:
        """Return the writer of an empty edit list; None if no sound goes on."""
        plan = self.plan
        if not extend.sound_goes_on(plan.settings, plan.info):
            return None
        times = self.material.times
        edit_list = EditList(
            plan.begins,
            plan.begins + plan.new_frames * plan.step,
            times[0] - _EARLIER if self.material.cut is None else self.material.cut,
            plan.own["left_at"] and plan.info.timing.end,
            seed=self.rehearsal.options.seed,
            loops=self.rehearsal.options.loop,
        )
        return Listener(edit_list, times, plan.step)


@torch.inference_mode()
def _resolve(plan: DreamPlan) -> _Dream:
    settings = plan.settings
    info = plan.info
    material = gather_material(
        info,
        at=exact(settings.at),
        scene_cut=settings.scene_cut,
        threads=settings.threads,
    )
    start, warnings = last_scene(material, info)
    # No loop is possible if the output begins with another scene than the one that goes on.
    loops = settings.loop and (settings.only_new or start is None)
    shown = None
    if loops and not settings.only_new:
        with Source(info, threads=settings.threads) as source:
            shown = picture_of(next(source.frames()))
    asked = Options(replace(plan, step=material.step).new_frames, loop=loops, loop_to=shown)

    @cache
    def rehearse(mode: str) -> Rehearsal:
        return extend.rehearsal_of(
            settings, method(mode), plan.device, material, asked
        ).made()

    requested = _requested(settings)
    choice = requested or choose(material, rehearse)
    spec = method(choice.mode)
    count = len(material)
    if count < spec.least_frames:
        where = "to continue from" if start is None else "after its last cut"
        raise InputError(
            f"too-short-for-mode: {info.path} has {counted(count, 'frame')} {where}, and "
            f"the mode {spec.name} needs {spec.least_frames}: use the mode "
            f"{choose(material, rehearse).mode}."
        )
    torn = torn_by_collage(material) if spec.needs_wind and requested else ""
    if torn:
        warnings.append(
            Warned(f"no-wind: The mode {spec.name} does not suit this clip: {torn}.")
        )
    if settings.loop and not loops:
        warnings.append(
            Warned(
                "loop-of-another-scene: The video begins with another scene, so the end "
                "cannot lead into it: leave the source out with --only-new for a loop of "
                "the dream alone."
            )
        )
    rehearsal = rehearse(spec.name)
    # Rehearsals refer to themselves: a search for cycles frees those of other modes.
    gc.collect()
    own = {
        "mode": spec.name,
        "why": ", ".join(filter(None, (choice.why, spec.note))),
        "model": settings.predictor if "model" in spec.options else None,
        "precision": precision_name(rehearsal.options.dtype),
        "seed": settings.seed,
        "loop": loops,
        "material_frames": count,
        "cut": start,
        "cadence": material.cadence,
        "left_at": None,
    }
    plan = plan.after(rehearsal.last, material.step, own, *warnings)
    if rehearsal.ends is not None:
        ends = rehearsal.ends - info.timing.start
        early = f"{float(info.timing.end - rehearsal.ends):.1f} s {_EARLY}"
        own |= {"why": f"{own['why']}, {early}", "left_at": float(ends)}
        plan = replace(plan, ends=ends)
    return _Dream(plan, rehearsal, rehearse)


def _requested(settings: DreamSettings) -> ModeChoice | None:
    """Return the mode that the settings name, or that has the given options.

    The result is None if the mode is to be chosen.
    """
    spec = None if settings.mode == AUTO else method(settings.mode)
    why = "requested"
    for name in settings.given:
        taker = next(other for other in METHODS if name in other.options)
        if spec is None:
            spec = taker
            why = f"uses {' and '.join(settings.given)}"
        if name not in spec.options:
            raise SettingsError(
                f"option-of-other-mode: The mode {spec.name} does not use {flag(name)}: "
                f"leave {flag(name)} out, or choose the mode {taker.name}."
            )
    return None if spec is None else ModeChoice(spec.name, why)


@reporting
def run(warnings: Warnings, settings: DreamSettings) -> Job:
    """Write ``settings.input`` and a dream that continues it.

    The output appears only when it is complete. Yields progress, a measurement named
    ``vitals`` about once per second of the dream, warnings, at the end one for each kind of
    fault, and a :class:`DreamResult`.
    """
    if settings.preview is not None:
        yield from preview.run(settings)
        return
    began = time.monotonic()
    set_threads(settings.threads)
    yield Progress("analysing", 0, 100, unit="%")
    plan = _decide(settings)
    warnings.add(*plan.warnings)
    with enough_memory(plan.device, plan.info):
        dream = _resolve(plan)
    plan = dream.plan
    meter = dream.rehearsal.meter
    size = dream.material.size
    yield Progress("analysing", 50, 100, unit="%")
    with (
        claim(plan.output, overwrite=settings.overwrite),
        opened_report(settings) as report,
    ):
        warnings.add(*plan.warnings)
        yield Progress("analysing", 100, 100, unit="%")
        glimpses = None if report is None else Glimpses(plan.step, plan.info)
        listener = dream.listener()
        frames = partial(dream.frames, glimpses)
        fields = yield from plan.write(frames, began, warnings, listener)
        begins = 0 if settings.only_new else plan.begins - plan.info.timing.start
        first = fields["source_frames"]
        faults = as_json(meter.faults, first, begins, plan.step, size)
        warnings.add(*(Warned(f"dream-fault: {k}.") for k in kinds_of(faults)))
        if report is not None and glimpses is not None:
            worst = glimpses.take(meter.faults, last=True)
            entries = as_json(worst, first, begins, plan.step, size)
            shown = zip(entries, glimpses.of(worst), strict=True)
            write_places(
                report,
                settings,
                "dream",
                plan.info,
                verdict_of(faults),
                [entry | {"pictures": pictures} for entry, pictures in shown],
                _VIEWS,
                warnings=warnings,
            )
        result = DreamResult(
            **fields,
            vitals=dream.rehearsal.vitals(),
            limits=meter.limits,
            alive=not meter.fails,
            repeats_every=meter.repeats_every,
            sound_encoded=[] if listener is None else sorted({*listener.edit_list.encoded}),
            jumps=dream.jumps_as_json(begins),
            faults=faults,
            verdict=verdict_of(faults),
            advice=dream.advice,
            warnings=warnings,
        )
    yield Finished(result)


def _frame(dream_frame: DreamFrame, material: Material) -> Frame:
    """Return a frame of the dream in the film's pixel format.

    A filmed frame is the film's own.
    """
    if isinstance(dream_frame.origin, Filmed) and material.views.path is None:
        return replace(material.frames[dream_frame.origin.number], captions=b"")
    if dream_frame.samples:
        return material.form.frame(dream_frame.samples)
    return new_frame(tensor_of(dream_frame.show()), material.last)
