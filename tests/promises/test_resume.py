"""Finished segments are kept after every interruption and never mixed with other work."""

import itertools
import os
import random
import re
import shutil
import signal
import struct
import threading
import time
import zlib
from functools import partialmethod
from pathlib import Path

import pytest

from cloudconv.errors import CloudconvError, Interrupted, OutputError
from cloudconv.events import Progress
from cloudconv.media.writing.packets import PacketFile, Writer
from cloudconv.media.writing.sink import Sink
from tests.helpers import calls
from tests.helpers.factory import assert_same_frames, packets_of, picture, write_clip
from tests.helpers.jobs import on, stop_after
from tests.helpers.system import FILL, command, copied, finished, largest_file
from tests.promises.test_changed_input import KINDS, change_middle, make

FRAMES = 64
SIZE = (96, 64)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return a folder with a clip of four scenes and the output of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("made")
    pictures = [picture(k, *SIZE, scene=4 * k // FRAMES) for k in range(FRAMES)]
    write_clip(folder / "a.mkv", pictures, rate=24, audio=["flac"])
    assert not interp(folder / "a.mkv", folder / "whole.mkv").resumed
    return folder


def interp(clip, out, **settings):
    options = {"factor": 2, "model": "tiny", **calls.lossless(out), **settings}
    return calls.interpolate(clip, out, **options)


@pytest.fixture(scope="module")
def stopped(clips, tmp_path_factory):
    """Return the folder of ``b.mkv`` after Ctrl-C has interrupted the run."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Interrupted, match="carries on"):
        interp(clips / "a.mkv", folder / "b.mkv", watch=stop_after(96))
    assert os.listdir(folder) == ["b.mkv.work"]
    return folder


@pytest.fixture
def interrupted(stopped, tmp_path):
    return Path(shutil.copytree(stopped, tmp_path / "stopped"))


def assert_same(found, expected):
    assert_same_frames(found, expected)
    assert packets_of(found) == packets_of(expected)


def segments(folder, output="b.mkv"):
    """Return the files of the finished segments of an output."""
    return sorted((folder / f"{output}.work").glob("*-*.packets"))


def killed_run(clip, out, count, delay):
    """Kill a run ``delay`` seconds after ``count`` segments.

    Return how many are finished.
    """
    given = [clip, out, "--factor", "2", "--model", "tiny", "--encoder", "ffv1", "-q"]
    running = copied(command, "interp", *given)
    while len(segments(out.parent, out.name)) < count and running.is_alive():
        time.sleep(0.001)
    time.sleep(delay)
    running.kill()
    running.join()
    return len(segments(out.parent, out.name))


def kill_and_resume(clips, folder, kills):
    """Kill and resume runs; return how many kills left finished segments."""
    chance = random.Random(kills)
    number = kept = 0
    while number < kills:
        out = folder / f"b{number}.mkv"
        left = killed_run(clips / "a.mkv", out, chance.randrange(5), chance.uniform(0, 0.1))
        if out.exists():
            # The run ended before the kill, so this attempt proves nothing.
            out.unlink()
            continue
        result = interp(clips / "a.mkv", out)
        assert result.resumed == (left > 0)
        assert_same(out, clips / "whole.mkv")
        assert not out.with_name(f"{out.name}.work").exists()
        number += 1
        kept += left > 0
    return kept


@pytest.mark.full
@pytest.mark.usefixtures("ray")
def test_each_run_gives_the_same_video(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", 24, size=(160, 120), noise=12)
    outputs = [tmp_path / f"{k}.mp4" for k in range(3)]
    # The C library of Linux fills new memory with other values in each process.
    for out, fill in zip(outputs, (7, 100, 200), strict=True):
        monkeypatch.setenv(FILL, str(fill))
        if out is outputs[2]:
            calls.interpolate(clip, out, factor=2, model="blend", workers="local:2")
            continue
        words = [clip, out, "--factor=2", "--model=blend", "-q"]
        assert finished(command, "interp", *words).returncode == 0
    assert packets_of(outputs[0], "video") == packets_of(outputs[1], "video")
    assert_same_frames(outputs[2], outputs[0])


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_is_resumed(clips, tmp_path):
    kill_and_resume(clips, tmp_path, 2)


@pytest.mark.slow
def test_runs_killed_at_twenty_random_points_are_resumed(clips, tmp_path):
    kept = kill_and_resume(clips, tmp_path, 20)
    print(f"{kept} of 20 kills left finished segments")  # noqa: T201 - docs/guarantees.md
    assert kept >= 10


@pytest.mark.full
def test_ctrl_c_keeps_finished_segments(interrupted, clips):
    assert len(segments(interrupted)) >= 3
    seen = []
    watch = on("rendering", seen.append)
    result = interp(clips / "a.mkv", interrupted / "b.mkv", watch=watch)
    assert (result.resumed, result.output_frames, result.warnings) == (True, 2 * FRAMES, [])
    assert (result.source_frames, result.new_frames, len(result.cuts)) == (
        FRAMES,
        FRAMES - 4,
        3,
    )
    (resumed,) = {progress.resumed for progress in seen}
    assert 0 < resumed == seen[0].done == seen[1].done - 1
    assert seen[-1].done == seen[-1].total == 2 * FRAMES
    assert_same(interrupted / "b.mkv", clips / "whole.mkv")
    assert os.listdir(interrupted) == ["b.mkv"]


def test_finished_segments_are_not_made_again(interrupted, clips, monkeypatch):
    done = segments(interrupted)
    with pytest.raises(Interrupted):
        interp(clips / "a.mkv", interrupted / "b.mkv", watch=stop_after(122))
    assert all(path.exists() for path in done)
    assert len(segments(interrupted)) > len(done)


@pytest.mark.usefixtures("ray")
@pytest.mark.full
@pytest.mark.parametrize(
    ("workers", "counts"),
    [
        ("local", [44, 61, 120]),
        pytest.param("local:2", [20, 70], marks=pytest.mark.full),
    ],
)
def test_an_interrupt_keeps_all_finished_segments(clips, tmp_path, workers, counts):
    kept = 0
    for count in counts:
        seen = []
        stop = stop_after(count)
        with pytest.raises(Interrupted) as caught:
            interp(
                clips / "a.mkv",
                tmp_path / "b.mkv",
                workers=workers,
                watch=lambda event, s=seen, stop=stop: (s.append(event), stop(event)),
            )
        rendered = [event for event in seen if isinstance(event, Progress)]
        assert rendered[0].resumed == kept
        words = r"b\.mkv\.work keeps (\d+) finished frames(?: and (\d+) frames? more)?"
        numbers = re.search(words, str(caught.value)).groups(default="0")
        assert sum(map(int, numbers)) == rendered[-1].done
        kept = int(numbers[0])
        assert not list(tmp_path.glob("b.mkv.work/*.part"))
    assert interp(clips / "a.mkv", tmp_path / "b.mkv").resumed
    assert_same(tmp_path / "b.mkv", clips / "whole.mkv")


@pytest.mark.full
def test_an_interrupt_of_a_format_without_segments_leaves_nothing(clips, tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        interp(clips / "a.mkv", tmp_path / "b.gif", factor=1.25, watch=stop_after(60))
    assert not isinstance(caught.value, Interrupted)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to a thread")
# Without the handlers of a command, the signal may arrive while a file is opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_closes_no_file_into_which_a_thread_writes(kind, tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", 12, rate=24)
    (out := tmp_path / "out").mkdir()
    numbers = itertools.count()
    inside = set()
    closed_inside = []

    def write(writer, packet, real):
        inside.add(writer)
        try:
            real(writer, packet)
            if next(numbers) == 2:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.3)
        finally:
            inside.discard(writer)

    def abandon(writer, real=Writer.abandon):
        closed_inside.append(writer in inside)
        real(writer)

    for writer in (Sink, PacketFile):
        monkeypatch.setattr(writer, "store", partialmethod(write, real=writer.store))
    monkeypatch.setattr(Writer, "abandon", abandon)
    with pytest.raises(KeyboardInterrupt):
        make(kind, clip, out)
    assert not any(closed_inside)
    assert kind == "video" or (closed_inside and os.listdir(out) == [])


def test_an_interrupt_when_the_output_is_complete_keeps_no_work(
    clips, tmp_path, monkeypatch
):
    def then_interrupted(part, commit=Sink.commit):
        commit(part)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sink, "commit", then_interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        interp(clips / "a.mkv", tmp_path / "b.mkv")
    # Which says that the command carries on.
    assert not isinstance(caught.value, Interrupted)
    assert os.listdir(tmp_path) == ["b.mkv"]
    assert_same(tmp_path / "b.mkv", clips / "whole.mkv")


@pytest.mark.full
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"factor": 3}, "factor"),
        ({"model": "blend"}, "model"),
        ({"scene_cut": "off"}, "scene cut"),
        ({"encoder": "libx264", "crf": 0}, "encoder"),
    ],
)
def test_work_with_other_settings_is_discarded_only_with_no_resume(
    interrupted, clips, changed, named
):
    kept = segments(interrupted)
    with pytest.raises(
        OutputError, match=f"(?s)b.mkv.work .*{named}.* `resume=False`"
    ) as refused:
        interp(clips / "a.mkv", interrupted / "b.mkv", **changed)
    assert "carries on" not in str(refused.value)
    assert segments(interrupted) == kept
    result = interp(clips / "a.mkv", interrupted / "b.mkv", resume=False, **changed)
    assert not result.resumed
    interp(clips / "a.mkv", interrupted / "c.mkv", **changed)
    assert_same(interrupted / "b.mkv", interrupted / "c.mkv")


def test_work_on_another_input_is_kept(interrupted, clips, tmp_path):
    other = write_clip(tmp_path / "other.mkv", FRAMES, rate=24, audio=["flac"])
    with pytest.raises(OutputError, match="differs in input"):
        interp(other, interrupted / "b.mkv")
    assert interp(clips / "a.mkv", interrupted / "b.mkv").resumed


def test_work_on_an_input_whose_middle_has_changed_is_kept(clips, tmp_path):
    """Size and date of the changed file are the same as before."""
    clip = Path(shutil.copy2(clips / "a.mkv", tmp_path))
    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(96))
    change_middle(clip)
    with pytest.raises(OutputError, match="input"):
        interp(clip, tmp_path / "b.mkv")
    assert segments(tmp_path)


@pytest.mark.full
def test_work_on_an_input_whose_date_has_changed_is_resumed(clips, tmp_path):
    clip = Path(shutil.copy2(clips / "a.mkv", tmp_path))
    with pytest.raises(Interrupted, match="carries on"):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(96))
    clip.touch()
    assert interp(clip, tmp_path / "b.mkv").resumed
    assert_same(tmp_path / "b.mkv", clips / "whole.mkv")


def test_work_with_other_weights_is_kept(interrupted, clips, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            "cloudconv.models.registry.weights_fingerprint", lambda _: "another hash"
        )
        with pytest.raises(OutputError, match="differs in weights"):
            interp(clips / "a.mkv", interrupted / "b.mkv")
    assert interp(clips / "a.mkv", interrupted / "b.mkv").resumed


def test_work_of_another_engine_is_kept(interrupted, clips, monkeypatch):
    """Two engines round differently, so that one video never has frames of both."""
    with monkeypatch.context() as patch:
        patch.setenv("CLOUDCONV_ENGINE", "pytorch")
        with pytest.raises(OutputError, match=r"differs in convolutions: .*`resume=False`"):
            interp(clips / "a.mkv", interrupted / "b.mkv")
    assert interp(clips / "a.mkv", interrupted / "b.mkv").resumed


@pytest.mark.full
def test_overwrite_does_not_prevent_a_resume(interrupted, clips):
    (interrupted / "b.mkv").write_bytes(b"an old result")
    with pytest.raises(OutputError, match="exists"):
        interp(clips / "a.mkv", interrupted / "b.mkv")
    result = interp(clips / "a.mkv", interrupted / "b.mkv", overwrite=True)
    assert result.resumed
    assert_same(interrupted / "b.mkv", clips / "whole.mkv")


@pytest.mark.parametrize("number", ["-00007", "999999", "1" + "0" * 30, "00000x"])
def test_a_segment_that_the_plan_does_not_have_is_not_joined(interrupted, clips, number):
    file = segments(interrupted)[0]
    file.rename(file.with_name(f"{number}-{file.name.partition('-')[2]}"))
    assert interp(clips / "a.mkv", interrupted / "b.mkv").resumed
    assert_same(interrupted / "b.mkv", clips / "whole.mkv")


RECORD = (
    struct.pack("<II", 18, zlib.crc32(b"of another program", 1)) + b"of another program"
)
DAMAGE = {
    "shorter": lambda file, data: os.truncate(file, len(data) - 1),
    "bit": lambda file, data: file.write_bytes(
        data[:999] + bytes([data[999] ^ 1]) + data[1000:]
    ),
    "zeros": lambda file, data: file.write_bytes(bytes(len(data))),
    "swapped": lambda file, data: shutil.copy(segments(file.parents[1])[2], file),
    "record": lambda file, data: file.write_bytes(RECORD + data[len(RECORD) :]),
    "folder": lambda file, data: (file.unlink(), file.mkdir()),
    "pipe": lambda file, data: (file.unlink(), os.mkfifo(file)),
    "link": lambda file, data: (
        file.unlink(),
        file.symlink_to(file.parents[2] / "precious"),
    ),
}
SAID = {"shorter": "1 finished segment", "bit": "damaged on the disk"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_any_damage_of_a_segment_is_one_sentence_and_then_repaired(
    interrupted, clips, tmp_path, kind
):
    file = segments(interrupted)[1]
    precious = tmp_path / "precious"
    data = file.read_bytes()
    precious.write_bytes(data)
    DAMAGE[kind](file, data)
    try:
        said = interp(clips / "a.mkv", interrupted / "b.mkv").warnings
    except OutputError as error:
        said = [error]
    if kind in SAID:
        assert any(SAID[kind] in str(text) for text in said)
    if kind == "folder":
        file.rmdir()
    if not (interrupted / "b.mkv").exists():
        assert interp(clips / "a.mkv", interrupted / "b.mkv").resumed
    assert_same(interrupted / "b.mkv", clips / "whole.mkv")
    assert precious.read_bytes() == data


@pytest.mark.parametrize(
    "damage",
    [lambda plan: b"[" * 100_000, lambda plan: plan[:-9], lambda plan: plan.swapcase()],
    ids=["deep", "cut off", "changed"],
)
def test_a_damaged_plan_starts_the_run_again(interrupted, clips, damage):
    path = interrupted / "b.mkv.work" / ".cloudconv-plan.json"
    path.write_bytes(damage(path.read_bytes()))
    seen = []
    stop = stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        interp(
            clips / "a.mkv",
            interrupted / "b.mkv",
            watch=lambda event: (seen.append(event), stop(event)),
        )
    assert "cannot be resumed" in " ".join(map(str, seen))
    assert seen[-1].resumed == 0


@pytest.mark.full
@pytest.mark.parametrize("share", [2, 40])
def test_a_full_disk_keeps_every_finished_segment(clips, tmp_path, share):
    """The disk is full at the join, or before the end of the first segment."""
    kept = rf".* keeps {2 * FRAMES} finished frames" if share == 2 else ""
    limit = (clips / "whole.mkv").stat().st_size // share
    with largest_file(limit), pytest.raises(OutputError, match=f"largest file{kept}"):
        interp(clips / "a.mkv", tmp_path / "b.mkv")
    assert os.listdir(tmp_path) == ["b.mkv.work"] * (share == 2)
    assert interp(clips / "a.mkv", tmp_path / "b.mkv").resumed == (share == 2)
    assert_same(tmp_path / "b.mkv", clips / "whole.mkv")


def at_frame(number, do):
    """Return a watcher that calls a function when so many frames are done."""
    return on("rendering", lambda progress: progress.done == number and do())


@pytest.mark.full
def test_an_input_that_changes_during_a_run_is_noticed(clips, tmp_path):
    clip = Path(shutil.copy(clips / "a.mkv", tmp_path))
    change = at_frame(96, lambda: clip.write_bytes(clip.read_bytes() + b"\0"))
    with pytest.raises(CloudconvError, match="changed while it was read"):
        interp(clip, tmp_path / "b.mkv", watch=change)
    assert not (tmp_path / "b.mkv").exists()
    assert not interp(clip, tmp_path / "b.mkv").resumed


@pytest.mark.usefixtures("ray")
@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize(
    "workers", ["local", pytest.param("local:2", marks=pytest.mark.full)]
)
def test_an_input_that_a_pipe_replaces_ends_in_a_sentence(clips, tmp_path, workers):
    clip = Path(shutil.copy(clips / "a.mkv", tmp_path))
    watch = at_frame(10, lambda: (clip.unlink(), os.mkfifo(clip)))
    with pytest.raises(CloudconvError, match=r"a\.mkv is a named pipe: give a file"):
        interp(clip, tmp_path / "b.mkv", workers=workers, watch=watch)
    assert not (tmp_path / "b.mkv").exists()


@pytest.mark.full
def test_a_deleted_work_folder_is_not_reported_as_kept(clips, tmp_path):
    watch = at_frame(96, lambda: shutil.rmtree(tmp_path / "b.mkv.work"))
    with pytest.raises(CloudconvError, match=r"b\.mkv\.work was deleted while") as raised:
        interp(clips / "a.mkv", tmp_path / "b.mkv", watch=watch)
    assert "kept" not in str(raised.value)
    assert os.listdir(tmp_path) == []
