"""Many inputs, one command: a broken one does not stop the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cloudconv.errors import CloudconvError, Interrupted, OutputError, SettingsError
from cloudconv.events import Warned
from cloudconv.jobs.interp.finished import Ledger
from cloudconv.jobs.interp.plan import plan_video
from cloudconv.jobs.interp.queue import FramesMade, rendering
from cloudconv.jobs.interp.run import plan, result_of
from cloudconv.jobs.interp.settings import InterpPlan, InterpResult, InterpSettings
from cloudconv.jobs.interp.video import VideoRender
from cloudconv.jobs.outcome import Progress as CommonProgress
from cloudconv.jobs.output import stem_of
from cloudconv.media.input.images import videos_of
from cloudconv.media.write.target import writing
from cloudconv.models import registry
from cloudconv.render.device import set_threads
from cloudconv.segments.store import clear_finished
from cloudconv.settings import InterpManySettings
from cloudconv.workers.pool import parse_workers, settle


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


@dataclass(frozen=True, slots=True)
class Exists:
    """An input whose output a former run has finished."""

    input: str
    output: str


InputOutcome = InterpResult | Exists | CloudconvError


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(CommonProgress):
    """How far all inputs together have come.

    ``frames_expected`` is judged by the sizes of the inputs that were not looked at yet; None as
    long as nothing is known. ``frames_found`` of those that are done were made by an earlier run.
    """

    frames_found: int
    inputs_done: int
    inputs: int


def run(
    every: Sequence[InterpSettings],
    on_outcome: Callable[[int, InputOutcome], None],
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str, Warned], None] | None = None,
) -> None:
    """Interpolate every input into the folder, which is made if need be.

    One that fails does not stop the others.

    With workers the segments of all inputs go through one queue, and the inputs may end in another
    order; without, this process makes one video after the other. An output that a former run with
    the same input and settings has finished is passed over.

    Args:
        every: as :func:`each_input` makes them.
        on_outcome: told the number of each input, from 0, and what came of it.
        on_progress: told now and then.
        on_warning: told an input, and a warning about it as soon as that is known.

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
    batch = _Batch(every, on_outcome, on_progress, on_warning or (lambda _, __: None))
    try:
        missing = batch.missing()
        if workers.kind == "inline":
            batch.render_inline(missing)
        else:
            videos: Sequence[Callable[[], VideoRender]]
            videos = [partial(batch.open, number) for number in missing]
            if first.adapt is not None:
                missing, videos = batch.adapted(missing)
            with rendering(videos, workers) as events:
                for event in events:
                    if isinstance(event, FramesMade):
                        batch.add_frames(event.more)
                    else:
                        batch.end(missing[event.number], event.outcome)
    except KeyboardInterrupt as error:
        kept = list(error.kept) if isinstance(error, Interrupted) else []
        if batch.finished:
            kept.insert(0, f"{batch.finished} of {len(every)} inputs are finished")
        if not kept:
            raise
        raise Interrupted(*kept) from error


def plan_all(every: Sequence[InterpSettings]) -> list[InterpPlan | Exists | CloudconvError]:
    """What :func:`run` would do with every input; nothing is written."""
    ledger = Ledger(Path(every[0].output or ""))
    plans: list[InterpPlan | Exists | CloudconvError] = []
    for settings in every:
        output = None if settings.overwrite else ledger.finished(settings)
        if output is not None:
            plans.append(Exists(str(settings.input), str(output)))
            continue
        try:
            plans.append(plan(settings, [each.input for each in every]))
        except CloudconvError as error:
            plans.append(error)
    return plans


class _Batch:
    """Knows what has come of the inputs, and how much there is still to do."""

    def __init__(
        self,
        every: Sequence[InterpSettings],
        on_outcome: Callable[[int, InputOutcome], None],
        on_progress: Callable[[Progress], None] | None,
        on_warning: Callable[[str, Warned], None],
    ) -> None:
        self.finished = 0
        self._every = every
        self._tell = on_outcome
        self._on_progress = on_progress
        self._warn = on_warning
        self._ledger = Ledger(Path(every[0].output or ""))
        self._made = 0
        self._videos: list[VideoRender] = []
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
            clear_finished(output)
            del self._sizes[number]
            self._end(number, Exists(str(settings.input), str(output)))
        return found

    def render_inline(self, numbers: Sequence[int]) -> None:
        """Render one after the other in this process."""
        for number in numbers:
            try:
                video = self.open(number)
                with video.frames() as frames:
                    for _ in frames:
                        self.add_frames(1)
            except CloudconvError as error:
                self.end(number, error)
            else:
                self.end(number, video)

    def adapted(self, numbers: Sequence[int]) -> tuple[list[int], list[Callable[[], VideoRender]]]:
        """Adapt to one video after the other; those that can be made, and their numbers."""
        videos: dict[int, VideoRender] = {}
        for number in numbers:
            try:
                videos[number] = self.open(number)
                videos[number].adapt()
            except CloudconvError as error:
                videos.pop(number, None)
                self.end(number, error)
        return list(videos), [partial(videos.__getitem__, number) for number in videos]

    def open(self, number: int) -> VideoRender:
        """The video of an input."""
        settings = self._every[number]
        video = VideoRender(
            plan_video(settings, [each.input for each in self._every]),
            lambda warned: self._warn(str(settings.input), warned),
        )
        video.on_adapting = lambda *_: self._report()
        # Before the output has its name, so that a kill right then leaves no doubt.
        video.on_whole = partial(self._ledger.note, settings, video.job.output.name)
        self._videos.append(video)
        self._expected[number] = video.job.expected or 0
        return video

    def add_frames(self, more: int) -> None:
        """Note that there are more frames."""
        self._made += more
        self._report()

    def end(self, number: int, outcome: VideoRender | CloudconvError) -> None:
        """Note what came of an input."""
        if isinstance(outcome, CloudconvError):
            self._sizes.pop(number, None)
            self._expected.pop(number, None)
            self._end(number, outcome)
            return
        self._expected[number] = outcome.counts.output_frames
        self._end(number, result_of(outcome))

    def _end(self, number: int, outcome: InputOutcome) -> None:
        self._ended += 1
        self.finished += not isinstance(outcome, CloudconvError)
        self._tell(number, outcome)
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            found = self._found
            self._on_progress(
                Progress(
                    frames_done=found + self._made,
                    frames_found=found,
                    frames_expected=self._guess(),
                    inputs_done=self._ended,
                    inputs=len(self._every),
                )
            )

    @property
    def _found(self) -> int:
        return sum(video.found for video in self._videos)

    def _guess(self) -> int | None:
        known = dict(self._expected)  # another thread opens videos meanwhile
        frames = sum(known.values())
        size = sum(self._sizes.get(number, 0) for number in known)
        if not size:
            return None
        return max(round(frames * sum(self._sizes.values()) / size), self._found + self._made)


def _size(path: Path | str) -> int:
    """A file's size, which tells about how long it lasts; 0 if it has none."""
    with suppress(OSError):
        return Path(path).stat().st_size
    return 0
