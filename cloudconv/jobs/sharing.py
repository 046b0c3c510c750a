"""Who makes the segments: this process, several on this machine, or a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from cloudconv.engine.device import cores, set_threads
from cloudconv.engine.local import Jobs, share
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import SettingsError
from cloudconv.jobs.making import Recipe, Shown, decoded, make_segments
from cloudconv.jobs.workfolder import WorkFolder, fresh_file
from cloudconv.media.frame import Frame
from cloudconv.media.packets import PacketSummary
from cloudconv.segments import Segment

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


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """What one process of a crew does; see :class:`~cloudconv.engine.local.Work`."""

    recipe: Recipe
    folder: Path

    def __call__(
        self,
        segments: Jobs,
        done: Callable[[Segment, Any], None],
        tell: Callable[[Any], None],
    ) -> None:
        recipe = self.recipe
        set_threads(recipe.threads)
        renderer = recipe.renderer(tell)
        frames = 0

        def shown(more: int, picture: Frame | None) -> None:
            nonlocal frames
            frames += more
            tell(frames)

        def finished(segment: Segment, file: Path, summary: PacketSummary) -> None:
            done(segment, (file, summary))

        with (
            prefetch(decoded(recipe, segments), 8) as steps,
            closing(segments),
        ):
            make_segments(
                recipe,
                renderer,
                steps,
                new_file=lambda: fresh_file(self.folder),
                done=finished,
                shown=shown,
            )


def recipes(recipe: Recipe, crew: Crew, device: str) -> list[Recipe]:
    """The recipe for each process of a local crew."""
    if device == "cuda:all":
        return [replace(recipe, device=f"cuda:{number}") for number in range(crew.count)]
    return [recipe] * crew.count


def share_locally(
    works: Sequence[Recipe],
    segments: Iterator[Segment],
    folder: WorkFolder,
    *,
    shown: Shown,
    warn: Callable[[str], None],
) -> None:
    """Make segments in processes of this machine, one for each recipe.

    Args:
        works: they differ in the device alone.
        segments: those that are missing.
        folder: where each is recorded as it is done.
        shown: told how many frames were made since it was told last.
        warn: told what workers have to say, in sentences.
    """
    under_way = [0] * len(works)  # frames of each process, those of finished segments included
    taken = 0

    def done(segment: Segment, result: Any) -> None:
        file, summary = result
        folder.record(segment, file, summary)

    def told(number: int, message: Any) -> None:
        nonlocal taken
        if isinstance(message, str):
            warn(message)
            return
        under_way[number] = message or 0
        total = sum(under_way)
        shown(max(total - taken, 0), None)
        taken = max(total, taken)

    jobs = [SegmentWork(recipe, folder.path) for recipe in works]
    with prefetch(segments, len(works)) as ahead:
        share(jobs, ahead, done=done, told=told)
