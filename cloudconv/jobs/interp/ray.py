"""Distribute jobs over a Ray cluster; Ray is an optional extra.

A machine reads a file of a job at the same path as this machine. If the machine does not have the
file there, it writes a copy of the object with the file's content, which Ray transfers.
"""

from __future__ import annotations

import importlib
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self

from cloudconv.errors import CloudconvError, DeviceError, InputError
from cloudconv.events import Finished, TaskEvent
from cloudconv.files import reading
from cloudconv.host import reuse_memory
from cloudconv.jobs.interp.processes import END, MAX_ATTEMPTS, POLL, Job, Work, outcome_of

_TIMEOUT = 10  # seconds, for a connection and for the deletion of copies
_CHUNK = 1 << 26  # bytes


class Cluster(Generic[Job]):
    """A connection to a Ray cluster; a context manager that cancels its jobs.

    The address is None for a cluster on this machine, or a new one. A job needs so many ``cores``
    and ``gpus``. Raises DeviceError if Ray is not installed, if there is no cluster at that
    address, or if no machine has enough cores or GPUs.
    """

    def __init__(self, work: Work[Job], address: str | None, *, cores: int, gpus: int) -> None:
        self._ray, self._work = _ray(), work
        self._needs = {"CPU": cores, "GPU": gpus}
        self._running: dict[Any, tuple[Job, list[_Shared]]] = {}  # by the reference to the result
        self._shared: dict[Path, _Shared] = {}
        self._joined = not self._ray.is_initialized()
        with ExitStack() as undo:
            undo.push(self.__exit__)
            if self._joined:
                _join(self._ray, address)
            self._check_room()
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        for shared in self._shared.values():
            self._forget(shared)
        if self._joined:
            self._ray.shutdown()

    def map(
        self, jobs: Iterator[Job | None], keep: Callable[[TaskEvent[Job]], None] = lambda _: None
    ) -> Generator[TaskEvent[Job], None, None]:
        """Do jobs on the cluster; see :meth:`~cloudconv.jobs.interp.processes.Processes.map`.

        A job whose machine or process is lost is repeated on another one. An interrupt loses jobs.
        """
        cores, gpus = self._needs.values()
        needs = {"max_retries": MAX_ATTEMPTS - 1, "num_cpus": cores, "num_gpus": gpus}
        perform = self._ray.remote(**needs)(_perform)
        sent = self._ray.put((secrets.token_hex(8), self._work))
        job: Any = None
        while job is not END or self._running:
            while len(self._running) < self._room() and (job := next(jobs, END)) not in (None, END):
                try:
                    shared = [self.share(path) for path in self._work.files(job)]
                except CloudconvError as error:
                    yield TaskEvent(job, Finished(error))
                else:
                    self._running[perform.remote(sent, job, shared)] = job, shared
            if not self._running:
                time.sleep(POLL if job is None else 0)
                continue
            ended, _ = self._ray.wait(list(self._running), timeout=POLL if job is None else None)
            for reference in ended:
                done, _ = self._running.pop(reference)
                yield from (TaskEvent(done, content) for content in self._result(reference))

    def share(self, path: Path) -> _Shared:
        """Return a file for other machines; raise InputError if it is missing or no single file."""
        if path not in self._shared:
            # A new file probably belongs to the next video, so files without jobs are released.
            used = [each for _, shared in self._running.values() for each in shared]
            for idle in [each for each, shared in self._shared.items() if shared not in used]:
                self._forget(self._shared.pop(idle))
            self._shared[path] = shared = _Shared(path)
            if len(self._nodes()) > 1:
                with reading(path), path.open("rb") as file:
                    chunks = iter(lambda: file.read(_CHUNK), b"")
                    shared.chunks = [self._ray.put(chunk) for chunk in chunks]
        return self._shared[path]

    def _forget(self, shared: _Shared) -> None:
        if shared.chunks:
            at = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
            delete = self._ray.remote(num_cpus=0, max_retries=0)(shutil.rmtree)
            places = [at(node["NodeID"], soft=False) for node in self._nodes()]
            deleting = [delete.options(scheduling_strategy=each) for each in places]
            running = [each.remote(shared.home, ignore_errors=True) for each in deleting]
            self._ray.wait(running, num_returns=len(running), timeout=_TIMEOUT)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _check_room(self) -> None:
        nodes = [node["Resources"] for node in self._nodes()]
        if any(all(node.get(k, 0) >= need for k, need in self._needs.items()) for node in nodes):
            return
        if self._needs["GPU"] and not any(node.get("GPU", 0) for node in nodes):
            raise DeviceError(
                "no-gpu-in-cluster: --device names a GPU, but no machine of the cluster has one: "
                "use --device=cpu, or start Ray on a machine with a GPU."
            )
        raise DeviceError(
            f"no-machine: No machine of the cluster has {self._needs['CPU']} cores"
            f"{' and a GPU' if self._needs['GPU'] else ''}: give fewer cores with --threads."
        )

    def _room(self) -> int:
        """Return the number of jobs to submit at once: two for each that the cluster can do now."""
        resources = self._ray.cluster_resources()
        slots = min(int(resources.get(k, 0) // need) for k, need in self._needs.items() if need)
        return max(1, slots) * 2

    def _result(self, reference: Any) -> list[Any]:
        try:
            return list(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            lost = DeviceError(
                f"frames-lost-by-cluster: The cluster lost the same frames {MAX_ATTEMPTS} times "
                f"({str(error).splitlines()[0]}): 'ray status' shows its machines."
            )
            return [Finished(lost)]


def _join(ray: Any, address: str | None) -> None:
    """Join the cluster at an address; without one a cluster on this machine, or a new one.

    The handler of SIGTERM, which Ray replaces, is kept.
    """
    handler = signal.getsignal(signal.SIGTERM)
    quiet = partial(ray.init, log_to_driver=False, logging_level="error")
    try:
        if address is not None:  # Ray itself would retry for minutes if nothing answers
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), _TIMEOUT).close()
        try:
            quiet(address=address or "auto")
        except ConnectionError:
            if address is not None:
                raise
            quiet(include_dashboard=False)
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0].rstrip(".:")
        raise DeviceError(
            f"cluster-refuses: The Ray cluster cannot be joined ({why}): install the versions of "
            "Python and Ray that the cluster has."
        ) from error
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"no-cluster: There is no Ray cluster at {address}: start one with 'ray start "
            "--head', which prints its address, or leave the address out."
        ) from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def check_single(path: Path) -> None:
    """Raise InputError if the input is not a single file."""
    if not path.is_file():
        raise InputError(
            f"not-a-single-file: {path} is not a single file, and a cluster can share only a "
            "file: make a video of it first."
        )


class _Shared:
    """A file with references to its content in the cluster, none if the cluster is one machine."""

    def __init__(self, path: Path) -> None:
        check_single(path)
        self.path, self.chunks = path.absolute(), list[Any]()
        self.mark = _mark(self.path)
        self.home = Path(tempfile.gettempdir()) / f"cloudconv-{secrets.token_hex(8)}"  # of copies

    def here(self) -> Path:
        with suppress(OSError):
            if _mark(self.path) == self.mark:
                return self.path
        copy = self.home / self.path.name
        if not copy.exists():
            self.home.mkdir(exist_ok=True)
            part = self.home / secrets.token_hex(8)
            with part.open("wb") as file:
                file.writelines(_ray().get(chunk) for chunk in self.chunks)
            part.replace(copy)  # another process may write the same copy; both are complete
        return copy


def _mark(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


_works: dict[str, Work[Any]] = {}
"""The work of this process by its token, so that a model stays loaded between two jobs."""


def _perform(sent: tuple[str, Work[Job]], job: Job, shared: list[_Shared]) -> list[Any]:
    token, work = sent
    if token not in _works:
        reuse_memory()
        _works.clear()
        _works[token] = work
    paths = dict(zip(work.files(job), (each.here() for each in shared), strict=True))
    return list(outcome_of(_works[token], work.moved(job, paths)))


def _ray() -> Any:
    try:
        importlib.import_module("ray.util.scheduling_strategies")
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(
            "no-ray: A cluster needs Ray, which is not installed: run pip install "
            '"cloudconv[cluster]".'
        ) from error
