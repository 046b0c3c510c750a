"""The fingerprint of the machine, with simulated GPUs."""

from __future__ import annotations

import pytest
import torch

from cloudconv.render.device import machine_fingerprint


def test_the_fingerprint_names_all_gpus_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = ["B", "A", "B"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(
        torch.cuda, "get_device_name", lambda gpu: gpus[getattr(gpu, "index", gpu) or 0]
    )
    device = torch.device("cuda", 0)
    alone = machine_fingerprint(device)["device"]
    every = machine_fingerprint(device, each_gpu=True)["device"]
    assert (alone.split(",")[0], every.split(",")[0]) == ("B", "A and B")
    gpus[1] = "B"
    assert machine_fingerprint(device, each_gpu=True)["device"] == alone
