"""Many inputs, one command: a broken one does not stop the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cloudconv.errors import CloudconvError, Interrupted, OutputError, SettingsError
from cloudconv.events import Ended, Event, Finished, Job, Progress, Warned, mapped
from cloudconv.jobs.interp.finished import FinishedIndex
from cloudconv.jobs.interp.plan import decide
from cloudconv.jobs.interp.run import estimate, interpolate
from cloudconv.jobs.interp.settings import InterpPlan, InterpResult, InterpSettings
from cloudconv.jobs.output import stem_of
from cloudconv.media.input.images import subfolders_of, videos_of
from cloudconv.media.write.target import writing
from cloudconv.models import registry
from cloudconv.render.device import set_threads
from cloudconv.segments.store import clear_finished
from cloudconv.settings import InterpManySettings
from cloudconv.workers.pool import Pool, parse_workers, settle
from cloudconv.workers.segments import SegmentWork


def each_input(settings: InterpManySettings) -> list[InterpSettings]:
    """Return the settings for every input; all outputs go into the folder.

    A folder or pattern of videos stands for all of them.

    Raises:
        InputError: a folder or pattern stands for videos and pictures.
        SettingsError: two inputs would be given the same output.
    """
    namesakes: defaultdict[str, list[str]] = defaultdict(list)
    inputs = []
    for name in map(str, settings.inputs):
        inputs += list(map(str, videos_of(Path(name)))) or [name]
    for name in inputs:
        if name == "-":
            raise SettingsError("What comes from stdin has no name to build on: name a file.")
        namesakes[stem_of(Path(name))].append(name)
    for names in namesakes.values():
        if len(names) > 1:
            raise SettingsError(
                f"{' and '.join(names)} would get the same name in {settings.out_dir}: rename one "
                "of them, or give them folders of their own."
            )
    return replace(settings, inputs=inputs).each()


def subfolders_ignored(settings: InterpManySettings) -> list[Warned]:
    """Return a warning for each input that is a folder with folders of videos or pictures in it."""
    made = Path(settings.out_dir).resolve()
    warnings = []
    for folder in map(Path, settings.inputs):
        inside = subfolders_of(folder) if folder.is_dir() else []
        names = [each.name for each in inside if each.resolve() != made]
        if names and videos_of(folder):  # pictures say so themselves
            warnings.append(Warned("subfolders-ignored", {"folder": str(folder), "names": names}))
    return warnings


@dataclass(frozen=True, slots=True)
class Exists:
    """An input whose output a former run has finished."""

    input: str
    output: str


InputOutcome = InterpResult | Exists | CloudconvError


def run(every: Sequence[InterpSettings]) -> Job:
    """Interpolate every input into the folder, which is made if need be.

    One input that fails does not stop the others, and the workers stay from the first to the last.
    An output that a former run with the same input and settings has finished is passed over.

    Args:
        every: as :func:`each_input` makes them.

    Yields:
        Warnings about each input, progress over all of them, where the total is guessed by the
        sizes of those that were not looked at yet, an ``Ended`` for each with its result,
        :class:`Exists` or an error, and in the end a list of these.

    Raises:
        CloudconvError: no input could be made, whatever it is: a model or a device is missing, the
            folder cannot be made.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    first = every[0]
    workers = parse_workers(first.workers, first.device)
    registry.spec(first.chosen_model, "interpolate")
    workers, _, _ = settle(workers, first.device, first.threads)
    set_threads(first.threads)
    folder = Path(first.output or "")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is not a folder, so nothing can be written there.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    finished = FinishedIndex(folder)
    outcomes: dict[int, InputOutcome] = {}
    amount = _Amount(every)
    try:
        for number, settings in enumerate(every):
            output = None if settings.overwrite else finished.find(settings)
            if output is not None:
                clear_finished(output)
                outcomes[number] = Exists(str(settings.input), str(output))
                amount.leave_out(number)
                yield Ended(number, str(settings.input), outcomes[number])
        with Pool(workers, SegmentWork()) as pool:
            for number, settings in enumerate(every):
                if number in outcomes:
                    continue
                try:
                    plan = decide(settings, [each.input for each in every])
                    # Before the output has its name, so that a kill right then leaves no doubt.
                    note = partial(finished.note, settings, plan.output.name)
                    amount.begin(number, plan.expected)
                    result = yield from mapped(
                        interpolate(plan, pool, note), partial(amount.change, settings)
                    )
                    amount.end(result.output_frames)
                    outcomes[number] = result
                except CloudconvError as error:
                    amount.leave_out(number)
                    outcomes[number] = error
                yield Ended(number, str(settings.input), outcomes[number])
                yield amount.progress()
    except KeyboardInterrupt as error:
        kept = list(error.kept) if isinstance(error, Interrupted) else []
        count = sum(not isinstance(outcome, CloudconvError) for outcome in outcomes.values())
        if count:
            kept.insert(0, f"{count} of {len(every)} inputs are finished")
        if not kept:
            raise
        raise Interrupted(*kept) from error
    yield Finished([outcomes[number] for number in range(len(every))])


class _Amount:
    """How much there is to do in all, and how much of that is done."""

    def __init__(self, every: Sequence[InterpSettings]) -> None:
        self._sizes = {number: _size(each.input) for number, each in enumerate(every)}
        self._expected: dict[int, int] = {}
        self._before = 0, 0  # frames of the videos that have ended, and those of earlier runs
        self._current = -1
        self._done = self._resumed = 0

    def begin(self, number: int, expected: int | None) -> None:
        self._current = number
        self._expected[number] = expected or 0
        self._before = self._before[0] + self._done, self._before[1] + self._resumed
        self._done = self._resumed = 0

    def change(self, settings: InterpSettings, event: Event) -> Event:
        """An event of one video as one of all of them."""
        if isinstance(event, Warned):
            return replace(event, about=str(settings.input))
        if not isinstance(event, Progress) or event.stage != "rendering":
            return event
        self._done, self._resumed = event.done, event.resumed
        return self.progress()

    def end(self, frames: int) -> None:
        self._expected[self._current] = frames

    def leave_out(self, number: int) -> None:
        """One has failed, or was there; what was made of it stays counted."""
        self._sizes.pop(number, None)
        self._expected.pop(number, None)

    def progress(self) -> Progress:
        done, resumed = self._before[0] + self._done, self._before[1] + self._resumed
        frames = sum(self._expected.values())
        size = sum(self._sizes.get(number, 0) for number in self._expected)
        total = max(round(frames * sum(self._sizes.values()) / size), done) if size else None
        return Progress("rendering", done, total, resumed)


def estimate_all(
    every: Sequence[InterpSettings],
) -> list[InterpPlan | Exists | CloudconvError]:
    """Say what :func:`run` would do with every input; nothing is written."""
    finished = FinishedIndex(Path(every[0].output or ""))
    plans: list[InterpPlan | Exists | CloudconvError] = []
    for settings in every:
        output = None if settings.overwrite else finished.find(settings)
        if output is not None:
            plans.append(Exists(str(settings.input), str(output)))
            continue
        try:
            plans.append(estimate(settings, [each.input for each in every]))
        except CloudconvError as error:
            plans.append(error)
    return plans


def _size(path: Path | str) -> int:
    """A file's size, which tells about how long it lasts; 0 if it has none."""
    with suppress(OSError):
        return Path(path).stat().st_size
    return 0
