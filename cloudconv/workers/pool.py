"""Choose workers: this process, several processes, or a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

from cloudconv.errors import DeviceError
from cloudconv.events import Warned
from cloudconv.models.catalogue import ModelSpec
from cloudconv.render import device as devices
from cloudconv.render.device import PRECISIONS, choose_device, choose_precision, cores
from cloudconv.workers.events import Task, Work
from cloudconv.workers.processes import Processes
from cloudconv.workers.ray import Cluster, count_gpus

_GPU_CORES = 4
"""The number of cores for a task with a GPU, to decode and encode. Other tasks need one core."""


Workers = Processes[Task] | Cluster[Task]
"""Processes or a cluster that do tasks; a context manager that ends them."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A kind of workers, and their number.

    Attributes:
        kind: ``inline`` is this process, ``local`` are processes of this machine, and ``ray`` is a
            cluster.
        count: the number of processes on this machine.
        cores: the number of cores for a task of a cluster.
        address: the address of the cluster; None to find or start a cluster.
        each_gpu: whether each GPU of this machine has one process.
        device: the name of the workers' device, as in this process if this process has the device.
    """

    kind: Literal["inline", "local", "ray"] = "inline"
    count: int = 1
    cores: int = 1
    address: str | None = None
    each_gpu: bool = False
    device: str = "cpu"

    @property
    def device_type(self) -> str:
        """Return the type of the workers' device; each worker sees one device of that type."""
        return torch.device(self.device).type

    def precision(self, name: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
        """Return the type in which the workers run a model.

        If this process does not have the workers' device, the abilities of the device are unknown,
        and ``auto`` is float32.

        Args:
            name: the precision in the settings.
            device: the device of this process, from :func:`choose_workers`.
            spec: the description of the model.

        Raises:
            SettingsError: there is no such precision.
            DeviceError: the device of this process cannot compute at that precision.
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
) -> tuple[WorkerConfig, torch.device, list[Warned]]:
    """Choose the workers and their device.

    With ``cuda`` on a cluster, only the cluster needs GPUs. Without a GPU this process uses the
    CPU.

    Args:
        workers: the workers in the settings.
        device: the device in the settings; ``cuda:all`` means one worker for each GPU.
        threads: the threads in the settings; on a cluster the number of cores for each task.

    Returns:
        The workers; the device in this process; warnings.

    Raises:
        CloudconvError: there is no such device, or no such cluster.
    """
    kind, _, detail = workers.partition(":")
    if kind != "ray":
        each_gpu = device == "cuda:all"
        chosen = choose_device("cuda" if each_gpu else device)
        count = max(1, torch.cuda.device_count()) if each_gpu else int(detail or 1)
        config = WorkerConfig(
            "local" if detail or each_gpu else "inline",
            count,
            threads or 1,
            each_gpu=each_gpu,
            device=str(chosen),
        )
        return config, chosen, devices.auto_warnings(device)
    address, warnings = detail or None, list[Warned]()
    if device == "cuda" and not torch.cuda.is_available():
        # Without a cluster, Ray starts one on this machine, which has no GPU.
        if not count_gpus(address):
            raise DeviceError(
                "no-gpu-in-cluster: --device names a GPU, but no machine of the cluster has one: "
                "use --device=cpu, or start Ray on a machine with a GPU."
            )
        workers_device, chosen = torch.device("cuda"), choose_device("cpu")
        warnings = [
            Warned(
                "planned-without-gpu: This machine has no GPU, so its own memory limits how many "
                "frames are computed at once: give --batch for more of them on the GPUs of the "
                "cluster."
            )
        ]
    elif device != "auto":
        workers_device = chosen = choose_device(device)
    else:
        gpus = count_gpus(address)
        if gpus is None:
            gpus = torch.cuda.device_count()
        workers_device = chosen = choose_device("auto" if gpus else "cpu")
        if chosen.type != "cuda":
            workers_device = chosen = choose_device("cpu")
            warnings = [
                Warned(
                    "cluster-gpus-unused: The cluster's CPUs are used, not its GPUs: this machine "
                    "plans the work and has no GPU."
                    if gpus
                    else "cluster-without-gpu: The cluster has no GPU: its CPUs are used."
                )
            ]
    cores = threads or (_GPU_CORES if workers_device.type == "cuda" else 1)
    config = WorkerConfig("ray", cores=cores, address=address, device=str(workers_device))
    return config, chosen, warnings


def start(config: WorkerConfig, work: Work[Task]) -> Workers[Task]:
    """Return the workers; processes start with the first tasks.

    Args:
        config: the workers, from :func:`choose_workers`. With ``inline`` there must be no tasks.
        work: the work; see :class:`~cloudconv.workers.events.Work`.

    Raises:
        DeviceError: there is no such cluster.
    """
    if config.kind != "ray":
        return Processes(work, environments(config))
    gpus = int(config.device_type in _VISIBLE)
    return Cluster(work, config.address, cores=config.cores, gpus=gpus)


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
