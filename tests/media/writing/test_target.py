"""Output names: errors before any work, and the suffix of a default name."""

from fractions import Fraction
from pathlib import Path

import pytest

from cloudconv.errors import OutputError
from cloudconv.files import check_apart
from cloudconv.media.containers.containers import default_suffix
from cloudconv.media.writing.output import check_output
from tests.helpers.sinks import info_of


def test_impossible_outputs_are_refused(tmp_path):
    taken, link, folder = (tmp_path / name for name in ("taken.mp4", "link.mp4", "frames"))
    taken.touch()
    link.symlink_to(taken)
    folder.mkdir()
    (folder / "001.png").touch()

    def refused(path, words, *, overwrite=False, inputs=()):
        with pytest.raises(OutputError, match=words):
            check_output(Path(path), overwrite=overwrite, inputs=list(inputs))

    refused(taken, "`overwrite`")
    check_output(taken, overwrite=True, inputs=[])
    for output in (taken, link):
        with pytest.raises(OutputError, match="the input itself"):
            check_apart([output], [taken])
    check_output(tmp_path / "absent" / "more" / "a.mp4", overwrite=False, inputs=[])
    refused(taken / "a.mp4", "not a folder")
    refused(folder, r"no ending.*frames/%05d\.png")
    refused(tmp_path / "a.avi", r"ending \.avi")
    refused(tmp_path / "a.png", r"%05d\.png")
    refused(folder / "%03d.png", "exists already")
    refused(folder / "x%03d.png", "input pictures", inputs=[folder])
    (folder / "001.ppm").touch()
    for given in ("%03d.png", "001.png", "%03d.ppm", "001.ppm"):
        refused(folder / "x%03d.png", "input pictures", inputs=[folder / given])
    check_output(folder / "%05d.png", overwrite=False, inputs=[taken])
    check_output(tmp_path / "new" / "%05d.png", overwrite=False, inputs=[])
    check_output(Path("-"), overwrite=False, inputs=[])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "link.mp4", "taken.mp4"]


@pytest.mark.parametrize(
    ("container", "suffix", "rate", "expected"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", ".mp4", 60, ".mp4"),
        ("mov,mp4,m4a,3gp,3g2,mj2", ".mov", 60, ".mov"),
        ("mov,mp4,m4a,3gp,3g2,mj2", ".3gp", 60, ".mkv"),
        ("mov,mp4,m4a,3gp,3g2,mj2", "", 60, ".mp4"),
        ("mov,mp4,m4a,3gp,3g2,mj2", ".gif", 25, ".mkv"),
        ("matroska,webm", ".webm", 60, ".webm"),
        ("matroska,webm", ".webp", 25, ".mkv"),
        ("matroska,webm", ".mkv", 2400, ".mp4"),
        ("avi", ".avi", 60, ".mkv"),
        ("gif", ".gif", 40, ".gif"),
        ("gif", ".gif", 100, ".mp4"),
        ("apng", ".apng", 40, ".apng"),
        ("apng", ".png", 40, ".apng"),
        ("image2", "", 40, ".mp4"),
    ],
)
def test_the_default_suffix_follows_the_input(container, suffix, rate, expected):
    info = info_of(container=container, suffix=suffix)
    assert default_suffix(info, Fraction(rate)) == expected


@pytest.mark.parametrize(
    ("shortest", "suffix"), [(50, ".gif"), (51, ".mp4"), (None, ".mp4")]
)
def test_a_gif_with_uneven_delays_stays_a_gif_if_players_show_it(shortest, suffix):
    info = info_of(container="gif", suffix=".gif")
    assert default_suffix(info, None, shortest and Fraction(shortest)) == suffix
