"""What is finished outlasts every end but a good one, and never mixes with anything else."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from cloudconv.errors import CloudconvError, Interrupted, OutputError
from cloudconv.events import Progress
from cloudconv.jobs.interp.settings import InterpResult
from cloudconv.segments.store import SegmentStore, sealed
from tests.helpers import calls
from tests.helpers.factory import assert_same_frames, picture, write_clip
from tests.helpers.jobs import on, stop_after

LOSSLESS = {"encoder": "ffv1"}
FRAMES = 120
SIZE = (96, 64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip of four scenes, and what comes of it without a stop."""
    folder = tmp_path_factory.mktemp("made")
    pictures = [picture(k, *SIZE, scene=k // 30) for k in range(FRAMES)]
    write_clip(folder / "a.mkv", pictures, rate=24, audio=["flac"])
    assert not interp(folder / "a.mkv", folder / "whole.mkv").resumed
    return folder


def interp(clip: Path, out: Path, **settings: Any) -> InterpResult:
    settings.setdefault("encode", LOSSLESS)
    return calls.interpolate(clip, out, **{"factor": 2, "model": "tiny", **settings})


@pytest.fixture
def stopped(made: Path, tmp_path: Path) -> Path:
    """Where ``b.mkv`` was to be made, when Ctrl-C came."""
    with pytest.raises(Interrupted, match="carries on"):
        interp(made / "a.mkv", tmp_path / "b.mkv", watch=stop_after(180))
    assert os.listdir(tmp_path) == ["b.mkv.work"]
    return tmp_path


def assert_same(found: Path, expected: Path) -> None:
    assert_same_frames(found, expected)
    with av.open(str(found)) as one, av.open(str(expected)) as other:
        assert [s.codec_context.name for s in one.streams] == [
            s.codec_context.name for s in other.streams
        ]
        assert sum(p.size for p in one.demux(audio=0)) == sum(p.size for p in other.demux(audio=0))


def journal(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "b.mkv.work" / "segments.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def finished_in(work: Path) -> int:
    """How many segments a work folder holds, while somebody works in it."""
    try:
        return (work / "segments.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def killed_run(clip: Path, out: Path, segments: int, delay: float) -> int:
    """SIGKILL the real command so many seconds after so many segments; how many it leaves."""
    work = out.with_name(f"{out.name}.work")
    command = [sys.executable, "-m", "cloudconv", "interp", clip, out, "--factor", "2"]
    command += ["--model", "tiny", "--encoder", "ffv1", "-q"]
    with subprocess.Popen(command) as running:
        while not work.exists() or finished_in(work) < segments:
            if running.poll() is not None:
                break
            time.sleep(0.001)
        time.sleep(delay)
        running.kill()
    return finished_in(work)


def survive(made: Path, folder: Path, kills: int) -> int:
    """Kill and carry on again and again; how many kills left finished segments."""
    chance = random.Random(kills)
    number = kept = 0
    while number < kills:
        out = folder / f"b{number}.mkv"
        left = killed_run(made / "a.mkv", out, chance.randrange(5), chance.uniform(0, 0.2))
        if out.exists():
            # It was over before the kill, which proves nothing.
            out.unlink()
            continue
        result = interp(made / "a.mkv", out)
        assert result.resumed == (left > 0)
        assert_same(out, made / "whole.mkv")
        assert not out.with_name(f"{out.name}.work").exists()
        number += 1
        kept += left > 0
    return kept


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_killed_run_is_carried_on(made: Path, tmp_path: Path) -> None:
    survive(made, tmp_path, 2)


@pytest.mark.slow
def test_kills_at_twenty_random_points(made: Path, tmp_path: Path) -> None:
    kept = survive(made, tmp_path, 20)
    print(f"{kept} of 20 kills left finished segments")  # noqa: T201 - docs/guarantees.md
    assert kept >= 10


def test_ctrl_c_keeps_what_is_finished(stopped: Path, made: Path) -> None:
    finished = journal(stopped)
    assert len(finished) >= 3
    result = interp(made / "a.mkv", stopped / "b.mkv")
    assert (result.resumed, result.output_frames) == (True, 2 * FRAMES)
    assert result.warnings == []
    assert_same(stopped / "b.mkv", made / "whole.mkv")
    assert os.listdir(stopped) == ["b.mkv"]


def test_finished_segments_are_not_made_again(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [stopped / "b.mkv.work" / entry["file"] for entry in journal(stopped)]
    with pytest.raises(Interrupted):
        interp(made / "a.mkv", stopped / "b.mkv", watch=stop_after(230))
    assert all(path.exists() for path in done)
    assert len(journal(stopped)) > len(done)


def test_an_interrupt_before_the_first_segment_leaves_nothing(made: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        interp(made / "a.mkv", tmp_path / "b.mkv", watch=stop_after(3))
    assert not isinstance(caught.value, Interrupted)
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_counts_warnings_and_cuts_are_those_of_a_whole_run(stopped: Path, made: Path) -> None:
    whole = interp(made / "a.mkv", stopped / "again.mkv")
    result = interp(made / "a.mkv", stopped / "b.mkv")
    for name in ("source_frames", "output_frames", "new_frames", "held_frames", "cuts", "duration"):
        assert getattr(result, name) == getattr(whole, name), name


@pytest.mark.full
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"factor": 3}, "factor"),
        ({"model": "blend"}, "model"),
        ({"scene_cut": "off"}, "scene cut"),
        ({"encode": {"encoder": "libx264", "crf": 0}}, "encoder"),
    ],
)
def test_work_with_other_settings_is_thrown_away_only_when_told_so(
    stopped: Path, made: Path, changed: dict[str, Any], named: str
) -> None:
    kept = journal(stopped)
    with pytest.raises(OutputError, match=f"(?s)b.mkv.work .*{named}.* `resume=False`") as refused:
        interp(made / "a.mkv", stopped / "b.mkv", **changed)
    assert "carries on" not in str(refused.value)
    assert journal(stopped) == kept
    result = interp(made / "a.mkv", stopped / "b.mkv", resume=False, **changed)
    assert not result.resumed
    interp(made / "a.mkv", stopped / "c.mkv", **changed)
    assert_same(stopped / "b.mkv", stopped / "c.mkv")


def test_work_on_another_input_is_kept(stopped: Path, made: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mkv", FRAMES, rate=24, audio=["flac"])
    with pytest.raises(OutputError, match="another input"):
        interp(other, stopped / "b.mkv")
    assert interp(made / "a.mkv", stopped / "b.mkv").resumed


def test_work_with_other_weights_is_kept(
    stopped: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudconv.jobs.interp import output

    with monkeypatch.context() as patch:
        patch.setattr(output, "weights_fingerprint", lambda _: "another hash")
        with pytest.raises(OutputError, match="another weights"):
            interp(made / "a.mkv", stopped / "b.mkv")
    assert interp(made / "a.mkv", stopped / "b.mkv").resumed


def test_what_was_made_before_is_told_apart(stopped: Path, made: Path) -> None:
    """Finished frames are there from the first word on, and count for no speed."""
    seen: list[Progress] = []
    interp(made / "a.mkv", stopped / "b.mkv", watch=on("rendering", seen.append))
    found = {progress.resumed for progress in seen}
    assert len(found) == 1
    assert min(found) > 0
    assert seen[0].done == min(found) + 1
    assert seen[-1].done == seen[-1].total == 2 * FRAMES


@pytest.mark.full
def test_words_and_names_are_no_settings(stopped: Path, made: Path) -> None:
    (stopped / "b.mkv").write_bytes(b"an old result")
    with pytest.raises(OutputError, match="exists"):
        interp(made / "a.mkv", stopped / "b.mkv")
    result = interp(made / "a.mkv", stopped / "b.mkv", overwrite=True, preview=stopped / "now.jpg")
    assert result.resumed
    assert_same(stopped / "b.mkv", made / "whole.mkv")


@pytest.mark.full
def test_no_resume_throws_the_state_away(stopped: Path, made: Path) -> None:
    result = interp(made / "a.mkv", stopped / "b.mkv", resume=False)
    assert (result.resumed, result.warnings) == (False, [])
    assert_same(stopped / "b.mkv", made / "whole.mkv")


@pytest.mark.full
def test_a_truncated_segment_is_made_again(stopped: Path, made: Path) -> None:
    path = stopped / "b.mkv.work" / journal(stopped)[1]["file"]
    os.truncate(path, path.stat().st_size - 1)
    result = interp(made / "a.mkv", stopped / "b.mkv")
    assert result.resumed
    assert any("1 finished segment" in warning for warning in map(str, result.warnings))
    assert_same(stopped / "b.mkv", made / "whole.mkv")


@pytest.mark.full
def test_a_flipped_bit_is_noticed_and_made_good_by_the_next_run(stopped: Path, made: Path) -> None:
    path = stopped / "b.mkv.work" / journal(stopped)[1]["file"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OutputError, match="damaged on the disk"):
        interp(made / "a.mkv", stopped / "b.mkv")
    assert not (stopped / "b.mkv").exists()
    assert interp(made / "a.mkv", stopped / "b.mkv").resumed
    assert_same(stopped / "b.mkv", made / "whole.mkv")


@pytest.mark.full
def test_a_line_that_was_cut_off_counts_for_nothing(stopped: Path, made: Path) -> None:
    path = stopped / "b.mkv.work" / "segments.jsonl"
    os.truncate(path, path.stat().st_size - 20)
    assert interp(made / "a.mkv", stopped / "b.mkv").resumed
    assert_same(stopped / "b.mkv", made / "whole.mkv")


@pytest.mark.full
def test_segments_of_another_plan_are_refused(stopped: Path, made: Path) -> None:
    path = stopped / "b.mkv.work" / "segments.jsonl"
    entries = journal(stopped)
    for entry in entries:
        del entry["sum"]
    entries[1]["digest"] = entries[0]["digest"]
    path.write_bytes(b"".join(sealed(entry) + b"\n" for entry in entries))
    with pytest.raises(OutputError, match="`resume=False`"):
        interp(made / "a.mkv", stopped / "b.mkv")
    interp(made / "a.mkv", stopped / "b.mkv", resume=False)
    assert_same(stopped / "b.mkv", made / "whole.mkv")


@pytest.mark.full
def test_a_second_run_on_the_same_output_is_refused(made: Path, tmp_path: Path) -> None:
    first = SegmentStore(tmp_path / "b.mkv")
    first.lock()
    with pytest.raises(OutputError, match="Another cloudconv"):
        interp(made / "a.mkv", tmp_path / "b.mkv")
    assert first.path.exists()
    first.release()
    assert not interp(made / "a.mkv", tmp_path / "b.mkv").resumed


def test_a_folder_of_that_name_keeps_what_is_not_ours(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b.mkv.work"
    (folder / "mine").mkdir(parents=True)
    (folder / "notes.txt").write_text("precious")
    interp(made / "a.mkv", tmp_path / "b.mkv")
    assert sorted(os.listdir(folder)) == ["mine", "notes.txt"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A limit on the file size stands in for a full disk: the write fails with an errno."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.full
def test_a_full_disk_at_the_join_keeps_every_segment(made: Path, tmp_path: Path) -> None:
    size = (made / "whole.mkv").stat().st_size
    with (
        largest_file(size // 2),
        pytest.raises(OutputError, match=rf"largest file.* {2 * FRAMES} finished frames are kept"),
    ):
        interp(made / "a.mkv", tmp_path / "b.mkv")
    assert os.listdir(tmp_path) == ["b.mkv.work"]
    assert interp(made / "a.mkv", tmp_path / "b.mkv").resumed
    assert_same(tmp_path / "b.mkv", made / "whole.mkv")


def test_a_full_disk_in_a_segment(made: Path, tmp_path: Path) -> None:
    with largest_file(4000), pytest.raises(CloudconvError, match="largest file"):
        interp(made / "a.mkv", tmp_path / "b.mkv")
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_an_input_that_changes_meanwhile_is_noticed(made: Path, tmp_path: Path) -> None:
    clip = tmp_path / "a.mkv"
    clip.write_bytes((made / "a.mkv").read_bytes())

    def touch(progress: Progress) -> None:
        if progress.done == 180:
            os.utime(clip, (0, 0))

    with pytest.raises(CloudconvError, match="changed while it was read"):
        interp(clip, tmp_path / "b.mkv", watch=on("rendering", touch))
    assert not (tmp_path / "b.mkv").exists()
    assert not interp(clip, tmp_path / "b.mkv").resumed


@pytest.mark.full
def test_what_somebody_has_deleted_is_not_said_to_be_kept(made: Path, tmp_path: Path) -> None:
    def delete(progress: Progress) -> None:
        if progress.done == 180:
            shutil.rmtree(tmp_path / "b.mkv.work")

    with pytest.raises(CloudconvError, match=r"b\.mkv\.work was deleted while") as raised:
        interp(made / "a.mkv", tmp_path / "b.mkv", watch=on("rendering", delete))
    assert "kept" not in str(raised.value)
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_joined_is_made_in_one_go(made: Path, tmp_path: Path) -> None:
    settings = {"encode": {}, "factor": 1.25, "model": "blend"}
    with pytest.raises(KeyboardInterrupt):
        interp(made / "a.mkv", tmp_path / "b.gif", watch=stop_after(100), **settings)
    assert not list(tmp_path.iterdir())
