"""Render segments in processes of this machine, or on a Ray cluster.

The module loads no PyTorch. The machines of a cluster share a folder; Ray is an optional
extra.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from cloudconv import interrupts
from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Event, Finished
from cloudconv.files import undone_on_error
from cloudconv.host import lack_of_memory, reuse_memory

if TYPE_CHECKING:
    from cloudconv.jobs.interp.segments import (
        Keep,
        RenderJob,
        SegmentPlan,
        SegmentWork,
    )

# Seconds until the next request for a segment, if the next one is not known yet.
POLL = 0.05
MAX_ATTEMPTS = 3  # the number of attempts at a segment whose worker dies each time
_TOKEN = (
    "set RAY_AUTH_MODE=token here and copy the file .ray/auth_token of its first machine"
)
_TIMEOUT = 10  # seconds, for a connection to a cluster
_END: Any = object()  # what replaces the next segment after the last one


class Workers(AbstractContextManager["Workers"]):
    """A pool that renders segments; a context manager that ends its work."""

    def __exit__(self, *_: object) -> None:
        self._cancel()

    def map(
        self, job: RenderJob, segments: Iterator[SegmentPlan | None], keep: Keep
    ) -> Generator[tuple[int, Event], None, None]:
        """Render segments in any order; yield events, each with the number of its segment.

        ``Finished`` ends a segment; its result is a CloudconvError if the segment failed.
        ``keep`` gets each other result. If a segment is made again, its events come again.
        None among the segments means that the next one is not known yet; ``map`` then
        yields events before the next request. An interrupt, an error, and closing the
        generator cancel the segments in work. The method may be called again when the
        generator has ended. Errors of ``segments`` are raised, and RuntimeError if a
        process ends with an unexpected exception.
        """
        segment: Any = None
        count = 0  # of segments in work
        with undone_on_error(self._cancel):
            self._begin(job)
            while segment is not _END or count:
                while segment is not _END and count < self._slots():
                    if (segment := next(segments, _END)) in (None, _END):
                        break
                    self._submit(segment)
                    count += 1
                patience = POLL if segment is None else None
                if not count:
                    time.sleep(patience or 0)
                    continue
                for done, event in self._arrived(patience):
                    if isinstance(event, Finished):
                        count -= 1
                        if not isinstance(event.result, CloudconvError):
                            keep(done, event.result)
                    yield done.number, event

    @abstractmethod
    def _begin(self, job: RenderJob) -> None:
        """Prepare for the segments of a job."""

    @abstractmethod
    def _slots(self) -> int:
        """Return how many segments can be in work."""

    @abstractmethod
    def _submit(self, segment: SegmentPlan) -> None:
        """Start a segment of the job."""

    @abstractmethod
    def _arrived(self, patience: float | None) -> Iterator[tuple[SegmentPlan, Any]]:
        """Yield events, each with its segment, after at most so many seconds."""

    @abstractmethod
    def _cancel(self) -> None:
        """End the segments in work, and whatever renders them."""


class Processes(Workers):
    """Processes that render segments.

    Each process has its own copy of the work, and gets one of the environments in addition.
    The processes start with the first job; later jobs use the same processes. A process
    that dies is replaced, and its segment is made again. All processes end with this
    process.
    """

    def __init__(
        self, work: SegmentWork, environments: Sequence[Mapping[str, str]]
    ) -> None:
        self._work = work
        self._environments = environments
        self._workers: list[_Worker] = []
        self._job: Any = None

    def _begin(self, job: RenderJob) -> None:
        self._job = job
        for environment in self._environments[len(self._workers) :]:
            self._workers.append(_Worker(self._work, environment))

    def _slots(self) -> int:
        return len(self._workers)

    def _submit(self, segment: SegmentPlan) -> None:
        free = next(worker for worker in self._workers if not worker.segment)
        free.give(self._job, segment)

    def _arrived(self, patience: float | None) -> Iterator[tuple[SegmentPlan, Any]]:
        busy = {worker.connection: worker for worker in self._workers if worker.segment}
        for connection in wait(list(busy), patience):
            yield from busy[connection].received()  # type: ignore[index]

    def _cancel(self) -> None:
        while self._workers:
            self._workers.pop().end()


class _Worker:
    """A process, and the segment that it renders."""

    def __init__(self, work: SegmentWork, environment: Mapping[str, str]) -> None:
        self.segment: SegmentPlan | None = None
        self._deaths = 0  # of processes that rendered the segment
        self._sent: object = None
        # The process unpickles the work after it has set the environment: the work imports
        # PyTorch, which reads the visible GPUs only once.
        self._given = dict(environment), pickle.dumps(work)
        self._start()

    def _start(self) -> None:
        # A forked process would inherit locks of this process's threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, *self._given), daemon=True
        )
        if os.name == "posix":  # the tracker would let the signals through at its own start
            resource_tracker.ensure_running()
        with interrupts.signals_held():
            self._process.start()
        theirs.close()

    def give(self, job: RenderJob, segment: SegmentPlan) -> None:
        self.segment = segment
        self._deaths = 0
        self._sent = (job, segment)
        self._send()

    def _send(self) -> None:
        with suppress(OSError):  # the process is dead, and `received` replaces it
            self.connection.send(self._sent)

    def received(self) -> Iterator[tuple[SegmentPlan, Any]]:
        """Yield the next event.

        Replace a process that has died, until its segment is given up.
        """
        assert self.segment is not None
        segment = self.segment
        try:
            content = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            code = self._process.exitcode
            # Python's exit code after an exception that is not a CloudconvError.
            if code == 1:
                raise RuntimeError(
                    "a worker process failed; its error message is above"
                ) from None
            self._start()
            self._deaths = self._deaths + 1
            if self._deaths < MAX_ATTEMPTS:
                self._send()
                return
            content = Finished(
                DeviceError(
                    f"workers-died: Worker processes ended {MAX_ATTEMPTS} times on the "
                    f"same frames (exit code {code}), most likely for lack of memory: use "
                    "fewer workers."
                )
            )
        if isinstance(content, Finished):
            self.segment = None
        yield segment, content

    def end(self) -> None:
        self.connection.close()
        # A process that has ended by itself keeps its exit code.
        self._process.join(0.1)
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, environment: dict[str, str], packed: bytes) -> None:
    os.environ.update(environment)
    # Waiting threads of OpenMP must leave the cores to other processes. The command line
    # also sets this variable, but a script that imports cloudconv does not.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    reuse_memory()
    work: SegmentWork | None = None

    def do(sent: bytes) -> Iterator[Any]:
        nonlocal work
        work = work or pickle.loads(packed)  # imports PyTorch, as what is sent does
        yield from work(*pickle.loads(sent))

    # On Windows Ctrl-C and Ctrl-Break reach every process of the terminal. The main process
    # alone ends the work.
    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="cloudconv-parent", daemon=True).start()
    while True:
        try:
            sent = connection.recv_bytes()
        except (EOFError, OSError):
            return
        for event in outcome_of(do, sent):
            try:
                connection.send(event)
            except OSError:  # the main process has ended
                return


def outcome_of(work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    """Do the work and yield its events; an error for the user becomes the result."""
    try:
        yield from work(*arguments)
    except CloudconvError as error:
        yield Finished(error)
    except (MemoryError, OSError, ImportError, RuntimeError) as error:
        if (why := lack_of_memory(error)) is None:
            raise
        text = f"worker-memory: In a worker process {why}, or use fewer workers."
        yield Finished(DeviceError(text))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


class Cluster(Workers):
    """A connection to a Ray cluster.

    The address is None for a cluster on this machine, or a new one. A segment needs so many
    ``cores`` and ``gpus``. A segment whose machine or process is lost is made again on
    another one. Raises DeviceError if Ray is not installed, if there is no cluster at that
    address, or if no machine has enough cores or GPUs.
    """

    def __init__(
        self, work: SegmentWork, address: str | None, *, cores: int, gpus: int
    ) -> None:
        self._ray = _ray(patient=address is None)
        self._work = work
        self._needs = {"CPU": cores, "GPU": gpus}
        needs = {"max_retries": MAX_ATTEMPTS - 1, "num_cpus": cores, "num_gpus": gpus}
        self._perform = self._ray.remote(**needs)(_perform)
        self._sent: Any = None
        self._running: dict[Any, SegmentPlan] = {}  # by the reference to the result
        self._joined = not self._ray.is_initialized()
        with undone_on_error(self.__exit__):
            if self._joined:
                _join(self._ray, address)
            self._check_room()

    def __exit__(self, *_: object) -> None:
        self._cancel()
        if self._joined:
            self._ray.shutdown()

    def _begin(self, job: RenderJob) -> None:
        self._sent = self._ray.put((secrets.token_hex(8), self._work, job))

    def _slots(self) -> int:
        """Return two for each segment that the cluster can do now."""
        resources = self._ray.cluster_resources()
        slots = min(
            int(resources.get(k, 0) // need) for k, need in self._needs.items() if need
        )
        return max(1, slots) * 2

    def _submit(self, segment: SegmentPlan) -> None:
        self._running[self._perform.remote(self._sent, segment)] = segment

    def _arrived(self, patience: float | None) -> Iterator[tuple[SegmentPlan, Any]]:
        ended, _ = self._ray.wait(list(self._running), timeout=patience)
        for reference in ended:
            segment = self._running.pop(reference)
            yield from ((segment, event) for event in self._result(reference))

    def _cancel(self) -> None:
        while self._running:
            self._ray.cancel(self._running.popitem()[0], force=True)

    def _check_room(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

        def has_one(node: Mapping[str, float]) -> bool:
            return all(node.get(key, 0) >= need for key, need in self._needs.items())

        if not any(map(has_one, nodes)):
            a_gpu = " and a GPU" * self._needs["GPU"]
            no_gpu = ", or --device=cpu" * self._needs["GPU"]
            raise DeviceError(
                f"no-machine: No machine of the cluster has {self._needs['CPU']} cores"
                f"{a_gpu}: give fewer cores with --threads{no_gpu}."
            )

    def _result(self, reference: Any) -> list[Any]:
        try:
            return list(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            lost = DeviceError(
                f"frames-lost-by-cluster: The cluster lost the same frames {MAX_ATTEMPTS} "
                f"times ({str(error).splitlines()[0]}): 'ray status' shows its machines."
            )
            return [Finished(lost)]


@contextmanager
def _raw_lines_dropped() -> Iterator[None]:
    """Drop what C++ writes to stderr in the block: Ray logs each attempt to connect."""
    with suppress(OSError):
        sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _join(ray: Any, address: str | None) -> None:
    """Join the cluster at an address, or one on this machine.

    Keep the handler of SIGTERM.
    """
    handler = signal.getsignal(signal.SIGTERM)
    quiet = partial(ray.init, log_to_driver=False, logging_level="error")
    try:
        if address is not None:  # Ray itself would retry for minutes if nothing answers
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), _TIMEOUT).close()
        with _raw_lines_dropped():
            try:
                quiet(address=address or "auto")
            except ConnectionError:
                if address is not None:
                    raise
                quiet(include_dashboard=False)
    except getattr(ray.exceptions, "AuthenticationError", ()) as error:
        raise DeviceError(
            f"cluster-wants-token: The Ray cluster {address or 'here'} wants a token, and "
            f"this machine has none: {_TOKEN}."
        ) from error
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0].rstrip(".:")
        raise DeviceError(
            f"cluster-refuses: The Ray cluster cannot be joined ({why}): install the "
            "versions of Python and Ray that the cluster has."
        ) from error
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"no-cluster: There is no Ray cluster at {address} that takes this machine: "
            "start one with 'ray start --head', which prints its address, or leave the "
            f"address out. If the cluster has a token, {_TOKEN}."
        ) from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


_works: dict[str, SegmentWork] = {}
"""The work of this process by its token, so that a model stays loaded between two
segments."""


def _perform(sent: tuple[str, SegmentWork, RenderJob], segment: Any) -> list[Any]:
    token, work, job = sent
    if token not in _works:
        reuse_memory()
        _works.clear()
        _works[token] = work
    return list(outcome_of(_works[token], job, segment))


def _ray(*, patient: bool) -> Any:
    """Import Ray, which then waits 20 s for a cluster, or 5 s if it is not ``patient``.

    Ray waits as long for a cluster that refuses this machine. One that answers at an
    address has been started.
    """
    name = "RAY_NUM_REDIS_GET_RETRIES"  # of a second each
    is_set = name in os.environ
    try:
        if not patient:
            os.environ.setdefault(name, "5")
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(
            "no-ray: A cluster needs Ray, which is not installed: run pip install "
            '"cloudconv[cluster]".'
        ) from error
    finally:
        if not is_set:
            os.environ.pop(name, None)
