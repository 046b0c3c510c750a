"""``doctor --check``: this CPU passes, and simulated faults of a device are found."""

import json
from functools import partial

import pytest
import torch

from cloudconv.jobs import doctor as doctor_job
from cloudconv.jobs.doctor import Check
from cloudconv.models import registry
from cloudconv.models.baselines import Blend
from tests.helpers.command import invoke

CPU = torch.device("cpu")


def doctor(*arguments):
    return invoke("doctor", *arguments)


@pytest.mark.full
def test_this_cpu_passes():
    result = doctor("--check", "--device", "cpu", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    checks = {check["name"]: (check["status"], check["detail"]) for check in report["checks"]}
    assert "failed" not in {status for status, _ in checks.values()}
    assert report["auto"]["model"] == registry.DEFAULT
    assert checks["video"] == ("ok", "24 frames, equal") or "dB" in checks["video"][1]
    assert "frames/s at 640x360" in checks["speed"][1]
    shipped = [s.name for s in registry.MODELS if s.task == "interpolate" and s.weights]
    assert {f"{name} {precision}" for name in shipped for precision in ("fp32", "bf16", "fp16")} < {
        *checks
    }


class Broken(Blend):
    """A blend with a fault that a device may have."""

    def __init__(self, fault):
        super().__init__(registry.spec("blend"))
        self.fault = fault

    def forward(self, x0, x1, timestep, scale=1.0):
        if self.fault == "stuck":
            timestep = torch.full_like(timestep, 0.5)
        made = super().forward(x0, x1, timestep, scale)
        return {"nan": made * torch.nan, "off": made + 0.01}.get(self.fault, made)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nan", "values that are not finite"),
        ("stuck", "two new frames in a row are equal"),
        ("off", "40.0 dB PSNR against the CPU; 45 dB are needed"),
    ],
)
def test_wrong_frames_are_found(monkeypatch, fault, said):
    def loaded(name, device, dtype):
        return Broken(fault if dtype == torch.bfloat16 else "none")

    monkeypatch.setattr(registry, "load", loaded)
    expected = partial(doctor_job._quarters, registry.DEFAULT, CPU, torch.float32)
    spec = registry.spec(registry.DEFAULT)
    good, bad = (
        doctor_job._tried("a", partial(doctor_job._parity, CPU, spec, precision, expected))
        for precision in ("fp32", "bf16")
    )
    assert good == Check("a", "ok", "equal")
    assert bad.status == "failed"
    assert said in bad.detail


def test_a_failed_check_is_printed_and_gives_exit_code_1(monkeypatch):
    def failing(device):
        return [Check("8 bit", "ok", "equal"), Check("10 bit", "failed", "12.0 dB")]

    monkeypatch.setattr(doctor_job, "check_device", failing)
    result = doctor("--check")
    assert result.exit_code == 1
    assert "error: 10 bit: 12.0 dB" in result.stderr
    assert [line.split() for line in result.stdout.splitlines()[-2:]] == [
        ["8", "bit", "ok", "equal"],
        ["10", "bit", "failed", "12.0", "dB"],
    ]


def test_no_check_starts_after_the_time_limit(monkeypatch):
    monkeypatch.setattr(doctor_job, "SECONDS", -1)
    assert {check.status for check in doctor_job.check_device("cpu")} == {"absent"}


def test_a_device_is_checked_also_without_check(monkeypatch):
    monkeypatch.setattr(doctor_job, "check_device", lambda name: iter([Check(name, "ok", "")]))
    (check,) = json.loads(doctor("--device", "cpu", "--json").stdout)["checks"]
    assert check["name"] == "cpu"
