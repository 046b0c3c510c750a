"""Who examines the places of a clip: this process, several on this machine, or a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from cloudconv.engine.cluster import Cluster
from cloudconv.engine.device import set_threads
from cloudconv.engine.local import Pieces, share
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import CloudconvError
from cloudconv.jobs.clustering import SentInput, SharedInput, absolute_model
from cloudconv.jobs.compare_ahead import Ahead
from cloudconv.jobs.compare_settings import MINTERPOLATE, CompareSettings
from cloudconv.jobs.compare_ways import Between
from cloudconv.jobs.examining import Examiner, Found, Place, Stretch, decoded, stretches
from cloudconv.jobs.scoring import SEQUENCE_METRICS
from cloudconv.jobs.sharing import Crew, crew_of, devices
from cloudconv.media.probe import MediaInfo

Take = Callable[[Place, Found], None]
"""Told of each place, in order, and what was found there."""


def examine(
    settings: CompareSettings,
    info: MediaInfo,
    places: Iterator[Place],
    *,
    take: Take,
    warn: Callable[[str], None],
) -> None:
    """Examine all places by all methods.

    Args:
        settings: of the comparison.
        info: of the clip.
        places: with their frames; taken in a thread of its own.
        take: what it is told does not depend on who works.
        warn: told in sentences.

    Raises:
        CloudconvError: what decoding or a method raise.
    """
    crew = crew_of(settings.workers, settings.device)
    end = Place(info.timing.frames, (), (), info.timing.frames)
    if crew.kind == "here":
        examiner = _examiner({name: name for name in settings.methods}, settings, info, warn)
        with prefetch(places, 2) as ahead:
            for place in ahead:
                take(place, examiner.examine(place))
                del place
        take(end, examiner.finish())
        return
    desk = _Desk(settings, info, take, warn)
    models = {name: name for name in settings.methods if name not in desk.own}
    job = _Job(replace(settings, workers="local"), info, models, crew.threads(settings.threads))
    with prefetch(desk.seen(places), 2 * crew.count) as ahead:
        if crew.kind == "ray":
            _share_on_cluster(job, crew, desk.given(ahead), desk)
        else:
            works = [replace(job, device=each) for each in devices(crew, settings.device)]
            share(works, desk.given(ahead), desk)
    take(end, desk.finish())


def _examiner(
    models: Mapping[str, str],
    settings: CompareSettings,
    info: MediaInfo,
    warn: Callable[[str], None],
) -> Examiner:
    if settings.horizon is None:
        return Between(models, settings, info, warn)
    return Ahead(models, settings)


class _Desk:
    """Gives stretches out, and puts what comes back in order; a client of whoever works."""

    def __init__(
        self,
        settings: CompareSettings,
        info: MediaInfo,
        take: Take,
        warn: Callable[[str], None],
    ) -> None:
        # It reads the clip from end to end by itself, so it cannot be shared out.
        self.own = {name: name for name in settings.methods if name == MINTERPOLATE}
        self.warn = warn
        self._methods = settings.methods
        self._take = take
        self._examiner = _examiner(self.own, settings, info, warn) if self.own else None
        self._in_order = any(name in SEQUENCE_METRICS for name in settings.metrics)
        self._own_found: dict[int, Found] = {}
        self._waiting: deque[tuple[int, int, Place]] = deque()
        self._found: dict[tuple[int, int], bytes] = {}

    def seen(self, places: Iterator[Place]) -> Iterator[Stretch]:
        """The clip in stretches; runs in a thread of its own."""
        return stretches(self._looked_at(places), in_order=self._in_order)

    def given(self, ahead: Iterator[Stretch]) -> Iterator[Stretch]:
        """Note each stretch before it is given out."""
        for stretch in ahead:
            for k, place in enumerate(stretch.places):
                self._waiting.append((stretch.number, k, place))
            last = stretch.places[-1]
            end = replace(last, index=-1, times=(), scored=(), skipped=0)
            self._waiting.append((stretch.number, len(stretch.places), end))
            yield stretch

    def found(self, number: int, k: int, data: bytes) -> None:
        """Take what was found at the ``k``-th place of a stretch, or after its last one."""
        self._found[number, k] = data
        while self._waiting and self._waiting[0][:2] in self._found:
            number, k, place = self._waiting.popleft()
            found = Found.unpacked(self._found.pop((number, k)))
            own = self._own_found.pop(place.index, None)
            if own is not None:
                found.merge(own, self._methods)
            self._take(place, found)

    def finish(self) -> Found:
        """What is only known after the last place."""
        return Found() if self._examiner is None else self._examiner.finish()

    def done(self, piece: Stretch, result: Any) -> None:
        """See :class:`~cloudconv.engine.local.Client`."""

    def failed(self, piece: Stretch, error: CloudconvError) -> None:
        """See :class:`~cloudconv.engine.local.Client`."""
        raise error

    def again(self, piece: Stretch) -> bool:
        """See :class:`~cloudconv.engine.local.Client`."""
        return True

    def told(self, number: int, message: str | tuple[int, int, bytes] | None) -> None:
        """See :class:`~cloudconv.engine.local.Client`."""
        if isinstance(message, str):
            self.warn(message)
        elif message is not None and message[:2] >= self._next:
            self.found(*message)

    @property
    def _next(self) -> tuple[int, int]:
        """The first place that was not taken yet: a stretch may be examined twice."""
        return self._waiting[0][:2] if self._waiting else (0, 0)

    def _looked_at(self, places: Iterator[Place]) -> Iterator[Place]:
        for place in places:
            if self._examiner is not None:
                self._own_found[place.index] = self._examiner.examine(place)
            yield place


@dataclass(frozen=True, slots=True)
class _Job:
    """What one process does; see :class:`~cloudconv.engine.local.Work`."""

    settings: CompareSettings
    info: MediaInfo
    models: Mapping[str, str]
    threads: int | None
    device: str | None = None

    def __call__(
        self,
        pieces: Pieces[Stretch],
        done: Callable[[None], None],
        tell: Callable[[str | tuple[int, int, bytes]], None],
    ) -> None:
        examiner = self.examiner(tell)
        with prefetch(self._places(pieces), 4) as places, closing(pieces):
            for number, k, place in places:
                found = examiner.examine(place) if place is not None else examiner.finish()
                tell((number, k, found.packed()))
                if place is None:
                    done(None)

    def examiner(self, warn: Callable[[str], None]) -> Examiner:
        """Of this job's methods, in this process."""
        set_threads(self.threads)
        settings = self.settings
        if self.device is not None:
            settings = replace(settings, device=self.device)
        return _examiner(self.models, settings, self.info, warn)

    def _places(
        self, pieces: Pieces[Stretch]
    ) -> Generator[tuple[int, int, Place | None], None, None]:
        for stretch in pieces:
            for k, place in enumerate(decoded(stretch, self.info, self.threads)):
                yield stretch.number, k, place
            yield stretch.number, len(stretch.places), None


def _share_on_cluster(job: _Job, crew: Crew, pieces: Iterator[Stretch], desk: _Desk) -> None:
    shared = SharedInput.of(job.info.path)
    models = {name: absolute_model(model) for name, model in job.models.items()}
    job = replace(job, info=replace(job.info, path=shared.path), models=models)
    gpus = int(job.settings.device.startswith("cuda"))
    with Cluster(crew.address, cores=job.threads or 1, gpus=gpus) as cluster:
        sent = SentInput(cluster, shared)
        errand = cluster.put((shared, job))
        try:
            cluster.share(examine_stretch, pieces, _Sender(desk, sent, errand))
        finally:
            sent.forget()


class _Sender:
    """What is sent to a cluster, and what is done with what comes back."""

    def __init__(self, desk: _Desk, sent: SentInput, errand: Any) -> None:
        self._desk = desk
        self._sent = sent
        self._errand = errand
        self.failed = desk.failed

    def arguments(self, piece: Stretch) -> tuple[Any, ...]:
        return piece, self._errand, self._sent.pieces()

    def done(self, piece: Stretch, result: tuple[list[bytes], list[str]] | None) -> bool:
        if result is None:
            self._sent.asked = True
            return False
        found, warnings = result
        for message in warnings:
            self._desk.warn(message)
        for k, data in enumerate(found):
            self._desk.found(piece.number, k, data)
        return True


_loaded: dict[str, tuple[Examiner, list[str]]] = {}


def examine_stretch(
    stretch: Stretch, errand: tuple[SharedInput, _Job], pieces: list[Any]
) -> tuple[list[bytes], list[str]] | None:
    """Examine a stretch; what a task does on its machine.

    Returns:
        What was found at each place and after the last one, packed, and warnings; None where the
        machine cannot read the input.
    """
    shared, job = errand
    source = shared.here(pieces)
    if source is None:
        return None
    if shared.token not in _loaded:
        _loaded.clear()
        said: list[str] = []
        _loaded[shared.token] = job.examiner(said.append), said
    examiner, said = _loaded[shared.token]
    info = replace(job.info, path=source)
    with prefetch(decoded(stretch, info, job.threads), 4) as places:
        found = [examiner.examine(place).packed() for place in places]
    found.append(examiner.finish().packed())
    warnings = list(said)
    said.clear()
    return found, warnings
