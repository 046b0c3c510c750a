"""Choose who renders the segments: this process, several processes, or a cluster."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch

from cloudconv.errors import DeviceError
from cloudconv.models.catalogue import ModelSpec
from cloudconv.render.device import PRECISIONS, choose_device, choose_precision, cores

_GPU_CORES = 4
"""The number of cores for a worker with a GPU, to decode and encode. Others need one
core."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A kind of workers, and their number."""

    # ``inline`` is this process, ``local`` is Ray on this machine, ``ray`` is a cluster.
    kind: Literal["inline", "local", "ray"] = "inline"
    count: int = 1  # the number of processes on this machine
    cores: int = 1  # for each worker of a cluster
    address: str | None = None  # of the cluster; None for the one on this machine
    each_gpu: bool = False  # whether each GPU of this machine has one process
    # The workers' device, as in this process if this process has the device.
    device: str = "cpu"

    @property
    def cpus(self) -> int:
        """Return the number of cores that Ray reserves for each worker.

        On this machine the workers are counted, and not the cores.
        """
        return self.cores if self.kind == "ray" else 0

    @property
    def gpus(self) -> int:
        """Return the number of GPUs that Ray gives to each worker, which sees no other."""
        is_given = self.kind == "ray" and self.device_type in ("cuda", "xpu")
        return int(is_given or self.each_gpu)

    @property
    def device_type(self) -> str:
        """Return the type of the workers' device."""
        return torch.device(self.device).type

    @property
    def used(self) -> torch.device:
        """Return the device that a worker uses."""
        return torch.device(self.device_type if self.gpus else self.device)

    def precision(self, name: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
        """Return the type in which the workers run a model.

        ``name`` is that in the settings. If this process does not have the workers' device,
        the abilities of the device are unknown, and ``auto`` is float32. Raises DeviceError
        if ``device``, that of this process, cannot compute at that precision.
        """
        if self.device_type == device.type:
            return choose_precision(name, device, spec)
        return PRECISIONS.get(name, torch.float32) if spec.half_precision else torch.float32

    def threads(self, total: int | None) -> int | None:
        """Return the number of threads of each process; None lets the process choose."""
        if self.kind == "local":
            return max(1, (total or cores()) // self.count)
        return total or self.cores if self.kind == "ray" else total


def choose_workers(
    workers: str, device: str, threads: int | None = None
) -> tuple[WorkerConfig, torch.device]:
    """Return the workers, and the device in this process.

    The arguments are those of the settings: ``cuda:all`` means one worker for each GPU, and
    ``threads`` on a cluster the number of cores for each worker. A single worker of this
    machine is this process. Raises DeviceError if Ray is missing.
    """
    given = f"--workers={workers}"
    name, _, detail = workers.partition(":")
    each_gpu = device == "cuda:all"
    count = int(detail or 1) if name == "local" else 1
    if each_gpu:
        given = "--device=cuda:all"
        count = torch.cuda.device_count()
    if (count > 1 or name == "ray") and find_spec("ray") is None:
        raise DeviceError(
            f"no-ray: {given} needs Ray, which is not installed: run pip install "
            f'"cloudconv[cluster]", or leave {given} out.'
        )
    if name == "local":
        chosen = choose_device("cuda" if each_gpu else device)
        if count < 2:  # this process does it alone
            return WorkerConfig(device=str(chosen)), chosen
        return WorkerConfig("local", count, 1, None, each_gpu, str(chosen)), chosen
    # Each machine of the cluster has the device; without it here, this process uses the
    # CPU.
    chosen = choose_device(
        "cpu" if device == "cuda" and not torch.cuda.is_available() else device
    )
    of_each = "cuda" if device == "cuda" else chosen.type
    cores = threads or (_GPU_CORES if of_each == "cuda" else 1)
    return WorkerConfig("ray", cores=cores, address=detail or None, device=of_each), chosen
