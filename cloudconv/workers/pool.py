"""Who works: this process, several on this machine, or a cluster; one interface to all of them."""

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
"""A GPU waits for several cores that decode and encode; without one a core has work enough."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Who works: ``inline`` is this process. ``count`` is how many processes work on this machine,
    with ``each_gpu`` each on a GPU of its own; ``cores`` is what a cluster's task needs,
    ``address`` the cluster's, None for one that is found or started. ``device`` is the one that
    they work on, as this process knows it.
    """

    kind: Literal["inline", "local", "ray"] = "inline"
    count: int = 1
    cores: int = 1
    address: str | None = None
    each_gpu: bool = False
    device: str = "cpu"

    def threads(self, asked: int | None) -> int | None:
        """How many threads each process uses; None: as many as it likes."""
        if self.kind == "local":
            return max(1, (asked or cores()) // self.count)
        return asked or self.cores if self.kind == "ray" else asked


def parse_workers(workers: str, device: str) -> WorkerConfig:
    """Return the workers that checked settings ask for; ``cuda:all`` stands for one each GPU."""
    kind, _, more = workers.partition(":")
    if kind == "ray":
        return WorkerConfig(
            "ray", cores=_GPU_CORES if device == "cuda" else 1, address=more or None
        )
    if device == "cuda:all":
        return WorkerConfig("local", max(1, torch.cuda.device_count()), each_gpu=True)
    return WorkerConfig("local", int(more)) if more else WorkerConfig()


def settle(
    config: WorkerConfig, device: str, threads: int | None = None
) -> tuple[WorkerConfig, torch.device, list[Warned]]:
    """Which device the workers work on, where ``device`` was asked for, each with ``threads``.

    Returns:
        The workers, as they suit it; the device, as this process knows it; what is worth saying.

    Raises:
        CloudconvError: there is no such device, or no such cluster.
    """
    if config.kind != "ray" or device != "auto":
        chosen = choose_device("cuda" if config.each_gpu else device)
        return _on(config, chosen, threads), chosen, auto_remarks(device)
    there = count_gpus(config.address)
    if there is None:
        there = torch.cuda.device_count()
    chosen = choose_device("auto" if there else "cpu")
    if chosen.type == "cuda":
        return _on(replace(config, cores=_GPU_CORES), chosen, threads), chosen, []
    chosen = choose_device("cpu")
    warned = Warned("cluster-gpus-unused" if there else "cluster-without-gpu")
    return _on(config, chosen, threads), chosen, [warned]


def _on(config: WorkerConfig, device: torch.device, threads: int | None) -> WorkerConfig:
    return replace(config, device=str(device), cores=threads or config.cores)


def run(
    config: WorkerConfig, work: Work[Task], tasks: Iterator[Task | None]
) -> Generator[Event[Task], None, None]:
    """Do tasks, in any order; what comes of them, as it comes.

    Closing the generator ends the workers, whatever they are at. A task whose worker dies is done
    again by another.

    Args:
        config: who works; of :func:`settle`.
        work: what is done; see :class:`~cloudconv.workers.events.Work`.
        tasks: taken as they are needed, a few ahead; None where the next one is not known yet.

    Yields:
        One ``Done`` or ``Failed`` for each task, and what is reported meanwhile.

    Raises:
        CloudconvError: of ``tasks``, or there is no such cluster.
    """
    with Pool(config, work) as pool:
        yield from pool.run(tasks)


class Pool(Generic[Task]):
    """Workers for one row of tasks after the other; a context manager that ends them.

    They start with the first tasks.
    """

    def __init__(self, config: WorkerConfig, work: Work[Task]) -> None:
        self._config = config
        self._work = work
        self._stack = ExitStack()
        self._run: Callable[[Iterator[Task | None]], Generator[Event[Task], None, None]] | None
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, tasks: Iterator[Task | None]) -> Generator[Event[Task], None, None]:
        """Do tasks; see :func:`run`."""
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
    """As :func:`run`, but the events come in the order of the tasks.

    Those of a later task wait until all before it are done; reports of no task are passed on.

    Raises:
        CloudconvError: as :func:`run`, and that of a task that cannot be done.
    """
    held: dict[int, deque[Done[Task] | Report[Task]]] = {}
    order: deque[Task] = deque()

    def noted() -> Iterator[Task | None]:
        for task in tasks:
            if task is not None:
                order.append(task)
                held[id(task)] = deque()
            yield task

    with closing(run(config, work, noted())) as events:
        for event in events:
            if isinstance(event, Failed):
                raise event.error
            if event.task is None:
                yield event
                continue
            held[id(event.task)].append(event)
            while order and (first := held[id(order[0])]):
                told = first.popleft()
                yield told
                if isinstance(told, Done):
                    del held[id(order.popleft())]


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
                        given.held.remove(event.task)
                    yield event
            return
        except CloudconvError as error:
            if error is given.error or not given.held:
                raise
            yield Failed(given.held.popleft(), error)
            again.extendleft(reversed(given.held))


class _InlineTasks(Iterator[Task]):
    """Tasks as work takes them; those that it took and has not done are ``held``."""

    def __init__(self, tasks: Iterator[Task | None], again: deque[Task]) -> None:
        self.held: deque[Task] = deque()
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
        self.held.append(task)
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
"""The environment variable that says which of the machine's devices a process sees."""


def environments(config: WorkerConfig) -> list[dict[str, str]]:
    """What makes each process of this machine see one GPU, its own, which is then number 0."""
    device = torch.device(config.device)
    name = _VISIBLE.get(device.type)
    if name is None:
        return [{}] * config.count
    seen = [each for each in os.environ.get(name, "").split(",") if each]
    numbers = range(config.count) if config.each_gpu else [device.index or 0] * config.count
    return [{name: seen[k] if k < len(seen) else str(k)} for k in numbers]
