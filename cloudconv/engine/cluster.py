"""Pieces of work shared out over a Ray cluster; Ray is an optional extra."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from cloudconv.errors import CloudconvError, DeviceError

_AHEAD = 2
"""Tasks for each place in the cluster, so that none waits for the plan or for the network."""
_TRIES = 3
_PATIENCE = 10  # seconds

Piece = TypeVar("Piece")
Given = TypeVar("Given", contravariant=True)


class Client(Protocol[Given]):
    """Whose pieces they are."""

    def arguments(self, piece: Given) -> tuple[Any, ...]:
        """What a task is called with to do that piece."""

    def done(self, piece: Given, result: Any) -> bool:
        """Told of each piece and what came of it; False: it is to be tried once more."""

    def failed(self, piece: Given, error: CloudconvError) -> None:
        """Told of a piece that cannot be done; what this raises ends the sharing."""


class Cluster:
    """A connection to a Ray cluster; a context manager that ends its tasks and itself.

    Args:
        address: of the cluster; None for the one that is running here, or else a new one on this
            machine. Where this process has joined a cluster already, it is that one.
        cores: that each task needs.
        gpus: likewise.

    Raises:
        DeviceError: Ray is not installed, or there is no cluster at that address.
    """

    def __init__(self, address: str | None, *, cores: int, gpus: int) -> None:
        self._ray = _ray()
        self._needs = {"num_cpus": cores, "num_gpus": gpus}
        self._running: dict[Any, Any] = {}  # the piece of each task
        self._joined = not self._ray.is_initialized()
        if self._joined:
            self._connect(address)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._joined:
            self._ray.shutdown()

    def put(self, value: Any) -> Any:
        """Send a value once, for all tasks; what they are given in its place."""
        return self._ray.put(value)

    def everywhere(self, task: Callable[[str], None], word: str) -> None:
        """Run ``task(word)`` once on every machine, as far as that is still possible."""
        ray = self._ray
        at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = ray.remote(num_cpus=0, max_retries=0)(task)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        strategies = [at(node, soft=False) for node in nodes]
        running = [remote.options(scheduling_strategy=each).remote(word) for each in strategies]
        ray.wait(running, num_returns=len(running), timeout=_PATIENCE)

    def share(
        self, task: Callable[..., Any], pieces: Iterator[Piece], client: Client[Piece]
    ) -> None:
        """Run a task on the cluster for every piece, in any order.

        A task whose machine or process is lost is run again elsewhere. A piece fails where its
        task raised an error, and where it was lost again and again.

        Args:
            task: a function of a module that every machine can import.
            pieces: taken as they are needed, a few ahead.
            client: says what a task is called with, and is told what becomes of it.
        """
        ray = self._ray
        remote = ray.remote(max_retries=_TRIES, **self._needs)(task)

        def submit(piece: Piece) -> None:
            try:
                arguments = client.arguments(piece)
            except CloudconvError as error:
                client.failed(piece, error)
            else:
                self._running[remote.remote(*arguments)] = piece

        more = True
        while True:
            while more and len(self._running) < self._room():
                piece = next(pieces, None)
                more = piece is not None
                if piece is not None:
                    submit(piece)
            if not self._running:
                return
            (reference,), _ = ray.wait(list(self._running), num_returns=1)
            ended = self._running.pop(reference)
            try:
                result = self._result(reference)
            except CloudconvError as error:
                client.failed(ended, error)
            else:
                if not client.done(ended, result):
                    submit(ended)

    def _room(self) -> int:
        """How many tasks to have under way: the cluster may grow and shrink meanwhile."""
        there = self._ray.cluster_resources()
        places = min(
            int(there.get(name, 0) // need)
            for name, need in (("CPU", self._needs["num_cpus"]), ("GPU", self._needs["num_gpus"]))
            if need
        )
        return max(1, places) * _AHEAD

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, CloudconvError):
                raise error.cause from error
            raise
        except errors.RayError as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(
                f"The cluster lost the same frames {_TRIES} times: {reason}"
            ) from error

    def _connect(self, address: str | None) -> None:
        quiet = {"log_to_driver": False, "logging_level": "error"}
        with ExitStack() as undo:
            undo.callback(self._ray.shutdown)
            if address is not None:
                _check_address(address)
                self._ray.init(address=address, **quiet)
            else:
                try:
                    self._ray.init(address="auto", **quiet)
                except ConnectionError:
                    self._ray.init(include_dashboard=False, **quiet)
            undo.pop_all()


def _check_address(address: str) -> None:
    """Ray itself would try for minutes. Raises DeviceError if nobody answers there."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"There is no Ray cluster at {address}: start one with 'ray start --head', which says "
            "its address, or leave the address out."
        ) from error


def fetch(reference: Any) -> Any:
    """In a task: the value that :meth:`Cluster.put` has sent."""
    return _ray().get(reference)


def _ray() -> Any:
    try:
        importlib.import_module("ray.util.scheduling_strategies")
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(
            "A cluster needs Ray, which is not installed: pip install 'cloudconv[cluster]'."
        ) from error
