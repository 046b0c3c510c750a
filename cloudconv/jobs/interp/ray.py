"""Render segments on a Ray cluster, whose machines share a folder; Ray is an optional extra."""

from __future__ import annotations

import importlib
import secrets
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from cloudconv.errors import DeviceError
from cloudconv.events import Finished, SegmentEvent
from cloudconv.host import reuse_memory
from cloudconv.jobs.interp.processes import END, MAX_ATTEMPTS, POLL, Keep, event_of, outcome_of

if TYPE_CHECKING:
    from cloudconv.jobs.interp.render import RenderPlan, SegmentWork
    from cloudconv.jobs.interp.segments import SegmentPlan

_TIMEOUT = 10  # seconds, for a connection


class Cluster:
    """A connection to a Ray cluster; a context manager that cancels its work.

    The address is None for a cluster on this machine, or a new one. A segment needs so many
    ``cores`` and ``gpus``. Raises DeviceError if Ray is not installed, if there is no cluster at
    that address, or if no machine has enough cores or GPUs.
    """

    def __init__(self, work: SegmentWork, address: str | None, *, cores: int, gpus: int) -> None:
        self._ray, self._work = _ray(), work
        self._needs = {"CPU": cores, "GPU": gpus}
        self._running: dict[Any, SegmentPlan] = {}  # by the reference to the result
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
        if self._joined:
            self._ray.shutdown()

    def map(
        self, plan: RenderPlan, segments: Iterator[SegmentPlan | None], keep: Keep
    ) -> Generator[SegmentEvent, None, None]:
        """Render on the cluster; see :meth:`~cloudconv.jobs.interp.processes.Processes.map`.

        A segment whose machine or process is lost is made again on another one. An interrupt loses
        segments.
        """
        cores, gpus = self._needs.values()
        needs = {"max_retries": MAX_ATTEMPTS - 1, "num_cpus": cores, "num_gpus": gpus}
        perform = self._ray.remote(**needs)(_perform)
        sent = self._ray.put((secrets.token_hex(8), self._work, plan))
        segment: Any = None
        while segment is not END or self._running:
            room = self._room()
            while len(self._running) < room and (segment := next(segments, END)) not in (None, END):
                self._running[perform.remote(sent, segment)] = segment
            if not self._running:
                time.sleep(POLL if segment is None else 0)
                continue
            patience = POLL if segment is None else None
            ended, _ = self._ray.wait(list(self._running), timeout=patience)
            for reference in ended:
                made = self._running.pop(reference)
                yield from (event_of(made, each, keep) for each in self._result(reference))

    def _check_room(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
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
        """Return how many segments to submit at once: two for each that the cluster can do now."""
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
    """Join the cluster at an address, or one on this machine; keep the handler of SIGTERM."""
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


_works: dict[str, SegmentWork] = {}
"""The work of this process by its token, so that a model stays loaded between two segments."""


def _perform(sent: tuple[str, SegmentWork, RenderPlan], segment: Any) -> list[Any]:
    token, work, plan = sent
    if token not in _works:
        reuse_memory()
        _works.clear()
        _works[token] = work
    return list(outcome_of(_works[token], plan, segment))


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(
            "no-ray: A cluster needs Ray, which is not installed: run pip install "
            '"cloudconv[cluster]".'
        ) from error
