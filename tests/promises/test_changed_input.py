"""Every command notices an input that changes during a run, for every kind of output."""

import os

import pytest
import torch

from cloudconv.cli import console
from cloudconv.errors import CloudconvError
from cloudconv.events import Progress
from cloudconv.media.reading import identity as fingerprint
from cloudconv.media.reading.identity import input_fingerprint
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import read_times, write_clip
from tests.helpers.system import Running
from tests.helpers.tiers import needs_ray
from tests.helpers.trainees import MIDDLE, moving, register_models

BLEND = {"factor": 2, "model": "blend"}
KINDS = {
    "video": (calls.interpolate, "o.mkv", BLEND),
    "gif": (calls.interpolate, "o.gif", BLEND),
    "pictures": (calls.interpolate, "o/%03d.png", BLEND),
    "forecast": (calls.extrapolate, "o.mkv", {"model": "linear", "frames": 2}),
    "dream": (calls.dream, "o.mkv", {"mode": "flow", "frames": 2}),
}
"""The job, the output's name and the options of each kind of output."""


def make(kind, clip, out, **more):
    if kind == "comparison":
        return calls.compare(clip, model="blend", report=out / "look", **more)
    job, name, options = KINDS[kind]
    return job(clip, out / name, **options, **more)


def change_at_first_frame(change):
    """Return a watcher that changes the input when the first frame is rendered."""
    done = []

    def watch(event):
        stages = ("rendering", "scoring", "training")
        if not done and isinstance(event, Progress) and event.stage in stages:
            change()
            done.append(True)

    return watch


@pytest.mark.parametrize("kind", [*KINDS, "comparison"])
def test_an_input_that_changes_gives_an_error_and_no_output(clip, out, kind):
    other = write_clip(clip.with_name("other.mkv"), 4, rate=24, codec="libx264", scene=1)
    change = change_at_first_frame(lambda: clip.write_bytes(other.read_bytes()))
    with pytest.raises(
        CloudconvError, match=r"a\.mkv was changed while it was read"
    ) as raised:
        make(kind, clip, out, watch=change)
    assert "carries on" not in str(raised.value)
    assert os.listdir(out) == []


def change_middle(file):
    """Change a byte in the middle of a file, and keep its size and date."""
    about = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.fixture(params=["old", "fresh"])
def age(request, monkeypatch):
    """Let files count as old, with a reliable time of the last change, or as fresh."""
    monkeypatch.setattr(fingerprint, "FRESH", 0 if request.param == "old" else 1 << 62)
    return str(request.param)


@pytest.mark.full
@pytest.mark.usefixtures("age")
@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_a_change_that_keeps_size_and_date_is_noticed(clip, tmp_path, kind):
    given = part = clip
    if kind == "video":
        write_clip(clip, 9, size=(640, 480), noise=20)
        assert clip.stat().st_size > 2 << 20
    else:
        given = tmp_path / "in"
        calls.interpolate(clip, given / "%03d.png", **BLEND)
        part = given / "006.png"
    watch = change_at_first_frame(lambda: change_middle(part))
    with pytest.raises(CloudconvError, match="was changed while it was read"):
        calls.interpolate(given, tmp_path / "o.mkv", watch=watch, **BLEND)
    assert not (tmp_path / "o.mkv").exists()


@pytest.mark.usefixtures("age")
def test_a_change_that_keeps_the_content_is_no_error(clip, tmp_path):
    def change():
        clip.chmod(0o600)
        (tmp_path / "linked.mkv").hardlink_to(clip)
        clip.rename(tmp_path / "moved.mkv")
        (tmp_path / "moved.mkv").rename(clip)
        change_middle(clip)
        change_middle(clip)
        clip.touch()

    calls.interpolate(
        clip, tmp_path / "o.mkv", watch=change_at_first_frame(change), **BLEND
    )
    assert len(read_times(tmp_path / "o.mkv")) == 12


@pytest.fixture
def large(monkeypatch):
    """Let files above 1000 bytes be large."""
    monkeypatch.setattr(fingerprint, "MOST_HASHED", 1000)


@pytest.mark.usefixtures("large")
def test_a_large_input_is_known_by_its_size_its_date_and_its_inode(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(10_000))
    os.utime(file, ns=(1, 1))
    before = input_fingerprint(file)
    file.rename(tmp_path / "b.bin")
    assert input_fingerprint(tmp_path / "b.bin") == before
    other = tmp_path / "c.bin"
    for size, date in ((10_000, 1), (9999, 1)):
        other.write_bytes(bytes(size))
        os.utime(other, ns=(date, date))
        assert input_fingerprint(other) != before
    os.utime(tmp_path / "b.bin", ns=(2, 2))
    assert input_fingerprint(tmp_path / "b.bin") != before


def test_the_date_of_a_small_input_does_not_count(clip, tmp_path):
    touch = change_at_first_frame(lambda: os.utime(clip, (1, 1)))
    calls.interpolate(clip, tmp_path / "o.mkv", watch=touch, **BLEND)
    assert len(read_times(tmp_path / "o.mkv")) == 12


@pytest.mark.usefixtures("large")
def test_a_large_input_whose_date_changes_during_a_run_is_another_one(clip, tmp_path):
    touch = change_at_first_frame(clip.touch)
    with pytest.raises(CloudconvError, match="changed while it was read"):
        calls.interpolate(clip, tmp_path / "o.mkv", watch=touch, **BLEND)
    assert not (tmp_path / "o.mkv").exists()
    assert not calls.interpolate(clip, tmp_path / "o.mkv", **BLEND).resumed
    assert len(read_times(tmp_path / "o.mkv")) == 12


def test_standard_output_ends_in_an_error_if_the_input_changes(clip, monkeypatch):
    change = change_at_first_frame(lambda: change_middle(clip))

    def watched(console, label, job, real=console.run_with_progress, **more):
        return real(console, label, ((change(at), at)[1] for at in job), **more)

    monkeypatch.setattr(console, "run_with_progress", watched)
    done = invoke("interp", clip, "-o", "-", "--factor", "2", "--model", "blend")
    assert done.exit_code == 1
    assert "was changed while it was read" in done.stderr


@pytest.mark.full
def test_train_warns_which_clip_was_changed(tmp_path, monkeypatch):
    register_models(monkeypatch, MIDDLE)
    torch.set_num_threads(1)
    clip = moving(tmp_path / "a.mkv", 40)
    result = calls.train(
        [clip],
        output=tmp_path / "mine.safetensors",
        model=MIDDLE.name,
        steps=4,
        crop=32,
        batch=2,
        val_part="0.5:1",
        threads=1,
        watch=change_at_first_frame(lambda: change_middle(clip)),
    )
    assert ["a.mkv was changed" in str(text) for text in result.warnings] == [True]


@needs_ray
@pytest.mark.full
def test_workers_read_a_copy_of_a_pipe_to_its_end(clip, tmp_path):
    words = ["interp", "-", tmp_path / "o.mkv", "--factor=2", "--model=blend"]
    with Running(*words, "--workers=local:2") as run:
        run.stdin.write(clip.read_bytes())
        run.stdin.close()
        said = run.stderr.read()
        assert run.wait(30) == 0, said
    assert len(read_times(tmp_path / "o.mkv")) == 12
