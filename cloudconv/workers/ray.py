"""Distribute tasks over a Ray cluster; Ray is an optional extra."""

from __future__ import annotations

import importlib
import secrets
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Self

from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Finished, TaskEvent
from cloudconv.workers.events import MAX_ATTEMPTS, POLL, TASKS_PER_WORKER, Task, Tasks, Work
from cloudconv.workers.remote import RemoteFile, forget

_TIMEOUT = 10  # seconds, for a connection and for the deletion of copies

_Performed = tuple[list[int], list[Any]]
"""The numbers of the files that a machine lacks, and the content of each event.

If a file is missing, the task is not done and has no events.
"""


class _End(Enum):
    END = 0


class Cluster(Generic[Task]):
    """A connection to a Ray cluster; a context manager that cancels its tasks."""

    def __init__(self, work: Work[Task], address: str | None, *, cores: int, gpus: int) -> None:
        """Join a cluster, unless this process has joined one already.

        Args:
            work: the function that a machine applies to its tasks.
            address: the address of the cluster; None for a cluster that runs on this machine, or
                for a new one.
            cores: the number of cores for each task.
            gpus: the number of GPUs for each task.

        Raises:
            DeviceError: Ray is not installed, there is no cluster at that address, or none of its
                machines has enough cores or GPUs.
        """
        self._ray, self._work = _ray(), work
        self._needs = {"num_cpus": cores, "num_gpus": gpus}
        self._running: dict[Any, tuple[Any, list[_Upload]]] = {}  # by the reference to the result
        self._uploads: dict[Path, _Upload] = {}
        self._joined = not self._ray.is_initialized()
        with ExitStack() as undo:
            undo.push(self.__exit__)
            if self._joined and not _join(self._ray, address):
                _init(self._ray, include_dashboard=False)
            self._check_room()
            undo.pop_all()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel all tasks, delete copied files, and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        for upload in self._uploads.values():
            self._forget(upload)
        if self._joined:
            self._ray.shutdown()

    def map(self, tasks: Iterator[Task | None]) -> Generator[TaskEvent[Task], None, None]:
        """Do tasks on the cluster; see :meth:`~cloudconv.workers.processes.Processes.map`.

        A task whose machine or process is lost is repeated on another one. Machines read files at
        the same path as this machine; files that a machine does not have are sent once.
        """
        perform = self._ray.remote(max_retries=MAX_ATTEMPTS - 1, **self._needs)(_perform)
        sent = self._ray.put((secrets.token_hex(8), self._work))
        may_follow = True  # whether a task may come later
        while may_follow or self._running:
            may_follow = False
            while not may_follow and len(self._running) < self._room():
                task = next(tasks, _End.END)
                if task is _End.END:
                    break
                may_follow = task is None
                if task is not None:
                    yield from self._submit(perform, sent, task)
            if not self._running:
                time.sleep(POLL if may_follow else 0)
                continue
            ended, _ = self._ray.wait(list(self._running), timeout=POLL if may_follow else None)
            for reference in ended:
                task, uploads = self._running.pop(reference)
                for upload in uploads:
                    upload.tasks -= 1
                missing, contents = self._result(reference)
                for number in missing:
                    uploads[number].wanted = True
                if missing:
                    yield from self._submit(perform, sent, task)
                yield from (TaskEvent(task, content) for content in contents)

    def _submit(self, perform: Any, sent: Any, task: Task) -> Iterator[TaskEvent[Task]]:
        try:
            uploads = self._uploads_of(self._work.files(task))
            chunks = [self._chunks(upload) for upload in uploads]
        except CloudconvError as error:
            yield TaskEvent(task, Finished(error))
            return
        files = [upload.file for upload in uploads]
        self._running[perform.remote(sent, task, files, chunks)] = task, uploads
        for upload in uploads:
            upload.tasks += 1

    def _uploads_of(self, paths: Sequence[Path]) -> list[_Upload]:
        """Return the uploads of files; raise InputError if a file is missing or no single file."""
        for path in set(paths) - self._uploads.keys():
            # A new file probably belongs to the next video, so files without tasks are released.
            for idle in [each for each, upload in self._uploads.items() if not upload.tasks]:
                if idle not in paths:
                    self._forget(self._uploads.pop(idle))
            self._uploads[path] = _Upload(RemoteFile.of(path))
        return [self._uploads[path] for path in paths]

    def _chunks(self, upload: _Upload) -> list[Any]:
        """Return references to a file's chunks; raise InputError if the file cannot be read.

        The list is empty until a machine has requested the file.
        """
        if upload.wanted and not upload.chunks:
            upload.chunks = [self._ray.put(data) for data in upload.file.chunks()]
        return upload.chunks

    def _forget(self, upload: _Upload) -> None:
        """Delete the copies of a file on all machines that can still be reached."""
        if not upload.chunks:
            return
        ray = self._ray
        at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = ray.remote(num_cpus=0, max_retries=0)(forget)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        strategies = [at(node, soft=False) for node in nodes]
        running = [
            remote.options(scheduling_strategy=each).remote(upload.file.token)
            for each in strategies
        ]
        ray.wait(running, num_returns=len(running), timeout=_TIMEOUT)

    def _check_room(self) -> None:
        """Raise DeviceError if no machine has enough cores and GPUs for a task."""
        needs = {"CPU": self._needs["num_cpus"], "GPU": self._needs["num_gpus"]}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= need for name, need in needs.items()) for node in nodes):
            return
        if needs["GPU"] and not any(node.get("GPU", 0) for node in nodes):
            raise DeviceError(
                "no-gpu-in-cluster: --device names a GPU, but no machine of the cluster has one: "
                "use --device=cpu, or start Ray on a machine with a GPU."
            )
        raise DeviceError(
            f"no-machine: No machine of the cluster has {needs['CPU']} cores"
            f"{' and a GPU' if needs['GPU'] else ''}: give fewer cores with --threads."
        )

    def _room(self) -> int:
        """Return the number of tasks to submit at once, given the present size of the cluster."""
        resources = self._ray.cluster_resources()
        slots = min(
            int(resources.get(name, 0) // need)
            for name, need in (("CPU", self._needs["num_cpus"]), ("GPU", self._needs["num_gpus"]))
            if need
        )
        return max(1, slots) * TASKS_PER_WORKER

    def _result(self, reference: Any) -> _Performed:
        errors = self._ray.exceptions
        try:
            performed: _Performed = self._ray.get(reference)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, CloudconvError):
                raise
            return [], [Finished(error.cause)]
        except errors.RayError as error:
            reason = str(error).splitlines()[0]
            lost = DeviceError(
                f"frames-lost-by-cluster: The cluster lost the same frames {MAX_ATTEMPTS} times "
                f"({reason}): 'ray status' shows its machines."
            )
            return [], [Finished(lost)]
        return performed


def count_gpus(address: str | None) -> int | None:
    """Return the number of GPUs of a cluster; None if there is no cluster yet.

    Raises:
        DeviceError: Ray is not installed, or there is no cluster at that address.
    """
    ray = _ray()
    joined = ray.is_initialized()
    try:
        if not joined and not _join(ray, address):
            return None
        return int(ray.cluster_resources().get("GPU", 0))
    finally:
        if not joined:
            ray.shutdown()


def _join(ray: Any, address: str | None) -> bool:
    """Join the cluster at an address, or one on this machine; return False if there is none here.

    Raises:
        DeviceError: there is no cluster at the address, or the cluster has other versions.
    """
    if address is not None:
        _check_address(address)
    try:
        _init(ray, address=address or "auto")
    except ConnectionError as error:
        if address is not None:  # another program answers there
            raise DeviceError(
                f"no-cluster: There is no Ray cluster at {address}: start one with 'ray start "
                "--head', which prints its address, or leave the address out."
            ) from error
        return False
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0].rstrip(".:")
        raise DeviceError(
            f"cluster-refuses: The Ray cluster cannot be joined ({why}): install the versions of "
            "Python and Ray that the cluster has."
        ) from error
    return True


def _init(ray: Any, **options: Any) -> None:
    """Start or join a cluster; keep the handler of SIGTERM, which Ray replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="error", **options)
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _check_address(address: str) -> None:
    """Raise DeviceError if nothing answers at an address; Ray itself would retry for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), _TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"no-cluster: There is no Ray cluster at {address}: start one with 'ray start "
            "--head', which prints its address, or leave the address out."
        ) from error


@dataclass(slots=True, eq=False)
class _Upload:
    """A file that tasks read, and its chunks in the cluster.

    ``wanted``: whether a machine has requested the file; ``chunks`` are stored only then.
    ``tasks``: the number of running tasks that read the file.
    """

    file: RemoteFile
    wanted: bool = False
    chunks: list[Any] = field(default_factory=list)
    tasks: int = 0


_works: dict[str, Work[Any]] = {}
"""The work of this process by its token, so that a model stays loaded between two tasks."""


def _perform(
    sent: tuple[str, Work[Task]], task: Task, files: list[RemoteFile], chunks: list[list[Any]]
) -> _Performed:
    """Do one task on the machine that runs this function."""
    copies = [
        file.find(_ray().get(chunk) for chunk in references)
        for file, references in zip(files, chunks, strict=True)
    ]
    missing = [number for number, path in enumerate(copies) if path is None]
    if missing:
        return missing, []
    token, work = sent
    if token not in _works:
        _works.clear()
        _works[token] = work
    work = _works[token]
    paths = dict(zip(work.files(task), (path for path in copies if path), strict=True))
    tasks: Tasks[Task] = Tasks()
    tasks.put(work.moved(task, paths))
    tasks.close()
    return [], [event.content for event in work(tasks)]


def _ray() -> Any:
    try:
        importlib.import_module("ray.util.scheduling_strategies")
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(
            "no-ray: A cluster needs Ray, which is not installed: run pip install "
            '"cloudconv[cluster]".'
        ) from error
