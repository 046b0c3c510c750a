"""A job that nothing can undo: finished segments outlast every end but a good one."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cloudconv import __version__, weights
from cloudconv.engine.runner import Task
from cloudconv.errors import (
    CloudconvError,
    InputError,
    Interrupted,
    OutputError,
    UnfitInputError,
)
from cloudconv.jobs.making import Step
from cloudconv.jobs.workfolder import WorkFolder
from cloudconv.media import build, images
from cloudconv.media.join import join
from cloudconv.media.sink import Sink
from cloudconv.models import registry
from cloudconv.segments import PlannedFrame, Segment, Splitter

_EDGE = 1 << 20
# What is done with the result, or how the work is shared out, changes no pixel.
_NO_SETTINGS = frozenset(
    ("input", "output", "out_dir", "overwrite", "preview", "resume", "workers", "device", "encode")
)


def settings_identity(settings: Any) -> dict[str, str]:
    """The settings that can change a pixel, by name, in words."""
    chosen = [f.name for f in fields(settings) if f.name not in _NO_SETTINGS]
    return {name: str(getattr(settings, name)) for name in chosen} | {
        f.name if f.name != "options" else "encoder option": str(getattr(settings.encode, f.name))
        for f in fields(settings.encode)
    }


def machine_identity(device: torch.device) -> dict[str, str]:
    """The kind of device, and the versions of everything that touches a pixel."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": f"{kind}, {platform.machine()}",
        "version of cloudconv": __version__,
        "version of PyTorch": torch.__version__,
        "version of PyAV": f"{metadata.version('av')}, FFmpeg {build.version()}",
    }


def weights_identity(model: str) -> str | None:
    """A hash of the model's weights; None for a method without."""
    path = Path(model)
    if path.suffix == ".safetensors":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    name = registry.spec(model).weights
    return None if name is None else weights.entry(name).sha256


def input_identity(path: Path, *, lasting: bool = True, ends: bool = True) -> str:
    """What tells a file, or pictures, from any other: sizes, dates, and a hash of both ends.

    Args:
        path: as probed.
        lasting: False for a copy of standard input, whose date says nothing.
        ends: False to read nothing of it.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    pictures = None if path.is_file() else images.open_pictures(path)
    files = pictures.files if isinstance(pictures, images.PictureFiles) else (path,)
    known = hashlib.sha256()
    for file in files:
        try:
            about = file.stat()
            known.update(f"{about.st_size} {about.st_mtime_ns if lasting else ''};".encode())
            if ends and len(files) == 1:
                known.update(both_ends(file))
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    return known.hexdigest()


def both_ends(file: Path) -> bytes:
    """The first and the last MiB of a file, which tell it from most others."""
    with file.open("rb") as opened:
        head = opened.read(_EDGE)
        opened.seek(max(file.stat().st_size - _EDGE, 0))
        return head + opened.read(_EDGE)


def planned(task: Task) -> PlannedFrame:
    """The task without its pictures."""
    right = None if task.right is None else task.right.time
    return PlannedFrame(task.left.time, right, task.timestep, task.time, task.duration)


def split(tasks: Iterator[Task], cuts: list[Any], folder: WorkFolder) -> Iterator[Step]:
    """The steps of a streaming plan; of segments that are finished, only the segments.

    Args:
        tasks: all of the job's.
        cuts: the times of new scenes found so far, up to the newest task's left frame at least.
        folder: knows what is finished.

    Raises:
        OutputError: a finished segment is not what is planned now.
    """
    splitter = Splitter()
    passed = 0
    for task in tasks:
        cut = passed < len(cuts) and cuts[passed] <= task.left.time
        while passed < len(cuts) and cuts[passed] <= task.left.time:
            passed += 1
        done = splitter.push(planned(task), cut=cut)
        if done is not None:
            yield _checked(done, folder)
        if splitter.number not in folder.finished:
            yield task
    last = splitter.finish()
    if last is not None:
        yield _checked(last, folder)


def _checked(segment: Segment, folder: WorkFolder) -> Segment:
    finished = folder.finished.get(segment.number)
    if finished is not None and finished.digest != segment.digest:
        raise OutputError(
            f"What is finished in {folder.path} belongs to another plan of this video; begin anew "
            "with --no-resume."
        )
    return segment


def missing_segments(steps: Iterator[Step], folder: WorkFolder) -> Iterator[Segment]:
    """The segments of a plan that are not finished yet."""
    for step in steps:
        if isinstance(step, Segment) and step.number not in folder.finished:
            yield step


def join_finished(folder: WorkFolder, output: Sink) -> list[str]:
    """Make the output from all segments and delete the folder; returns the sink's warnings."""
    done = [folder.finished[number] for number in sorted(folder.finished)]
    with output:
        join(output, [(folder.file_of(each), each.summary) for each in done])
    folder.remove()
    return output.warnings


@contextmanager
def keeping(folder: WorkFolder) -> Iterator[None]:
    """Lock a work folder; however the block fails, it says what is kept.

    Raises:
        Interrupted: Ctrl-C in the block, and there are finished segments.
        OutputError: see :meth:`WorkFolder.lock`.
    """
    with ExitStack() as stack:
        stack.callback(folder.leave)
        try:
            folder.lock()
            yield
        except KeyboardInterrupt as error:
            said = folder.leave()
            if said is None:
                raise
            raise Interrupted(said) from error
        except CloudconvError as error:
            told = left(folder, error)
            if told is error:
                raise
            raise told from error


def left(folder: WorkFolder, error: CloudconvError) -> CloudconvError:
    """Let go of the folder after an error; the error, with a word on what is kept."""
    said = folder.leave(keep=not isinstance(error, UnfitInputError))
    if said is None:
        return error
    told = type(error)(f"{error} {said}; the same command carries on.")
    told.__cause__ = error
    return told
