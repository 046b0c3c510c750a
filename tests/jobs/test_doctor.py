"""``doctor``: facts for bug reports.

This CPU passes ``--check``, which finds simulated faults.
"""

import json
import math
from dataclasses import replace
from functools import partial
from importlib import metadata

import pytest
import torch

from cloudconv import __version__
from cloudconv.host import version_of
from cloudconv.jobs import doctor as doctor_job
from cloudconv.jobs.doctor import SIZES, Check
from cloudconv.models import registry
from cloudconv.models.baselines import Blend
from cloudconv.models.convolutions import PYTORCH
from cloudconv.settings.groups import DEFAULT_MODEL
from tests.helpers.command import invoke

CPU = torch.device("cpu")
doctor = partial(invoke, "doctor")


def report(*arguments):
    result = doctor("--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_json_has_all_facts_and_no_problems():
    data = report()
    assert data["cloudconv"] == __version__
    assert data["problems"] == []
    assert data["weights"]["ok"] > 0
    assert data["weights"]["missing"] == data["weights"]["damaged"] == 0
    assert data["encoders"]["libx264"] == data["encoders"]["ffv1"] == "works"
    assert "cpu" in [device["name"] for device in data["devices"]]
    assert data["auto"]["model"] == DEFAULT_MODEL
    assert data["auto"]["encoders"][".mp4"] == "libx264"
    assert set(data["auto"]["sizes"]) == set(SIZES)
    assert data["extras"] == {name: version_of(name) for name in ("ray", "imageio-ffmpeg")}
    assert data["devices"][0]["float32"] in (PYTORCH, f"ncnn {data['packages']['ncnn']}")


def test_a_bad_engine_is_a_problem_beside_the_other_facts(monkeypatch):
    monkeypatch.setenv("CLOUDCONV_ENGINE", "mkl")
    result = doctor("--json")
    data = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [problem[:16] for problem in data["problems"]] == ["CLOUDCONV_ENGINE"]
    assert data["devices"] == {}
    assert data["auto"]["model"] == DEFAULT_MODEL


def test_another_build_of_a_package_is_no_error(monkeypatch):
    version = metadata.version

    def other_build(package):
        if package == "opencv-python-headless":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", other_build)
    version_of.cache_clear()
    assert report()["packages"]["opencv-python-headless"] == "missing"
    version_of.cache_clear()


@pytest.mark.full
def test_this_cpu_passes():
    result = report("--check", "--device", "cpu")["checks"]
    checks = {check["name"]: (check["status"], check["detail"]) for check in result}
    assert "failed" not in {status for status, _ in checks.values()}
    assert "frames/s at 640x360" in checks["speed"][1]
    assert checks["cloud-best fp16"][0] == "absent"  # no CPU computes in it
    assert checks["cloud-best bf16"][0] == "ok"
    shipped = [s.name for s in registry.MODELS if s.task == "interpolate" and s.weights]
    assert {
        f"{name} {precision}" for name in shipped for precision in ("fp32", "bf16", "fp16")
    } < {*checks}


class Broken(Blend):
    """A blend with a fault that a device may have."""

    def __init__(self, fault):
        super().__init__(registry.spec("blend"))
        self.fault = fault

    def forward(self, pair):
        if self.fault == "stuck":
            pair = replace(pair, times=torch.full_like(pair.times, 0.5))
        result = super().forward(pair)
        return {"nan": result * torch.nan, "off": result + 0.01}.get(self.fault, result)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nan", "values that are not finite"),
        ("stuck", "dB PSNR against the CPU"),
        ("off", "40.0 dB PSNR against the CPU; 45 dB are needed"),
    ],
)
def test_wrong_frames_are_found(monkeypatch, fault, said):
    def loaded(name, device, dtype, **options):
        return Broken(fault if dtype == torch.bfloat16 else "none")

    monkeypatch.setattr(registry, "load", loaded)
    expected, other = (
        partial(doctor_job._made, DEFAULT_MODEL, CPU, precision)
        for precision in ("fp32", "bf16")
    )
    good, bad = (
        doctor_job._tried("a", partial(doctor_job._parity, made, expected), math.inf)
        for made in (expected, other)
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
    # A device is checked also without --check.
    assert doctor("--device", "cpu").exit_code == 1


def test_no_check_starts_after_the_time_limit(monkeypatch):
    monkeypatch.setattr(doctor_job, "SECONDS", -1)
    assert {check.status for check in doctor_job.check_device("cpu")} == {"absent"}
