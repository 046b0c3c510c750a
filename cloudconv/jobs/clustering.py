"""Segments made on other machines: what travels there, and what comes back."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloudconv.engine.cluster import Cluster, fetch
from cloudconv.engine.device import set_threads
from cloudconv.engine.pipeline import prefetch
from cloudconv.engine.runner import Renderer
from cloudconv.errors import InputError
from cloudconv.jobs.making import Recipe, Shown, decoded, make_segments
from cloudconv.jobs.resuming import both_ends
from cloudconv.jobs.workfolder import WorkFolder, fresh_file
from cloudconv.media.packets import PacketSummary
from cloudconv.segments import Segment

_PIECE = 1 << 26


@dataclass(frozen=True, slots=True)
class Errand:
    """What a machine must know of a job. ``token`` is the job's own; the input is known by
    ``size`` and ``ends``, the work folder by what its plan says.
    """

    token: str
    recipe: Recipe
    size: int
    ends: str
    folder: Path
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
    recipe: Recipe,
    address: str | None,
    segments: Iterator[Segment],
    folder: WorkFolder,
    *,
    shown: Shown,
    warn: Callable[[str], None],
) -> None:
    """Make segments on a Ray cluster.

    Machines that see the input and the work folder under the same path read and write there. To
    the others the input is sent once, and their segments come back through Ray.

    Args:
        recipe: of the job; its threads are the cores that a task asks for.
        address: see :class:`~cloudconv.engine.cluster.Cluster`.
        segments: those that are missing.
        folder: where each is recorded as it is done.
        shown: told of the frames of each finished segment.
        warn: told what machines have to say, in sentences.
    """
    path = recipe.info.path.absolute()
    if not path.is_file():
        raise InputError(
            f"{path} is no single file, and only a file can be shared out over a cluster: make a "
            "video of it first."
        )
    recipe = replace(recipe, info=replace(recipe.info, path=path), model=_absolute(recipe.model))
    errand = Errand(
        token=secrets.token_hex(8),
        recipe=recipe,
        size=path.stat().st_size,
        ends=_ends(path),
        folder=folder.path.absolute(),
        plan=_plan_of(folder.path),
    )
    gpus = int(recipe.device.startswith("cuda"))
    with (
        Cluster(address, cores=recipe.threads or 1, gpus=gpus) as cluster,
        prefetch(segments, 2) as ahead,
    ):
        known = cluster.put(errand)
        pieces: list[Any] = []

        def again(segment: Segment, parcel: Parcel) -> tuple[Any, ...] | None:
            if parcel.summary is not None:
                return None
            if not pieces:
                pieces.extend(cluster.put(piece) for piece in _pieces(path))
            return known, pieces

        def done(segment: Segment, parcel: Parcel) -> None:
            assert parcel.summary is not None
            file = folder.path / parcel.name if parcel.name else folder.new_file()
            if not parcel.name:
                folder.save(file, parcel.data)
            folder.record(segment, file, parcel.summary)
            for message in parcel.warnings:
                warn(message)
            shown(len(segment.frames), None)

        try:
            cluster.share(make_parcel, ahead, shared=(known, []), done=done, again=again)
        finally:
            if pieces:
                cluster.everywhere(forget_input, errand.token)


def make_parcel(segment: Segment, errand: Errand, pieces: list[Any]) -> Parcel:
    """Make one segment; what a task does on its machine."""
    source = _input_here(errand, pieces)
    if source is None:
        return Parcel(None)
    recipe = replace(errand.recipe, info=replace(errand.recipe.info, path=source))
    renderer, warnings = _renderer(errand.token, recipe)
    within_reach = _plan_of(errand.folder) == errand.plan
    summaries: list[PacketSummary] = []
    with tempfile.TemporaryDirectory(prefix="cloudconv-") as home:
        file = fresh_file(errand.folder if within_reach else Path(home))
        with prefetch(decoded(recipe, [segment]), 8) as steps:
            make_segments(
                recipe,
                renderer,
                steps,
                new_file=lambda: file,
                done=lambda _segment, _file, summary: summaries.append(summary),
                shown=lambda _more, _picture: None,
            )
        data = b"" if within_reach else file.read_bytes()
    return Parcel(summaries[0], file.name if within_reach else "", data, tuple(warnings))


_loaded: dict[str, tuple[Renderer, list[str]]] = {}


def _renderer(token: str, recipe: Recipe) -> tuple[Renderer, list[str]]:
    """The job's model, loaded once in each process, and where its warnings go."""
    if token not in _loaded:
        _loaded.clear()
        set_threads(recipe.threads)
        said: list[str] = []
        _loaded[token] = recipe.renderer(said.append), said
    renderer, said = _loaded[token]
    said.clear()
    return renderer, said


def forget_input(token: str) -> None:
    """Delete the copy of a job's input that was sent to this machine."""
    shutil.rmtree(_home(token), ignore_errors=True)


def _home(token: str) -> Path:
    return Path(tempfile.gettempdir()) / f"cloudconv-{token}"


def _input_here(errand: Errand, pieces: list[Any]) -> Path | None:
    """The input on this machine: in its own place, or put together from what was sent."""
    path = errand.recipe.info.path
    with suppress(OSError):
        if path.stat().st_size == errand.size and _ends(path) == errand.ends:
            return path
    if not pieces:
        return None
    folder = _home(errand.token)
    copy = folder / path.name
    if not copy.exists():
        folder.mkdir(exist_ok=True)
        part = folder / secrets.token_hex(8)
        with part.open("wb") as file:
            for piece in pieces:
                file.write(fetch(piece))
        # Another process here may have done the same; either copy is whole.
        part.replace(copy)
    return copy


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _ends(path: Path) -> str:
    return hashlib.sha256(both_ends(path)).hexdigest()


def _plan_of(folder: Path) -> str:
    """What tells a work folder from any other: its plan, with a word of its own in it."""
    try:
        return hashlib.sha256((folder / "plan.json").read_bytes()).hexdigest()
    except OSError:
        return ""


def _absolute(model: str) -> str:
    path = Path(model)
    return str(path.absolute()) if path.suffix == ".safetensors" else model
