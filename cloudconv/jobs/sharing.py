"""Who makes the segments: this process, several on this machine, or a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch

from cloudconv.engine.device import cores
from cloudconv.engine.local import Pieces, share
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import CloudconvError, SettingsError
from cloudconv.jobs.making import Piece, Renderers, decoded, make_segments
from cloudconv.media.frame import Frame
from cloudconv.media.packets import PacketSummary

_MOST = 256


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works: ``here`` is this process. ``count`` is how many processes work on this machine;
    ``cores`` is what a cluster's task needs, ``address`` the cluster's, None for one that is found
    or started.
    """

    kind: Literal["here", "local", "ray"] = "here"
    count: int = 1
    cores: int = 1
    address: str | None = None

    def threads(self, asked: int | None) -> int | None:
        """How many threads each process uses; None: as many as it likes."""
        if self.kind == "local":
            return max(1, (asked or cores()) // self.count)
        return asked or self.cores if self.kind == "ray" else asked


def crew_of(workers: str, device: str) -> Crew:
    """Read ``local``, ``local:N``, ``ray`` or ``ray:ADDRESS``, and the device ``cuda:all``.

    Raises:
        SettingsError: it is none of them, or the two contradict each other.
    """
    found = re.fullmatch(r"local(?::(\d+))?|ray(?::(.+))?", workers)
    if found is None or (found[1] and not 1 <= int(found[1]) <= _MOST):
        raise SettingsError(
            f"There are no workers called {workers!r}. Use local, local:N (1 to {_MOST} processes "
            "on this machine), ray or ray:ADDRESS."
        )
    if workers.startswith("ray"):
        if device == "cuda:all":
            raise SettingsError("A cluster gives each worker its own GPU: use cuda, not cuda:all.")
        # A GPU waits for several cores that decode and encode; without one a core has work enough.
        return Crew("ray", cores=4 if device.startswith("cuda") else 1, address=found[2])
    count = int(found[1] or 0)
    if device == "cuda:all":
        if count:
            raise SettingsError("cuda:all already means one worker for each GPU.")
        count = max(1, torch.cuda.device_count())
    return Crew("local", count) if count else Crew()


class Client(Protocol):
    """Whose pieces are shared out; called in one thread."""

    def done(self, piece: Piece, file: Path, summary: PacketSummary) -> None:
        """Told of each piece whose file is whole and synced."""

    def failed(self, piece: Piece, error: CloudconvError) -> None:
        """Told of a piece that cannot be made."""

    def again(self, piece: Piece) -> bool:
        """Told of a piece that was lost; whether another worker shall make it."""

    def shown(self, more: int) -> None:
        """Told how many frames were made since it was told last."""

    def warn(self, output: Path, message: str) -> None:
        """Told, in a sentence, what workers have to say of an output."""


def share_locally(crew: Crew, device: str, pieces: Iterator[Piece], client: Client) -> None:
    """Make pieces in processes of this machine.

    Args:
        crew: a local one.
        device: that was asked for; with ``cuda:all`` each process has a GPU of its own.
        pieces: taken as they are needed, a few ahead.
        client: told what becomes of them.
    """
    works = [SegmentWork(each) for each in devices(crew, device)]
    share(works, pieces, _Progress(client, crew.count))


class _Progress:
    """Adds up what the processes tell."""

    def __init__(self, client: Client, count: int) -> None:
        self._client = client
        self._frames = [0] * count  # of each process, those of finished segments included
        self._taken = 0
        self.failed = client.failed
        self.again = client.again

    def done(self, piece: Piece, result: tuple[Path, PacketSummary]) -> None:
        self._client.done(piece, *result)

    def told(self, number: int, message: int | tuple[Path, str] | None) -> None:
        if isinstance(message, tuple):
            self._client.warn(*message)
            return
        self._frames[number] = message or 0
        total = sum(self._frames)
        self._client.shown(max(total - self._taken, 0))
        self._taken = max(total, self._taken)


def devices(crew: Crew, device: str) -> list[str | None]:
    """The device that each process of a local crew has for itself; None: the one asked for."""
    if device != "cuda:all":
        return [None] * crew.count
    return [f"cuda:{number}" for number in range(crew.count)]


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """What one process of a crew does; see :class:`~cloudconv.engine.local.Work`.

    ``device`` is the process's own; None: the one that each recipe names.
    """

    device: str | None = None

    def __call__(
        self,
        pieces: Pieces[Piece],
        done: Callable[[tuple[Path, PacketSummary]], None],
        tell: Callable[[int | tuple[Path, str]], None],
    ) -> None:
        frames = 0

        def shown(more: int, picture: Frame | None) -> None:
            nonlocal frames
            frames += more
            tell(frames)

        renderers = Renderers(lambda recipe, message: tell((recipe.output, message)))
        with prefetch(decoded(map(self._own, pieces)), 8) as steps, closing(pieces):
            make_segments(
                steps,
                renderers,
                done=lambda segment, file, summary: done((file, summary)),
                shown=shown,
            )

    def _own(self, piece: Piece) -> Piece:
        if self.device is None:
            return piece
        return replace(piece, recipe=replace(piece.recipe, device=self.device))
