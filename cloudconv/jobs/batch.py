"""Many inputs, one command: a broken one does not stop the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cloudconv.engine.device import choose_device, set_threads
from cloudconv.errors import CloudconvError, Interrupted, SettingsError
from cloudconv.jobs.film import Film
from cloudconv.jobs.interp import InterpResult, InterpSettings, prepare, result_of
from cloudconv.jobs.ledger import Ledger
from cloudconv.jobs.queue import make_all_by_crew
from cloudconv.jobs.sharing import crew_of
from cloudconv.media.target import writing
from cloudconv.models import registry


def each_input(
    settings: InterpSettings, inputs: Sequence[str], folder: Path
) -> list[InterpSettings]:
    """The settings for every input; all outputs go into ``folder``, which is made if need be.

    Raises:
        SettingsError: two inputs would be given the same output.
        OutputError: the folder cannot be made.
    """
    namesakes: defaultdict[str, list[str]] = defaultdict(list)
    for name in inputs:
        if name == "-":
            raise SettingsError("What comes from stdin has no name to build on: name a file.")
        namesakes[Path(name).stem].append(name)
    for names in namesakes.values():
        if len(names) > 1:
            raise SettingsError(
                f"{' and '.join(names)} would get the same name in {folder}: rename one of them, "
                "or give them folders of their own."
            )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return [replace(settings, input=name, output=None, out_dir=folder) for name in inputs]


@dataclass(frozen=True, slots=True)
class Exists:
    """An input whose output a former run has finished."""

    input: str
    output: str


Outcome = InterpResult | Exists | CloudconvError


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far all inputs together have come.

    ``frames_expected`` is judged by the sizes of the inputs that were not looked at yet; None as
    long as nothing is known.
    """

    frames_done: int
    frames_expected: int | None
    inputs_done: int
    inputs: int


def run(
    every: Sequence[InterpSettings],
    came: Callable[[int, Outcome], None],
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Interpolate every input into the folder; one that fails does not stop the others.

    With workers the segments of all inputs go through one queue, and the inputs may end in another
    order; without, this process makes one film after the other. An output that a former run with
    the same input and settings has finished is passed over.

    Args:
        every: as :func:`each_input` makes them.
        came: told the number of each input, from 0, and what came of it.
        on_progress: told now and then.

    Raises:
        CloudconvError: no input could be made, whatever it is: a model or a device is missing.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    first = every[0]
    crew = crew_of(first.workers, first.device)
    registry.spec(first.model, "interpolate")
    choose_device(first.device.removesuffix(":all"))
    set_threads(first.threads)
    batch = _Batch(every, came, on_progress)
    try:
        missing = batch.missing()
        if crew.kind == "here":
            batch.make_here(missing)
        else:
            make_all_by_crew(
                [partial(batch.open, number) for number in missing],
                crew,
                device=first.device,
                threads=first.threads,
                came=lambda place, what: batch.came(missing[place], what),
                shown=batch.shown,
            )
    except KeyboardInterrupt as error:
        kept = list(error.kept) if isinstance(error, Interrupted) else []
        if batch.finished:
            kept.insert(0, f"{batch.finished} of {len(every)} inputs are finished")
        if not kept:
            raise
        raise Interrupted(*kept) from error


class _Batch:
    """Knows what has come of the inputs, and how much there is still to do."""

    def __init__(
        self,
        every: Sequence[InterpSettings],
        came: Callable[[int, Outcome], None],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.finished = 0
        self._every = every
        self._tell = came
        self._on_progress = on_progress
        self._ledger = Ledger(Path(every[0].out_dir or ""))
        self._frames = 0
        self._ended = 0
        self._sizes = {number: _size(each.input) for number, each in enumerate(every)}
        self._expected: dict[int, int] = {}

    def missing(self) -> list[int]:
        """The numbers of the inputs that no former run has finished."""
        found = []
        for number, settings in enumerate(self._every):
            output = None if settings.overwrite else self._ledger.finished(settings)
            if output is None:
                found.append(number)
                continue
            del self._sizes[number]
            self._end(number, Exists(str(settings.input), str(output)))
        return found

    def make_here(self, numbers: Sequence[int]) -> None:
        """Make one after the other in this process."""
        for number in numbers:
            try:
                film = self.open(number)
                film.make(lambda more, _: self.shown(more))
            except CloudconvError as error:
                self.came(number, error)
            else:
                self.came(number, film)

    def open(self, number: int) -> Film:
        """The film of an input."""
        film = Film(prepare(self._every[number]))
        self._expected[number] = film.job.expected
        return film

    def shown(self, more: int) -> None:
        """Note that there are more frames."""
        self._frames += more
        self._report()

    def came(self, number: int, what: Film | CloudconvError) -> None:
        """Note what came of an input."""
        if isinstance(what, CloudconvError):
            self._sizes.pop(number, None)
            self._expected.pop(number, None)
            self._end(number, what)
            return
        self._ledger.note(self._every[number], what.job.output)
        self._expected[number] = what.counts.output_frames
        self._end(number, result_of(what))

    def _end(self, number: int, outcome: Outcome) -> None:
        self._ended += 1
        self.finished += not isinstance(outcome, CloudconvError)
        self._tell(number, outcome)
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    frames_done=self._frames,
                    frames_expected=self._guess(),
                    inputs_done=self._ended,
                    inputs=len(self._every),
                )
            )

    def _guess(self) -> int | None:
        known = dict(self._expected)  # another thread opens films meanwhile
        frames = sum(known.values())
        size = sum(self._sizes.get(number, 0) for number in known)
        if not size:
            return None
        return max(round(frames * sum(self._sizes.values()) / size), self._frames)


def _size(path: Path | str) -> int:
    """A file's size, which tells about how long it lasts; 0 if it has none."""
    with suppress(OSError):
        return Path(path).stat().st_size
    return 0
