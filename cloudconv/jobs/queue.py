"""Films that a crew makes: the segments of all of them in one queue.

A film is planned while the segments of those before it are made, and joined as soon as all of its
own are there; the workers stay the same from the first film to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import CloudconvError, Interrupted
from cloudconv.jobs.clustering import share_on_cluster
from cloudconv.jobs.film import Film
from cloudconv.jobs.making import Piece, Shown
from cloudconv.jobs.sharing import Crew, share_locally
from cloudconv.media.packets import PacketSummary

_KNOWN = 8
"""So many pieces more than there are workers are planned ahead: they are times without pictures."""

Open = Callable[[], Film]
"""Makes a film ready to be planned; it may raise a CloudconvError."""
Came = Callable[[int, Film | CloudconvError], None]
"""Told the number of a film, from 0, and what came of it: the film itself, or an error."""


def make_by_crew(film: Film, shown: Shown) -> None:
    """Make one film; see :func:`make_all_by_crew`.

    Raises:
        CloudconvError: then there is no output, or it is as it was before.
        Interrupted: Ctrl-C, and what is finished is kept.
    """

    def came(_: int, what: Film | CloudconvError) -> None:
        if isinstance(what, CloudconvError):
            raise what

    settings = film.job.settings
    make_all_by_crew(
        [lambda: film],
        film.job.crew,
        device=settings.device,
        threads=settings.threads,
        came=came,
        shown=lambda more: shown(more, None),
    )


def make_all_by_crew(
    films: Sequence[Open],
    crew: Crew,
    *,
    device: str,
    threads: int | None,
    came: Came,
    shown: Callable[[int], None],
) -> None:
    """Make films by the processes of a crew. One that fails does not stop the others.

    Args:
        films: opened one after the other, each when the one before it is planned.
        crew: who works.
        device: that was asked for.
        threads: likewise.
        came: told of each film when it is there or has failed, in this thread; what it raises
            ends everything.
        shown: told how many more frames there are, found ones included.

    Raises:
        DeviceError: there is no such cluster.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    queue = _Queue(films, came, shown)
    try:
        with prefetch(queue.planned(), crew.count + _KNOWN) as ahead:
            pieces = queue.pieces(ahead)
            if crew.kind == "ray":
                cores = crew.threads(threads) or 1
                share_on_cluster(crew, cores, device, pieces, queue)
            else:
                share_locally(crew, device, pieces, queue)
    except KeyboardInterrupt as error:
        said = queue.leave()
        if not said:
            raise
        raise Interrupted(*said) from error
    finally:
        queue.leave()


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A film between the first look at it and its end; ``pieces`` are with workers."""

    number: int
    film: Film | None = None
    begun: bool = False
    planned: bool = False
    pieces: int = 0
    error: CloudconvError | None = None


_Item = tuple[_UnderWay, Piece | CloudconvError | None]
"""A piece of a film; then None when it is planned to its end, or what has ended its planning."""


class _Queue:
    """Knows which films are under way; a client of whoever makes the pieces."""

    def __init__(self, films: Sequence[Open], came: Came, shown: Callable[[int], None]) -> None:
        self._films = films
        self._came = came
        self.shown = shown
        self._under_way: dict[Path, _UnderWay] = {}

    def planned(self) -> Iterator[_Item]:
        """The pieces of all films, one film after the other; runs in a thread of its own."""
        for number, open_film in enumerate(self._films):
            current = _UnderWay(number)
            try:
                film = current.film = open_film()
                self._under_way[film.job.output] = current
                with closing(film.pieces()) as pieces:
                    for piece in pieces:
                        yield current, piece
                        if current.error is not None:
                            break
            except CloudconvError as error:
                yield current, error
            else:
                yield current, None

    def pieces(self, items: Iterator[_Item]) -> Iterator[Piece]:
        """Those of the films that have not failed."""
        for current, item in items:
            if current.film is not None and not current.begun:
                current.begun = True
                self.shown(current.film.found)
            if isinstance(item, Piece):
                if current.error is None:
                    current.pieces += 1
                    yield item
                continue
            current.planned = True
            current.error = current.error or item
            self._settle(current)

    def done(self, piece: Piece, file: Path, summary: PacketSummary) -> None:
        """See :class:`~cloudconv.jobs.sharing.Client`."""
        current = self._back(piece)
        assert current.film is not None
        try:
            current.film.record(piece.segment, file, summary)
        except CloudconvError as error:
            current.error = current.error or error
        self._settle(current)

    def failed(self, piece: Piece, error: CloudconvError) -> None:
        """See :class:`~cloudconv.jobs.sharing.Client`."""
        current = self._back(piece)
        current.error = current.error or error
        self._settle(current)

    def again(self, piece: Piece) -> bool:
        """See :class:`~cloudconv.jobs.sharing.Client`."""
        if self._under_way[piece.recipe.output].error is None:
            return True
        self._settle(self._back(piece))
        return False

    def warn(self, output: Path, message: str) -> None:
        """See :class:`~cloudconv.jobs.sharing.Client`."""
        current = self._under_way.get(output)
        if current is not None and current.film is not None:
            current.film.warn(message)

    def leave(self) -> list[str]:
        """Leave all films as they are; says what is kept of each."""
        films = [each.film for each in self._under_way.values() if each.film is not None]
        self._under_way.clear()
        return [said for film in films if (said := film.interrupt()) is not None]

    def _back(self, piece: Piece) -> _UnderWay:
        current = self._under_way[piece.recipe.output]
        current.pieces -= 1
        return current

    def _settle(self, current: _UnderWay) -> None:
        """End a film of which nothing is under way any more."""
        film, error = current.film, current.error
        if current.pieces or not current.planned:
            return
        if film is not None and error is None:
            try:
                film.finish()
            except CloudconvError as raised:
                error = raised
        if film is not None:
            del self._under_way[film.job.output]
            if error is None:
                self._came(current.number, film)
                return
            error = film.leave(error)
        assert error is not None
        self._came(current.number, error)
