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
    """Let files above 1000 bytes be large, with 50 samples of 100 bytes."""
    monkeypatch.setattr(fingerprint, "MOST_HASHED", 1000)
    monkeypatch.setattr(fingerprint, "SAMPLE", 100)
    monkeypatch.setattr(fingerprint, "HASHED", 5000)


@pytest.mark.usefixtures("large")
def test_a_large_input_is_compared_in_samples(tmp_path):
    """Each of 50 changes of 200 bytes meets a sample; a date alone is no change."""
    file = tmp_path / "a.bin"
    result = set()
    for start in range(0, 10_000, 200):
        data = bytearray(10_000)
        data[start : start + 200] = b"x" * 200
        file.write_bytes(data)
        os.utime(file, (1, 1))
        result.add(input_fingerprint(file))
        file.touch()
        result.add(input_fingerprint(file))
    assert len(result) == 50


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("count", [3, 30, 100])
def test_a_change_of_a_seventh_of_a_picture_is_noticed(tmp_path, count):
    """Pictures without compression keep their size when a part of one is made again."""
    for number in range(count):
        (tmp_path / f"{number:03}.bmp").write_bytes(bytes(2100))
    before = input_fingerprint(tmp_path)
    picture = tmp_path / f"{count // 2:03}.bmp"
    for start in range(0, 1801, 100):
        picture.write_bytes(bytes(start) + b"x" * 300 + bytes(1800 - start))
        assert input_fingerprint(tmp_path) != before
    picture.write_bytes(bytes(2100))
    assert input_fingerprint(tmp_path) == before


def test_the_date_of_a_small_input_does_not_count(clip, tmp_path):
    touch = change_at_first_frame(lambda: os.utime(clip, (1, 1)))
    calls.interpolate(clip, tmp_path / "o.mkv", watch=touch, **BLEND)
    assert len(read_times(tmp_path / "o.mkv")) == 12


@pytest.mark.usefixtures("large")
def test_a_large_input_whose_date_changes_keeps_the_work(clip, tmp_path):
    touch = change_at_first_frame(clip.touch)
    before = clip.stat()
    with pytest.raises(
        CloudconvError, match=r"written or replaced.*`resume=False`.* keeps"
    ):
        calls.interpolate(clip, tmp_path / "o.mkv", watch=touch, **BLEND)
    assert not (tmp_path / "o.mkv").exists()
    with pytest.raises(CloudconvError, match=r"differs in date of .*`resume=False`"):
        calls.interpolate(clip, tmp_path / "o.mkv", **BLEND)
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert calls.interpolate(clip, tmp_path / "o.mkv", **BLEND).resumed
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


@pytest.mark.full
def test_workers_read_a_copy_of_a_pipe_to_its_end(clip, tmp_path):
    words = ["interp", "-", tmp_path / "o.mkv", "--factor=2", "--model=blend"]
    with Running(*words, "--workers=local:2") as run:
        run.stdin.write(clip.read_bytes())
        run.stdin.close()
        said = run.stderr.read()
        assert run.wait(30) == 0, said
    assert len(read_times(tmp_path / "o.mkv")) == 12
