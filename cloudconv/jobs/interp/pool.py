"""Choose who renders the segments: this process, several processes, or a cluster."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from cloudconv.models.catalogue import ModelSpec
from cloudconv.render.device import PRECISIONS, choose_device, choose_precision, cores

_GPU_CORES = 4
"""The number of cores for a segment with a GPU, to decode and encode. Others need one
core."""
_VISIBLE = {
    "cuda": "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES",
    "xpu": "ZE_AFFINITY_MASK",
}
"""The environment variable that limits the devices that a process sees."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A kind of workers, and their number."""

    # ``inline`` is this process, ``local`` are processes of this machine, ``ray`` is a
    # cluster.
    kind: Literal["inline", "local", "ray"] = "inline"
    count: int = 1  # the number of processes on this machine
    cores: int = 1  # for a segment on a cluster
    address: str | None = None  # of the cluster; None to find or start one
    each_gpu: bool = False  # whether each GPU of this machine has one process
    # The workers' device, as in this process if this process has the device.
    device: str = "cpu"

    @property
    def gpus(self) -> int:
        """Return the number of GPUs of each worker."""
        return int(self.device_type in _VISIBLE)

    @property
    def device_type(self) -> str:
        """Return the type of the workers' device.

        Each worker sees one device of that type.
        """
        return torch.device(self.device).type

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
    ``threads`` on a cluster the number of cores for each segment.
    """
    name, _, detail = workers.partition(":")
    kind: Literal["inline", "local"]
    if name != "ray":
        each_gpu = device == "cuda:all"
        chosen = choose_device("cuda" if each_gpu else device)
        count = max(1, torch.cuda.device_count()) if each_gpu else int(detail or 1)
        kind = "local" if detail or each_gpu else "inline"
        return WorkerConfig(kind, count, threads or 1, None, each_gpu, str(chosen)), chosen
    # Each machine of the cluster has the device; without it here, this process uses the
    # CPU.
    chosen = choose_device(
        "cpu" if device == "cuda" and not torch.cuda.is_available() else device
    )
    of_each = "cuda" if device == "cuda" else chosen.type
    cores = threads or (_GPU_CORES if of_each == "cuda" else 1)
    return WorkerConfig("ray", cores=cores, address=detail or None, device=of_each), chosen


def environments(config: WorkerConfig) -> list[dict[str, str]]:
    """Return for each process the variables with which it sees one GPU, as number 0."""
    device = torch.device(config.device)
    name = _VISIBLE.get(device.type)
    if name is None:
        return [{}] * config.count
    seen = [word for word in os.environ.get(name, "").split(",") if word]
    numbers = range(config.count) if config.each_gpu else [device.index or 0] * config.count
    return [{name: seen[k] if k < len(seen) else str(k)} for k in numbers]
