"""Many inputs in one command: the result of each, and what a second run skips."""

import json
import os
import re
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from cloudconv import interrupts
from cloudconv.cli.commands import OUTCOME_KEYS
from cloudconv.errors import Interrupted
from cloudconv.events import Ended, Progress
from cloudconv.files import sealed, unsealed
from cloudconv.jobs.interp import batch, records
from cloudconv.jobs.interp.result import InterpResult
from cloudconv.jobs.interp.workers import Workers
from cloudconv.settings import InterpManySettings
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import assert_same_frames, picture, read_times, write_clip
from tests.helpers.jobs import finish
from tests.helpers.tiers import first_full, needs_ray

TINY = ("--factor", 2, "--model", "tiny", "--device", "cpu", "--threads", "1")


def run(*words):
    return invoke("interp", *words, *TINY)


def rows(said):
    """Return input and result of each line of the table."""
    lines = said.splitlines()
    (head,) = [k for k, line in enumerate(lines) if line.split()[:2] == ["input", "result"]]
    return [[Path(line.split()[0]).name, line.split()[1]] for line in lines[head + 1 :]]


def visible(folder):
    """Return the names of all files in a folder but the record of a batch."""
    return sorted(name for name in os.listdir(folder) if name != records.FILE)


@pytest.fixture
def out_dir(tmp_path):
    return tmp_path / "made"


@pytest.fixture
def clips(tmp_path):
    """Return two good clips and a broken one between them."""
    first = write_clip(tmp_path / "a.mp4", 5, rate=24, codec="libx264")
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"no video")
    return [first, broken, write_clip(tmp_path / "c.mkv", 7, rate=25)]


def test_a_broken_input_does_not_stop_the_others(clips, out_dir):
    same_stem = write_clip(clips[0].with_name("a.mov"), 4, codec="libx264")
    result = run(*clips, same_stem, "--out-dir", out_dir)
    assert (result.exit_code, result.stdout) == (1, "")
    frames = {"a_x2.mov": 8, "a_x2.mp4": 10, "c_x2.mkv": 14}
    assert visible(out_dir) == list(frames)
    assert {name: len(read_times(out_dir / name)) for name in frames} == frames
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {clips[1]} ")
    assert [state for _, state in rows(result.stderr)] == ["done", "failed", "done", "done"]


def test_an_input_that_is_given_twice_is_one(clips, out_dir):
    first, _, last = clips
    result = run(last, last, "--out-dir", out_dir)
    assert (result.exit_code, rows(result.stderr)) == (0, [["c.mkv", "done"]])
    other = first.parent / "other" / first.name
    other.parent.mkdir()
    other.hardlink_to(first)
    result = run(first, other, first, "--out-dir", out_dir)
    assert (result.exit_code, visible(out_dir)) == (2, ["c_x2.mkv"])
    assert f"{first} and {other} have the same output name" in result.stderr


def test_a_link_without_a_target_is_named(clips, out_dir):
    (clips[0].parent / "d.mp4").symlink_to("nowhere.mp4")
    result = run(clips[0].parent, "--out-dir", out_dir)
    assert result.exit_code == 1
    assert ["d.mp4", "failed"] in rows(result.stderr)


@needs_ray
def test_a_second_run_skips_finished_outputs(clips, out_dir):
    words = (clips[0], clips[2], "--out-dir", out_dir, "--json", "-q")
    first = run(*words)
    assert (first.exit_code, first.stderr) == (0, "")
    data = json.loads(first.stdout)
    outputs = [str(out_dir / "a_x2.mp4"), str(out_dir / "c_x2.mkv")]
    assert [row["output"] for row in data["results"]] == outputs
    assert (data["failed"], [row["exists"] for row in data["results"]]) == (
        0,
        [False, False],
    )
    dates = [os.stat(path).st_mtime_ns for path in outputs]
    # Options about workers and output on the terminal do not change a result.
    again = run(*words, "--workers", "local:2", "--batch", "1")
    data = json.loads(again.stdout)
    assert again.exit_code == 0
    assert data["results"] == [
        {"input": str(clip), "output": output, "compared": True, "exists": True}
        for clip, output in zip((clips[0], clips[2]), outputs, strict=True)
    ]
    assert [os.stat(path).st_mtime_ns for path in outputs] == dates
    anew = json.loads(run(*words, "-y").stdout)
    assert [row["exists"] for row in anew["results"]] == [False, False]


def test_an_output_of_another_input_or_other_options_is_an_error(clips, out_dir):
    words = (clips[0], clips[2], "--out-dir", out_dir)
    assert run(*words).exit_code == 0
    skipped = run(*words)
    assert rows(skipped.stderr) == [["a.mp4", "exists"], ["c.mkv", "exists"]]
    assert (
        f"{out_dir / 'a_x2.mp4'} was made of {clips[0]} with these options: skipped"
        in skipped.stderr
    )
    for more in ([], ["--dry-run"]):
        other = run(*words, "--scene-cut", "off", "--crf", 30, *more)
        assert other.exit_code == 1
        assert [state for _, state in rows(other.stderr + other.stdout)] == ["failed"] * 2
        output = out_dir / "a_x2.mp4"
        differs = f"{output} exists, and its run differs in crf, scene cut: make it again"
        assert differs in other.stderr + other.stdout
    # Another input with an output of that name.
    write_clip(clips[0].with_suffix(".avi"), 4, codec="mpeg4")
    clips[0].with_suffix(".avi").rename(clips[2].with_suffix(".avi"))
    avi = run(clips[2].with_suffix(".avi"), "--out-dir", out_dir)
    assert (
        "c_x2.mkv exists, and its run differs in content of c.avi, content of c.mkv"
        in avi.stderr
    )
    os.utime(clips[2], (10**9, 10**9))  # a date alone makes no other input
    assert rows(run(*words).stderr) == [["a.mp4", "exists"], ["c.mkv", "exists"]]
    write_clip(clips[2], 4, scene=5)
    os.utime(clips[2], (10**9, 10**9))
    assert "its run differs in content of c.mkv: make" in run(*words).stderr
    assert rows(run(*words, "-y").stderr) == [["a.mp4", "done"], ["c.mkv", "done"]]
    assert rows(run(*words).stderr) == [["a.mp4", "exists"], ["c.mkv", "exists"]]


def test_an_option_newer_than_a_record_counts_as_its_default(clips, out_dir):
    words = (clips[0], "--out-dir", out_dir)
    assert run(*words).exit_code == 0
    file = out_dir / records.FILE
    record = unsealed(file.read_bytes())
    del record["made"]["scene_cut"]
    file.write_bytes(sealed(record) + b"\n")
    assert rows(run(*words).stderr) == [["a.mp4", "exists"]]
    other = run(*words, "--scene-cut", "off")
    assert "differs in scene cut: make it again" in other.stderr


def test_of_an_output_without_a_record_the_date_is_compared(clips, out_dir):
    words = (clips[0], clips[2], "--out-dir", out_dir)
    assert run(*words).exit_code == 0
    with (out_dir / records.FILE).open("r+b") as file:
        file.truncate(20)  # as after a loss of power
    done = run(*words)
    assert rows(done.stderr) == [["a.mp4", "exists"], ["c.mkv", "exists"]]
    assert (
        f"is newer than {clips[0]}, and its options are not recorded: skipped"
        in done.stderr
    )
    old = out_dir / "c_x2.mkv"
    os.utime(old, (0, 0))
    (out_dir / "a_x2.mp4").unlink()
    changed = run(*words)
    assert rows(changed.stderr) == [["a.mp4", "done"], ["c.mkv", "failed"]]
    assert f"{old} exists already: replace it with --overwrite" in changed.stderr
    assert rows(run(*words, "-y").stderr) == [["a.mp4", "done"], ["c.mkv", "done"]]

    assert rows(run(*words).stderr) == [["a.mp4", "exists"], ["c.mkv", "exists"]]
    assert "are not recorded" not in run(*words).stderr


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "folder"])
def test_a_file_of_records_that_is_no_file_is_left_alone(clips, out_dir, kind):
    foreign = out_dir.with_name("foreign")
    foreign.write_bytes(b"theirs")
    out_dir.mkdir()
    place = out_dir / records.FILE
    if kind == "link":
        place.symlink_to(foreign)
    elif kind == "second name":
        place.hardlink_to(foreign)
    elif kind == "folder":
        place.mkdir()
    elif hasattr(os, "mkfifo"):
        os.mkfifo(place)
    words = (clips[0], "--out-dir", out_dir)
    assert rows(run(*words).stderr) == [["a.mp4", "done"]]
    assert rows(run(*words).stderr) == [["a.mp4", "exists"]]
    assert foreign.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"[" * 100_000,
        bytes.swapcase,
        lambda line: sealed({"of": None}),
        lambda line: sealed({"of": ["a_x2.mp4", 0, 0]}),
    ],
)
def test_a_damaged_record_is_no_record(clips, out_dir, damage):
    words = (clips[0], "--out-dir", out_dir)
    assert run(*words).exit_code == 0
    file = out_dir / records.FILE
    (line,) = file.read_bytes().split(b"\n")[1:-1]
    file.write_bytes(damage(line) + b"\n")
    for dry_run in ([], ["--dry-run"]):
        done = run(*words, *dry_run)
        assert done.exit_code == 0, done.stderr
    with file.open("ab") as opened:
        opened.write(line + b"\n")
    assert "not recorded" not in run(*words).stderr


def test_a_change_of_an_input_that_keeps_size_and_date_is_noticed(clips, out_dir):
    words = (clips[2], "--out-dir", out_dir)
    assert run(*words).exit_code == 0
    about = clips[2].stat()
    content = bytearray(clips[2].read_bytes())
    content[len(content) // 2] ^= 1
    clips[2].write_bytes(content)
    os.utime(clips[2], ns=(about.st_atime_ns, about.st_mtime_ns))
    assert "c_x2.mkv exists, and its run differs in content of c.mkv" in run(*words).stderr


def test_a_large_input_with_another_date_is_another_input(clips, out_dir, monkeypatch):
    monkeypatch.setattr("cloudconv.media.reading.identity.MOST_HASHED", 100)
    words = (clips[2], "--out-dir", out_dir)
    output = out_dir / "c_x2.mkv"
    assert rows(run(*words).stderr) == [["c.mkv", "done"]]
    assert rows(run(*words).stderr) == [["c.mkv", "exists"]]
    clips[2].touch()
    before = output.read_bytes()
    assert "differs in content of c.mkv: make it again" in run(*words).stderr
    assert output.read_bytes() == before
    assert rows(run(*words, "-y").stderr) == [["c.mkv", "done"]]


def test_the_records_of_many_outputs_are_read_once(tmp_path):
    made = {"content of a.mp4": "0"}
    outputs = [tmp_path / f"{number}.mp4" for number in range(20)]
    for output in outputs:
        output.write_bytes(b"video")
        records.record(output, made)
    known = records.Records()
    assert known.of(outputs[0]) == made
    assert known.of(tmp_path / "0.mp4") == made
    (tmp_path / "new.mp4").write_bytes(b"video")
    records.record(tmp_path / "new.mp4", made)
    with (tmp_path / records.FILE).open("r+b") as file:
        file.write(b"x" * 200)  # over the first lines, which were read
    assert known.of(tmp_path / "new.mp4") == made
    assert known.of(outputs[0]) == made
    assert records.Records().of(outputs[0]) is None


def test_a_record_that_another_run_is_writing_is_read_when_it_is_whole(tmp_path):
    made = {"content of a.mp4": "0"}
    output = tmp_path / "a.mkv"
    output.write_bytes(b"video")
    records.record(output, made)
    file = tmp_path / records.FILE
    whole = file.read_bytes()
    known = records.Records()
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        assert known.of(output) is None
    file.write_bytes(whole)
    assert known.of(output) == made


def test_an_output_whose_name_follows_from_the_content_is_skipped(clips, out_dir):
    """Matroska under the name of another format gives an .mkv."""
    clip = clips[2].rename(clips[2].with_suffix(".ts"))
    assert rows(run(clip, clips[0], "--out-dir", out_dir).stderr)[0] == ["c.ts", "done"]
    assert rows(run(clip, clips[0], "--out-dir", out_dir).stderr)[0] == ["c.ts", "exists"]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_of_videos_and_photos_stands_for_its_videos(clips, recursive):
    home = clips[0].parent
    clips[1].unlink()
    names = [f"IMG_{number}.JPG" for number in range(5)]
    (home / "made").mkdir()
    for name in (*names, "made/thumbnail.jpg"):
        Image.new("RGB", (32, 24)).save(home / name)
    options = ["--recursive"] if recursive else []
    for dry_run in ([], ["--dry-run"]):
        result = run(home, "--out-dir", home / "made", *options, *dry_run)
        assert result.exit_code == 0, result.stderr
        left = "IMG_0.JPG, IMG_1.JPG, IMG_2.JPG and 2 more"
        assert f"stands for its videos, and what else is in it is left out: {left}." in (
            result.stderr
        )
    assert visible(home / "made") == ["a_x2.mp4", "c_x2.mkv", "thumbnail.jpg"]


def test_an_error_that_concerns_all_inputs_is_printed_once(clips, out_dir):
    result = invoke("interp", *clips, "--out-dir", out_dir, *TINY[:2], "--model", "rif-4.6")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert not out_dir.exists()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return clips of different sizes, rates and lengths.

    Write their results into ``alone``.
    """
    folder = tmp_path_factory.mktemp("videos")
    result = [
        write_clip(
            folder / "a.mkv", [picture(k, scene=k // 30) for k in range(60)], rate=24
        ),
        write_clip(folder / "b.mp4", 3, rate=30, codec="libx264"),
        write_clip(folder / "c.mkv", 25, rate=25, size=(64, 48)),
        write_clip(folder / "d.mkv", 12, rate=24),
    ]
    outcomes, _ = make(result, folder / "alone")
    assert all(isinstance(outcome, InterpResult) for outcome in outcomes.values())
    return result


def make(clips, folder, *, stop_at=None, **settings):
    """Run a batch.

    Return each input's outcome, in the order of their ends, and the progress.
    """
    options = {
        "factor": 2,
        "model": "tiny",
        "threads": 1,
        "device": "cpu",
        **calls.LOSSLESS,
    }
    outcomes = {}
    seen = []

    def watch(event):
        if isinstance(event, Ended):
            outcomes[event.number] = event.outcome
        elif isinstance(event, Progress):
            seen.append(event)
            if stop_at is not None and outcomes and event.done >= stop_at:
                raise KeyboardInterrupt

    finish(
        batch.run(InterpManySettings(clips, out_dir=folder, **options | settings)), watch
    )
    return outcomes, seen


def assert_as_alone(folder, videos):
    """Assert that a folder has the results of single runs and nothing else."""
    alone = videos[0].parent / "alone"
    assert visible(folder) == visible(alone)
    for name in visible(alone):
        assert_same_frames(folder / name, alone / name)


@pytest.mark.full
@pytest.mark.usefixtures("ray")
def test_one_set_of_workers_makes_all_good_videos_of_a_batch(videos, tmp_path, monkeypatch):
    started = []
    cancel = Workers._cancel
    monkeypatch.setattr(
        Workers, "_cancel", lambda self: (started.append(len(self._places)), cancel(self))
    )
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"no video")
    # The pictures change in size after 40 frames, as in a recorded broadcast.
    one = write_clip(tmp_path / "one.h264", 40, codec="libx264")
    other = write_clip(tmp_path / "other.h264", 8, size=(64, 48), codec="libx264")
    (changing := tmp_path / "changing.h264").write_bytes(
        one.read_bytes() + other.read_bytes()
    )
    folder = tmp_path / "made"
    outcomes, seen = make(
        [videos[0], broken, changing, *videos[1:]], folder, workers="local:2"
    )
    assert started == [2]
    assert_as_alone(folder, videos)
    frames = [getattr(outcomes[k], "source_frames", None) for k in range(6)]
    assert frames == [60, None, None, 3, 25, 12]
    assert "the first picture is 96x64" in str(outcomes[2])
    assert "carries on" not in str(outcomes[2])
    done = [progress.done for progress in seen if progress.stage == "rendering"]
    assert done == sorted(done)
    # Each output is joined of the workers' segments; each join has a progress of its own.
    joined = [progress.done for progress in seen if progress.stage == "joining"]
    assert [last for last, after in pairwise([*joined, 0]) if after < last] == [
        120,
        6,
        50,
        24,
    ]
    assert len(outcomes) == 6


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    ("workers", "then"), first_full([("local:2", "local"), ("local", "local:2")])
)
def test_ctrl_c_stops_a_batch_and_the_same_command_resumes(videos, tmp_path, workers, then):
    turned = [videos[1], videos[0], videos[2], videos[3]]
    with pytest.raises(
        Interrupted, match=r"of 4 inputs are finished.*the same command carries on"
    ):
        make(turned, tmp_path, stop_at=100, workers=workers)
    # With workers, any of the segments may be finished first.
    kept = {name.split("_x2")[0]: name for name in os.listdir(tmp_path)}
    finished = [v.stem in kept and not kept[v.stem].endswith(".work") for v in turned]
    assert any(finished)
    assert not all(finished)
    outcomes, _ = make(turned, tmp_path, workers=then)
    assert [isinstance(outcomes[k], batch.Exists) for k in range(4)] == finished
    assert any(getattr(outcome, "resumed", False) for outcome in outcomes.values())
    assert_as_alone(tmp_path, videos)


def put(folder, *names):
    """Write a small video or photo under each of the names."""
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".mkv", ".mov"):
            write_clip(
                path, 3, rate=25, codec="ffv1" if path.suffix == ".mkv" else "libx264"
            )
        else:
            Image.new("RGB", (32, 24)).save(path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["b.mov", "100MEDIA/a.jpg"], "100MEDIA/."),
        (["1.png", "2.png", "q/3.png"], "q/."),
        (["b.mkv", "more/d.mkv", ".hidden/d.mkv", "made/d.mkv"], "more/."),
    ],
)
def test_a_warning_names_ignored_subfolders(tmp_path, names, said):
    home = tmp_path / "home"
    put(home, *names)
    (home / "empty").mkdir()
    to = [tmp_path / "o.mkv"] if "1.png" in names else ["--out-dir", home / "made"]
    for _ in range(1 if "1.png" in names else 2):
        done = run(home, *to)
        assert done.exit_code == 0, done.stderr
        assert f"what else is in it is left out: {said}\n" in done.stderr
        included = f"--recursive includes the videos in folders of {home}."
        assert (included in done.stderr) == ("more/" in said)


def test_a_warning_names_the_subfolders_of_a_card_whose_videos_are_all_inside(tmp_path):
    card = tmp_path / "DCIM"
    put(card, "100MEDIA/a.mov")
    done = run(card, "--out-dir", tmp_path / "made")
    assert done.exit_code == 1
    assert f"--recursive includes the videos in folders of {card}." in done.stderr
    assert (
        f"error: The folder {card} itself holds no pictures and no videos: " in done.stderr
    )
    assert "for its subfolders interp with --out-dir and --recursive." in done.stderr


def test_recursive_reads_subfolders_and_keeps_them(tmp_path):
    home, out_dir = tmp_path / "home", tmp_path / "home" / "made"
    put(home, "a.mkv", "x/a.mkv", "x/y/b.mkv", "x/cover.png", ".hidden/c.mkv", "made/d.mkv")
    words = (home, "--out-dir", out_dir, "--recursive")
    plans = json.loads(run(*words, "--dry-run", "--json").stdout)["plans"]
    inputs = [home / name for name in ("a.mkv", "x/a.mkv", "x/y/b.mkv")]
    assert [Path(plan["input"]) for plan in plans] == inputs
    assert os.listdir(out_dir) == ["d.mkv"]
    for state in ("done", "exists"):
        done = run(*words)
        assert done.exit_code == 0, done.stderr
        assert [row_state for _, row_state in rows(done.stderr)] == [state] * 3
    outputs = {path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*_x2.mkv")}
    assert outputs == {"a_x2.mkv", "x/a_x2.mkv", "x/y/b_x2.mkv"}


@pytest.mark.parametrize("more", [(), ("--recursive",)], ids=["folder", "recursive"])
def test_the_output_folder_is_no_input_folder(clips, more):
    home = clips[0].parent
    refused = run(home, "--out-dir", home, *more)
    assert (refused.exit_code, len(os.listdir(home))) == (2, 3)
    assert f"next run on {home}: name another folder, such as {home}" in refused.stderr
    assert rows(run(clips[0], "--out-dir", home).stderr) == [["a.mp4", "done"]]


def test_gifs_of_one_picture_are_a_sequence(tmp_path):
    (tmp_path / "radar").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 24), (80 * number,) * 3).save(
            tmp_path / f"radar/{number}.gif"
        )
    result = run(tmp_path / "radar", tmp_path / "o.mkv")
    assert result.exit_code == 0, result.stderr
    assert len(read_times(tmp_path / "o.mkv")) == 6


def test_a_lost_ctrl_c_is_noticed_before_an_input_is_called_damaged(clips, monkeypatch):
    # Broken inputs have no frames, so no check between frames notices the interrupt.
    monkeypatch.setattr(interrupts, "check", Mock(side_effect=KeyboardInterrupt))
    result = run(clips[1], clips[0], "--out-dir", clips[0].parent / "made")
    assert result.exit_code == 130
    assert result.stderr == "interrupted; this run has left no unfinished file\n"
    assert os.listdir(clips[0].parent / "made") == []


def test_a_video_that_arrives_during_the_run_waits_for_the_next_run(
    clips, out_dir, monkeypatch
):
    def then_arrives(settings, each_input=batch.each_input):
        every = each_input(settings)
        clips[1].with_name("d.mkv").hardlink_to(clips[2])
        return every

    clips[1].unlink()
    monkeypatch.setattr(batch, "each_input", then_arrives)
    done = run(clips[0].parent, "--out-dir", out_dir)
    assert rows(done.stderr) == [["a.mp4", "done"], ["c.mkv", "done"]]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "c.mkv: unexpected, please report it as a bug (KeyError: 'x')."),
        (PermissionError(13, "no entry", "x"), "c.mkv: x cannot be used (no entry): check"),
        (MemoryError(), "c.mkv: there is not enough memory (none was left): close other"),
    ],
)
def test_no_error_of_an_input_stops_the_others(clips, out_dir, monkeypatch, error, said):
    def broken(settings, *given, decide=batch.decide_one):
        if str(settings.input).endswith("c.mkv"):
            raise error
        return decide(settings, *given)

    monkeypatch.setattr(batch, "decide_one", broken)
    done = run(clips[2], clips[0], "--out-dir", out_dir)
    assert rows(done.stderr) == [["c.mkv", "failed"], ["a.mp4", "done"]]
    assert said in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_with_progress_json_each_input_of_a_batch_has_an_object(clips, out_dir):
    def objects():
        said = run(*clips, "--out-dir", out_dir, "--progress", "json").stderr
        lines = map(json.loads, said.splitlines())
        return [line for line in lines if line.pop("type") == "outcome"]

    done = objects()
    again = objects()
    states = [[row["result"] for row in found] for found in (done, again)]
    assert states == [["done", "failed", "done"], ["exists", "failed", "exists"]]
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
    (described,) = re.findall(r"^\| `outcome` \| (.*) \|$", page, re.MULTILINE)
    for row, clip in zip(done, clips, strict=True):
        assert all(f"`{key}`" in described for key in row)
        assert set(row) == {"result", *OUTCOME_KEYS}
        assert row["input"] == str(clip)
        assert (row["result"] == "failed") == (row["output"] is None) == bool(row["code"])
        if row["output"]:
            assert row["output_frames"] == len(read_times(row["output"]))
            assert row["output_bytes"] == os.stat(row["output"]).st_size


def test_a_name_with_a_newline_is_one_row_of_the_table(clips, out_dir):
    clip = clips[2].rename(clips[2].with_name("a\nb.mkv"))
    done = run(clip, clips[1], "--out-dir", out_dir)
    assert [row[1] for row in rows(done.stderr)] == ["done", "failed"]
    assert "a\\nb_x2.mkv" in done.stderr.splitlines()[-2]


@pytest.mark.full
def test_the_total_is_estimated_from_file_sizes(videos, tmp_path):
    _, seen = make(videos, tmp_path)
    guesses = [progress.total for progress in seen]
    assert None not in guesses
    assert guesses[-1] == 200
    assert all(p.done <= (p.total or 0) for p in seen)
