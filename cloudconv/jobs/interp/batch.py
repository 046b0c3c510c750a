"""Interpolate many inputs in one run; a broken input does not stop the others."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from cloudconv.errors import CloudconvError, Interrupted, OutputError, SettingsError
from cloudconv.events import Ended, Event, Finished, Job, Progress, Warned, mapped
from cloudconv.jobs.interp.plan import InterpEstimate, InterpResult, decide
from cloudconv.jobs.interp.run import estimate, interpolate
from cloudconv.jobs.output import stem_of
from cloudconv.media import pictures as images
from cloudconv.media.identity import input_fingerprint
from cloudconv.media.input import kept_open
from cloudconv.media.output import writing
from cloudconv.messages import shortened
from cloudconv.models import registry
from cloudconv.models.registry import weights_fingerprint
from cloudconv.render.device import set_threads
from cloudconv.segments.render import SegmentWork
from cloudconv.segments.store import clear_finished
from cloudconv.settings import InterpManySettings, InterpSettings
from cloudconv.settings.values import File
from cloudconv.workers.pool import WorkerConfig, choose_workers, start

_NAME = ".cloudconv.jsonl"
# Settings that change frames only by rounding errors.
_IGNORED = ("batch", "tile", "threads")


class FinishedIndex:
    """A hidden file with a line for each finished output of a folder.

    An output counts only with the same input, settings and weights, and if it has not changed
    since.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._finished: dict[str, tuple[str, str]] = {}
        self._weights_of = cache(weights_fingerprint)
        with suppress(OSError), open(folder / _NAME, "rb", opener=_own) as file:
            for line in file:
                with suppress(ValueError, TypeError, RecursionError):  # a crash cut the line off
                    key, name, made = map(str, json.loads(line))
                    self._finished[key] = name, made

    def find(self, settings: InterpSettings) -> Path | None:
        """Return the finished output of these settings, or None."""
        with suppress(CloudconvError, OSError, ValueError):  # a name that no file can have
            name, made = self._finished.get(self._key(settings), ("", ""))
            output = self._folder / name
            if name and _identity(output) == made:
                return output
        return None

    def has_made(self, file: Path) -> bool:
        """Return whether a run has made this file of the folder, with any settings."""
        with suppress(CloudconvError, OSError):
            made = _identity(file)
            return any((file.name, made) == line for line in self._finished.values())
        return False

    def note(self, settings: InterpSettings, name: str, made: Path) -> None:
        """Add a line for the complete output ``made``, a file that is renamed to ``name`` next."""
        # The output is complete even without the line, so errors are ignored.
        with suppress(OSError, CloudconvError):
            line = [self._key(settings), name, _identity(made)]
            with open(self._folder / _NAME, "a", encoding="utf-8", opener=_own) as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def _key(self, settings: InterpSettings) -> str:
        identity = {
            "name": Path(settings.input).name,
            "input": _identity(Path(settings.input)),
            "weights": self._weights_of(settings.chosen_model),
            **{name: value for name, value in settings.pinned().items() if name not in _IGNORED},
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _own(path: str, flags: int) -> int:
    """Open a file, but neither a link, nor a file with a second name, nor a pipe."""
    # Without O_NONBLOCK, a pipe would block until another program opens its other end.
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    opened = os.open(path, flags | more, 0o666)
    about = os.fstat(opened)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
        os.close(opened)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    return opened


def _identity(path: Path) -> str:
    return input_fingerprint(path, content=False)


def each_input(settings: InterpManySettings) -> list[InterpSettings]:
    """Return the settings for each input, also for the videos of folders."""
    alike: defaultdict[str, list[InterpSettings]] = defaultdict(list)
    inputs: list[tuple[str, Path]] = []  # each with its subfolder of the output folder
    for name in map(str, settings.inputs):
        inputs += _inside(Path(name), settings) or [(name, Path())]
    every = [settings.of(*each) for each in inputs]
    for each, (name, subfolder) in zip(every, inputs, strict=True):
        alike[os.path.normcase(str(subfolder / stem_of(Path(name))))].append(each)
    for some in alike.values():
        if len(some) > 1:
            _check_names(some, settings.out_dir)
    return every


def _check_names(some: Sequence[InterpSettings], folder: File) -> None:
    inputs_of: defaultdict[str, list[str]] = defaultdict(list)
    for each in some:
        with suppress(CloudconvError):
            inputs_of[os.path.normcase(str(decide(each).output))].append(str(each.input))
    for names in inputs_of.values():
        if len(names) > 1:
            raise SettingsError(
                f"same-output-name: {' and '.join(names)} have the same output name in {folder}: "
                "rename one of them, or write them to separate folders."
            )


def _inside(path: Path, settings: InterpManySettings) -> list[tuple[str, Path]]:
    """Return the videos of a folder, with subfolders; leave out outputs beside them."""
    if settings.recursive and path.is_dir():
        folders = _folders(path, settings)
        found = [(v, each.relative_to(path)) for each in folders for v in images.videos_in(each)]
    else:
        found = [(v, Path()) for v in images.videos_in(path)] if path.is_dir() else []
    finished = cache(FinishedIndex)
    return [
        (str(video), subfolder)
        for video, subfolder in found
        if (Path(settings.out_dir) / subfolder).resolve() != video.parent.resolve()
        or not finished(video.parent).has_made(video)
    ]


def _folders(path: Path, settings: InterpManySettings) -> list[Path]:
    if not settings.recursive:
        return [path]
    made = Path(settings.out_dir).resolve()
    inside = images.folders_within(path)
    if path.resolve() == made:
        return list(inside)
    return [each for each in inside if not each.resolve().is_relative_to(made)]


def left_out(settings: InterpManySettings) -> Iterator[Warned]:
    """Yield warnings about the subfolders and the pictures in folders that are read for videos."""
    made = Path(settings.out_dir).resolve()
    for folder in map(Path, settings.inputs):
        if not folder.is_dir() or (images.pictures_in(folder) and not _inside(folder, settings)):
            continue  # for a folder of pictures, the probe warns
        inside = [] if settings.recursive else images.subfolders_of(folder)
        inside = [each for each in inside if each.resolve() != made]
        names = ", ".join(each.name for each in inside)
        if any(map(images.videos_in, inside)):
            yield Warned(
                f"subfolders-left-out: Folders inside {folder} are ignored: {names}. --recursive "
                "includes their videos."
            )
        elif names:
            yield Warned(f"subfolders-ignored: Folders inside {folder} are ignored: {names}.")
        pictures = [p for each in _folders(folder, settings) for p in images.pictures_in(each)]
        if pictures:
            shown = shortened([str(file.relative_to(folder)) for file in pictures], 3)
            yield Warned(
                f"pictures-left-out: {folder} stands for its videos, and pictures in it are left "
                f"out: {shown}."
            )


@dataclass(frozen=True, slots=True)
class Exists:
    """The outcome for an input that is skipped because an earlier run finished its output."""

    input: str
    output: str


InputOutcome = InterpResult | Exists | CloudconvError


def run(settings: InterpManySettings) -> Job:
    """Interpolate every input into the output folder; one that fails does not stop the others.

    An input is skipped if an earlier run with the same settings has finished its output. Yields
    warnings, progress over all inputs, an ``Ended`` for each input, and the list of outcomes.
    """
    every = each_input(settings)
    yield from left_out(settings)
    if every:
        yield from _interpolate_each(every, Path(settings.out_dir))
    else:
        yield Finished([])


def _interpolate_each(every: Sequence[InterpSettings], folder: Path) -> Job:
    first, inputs = every[0], [each.input for each in every]
    registry.spec(first.chosen_model, "interpolate")
    config, _, _ = choose_workers(first.workers, first.device, first.threads)
    set_threads(first.threads)
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"not-a-folder: {folder} is not a folder, so nothing can be written there: name "
            "another folder."
        )
    with writing(folder):
        for each in {str(each.output) for each in every}:
            Path(each).mkdir(parents=True, exist_ok=True)
    finished = cache(FinishedIndex)
    outcomes: dict[int, InputOutcome] = {}
    batch = _BatchProgress(every)
    try:
        for number, settings in enumerate(every):
            existing = _existing(settings, finished)
            if existing is not None:
                clear_finished(Path(existing.output))
                outcomes[number] = existing
                batch.leave_out(number)
                yield Ended(number, str(settings.input), outcomes[number])
        if len(outcomes) == len(every):
            config = WorkerConfig()  # no input is left, so no workers start
        with start(config, SegmentWork()) as workers:
            for number, settings in enumerate(every):
                if number in outcomes:
                    continue
                try:
                    with kept_open(str(settings.input)):
                        plan = decide(settings, inputs)
                        # The index is written before the output gets its name. If the process is
                        # killed between the two, the next run makes the output again.
                        note = partial(
                            finished(Path(str(settings.output))).note, settings, plan.output.name
                        )
                        batch.expect(number, plan.expected)
                        change = partial(batch.change, number, str(settings.input))
                        result = yield from mapped(interpolate(plan, workers, note), change)
                        batch.expect(number, result.output_frames)
                        outcomes[number] = result
                except CloudconvError as error:
                    batch.leave_out(number)
                    outcomes[number] = error
                yield Ended(number, str(settings.input), outcomes[number])
                yield batch.progress()
    except KeyboardInterrupt as error:
        kept = list(error.kept) if isinstance(error, Interrupted) else []
        count = sum(not isinstance(outcome, CloudconvError) for outcome in outcomes.values())
        if count:
            kept.insert(0, f"{count} of {len(every)} inputs are finished")
        if not kept:
            raise
        raise Interrupted(*kept) from error
    yield Finished([outcomes[number] for number in range(len(every))])


class _BatchProgress:
    """The progress over all inputs; sizes of files stand for frames that are not probed yet."""

    def __init__(self, every: Sequence[InterpSettings]) -> None:
        self._sizes = {number: _size(each.input) for number, each in enumerate(every)}
        self._expected: dict[int, int] = {}
        self._latest: dict[int, Progress] = {}

    def expect(self, number: int, frames: int | None) -> None:
        self._expected[number] = frames or 0

    def change(self, number: int, about: str, event: Event) -> Event | None:
        """Return an event of an input as an event of the batch; ``about`` names the input."""
        if isinstance(event, Warned):
            return replace(event, about=about)
        if not isinstance(event, Progress) or event.stage != "rendering":
            return event
        self._latest[number] = event
        return self.progress()

    def leave_out(self, number: int) -> None:
        """Remove an input from the total; its finished frames still count as done."""
        self._sizes.pop(number, None)
        self._expected.pop(number, None)

    def progress(self) -> Progress:
        done = sum(each.done for each in self._latest.values())
        frames = sum(self._expected.values())
        size = sum(self._sizes.get(number, 0) for number in self._expected)
        total = max(round(frames * sum(self._sizes.values()) / size), done) if size else None
        resumed = sum(each.resumed for each in self._latest.values())
        return Progress("rendering", done, total, resumed)


def estimate_all(every: Sequence[InterpSettings]) -> list[InterpEstimate | Exists | CloudconvError]:
    """Return the expected outcome for every input, or its error; write no output."""
    finished = cache(FinishedIndex)
    inputs = [each.input for each in every]
    plans: list[InterpEstimate | Exists | CloudconvError] = []
    for settings in every:
        try:
            existing = _existing(settings, finished)
            plans.append(existing or estimate(decide(settings, inputs)))
        except CloudconvError as error:
            plans.append(error)
    return plans


def _existing(settings: InterpSettings, finished: Callable[[Path], FinishedIndex]) -> Exists | None:
    output = None if settings.overwrite else finished(Path(str(settings.output))).find(settings)
    return None if output is None else Exists(str(settings.input), str(output))


def _size(path: Path | str) -> int:
    """Return the size of a file in bytes, as a rough measure of a video's length; 0 if unknown."""
    with suppress(OSError):
        return Path(path).stat().st_size
    return 0
