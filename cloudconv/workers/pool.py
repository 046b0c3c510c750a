"""Run tasks in this process, in several processes, or on a cluster, with one interface."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Literal, Self

import torch

from cloudconv.errors import CloudconvError
from cloudconv.events import Warned
from cloudconv.render.device import auto_remarks, choose_device, cores
from cloudconv.workers.events import SOON, Done, Event, Failed, Report, Task, Work
from cloudconv.workers.processes import Processes
from cloudconv.workers.ray import Cluster, count_gpus

_GPU_CORES = 4
"""The number of cores per task with a GPU, which decode and encode; otherwise one is enough."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A kind of workers, and their number.

    ``inline`` is this process. ``count`` is the number of processes on this machine, with
    ``each_gpu`` one for each GPU. ``cores`` is the number of cores for a task of a cluster, and
    ``address`` the address of the cluster, None to find or start one. ``device`` is the name of the
    workers' device in this process.
    """

    kind: Literal["inline", "local", "ray"] = "inline"
    count: int = 1
    cores: int = 1
    address: str | None = None
    each_gpu: bool = False
    device: str = "cpu"

    def threads(self, total: int | None) -> int | None:
        """Return the number of threads of each process; None lets the process choose."""
        if self.kind == "local":
            return max(1, (total or cores()) // self.count)
        return total or self.cores if self.kind == "ray" else total


def parse_workers(workers: str, device: str) -> WorkerConfig:
    """Return the workers of checked settings; the device ``cuda:all`` means one for each GPU."""
    kind, _, more = workers.partition(":")
    if kind == "ray":
        return WorkerConfig(
            "ray", cores=_GPU_CORES if device == "cuda" else 1, address=more or None
        )
    if device == "cuda:all":
        return WorkerConfig("local", max(1, torch.cuda.device_count()), each_gpu=True)
    return WorkerConfig("local", int(more)) if more else WorkerConfig()


def resolve(
    config: WorkerConfig, device: str, threads: int | None = None
) -> tuple[WorkerConfig, torch.device, list[Warned]]:
    """Choose the device of the workers.

    Args:
        config: the workers.
        device: the device in the settings.
        threads: the number of threads of each worker in the settings.

    Returns:
        The workers for that device; the device in this process; warnings.

    Raises:
        CloudconvError: there is no such device, or no such cluster.
    """
    if config.kind != "ray" or device != "auto":
        chosen = choose_device("cuda" if config.each_gpu else device)
        return _on(config, chosen, threads), chosen, auto_remarks(device)
    gpus = count_gpus(config.address)
    if gpus is None:
        gpus = torch.cuda.device_count()
    chosen = choose_device("auto" if gpus else "cpu")
    if chosen.type == "cuda":
        return _on(replace(config, cores=_GPU_CORES), chosen, threads), chosen, []
    chosen = choose_device("cpu")
    warned = Warned("cluster-gpus-unused" if gpus else "cluster-without-gpu")
    return _on(config, chosen, threads), chosen, [warned]


def _on(config: WorkerConfig, device: torch.device, threads: int | None) -> WorkerConfig:
    return replace(config, device=str(device), cores=threads or config.cores)


def run(
    config: WorkerConfig, work: Work[Task], tasks: Iterator[Task | None]
) -> Generator[Event[Task], None, None]:
    """Do tasks in any order.

    Closing the generator ends the workers at once. A task whose worker dies is repeated by another.

    Args:
        config: the workers, of :func:`resolve`.
        work: the work; see :class:`~cloudconv.workers.events.Work`.
        tasks: the tasks, which are taken a few ahead of their start; None means that the next task
            is not known yet.

    Yields:
        One ``Done`` or ``Failed`` for each task, and ``Report`` messages.

    Raises:
        CloudconvError: ``tasks`` raised it, or there is no such cluster.
    """
    with Pool(config, work) as pool:
        yield from pool.run(tasks)


class Pool(Generic[Task]):
    """Workers that start with the first tasks; a context manager that ends them."""

    def __init__(self, config: WorkerConfig, work: Work[Task]) -> None:
        """Start no worker yet; see :func:`run` for the arguments."""
        self._config = config
        self._work = work
        self._stack = ExitStack()
        self._run: Callable[[Iterator[Task | None]], Generator[Event[Task], None, None]] | None
        self._run = None

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self._stack.close()

    def run(self, tasks: Iterator[Task | None]) -> Generator[Event[Task], None, None]:
        """Do some tasks; see :func:`run`. Calls follow one another."""
        if self._run is None:
            self._run = self._started()
        yield from self._run(tasks)

    def _started(self) -> Callable[[Iterator[Task | None]], Generator[Event[Task], None, None]]:
        config, work = self._config, self._work
        if config.kind == "inline":
            return partial(_run_inline, work)
        if config.kind == "local":
            return self._stack.enter_context(Processes(work, environments(config))).run
        gpus = int(torch.device(config.device).type in _VISIBLE)
        cluster = Cluster(config.address, cores=config.cores, gpus=gpus)
        return partial(self._stack.enter_context(cluster).run, work)


def ordered_map(
    config: WorkerConfig, work: Work[Task], tasks: Iterator[Task | None]
) -> Generator[Done[Task] | Report[Task], None, None]:
    """Do tasks like :func:`run`, but yield their events in the order of the tasks.

    Reports without a task are yielded at once.

    Raises:
        CloudconvError: see :func:`run`; or a task cannot be done.
    """
    waiting: dict[int, deque[Done[Task] | Report[Task]]] = {}
    order: deque[Task] = deque()

    def registered() -> Iterator[Task | None]:
        for task in tasks:
            if task is not None:
                order.append(task)
                waiting[id(task)] = deque()
            yield task

    with closing(run(config, work, registered())) as events:
        for event in events:
            if isinstance(event, Failed):
                raise event.error
            if event.task is None:
                yield event
                continue
            waiting[id(event.task)].append(event)
            while order and (first := waiting[id(order[0])]):
                next_event = first.popleft()
                yield next_event
                if isinstance(next_event, Done):
                    del waiting[id(order.popleft())]


def _run_inline(
    work: Work[Task], tasks: Iterator[Task | None]
) -> Generator[Event[Task], None, None]:
    again: deque[Task] = deque()
    while True:
        given = _InlineTasks(tasks, again)
        try:
            with closing(work(given)) as events:
                for event in events:
                    if isinstance(event, Done | Failed):
                        given.unfinished.remove(event.task)
                    yield event
            return
        except CloudconvError as error:
            if error is given.error or not given.unfinished:
                raise
            yield Failed(given.unfinished.popleft(), error)
            again.extendleft(reversed(given.unfinished))


class _InlineTasks(Iterator[Task]):
    """The tasks for work in this process; ``unfinished`` are those that the work has taken."""

    def __init__(self, tasks: Iterator[Task | None], again: deque[Task]) -> None:
        self.unfinished: deque[Task] = deque()
        self.error: CloudconvError | None = None
        self._tasks = tasks
        self._again = again
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def __next__(self) -> Task:
        task = self._next()
        while task is None:
            time.sleep(SOON)
            task = self._next()
        self.unfinished.append(task)
        return task

    def _next(self) -> Task | None:
        if self._closed:
            raise StopIteration
        if self._again:
            return self._again.popleft()
        try:
            return next(self._tasks)
        except CloudconvError as error:
            self.error = error
            raise


_VISIBLE = {
    "cuda": "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES",
    "xpu": "ZE_AFFINITY_MASK",
}
"""The environment variable that limits the devices that a process sees."""


def environments(config: WorkerConfig) -> list[dict[str, str]]:
    """Return for each process the variables with which it sees one GPU, as number 0."""
    device = torch.device(config.device)
    name = _VISIBLE.get(device.type)
    if name is None:
        return [{}] * config.count
    seen = [each for each in os.environ.get(name, "").split(",") if each]
    numbers = range(config.count) if config.each_gpu else [device.index or 0] * config.count
    return [{name: seen[k] if k < len(seen) else str(k)} for k in numbers]
