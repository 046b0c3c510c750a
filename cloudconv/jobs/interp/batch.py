"""Interpolate many inputs in one run; a broken input does not stop the others."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cloudconv import interrupts
from cloudconv.errors import CloudconvError, Interrupted, OutputError, SettingsError
from cloudconv.events import Ended, Event, Finished, Job, Progress, Warned
from cloudconv.host import lack_of_memory
from cloudconv.jobs import planned
from cloudconv.jobs.interp.plan import InterpPlan, name_tag
from cloudconv.jobs.interp.plan import decide as decide_one
from cloudconv.jobs.interp.pool import choose_workers
from cloudconv.jobs.interp.records import WITHOUT_EFFECT, Records, made_of, record
from cloudconv.jobs.interp.result import InterpResult
from cloudconv.jobs.interp.run import interpolate, start
from cloudconv.jobs.interp.workers import Workers
from cloudconv.jobs.madeof import difference
from cloudconv.jobs.video import output_path, stem_of
from cloudconv.jobs.words import refusals_named
from cloudconv.media.containers.containers import CONTAINERS, MKV
from cloudconv.media.reading import pictures as images
from cloudconv.media.writing.output import check_free, check_home, writing
from cloudconv.messages import listed
from cloudconv.models import registry
from cloudconv.render.device import set_threads
from cloudconv.settings import InterpManySettings, InterpSettings
from cloudconv.settings.values import File


def each_input(settings: InterpManySettings) -> list[InterpSettings]:
    """Return the settings for each input, also for the videos of folders."""
    alike: defaultdict[str, list[InterpSettings]] = defaultdict(list)
    inputs: list[tuple[str, Path]] = []  # each with its subfolder of the output folder
    for name in map(str, settings.inputs):
        inputs += _inside(Path(name), settings) or [(name, Path())]
    inputs = [*dict.fromkeys(inputs)]  # an input that is given twice counts once
    every = [settings.of(*entry) for entry in inputs]
    for one, (name, subfolder) in zip(every, inputs, strict=True):
        alike[os.path.normcase(str(subfolder / stem_of(Path(name))))].append(one)
    for some in alike.values():
        if len(some) > 1:
            _check_names(some, settings.out_dir)
    return every


def _check_names(some: Sequence[InterpSettings], folder: File) -> None:
    inputs_of: defaultdict[str, list[str]] = defaultdict(list)
    for one in some:
        with suppress(CloudconvError):
            # An output that exists counts too.
            plan = decide_one(one.changed(overwrite=True))
            inputs_of[os.path.normcase(str(plan.output))].append(str(one.input))
    for names in inputs_of.values():
        if len(names) > 1:
            raise SettingsError(
                f"same-output-name: {listed(names, 'and')} have the same output name in "
                f"{folder}: rename one of them, or write them to separate folders."
            )


def _inside(path: Path, settings: InterpManySettings) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return []
    home = path.resolve()
    output = Path(settings.out_dir).resolve()
    if home == output or (settings.recursive and output in home.parents):
        raise SettingsError(
            f"out-dir-is-input: The outputs in {settings.out_dir} would be inputs of the "
            f"next run on {path}: name another folder, such as {path / 'made'}."
        )
    entries: list[tuple[str, Path]] = []
    for folder in _folders(path, settings):
        subfolder = folder.relative_to(path)
        entries += [(str(video), subfolder) for video in images.videos_in(folder)]
    return entries


def _folders(path: Path, settings: InterpManySettings) -> list[Path]:
    if not settings.recursive:
        return [path]
    output = Path(settings.out_dir).resolve()
    inside = images.folders_within(path)
    return [
        subfolder for subfolder in inside if not subfolder.resolve().is_relative_to(output)
    ]


def left_out(settings: InterpManySettings) -> Iterator[Warned]:
    """Yield warnings about subfolders and pictures in folders that are read for videos."""
    output = Path(settings.out_dir).resolve()
    for folder in map(Path, settings.inputs):
        if not folder.is_dir() or (
            images.pictures_in(folder) and not _inside(folder, settings)
        ):
            continue  # for a folder of pictures, the probe warns
        inside = [] if settings.recursive else images.subfolders_of(folder)
        inside = [subfolder for subfolder in inside if subfolder.resolve() != output]
        files = chain.from_iterable(map(images.visible_in, _folders(folder, settings)))
        others = [file for file in files if not images.is_video(file)]
        yield from images.rest_of(folder, "videos", [*inside, *others])
        if any(map(images.videos_in, inside)):
            yield Warned(
                f"subfolders-left-out: --recursive includes the videos in folders of "
                f"{folder}."
            )


@dataclass(frozen=True, slots=True)
class Exists:
    """The outcome for an input that is skipped, because its output exists.

    ``compared``: whether the output was made of this input, as it is now, with these
    options. If nothing is recorded of the output, it is only newer than the input.
    """

    input: str
    output: str
    compared: bool


InputOutcome = InterpResult | Exists | CloudconvError


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of all inputs by number; sizes of files stand for those not yet known.

    ``sizes``: in bytes, without inputs that are skipped or fail. ``known``: the number of
    frames of the others that have begun. ``made``: the latest progress of each input.
    """

    sizes: dict[int, int]
    known: dict[int, int] = field(default_factory=dict)
    made: dict[int, Progress] = field(default_factory=dict)

    def change(self, number: int, about: str, event: Event) -> Event:
        if isinstance(event, Warned):
            return replace(event, about=about)
        if not isinstance(event, Progress) or event.stage != "rendering":
            return event
        self.made[number] = event
        return self.progress()

    def progress(self) -> Progress:
        done = sum(latest.done for latest in self.made.values())
        resumed = sum(latest.resumed for latest in self.made.values())
        size = sum(self.sizes[number] for number in self.known)
        frames = sum(self.known.values()) * sum(self.sizes.values())
        total = max(round(frames / size), done) if size else None
        return Progress("rendering", done, total, resumed)


def _plans(
    every: Sequence[InterpSettings],
) -> Iterator[tuple[InterpSettings, InterpPlan | Exists | CloudconvError]]:
    """Yield the settings of each input, and its plan, its finished output or its error."""
    inputs = [one.input for one in every]
    records = Records()
    for one in every:
        outcomes: list[InterpPlan | Exists | CloudconvError] = []
        with _failing(one, outcomes):
            outcomes.append(_decided(one, inputs, records))
        yield one, outcomes[0]


@contextmanager
def _failing(settings: InterpSettings, outcomes: list[Any]) -> Iterator[None]:
    """Append any error of the block to the outcomes, so that other inputs go on."""
    try:
        with refusals_named():
            yield
    except CloudconvError as error:
        # A library that discards an interrupt may report a file as damaged.
        interrupts.check()
        outcomes.append(error)
    except Exception as error:  # noqa: BLE001 - it must not stop the other inputs
        why = lack_of_memory(error) or (
            f"unexpected, please report it as a bug ({type(error).__name__}: {error})"
        )
        outcomes.append(CloudconvError(f"unexpected: {settings.input}: {why}."))


def run(settings: InterpManySettings) -> Job:
    """Interpolate every input into the output folder.

    An input that fails does not stop the others. An input is skipped if its output exists,
    see :class:`Exists`. Yields warnings, progress over all inputs, an ``Ended`` for each
    input, and the list of outcomes.
    """
    every = each_input(settings)
    folder = Path(settings.out_dir)
    yield from left_out(settings)
    if not every:
        yield Finished([])
        return
    first = every[0]
    registry.spec(first.chosen_model, "interpolate")
    config, _ = choose_workers(first.workers, first.device, first.threads)
    set_threads(first.threads)
    check_home(folder / "any" if folder.exists() else folder)
    with writing(folder):
        for output in {str(one.output) for one in every}:
            Path(output).mkdir(parents=True, exist_ok=True)
    outcomes: list[InputOutcome] = []
    frames = _Frames({number: _size(one.input) for number, one in enumerate(every)})
    try:
        with start(config) as workers:
            for number, (one, plan) in enumerate(_plans(every)):
                if isinstance(plan, InterpPlan):
                    frames.known[number] = plan.expected or 0
                    with closing(_made(one, plan, workers, outcomes)) as made:
                        for event in made:
                            yield frames.change(number, str(one.input), event)
                else:
                    outcomes.append(plan)
                outcome = outcomes[-1]
                if isinstance(outcome, InterpResult):
                    frames.known[number] = outcome.output_frames
                else:
                    frames.known.pop(number, None)
                    del frames.sizes[number]
                yield Ended(number, str(one.input), outcome, len(every))
                yield frames.progress()
                interrupts.check()
    except KeyboardInterrupt as error:
        kept: list[str] = list(getattr(error, "kept", ()))
        count = sum(not isinstance(outcome, CloudconvError) for outcome in outcomes)
        if count:
            kept.insert(0, f"{count} of {len(every)} inputs are finished")
        if not kept:
            raise
        raise Interrupted(*kept) from error
    yield Finished(outcomes)


def _made(
    settings: InterpSettings,
    plan: InterpPlan,
    workers: Workers,
    outcomes: list[InputOutcome],
) -> Job:
    """Interpolate an input by its plan, and record what its output was made of."""
    with _failing(settings, outcomes):
        made = made_of(settings, plan.info.fingerprint)
        with closing(interpolate(plan, workers)) as job:
            for event in job:
                if isinstance(event, Finished):
                    outcomes.append(event.result)
                else:
                    yield event
        record(plan.output, made)


def decide(settings: InterpManySettings) -> SimpleNamespace:
    """Return the plan, or the error, of each input; write no output.

    The ``facts`` are keys of the command's JSON, beside the ``warnings``.
    """
    plans: list[dict[str, Any]] = []
    for one, outcome in _plans(each_input(settings)):
        if isinstance(outcome, CloudconvError):
            why = {"error": outcome.text, "code": outcome.code}
            plans.append({"input": str(one.input), **why})
        elif isinstance(outcome, Exists):
            plans.append({**asdict(outcome), "exists": True})
        else:
            plans.append({**planned(outcome), "exists": False})
    failed = sum("error" in plan for plan in plans)
    return SimpleNamespace(
        facts={"plans": plans, "failed": failed}, warnings=[*left_out(settings)]
    )


def _decided(
    settings: InterpSettings, inputs: Sequence[File], records: Records
) -> InterpPlan | Exists:
    path = Path(settings.input)
    suffix = CONTAINERS.get(path.suffix.lower(), MKV).suffixes[0]
    # A few outputs get another suffix.
    usual = output_path(settings.output, path, name_tag(settings), suffix)
    if (existing := _existing(settings, usual, records)) is not None:
        return existing
    plan = decide_one(settings.changed(overwrite=True), inputs)  # an output may exist
    if (existing := _existing(settings, plan.output, records)) is not None:
        return existing
    check_free(plan.output, overwrite=settings.overwrite)
    return replace(plan, settings=settings)


def _existing(settings: InterpSettings, output: Path, records: Records) -> Exists | None:
    changed = ""
    # Some names cannot be those of a file.
    with suppress(CloudconvError, OSError, ValueError):
        if settings.overwrite or not output.is_file():
            return None
        path = Path(settings.input)
        made = records.of(output)
        read = [*images.files_of(path), *[path] * path.is_dir()]
        newer = output.stat().st_mtime_ns > max(file.stat().st_mtime_ns for file in read)
        if made is not None:
            changed = difference(settings, made, made_of(settings), WITHOUT_EFFECT)
        if not changed and (newer or made is not None):
            return Exists(str(settings.input), str(output), made is not None)
    if changed:
        raise OutputError(
            f"output-of-other-run: {output} exists, and its run differs in {changed}: make "
            "it again with --overwrite, or name another --out-dir."
        )
    return None


def _size(path: Path | str) -> int:
    with suppress(OSError):
        return Path(path).stat().st_size
    return 0
