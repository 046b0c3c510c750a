"""Render segments by workers on Ray, which runs on this machine or on a cluster.

The machines of a cluster share a folder; Ray is an optional extra.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cloudconv import interrupts
from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Event, Finished
from cloudconv.files import undone_on_error
from cloudconv.host import lack_of_memory, reuse_memory

if TYPE_CHECKING:
    from cloudconv.jobs.interp.pool import WorkerConfig
    from cloudconv.jobs.interp.segments import (
        Keep,
        RenderJob,
        SegmentPlan,
        SegmentWork,
    )

# Seconds until the next request for a segment, if the next one is not known yet.
POLL = 0.05
MAX_ATTEMPTS = 3  # the number of attempts at a segment whose worker dies each time
_END: Any = object()  # what replaces the next segment after the last one
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL


class Workers(AbstractContextManager["Workers"]):
    """Workers on Ray that render segments; a context manager that ends them.

    Ray starts, or is joined, with the first job, and a worker when a segment needs one;
    later jobs use the same workers. Each has its own copy of the work. Another worker makes
    the segment of one that dies.
    """

    def __init__(self, work: SegmentWork, config: WorkerConfig) -> None:
        self._config = config
        self._work = work
        self._ray: Any = None
        self._session = ExitStack()
        # The reference to the place of each worker.
        self._places: dict[Any, Any] = {}
        self._starting: dict[Any, Any] = {}  # the workers by that reference
        self._idle: list[Any] = []
        # The worker and its segment by the stream of its events.
        self._running: dict[Any, tuple[Any, SegmentPlan]] = {}
        self._waiting: list[SegmentPlan] = []
        self._deaths: Counter[int] = Counter()  # by the number of the segment

    def __exit__(self, *_: object) -> None:
        self._cancel()
        self._session.close()

    def map(
        self, job: RenderJob, segments: Iterator[SegmentPlan | None], keep: Keep
    ) -> Generator[tuple[int, Event], None, None]:
        """Render segments in any order; yield events, each with the number of its segment.

        ``Finished`` ends a segment; its result is a CloudconvError if the segment failed.
        ``keep`` gets each other result. If a segment is made again, its events come again.
        None among the segments means that the next one is not known yet; ``map`` then
        yields events before the next request. An interrupt, an error, and closing the
        generator cancel the segments in work. The method may be called again when the
        generator has ended. Errors of ``segments`` are raised, unexpected exceptions of a
        worker, and DeviceError if Ray or its cluster is missing.
        """
        segment: Any = None
        with undone_on_error(self._cancel):
            self._ray = self._ray or self._session.enter_context(started(self._config))
            self._deaths.clear()
            while segment is not _END or self._running or self._waiting:
                patience = None
                if len(self._waiting) <= len(self._starting):
                    segment = next(segments, _END)
                    if segment is None:
                        patience = POLL
                    elif segment is not _END:
                        self._waiting.append(segment)
                        patience = 0
                self._employ(job)
                for done, event in self._arrived(patience):
                    result = getattr(event, "result", None)
                    if not isinstance(result, CloudconvError | None):
                        keep(done, result)
                    yield done.number, event

    def _employ(self, job: RenderJob) -> None:
        """Give waiting segments to idle workers, or start one more worker.

        A worker gets no segment before it has started, which may be never on a cluster that
        others use, too.
        """
        is_short = not self._idle and len(self._waiting) > len(self._starting)
        if is_short and self._has_room():
            needs = {"num_cpus": self._config.cpus, "num_gpus": self._config.gpus}
            worker = self._ray.remote(**needs)(Worker).remote(self._work)
            self._places[worker] = worker.place.remote()
            self._starting[self._places[worker]] = worker
        while self._idle and self._waiting:
            worker = self._idle.pop()
            segment = self._waiting.pop(0)
            render = worker.render.options(num_returns="streaming")
            self._running[render.remote(job, segment)] = worker, segment

    def _has_room(self) -> bool:
        if self._config.kind == "local":
            return len(self._places) < self._config.count
        return not self._places or _is_in(self._ray.available_resources(), self._config)

    def _arrived(self, patience: float | None) -> Iterator[tuple[SegmentPlan, Any]]:
        """Yield events, each with its segment, after at most so many seconds."""
        if not (self._running or self._waiting):
            time.sleep(patience or 0)
            return
        coming = [*self._running, *self._starting]
        for one in self._ray.wait(coming, timeout=patience)[0]:
            if one in self._starting:
                self._idle.append(self._starting.pop(one))
                continue
            worker, segment = self._running[one]
            try:
                event = self._ray.get(next(one))
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as error:
                del self._running[one], self._places[worker]
                yield from self._made_again(segment, error)
                continue
            if isinstance(event, Finished):
                del self._running[one]
                self._idle.append(worker)
            yield segment, event

    def _made_again(
        self, segment: SegmentPlan, error: Exception
    ) -> Iterator[tuple[SegmentPlan, Any]]:
        """Let another worker make the segment of one that died, or give the segment up."""
        self._deaths[segment.number] += 1
        if self._deaths[segment.number] < MAX_ATTEMPTS:
            self._waiting.insert(0, segment)
            return
        text = (
            f"workers-died: Workers ended {MAX_ATTEMPTS} times on the same frames "
            f"({_first_line(error)}), most likely for lack of memory: use fewer workers. "
            "'ray status' shows the machines of a cluster."
        )
        yield segment, Finished(DeviceError(text))

    def _cancel(self) -> None:
        """Kill all workers; none of this machine writes after the method has returned."""
        for worker in self._places:
            self._ray.kill(worker)
        for worker, _ in self._running.values():
            with suppress(OSError, self._ray.exceptions.RayError):
                machine, process = self._ray.get(self._places[worker])
                while machine == platform.node():
                    os.kill(process, _KILL)
                    time.sleep(POLL / 10)
        used: list[Any] = [self._places, self._starting, self._idle]
        for part in (*used, self._running, self._waiting):
            part.clear()


class Worker:
    """A process that renders one segment after the other."""

    def __init__(self, work: SegmentWork) -> None:
        reuse_memory()
        self._work = work

    def place(self) -> tuple[str, int]:
        """Return the machine and the number of this process."""
        return platform.node(), os.getpid()

    def render(self, job: RenderJob, segment: SegmentPlan) -> Iterator[Any]:
        """Yield the events of a segment; an error for the user becomes its result."""
        try:
            yield from self._work(job, segment)
        except CloudconvError as error:
            yield Finished(error)
        except (MemoryError, OSError, ImportError, RuntimeError) as error:
            if (why := lack_of_memory(error)) is None:
                raise
            text = f"worker-memory: In a worker process {why}, or use fewer workers."
            yield Finished(DeviceError(text))


@contextmanager
def started(config: WorkerConfig) -> Iterator[Any]:
    """Yield Ray, which starts on this machine or joins a cluster; end it after the block.

    Ray that the script has started is used, and stays.
    """
    # Waiting threads of OpenMP must leave the cores to other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Ray reads these when it is imported. It prints on stdout that a worker has died.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if config.kind == "local":  # Ray's processes use the address 127.0.0.1, as on macOS
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:  # it waits 20 s for a cluster that answers and refuses this machine
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")
    ray = importlib.import_module("ray")
    with ExitStack() as stack:
        if not ray.is_initialized():
            # The paths of Ray's sockets must be short.
            short = "/tmp" if os.name == "posix" else None
            temporary = TemporaryDirectory("", "cloudconv-ray-", short, True)
            folder = stack.enter_context(temporary)
            stack.callback(ray.shutdown)
            # Ray also replaces the handler of SIGTERM, which is set again.
            with interrupts.signals_held(), _raw_lines_dropped():
                _start(ray, config, folder)
        if config.kind == "ray":
            _check_room(ray, config)
        yield ray


@contextmanager
def _raw_lines_dropped() -> Iterator[None]:
    """Drop what C++ writes to stderr in the block: Ray logs each attempt to connect."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _start(ray: Any, config: WorkerConfig, folder: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if config.kind == "local":
            workers = {"num_cpus": config.count, "num_gpus": config.gpus * config.count}
            # No list of all calls grows, and only the system kills for lack of memory.
            off = {"task_events_report_interval_ms": 0, "memory_monitor_refresh_ms": 0}
            own = {"_temp_dir": folder, "_system_config": off}
            # The store is little above Ray's minimum: only plans and events cross.
            least = {"include_dashboard": False, "object_store_memory": 80 << 20}
            ray.init("local", **workers, **own, **least, **quiet)
            return
        found = ray._private.services.get_ray_address_from_environment
        # With "auto" Ray would also join one that another program has started for itself.
        address = config.address or found(None, None)
        if address is None:
            raise ConnectionError("'ray start' has started none")
        if address != "auto":  # Ray would retry for minutes if nothing answers
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise DeviceError(
            f"no-cluster: There is no Ray {config.address or 'here'} that takes this "
            f"machine ({_first_line(error)}): start a cluster with 'ray start --head', "
            "which prints its address, and with the versions of Python and Ray that are "
            "here; or give --workers=local:N, which starts Ray. If the cluster has a "
            "token, set RAY_AUTH_MODE=token here and copy the file .ray/auth_token of its "
            "first machine."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".:")


def _check_room(ray: Any, config: WorkerConfig) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(_is_in(node, config) for node in nodes):
        a_gpu = " and a GPU" * config.gpus
        no_gpu = ", or --device=cpu" * config.gpus
        raise DeviceError(
            f"no-machine: No machine of the cluster has {config.cores} cores{a_gpu}: give "
            f"fewer cores with --threads{no_gpu}."
        )


def _is_in(resources: Mapping[str, float], config: WorkerConfig) -> bool:
    """Return whether the resources are enough for one worker."""
    cores, gpus = (resources.get(name, 0) for name in ("CPU", "GPU"))
    return cores >= config.cpus and gpus >= config.gpus
