"""Previews of dreams: the modes in one picture or video, with verdicts, and no dream."""

import json
from fractions import Fraction as F

import pytest
from PIL import Image

from cloudconv.dreaming.methods.modes import METHODS
from cloudconv.errors import InputError, OutputError
from cloudconv.events import Measured
from cloudconv.jobs.extend import preview
from cloudconv.media.reading.probe import probe
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.dreams import ball, video
from tests.helpers.factory import read_times, write_clip

NAMES = [spec.name for spec in METHODS if spec.name != "rollout"]


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "SECONDS", F(1))
    return write_clip(tmp_path / "a.mkv", [video(p) for p in ball(30)], rate=25)


def made(clip, name, **options):
    return calls.dream(clip, preview=clip.with_name(name), threads=1, **options)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("modes.jpg", marks=pytest.mark.full),
        pytest.param("modes.PNG", marks=pytest.mark.slow),
    ],
)
def test_a_sheet_shows_all_modes_and_writes_no_dream(clip, name):
    events = []
    result = made(clip, name, watch=events.append)
    assert sorted(mode.name for mode in clip.parent.iterdir()) == ["a.mkv", name]
    with Image.open(clip.with_name(name)) as sheet:
        width, height = sheet.size
    assert (width, height) == (8 * 96, len(NAMES) * (64 + 32 + 23))
    assert [mode["mode"] for mode in result.modes] == NAMES
    assert all(mode["runs"] and mode["verdict"] for mode in result.modes)
    times = [fault["time"] for mode in result.modes for fault in mode["faults"]]
    assert all(0 <= time < 1 for time in times)
    assert (result.mode, result.material_frames, result.cut) == ("texture", 30, None)
    assert "texture (auto takes it): " in result.summary
    said = [event.values for event in events if isinstance(event, Measured)]
    assert said == [f"{mode['mode']}: {mode['verdict']}" for mode in result.modes]


@pytest.mark.full
@pytest.mark.usefixtures("unmeasured")
def test_a_video_shows_all_modes_for_the_whole_time(clip):
    made(clip, "modes.mp4")
    assert read_times(clip.with_name("modes.mp4")) == [F(k, 25) for k in range(25)]
    info = probe(clip.with_name("modes.mp4"))
    assert (info.width, info.height) == (3 * 96, 64 + 32 + 4 * 23)


@pytest.mark.full
@pytest.mark.usefixtures("unmeasured")
def test_a_rollout_is_shown_if_it_is_asked_for(clip):
    asked = {"a.mp4": {"mode": "rollout"}, "b.png": {"model": "conv"}}
    for name, options in asked.items():
        result = made(clip, name, **options)
        assert [mode["mode"] for mode in result.modes] == [*NAMES, "rollout"]
    info = probe(clip.with_name("a.mp4"))
    assert (info.width, info.height) == (2 * 96, 2 * (64 + 32 + 4 * 23))


@pytest.mark.full
def test_a_mode_that_cannot_run_is_marked(clip):
    result = made(clip, "modes.png", at=F(5, 25))
    runs = {mode["mode"]: mode["runs"] for mode in result.modes}
    assert runs == {"collage": False, "texture": True, "flow": True}
    said = "cannot run: it needs 8 frames, and there are 5"
    assert result.modes[0]["verdict"] == said


def test_a_dream_of_a_high_rate_has_no_more_frames_than_one_of_sixty():
    assert [preview._count(1 / F(rate)) for rate in (30, 60, 1000)] == [240, 480, 480]


@pytest.mark.full
@pytest.mark.parametrize("name", ["modes.png", "modes.mp4"])
def test_a_clip_of_a_low_rate_has_a_picture_in_each_column(tmp_path, name):
    pictures = [video(p) for p in ball(5, (32, 32))]
    clip = write_clip(tmp_path / "slow.mkv", pictures, rate=F(1, 10))
    result = made(clip, name)
    assert [each["runs"] for each in result.modes] == [False, True, True]
    if name.endswith(".mp4"):
        assert read_times(clip.with_name(name)) == [F(10 * k) for k in range(8)]


def test_what_is_wrong_is_said_before_any_work(clip, monkeypatch):
    monkeypatch.setattr(preview, "gather_material", None)
    there = clip.with_name("there.jpg")
    there.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        made(clip, "there.jpg")
    with pytest.raises(InputError, match="so it has no frame at"):
        made(clip, "new.jpg", at=9)
    assert there.read_bytes() == b"mine"
    assert not clip.with_name("new.jpg").exists()


@pytest.mark.full
def test_the_command_prints_one_object_and_replaces_with_y(clip):
    there = clip.with_name("there.jpg")
    there.write_bytes(b"mine")
    plan = invoke("dream", clip, "--preview", there, "-y", "--dry-run", "--json")
    assert json.loads(plan.stdout)["preview"] == str(there)
    assert there.read_bytes() == b"mine"
    done = invoke("dream", clip, "--preview", there, "-y", "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["mode"], len(result["modes"])) == (0, "texture", 3)
    assert there.stat().st_size == result["output_bytes"] > 1000
