"""The wheel, the sdist, the README, the sample clip and the pinned versions."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cloudconv import weights
from tests.helpers.command import invoke
from tests.helpers.factory import write_clip

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Build the sdist, and the wheel from the sdist; return their folder."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "build",
        "--no-isolation",
        "-o",
        str(folder),
    ]
    done = subprocess.run(
        [*command, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower()
    return folder


@pytest.mark.full
def test_the_sdist_has_all_files_for_contributors(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = ("README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml")
    assert {
        *tracked,
        "constraints.txt",
        "examples/stream.mp4",
        "tests/conftest.py",
    } <= names
    assert not any(name.endswith((".pyc", ".part")) for name in names)


@pytest.mark.full
def test_the_wheel_works_outside_the_checkout(dist, tmp_path):
    pytest.importorskip("pip")
    (path,) = dist.glob("*.whl")
    site = tmp_path / "site"
    clip = write_clip(tmp_path / "a.mkv", 4)
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    ]
    subprocess.run([sys.executable, *install, str(path)], check=True, capture_output=True)
    code = (
        "import cloudconv; from cloudconv import weights; print(cloudconv.__file__, "
        f"cloudconv.__version__); print(cloudconv.interpolate({str(clip)!r}, factor=2, "
        "model='cloud-turbo').output_frames)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, version, frames = done.stdout.split()
    assert Path(where).is_relative_to(site)
    assert (version, frames) == (PROJECT["version"], "8")


@pytest.mark.full
def test_the_wheel_has_all_files_to_run_and_no_others(dist):
    (path,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(path).namelist())
    assert {"cloudconv/py.typed", "cloudconv/_weights/manifest.json"} <= names
    manifest = json.loads((weights.weights_folder() / "manifest.json").read_bytes())
    for entry in manifest.values():
        assert f"cloudconv/_weights/{entry['file']}" in names
        assert f"cloudconv/_weights/{entry['licence_file']}" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "cloudconv").rglob("*.py")}
    assert modules <= names
    for name in names:
        assert name.startswith(("cloudconv/", "cloudconv-"))
        assert not (name.startswith("cloudconv/_weights") and name.endswith(".py"))


def test_the_readme_starts_with_the_two_commands():
    install, test = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[:2]
    assert "-c constraints.txt" in install
    assert "cloudconv interp examples/clouds.mp4 --factor 4" in install
    assert "\n" not in install.strip()
    assert "'" not in install, "cmd.exe on Windows takes only double quotes"
    ci = (ROOT / ".ci" / "run").read_text()
    left_out = [
        f"{test.strip()} -m {mark}" for mark in ("full", "'cuda and not slow' tests/gpu")
    ]
    assert [line for line in ci.splitlines() if "pytest" in line] == [
        test.strip(),
        *left_out,
    ]
    assert "-c constraints.txt" in ci


def test_the_table_of_models_in_the_readme_agrees_with_the_command_models():
    table = README.split("## Models")[1].split("\n## ")[0]
    shown = re.findall(
        r"^\| `([^`]+)` \|.*\| (\S+)(?: dB)? \| [^|]+ \| ([\d.]+) \|$",
        table,
        re.MULTILINE,
    )
    assert len(shown) == 4
    printed = invoke("models", terminal_width=120).output
    rows = re.findall(r"^(\S+) .* {2}([+\d.]+) dB +([\d.]+)$", printed, re.MULTILINE)
    known = {name: (float(gain), time) for name, gain, time in rows}
    reference, _ = known["rife-4.6"]
    for name, gain, time in shown:
        own, own_time = known[name]
        # Both differ from the measured gains by a rounding.
        over = own - reference - float(gain.replace("\N{MINUS SIGN}", "-"))
        assert abs(over) < 0.11
        assert time == own_time


def test_every_requirement_has_a_lower_bound_and_a_pinned_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    extras = [line for group in PROJECT["optional-dependencies"].values() for line in group]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        if requirement.name == "cloudconv":
            continue
        operators = sorted(part.operator for part in requirement.specifier)
        assert operators in ([">="], ["<", ">="]), requirement
        assert requirement.specifier.contains(pins[requirement.name]), requirement
