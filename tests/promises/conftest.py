"""Fixtures for the tests of promises."""

import pytest

from tests.helpers.factory import write_clip


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a.mkv", 6, rate=24, codec="libx264")


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def precious(tmp_path):
    """Return a file that no run may change."""
    file = tmp_path / "precious"
    file.write_text("precious")
    yield file
    assert file.read_text() == "precious"
