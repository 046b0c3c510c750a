"""The preview picture of a run: small, always a complete file, and no cause of failure."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cloudconv
from cloudconv.errors import CloudconvError
from cloudconv.jobs.interp import preview as module
from cloudconv.jobs.interp.preview import Preview
from cloudconv.media.frame import ColorTags, Frame
from tests.helpers.factory import picture, read_times, write_clip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list with one item, the present time in seconds; a test sets that item."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def frame(index: int = 0, width: int = 96, height: int = 64, pix_fmt: str = "yuv420p") -> Frame:
    return Frame(picture(index, width, height, pix_fmt), F(0), F(1, 24), ColorTags(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("pix_fmt", "size", "shown"),
    [
        ("yuv420p", (1001, 501), (480, 240)),
        ("yuv422p10le", (640, 360), (480, 270)),
        ("gbrp", (97, 65), (97, 65)),
        ("yuva444p", (500, 20), (480, 19)),
        ("gray16le", (96, 64), (96, 64)),
        ("yuv420p", (2000, 2), (480, 1)),
    ],
)
def test_the_preview_is_small_and_has_the_colours_of_the_frame(
    tmp_path: Path, pix_fmt: str, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    given = frame(0, *size, pix_fmt)
    Preview(tmp_path / "now.jpg").show(given)
    assert [path.name for path in tmp_path.iterdir()] == ["now.jpg"]
    with Image.open(tmp_path / "now.jpg") as made:
        assert (made.format, made.size) == ("JPEG", shown)
        mean = np.asarray(made.convert("RGB")).astype(float).mean((0, 1))
    given.picture.colorspace, given.picture.color_range = 1, 1
    wanted = given.picture.to_ndarray(format="rgb24").astype(float).mean((0, 1))
    if pix_fmt.startswith("yuv"):
        assert np.abs(mean - wanted).max() < 3


def test_the_preview_changes_once_a_second(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "now.jpg"
    preview = Preview(path)
    seen = []
    for index in range(25):
        preview.show(frame(index))
        seen.append(path.read_bytes())
        clock[0] += 0.1
    changes = [k for k, (a, b) in enumerate(pairwise(seen), 1) if a != b]
    assert len(changes) == 2
    assert changes[1] - changes[0] in (10, 11)


def test_a_preview_that_cannot_be_written_gives_one_warning(
    tmp_path: Path, clock: list[float]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    preview = Preview(folder / "now.jpg")
    folder.rmdir()
    folder.touch()
    for _ in range(3):
        preview.show(frame())
        clock[0] += 2
    assert len(preview.warnings) == 1
    assert "now.jpg" in str(preview.warnings[0])


def test_a_file_of_another_program_is_not_replaced(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "now.jpg"
    preview = Preview(path)
    preview.show(frame())
    path.write_bytes(b"mine")
    clock[0] += 2
    preview.show(frame())
    assert path.read_bytes() == b"mine"
    assert [warned.code for warned in preview.warnings] == ["preview-failed"]
    assert str(path) in preview.warnings[0].text


def test_a_preview_whose_file_cannot_be_examined_gives_a_warning(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "now.jpg"
    path.touch()

    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refused)
    preview = Preview(path)
    preview.show(frame())
    assert [str(warned) for warned in preview.warnings] == [
        f"The preview {path} could not be written: Permission denied."
    ]


def test_a_run_writes_a_preview(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 4, rate=24)
    target = tmp_path / "b.mkv"
    result = cloudconv.interpolate(
        clip, target, model="blend", factor=F(2), preview=tmp_path / "now.jpg"
    )
    assert len(read_times(target)) == 8
    with Image.open(tmp_path / "now.jpg") as made:
        assert made.size == (96, 64)
    assert result.warnings == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "now.jpg"]


@pytest.mark.parametrize("name", ["now.png", "a.mkv", "b.mkv/now.jpg"])
def test_an_impossible_preview_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / "a.mkv", 4, rate=24)
    before = clip.read_bytes()
    other = write_clip(tmp_path / "b.mkv", 2)
    with pytest.raises(CloudconvError, match="preview"):
        cloudconv.interpolate(
            clip, tmp_path / "c.mkv", model="blend", factor=F(2), preview=tmp_path / name
        )
    assert clip.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [clip, other]


def test_a_missing_folder_is_created_and_a_folder_gets_the_default_name(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 4, rate=24)
    for preview in (tmp_path / "new" / "now.jpg", f"{tmp_path}/more/", tmp_path / "more"):
        cloudconv.interpolate(
            clip, tmp_path / "b.mkv", model="blend", factor=2, preview=preview, overwrite=True
        )
    made = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*.jpg")]
    assert sorted(made) == ["more/a_preview.jpg", "new/now.jpg"]
