"""Every picture in the docs was made by the command beside it with the shipped weights."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record():
    return load("record")


def linked():
    """Return all pictures below ``examples/`` that a document shows."""
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = [
        (document.parent / target).resolve()
        for document in documents
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text("utf-8"))
    ]
    return {path.relative_to(EXAMPLES).as_posix() for path in shown if EXAMPLES in path.parents}


def test_every_picture_has_a_record(record):
    assert linked() == set(record.read())


def test_pictures_and_weights_agree_with_the_records(record):
    recorded = record.read()
    assert "showcase.webp" in recorded
    for name, known in recorded.items():
        now = record.record(EXAMPLES / name, known["commands"], known["weights"])
        assert known == now, f"{name} is out of date: make it again with its script in examples/"


def test_recorded_commands_agree_with_the_scripts(record):
    showcase, gallery = load("make_showcase"), load("make_gallery")
    commands = {name: known["commands"] for name, known in record.read().items()}
    assert commands.pop("showcase.webp") == [row.command for row in showcase.ROWS]
    assert commands == {f"gallery/{name}.jpg": [gallery.command(name)] for name in gallery.SHEETS}


def test_the_readme_shows_the_commands_beside_its_picture(record):
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = record.read()["showcase.webp"]["commands"]
    assert commands
    for command in commands:
        assert f"`{command.partition(' --start')[0]}`" in readme
