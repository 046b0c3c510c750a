"""Segments made on other machines: what travels there, and what comes back."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from cloudconv.engine.cluster import Cluster, fetch
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import CloudconvError, InputError
from cloudconv.jobs.making import Piece, Recipe, Renderers, decoded, make_segments
from cloudconv.jobs.resuming import both_ends
from cloudconv.jobs.sharing import Client, Crew
from cloudconv.jobs.workfolder import fresh_file, save
from cloudconv.media.packets import PacketSummary
from cloudconv.segments import Segment

_PIECE = 1 << 26


@dataclass(frozen=True, slots=True)
class SharedInput:
    """An input as the machines of a cluster know it: by its path, size and ends. ``token`` is the
    job's own.
    """

    token: str
    path: Path
    size: int
    ends: str

    @classmethod
    def of(cls, path: Path) -> SharedInput:
        """Raises InputError: it is gone, or it is no single file."""
        path = path.absolute()
        check_single(path)
        try:
            return cls(secrets.token_hex(8), path, path.stat().st_size, _ends(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error

    def here(self, pieces: list[Any]) -> Path | None:
        """On this machine: in its own place, or put together from what was sent."""
        with suppress(OSError):
            if self.path.stat().st_size == self.size and _ends(self.path) == self.ends:
                return self.path
        if not pieces:
            return None
        folder = _home(self.token)
        copy = folder / self.path.name
        if not copy.exists():
            folder.mkdir(exist_ok=True)
            part = folder / secrets.token_hex(8)
            with part.open("wb") as file:
                for piece in pieces:
                    file.write(fetch(piece))
            # Another process here may have done the same; either copy is whole.
            part.replace(copy)
        return copy


def check_single(path: Path) -> None:
    """Raises InputError: the input is no single file."""
    if not path.is_file():
        raise InputError(
            f"{path} is no single file, and only a file can be shared out over a cluster: make a "
            "video of it first."
        )


class SentInput:
    """An input, and its pieces in the cluster as soon as a machine has asked for them."""

    def __init__(self, cluster: Cluster, shared: SharedInput) -> None:
        self.shared = shared
        self.asked = False
        self._cluster = cluster
        self._pieces: list[Any] = []

    def pieces(self) -> list[Any]:
        """For :meth:`SharedInput.here`. Raises InputError: the input cannot be read."""
        if self.asked and not self._pieces:
            self._pieces = [self._cluster.put(data) for data in _pieces(self.shared.path)]
        return self._pieces

    def forget(self) -> None:
        """Delete the copies that machines have made."""
        if self._pieces:
            self._cluster.everywhere(forget_input, self.shared.token)
            self._pieces = []


@dataclass(frozen=True, slots=True)
class Errand:
    """What a machine must know of a job; the work folder is known by what its ``plan`` says."""

    input: SharedInput
    recipe: Recipe
    plan: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A segment's packets: in the work folder as ``name``, or ``data`` where that is out of reach.

    Without ``summary`` nothing was made, since the machine cannot read the input.
    """

    summary: PacketSummary | None
    name: str = ""
    data: bytes = b""
    warnings: tuple[str, ...] = ()


def share_on_cluster(
    crew: Crew, cores: int, device: str, pieces: Iterator[Piece], client: Client
) -> None:
    """Make pieces on a Ray cluster.

    Machines that see the input and the work folder under the same path read and write there. To
    the others the input is sent once, and their segments come back through Ray.

    Args:
        crew: of a cluster.
        cores: that a task asks for.
        device: that was asked for; with CUDA a task asks for a GPU, too.
        pieces: taken as they are needed, a few ahead; those of one output after another.
        client: told what becomes of them.
    """
    gpus = int(device.startswith("cuda"))
    with (
        Cluster(crew.address, cores=cores, gpus=gpus) as cluster,
        _Sender(cluster, client) as sender,
    ):
        cluster.share(make_parcel, pieces, sender)


class _Sender:
    """What is sent to a cluster, and what is done with what comes back."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        self._cluster = cluster
        self._client = client
        self._sent: dict[Path, _Sent] = {}  # by output, in the order of their pieces

    def arguments(self, piece: Piece) -> tuple[Any, ...]:
        output = piece.recipe.output
        if output not in self._sent:
            for other in [each for each, sent in self._sent.items() if not sent.under_way]:
                self._sent.pop(other).input.forget()
            errand = errand_of(piece.recipe)
            sent = _Sent(SentInput(self._cluster, errand.input), self._cluster.put(errand))
            self._sent[output] = sent
        sent = self._sent[output]
        sent.under_way += 1
        return piece.segment, sent.errand, sent.input.pieces()

    def done(self, piece: Piece, parcel: Parcel) -> bool:
        sent = self._sent[piece.recipe.output]
        sent.under_way -= 1
        if parcel.summary is None:
            sent.input.asked = True
            return False
        try:
            file = _filed(piece.recipe.folder, parcel)
        except CloudconvError as error:
            self._client.failed(piece, error)
            return True
        for message in parcel.warnings:
            self._client.warn(piece.recipe.output, message)
        self._client.shown(len(piece.segment.frames))
        self._client.done(piece, file, parcel.summary)
        return True

    def failed(self, piece: Piece, error: CloudconvError) -> None:
        sent = self._sent.get(piece.recipe.output)
        if sent is not None:
            sent.under_way -= 1
        self._client.failed(piece, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sent in self._sent.values():
            sent.input.forget()


@dataclass(slots=True)
class _Sent:
    """What the cluster has of one output, and how many of its pieces are under way."""

    input: SentInput
    errand: Any
    under_way: int = 0


def errand_of(recipe: Recipe) -> Errand:
    """What the machines must know of a job.

    Raises:
        InputError: the input is gone.
    """
    shared = SharedInput.of(recipe.info.path)
    info = replace(recipe.info, path=shared.path)
    folder = recipe.folder.absolute()
    model = absolute_model(recipe.model)
    recipe = replace(recipe, info=info, model=model, folder=folder)
    return Errand(shared, recipe, _plan_of(folder))


def _filed(folder: Path, parcel: Parcel) -> Path:
    """The segment's file, in the folder."""
    if parcel.name:
        return folder / parcel.name
    file = fresh_file(folder)
    save(file, parcel.data)
    return file


def make_parcel(segment: Segment, errand: Errand, pieces: list[Any]) -> Parcel:
    """Make one segment; what a task does on its machine."""
    source = errand.input.here(pieces)
    if source is None:
        return Parcel(None)
    within_reach = _plan_of(errand.recipe.folder) == errand.plan
    summaries: list[tuple[Path, PacketSummary]] = []
    with tempfile.TemporaryDirectory(prefix="cloudconv-") as home:
        folder = errand.recipe.folder if within_reach else Path(home)
        info = replace(errand.recipe.info, path=source)
        recipe = replace(errand.recipe, info=info, folder=folder)
        _said.clear()
        with prefetch(decoded([Piece(recipe, segment)]), 8) as steps:
            make_segments(
                steps,
                _renderers,
                done=lambda _, file, summary: summaries.append((file, summary)),
                shown=lambda _more, _picture: None,
            )
        ((file, summary),) = summaries
        data = b"" if within_reach else file.read_bytes()
    return Parcel(summary, file.name if within_reach else "", data, tuple(_said))


_said: list[str] = []
# Loaded once in each process.
_renderers = Renderers(lambda _recipe, message: _said.append(message))


def forget_input(token: str) -> None:
    """Delete the copy of a job's input that was sent to this machine."""
    shutil.rmtree(_home(token), ignore_errors=True)


def _home(token: str) -> Path:
    return Path(tempfile.gettempdir()) / f"cloudconv-{token}"


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _ends(path: Path) -> str:
    return hashlib.sha256(both_ends(path)).hexdigest()


def _plan_of(folder: Path) -> str:
    """What tells a work folder from any other: its plan, with a word of its own in it."""
    try:
        return hashlib.sha256((folder / "plan.json").read_bytes()).hexdigest()
    except OSError:
        return ""


def absolute_model(model: str) -> str:
    """The model by a name that holds in every folder."""
    path = Path(model)
    return str(path.absolute()) if path.suffix == ".safetensors" else model
