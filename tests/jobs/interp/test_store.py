"""The store accepts only segments whose file and its end are intact."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from cloudconv.errors import Interrupted, OutputError
from cloudconv.jobs.interp import store
from cloudconv.jobs.interp.segments import SegmentPlan
from cloudconv.jobs.interp.store import SegmentStore
from cloudconv.media.packets import PacketSummary
from cloudconv.timeline import Task

IDENTITY = {"input": "abc", "crf": 17}


def segment(number, digest="da" * 16):
    """Return a stand-in with the fields of a segment that the store reads."""
    return SimpleNamespace(number=number, digest=digest)


def opened(output, identity=IDENTITY, *, resume=True, finished=()):
    """Return an open store, in which segments with these numbers are finished."""
    work = SegmentStore(output)
    work.lock()
    work.open(identity, lambda pinned: pinned == {"batch": 4}, resume=resume)
    if finished:
        work.pin({"batch": 4})
    for number in finished:
        finish(work, number)
    return work


def finish(work, number, data=b"packets."):
    file = store.fresh_file(work.path)
    file.write_bytes(data)
    work.record(segment(number), file, PacketSummary(4, len(data), 0, 3, 0, "ef" * 32))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.mkv"


def test_finished_segments_and_pinned_settings_are_resumed(output):
    assert opened(output.with_name("other.mkv")).pinned is None
    work = opened(output, finished=[0, 2])
    assert "keeps 8 finished frames" in str(work.release())
    again = opened(output)
    assert (again.pinned, sorted(again.finished), again.frames) == ({"batch": 4}, [0, 2], 8)
    again.remove()
    assert not again.path.exists()


@pytest.mark.parametrize(
    ("version", "identity", "said"),
    [(1, IDENTITY, "another version"), (store._VERSION, {**IDENTITY, "crf": 20}, "crf")],
)
def test_work_of_another_version_or_identity_is_kept(output, monkeypatch, version, identity, said):
    with monkeypatch.context() as earlier:
        earlier.setattr(store, "_VERSION", version)
        work = opened(output, finished=[0])
        work.release()
    file = work.finished[0][0]
    with pytest.raises(OutputError, match=said):
        opened(output, identity)
    assert file.exists()
    assert opened(output, identity, resume=False).finished == {}
    assert not file.exists()


def test_a_segment_of_another_plan_is_refused(output):
    work = opened(output, finished=[0])
    work.check(segment(0))
    with pytest.raises(OutputError, match="another plan"):
        work.check(segment(0, "00" * 16))


def test_the_version_changes_with_the_digest_of_a_plan():
    beside = Fraction(3, 2), Fraction(1)
    times = Fraction(1, 2), Fraction(1), Fraction(1, 3), Fraction(7), Fraction(1, 24)
    digest = SegmentPlan(3, (Task(*times, opens_scene=True, before=beside),)).digest
    assert (store._VERSION, digest[:8]) == (8, "33bdc090")


@pytest.mark.parametrize("damage", ["shorter", "longer", "other plan", *range(-256, 0, 8)])
def test_a_segment_whose_end_has_changed_is_made_again(output, damage):
    work = opened(output, finished=[0, 1])
    file = work.finished[1][0]
    work.release()
    data, other = (bytearray(path.read_bytes()) for path in (file, work.finished[0][0]))
    if isinstance(damage, int):
        data[damage] ^= 1
    other_plan = other.replace(b"da" * 16, b"db" * 16)
    changed = {"shorter": data[:-1], "longer": data + b"more", "other plan": other_plan}
    file.write_bytes(changed.get(damage, data))
    again = opened(output)
    assert sorted(again.finished) == [0]
    assert [warned.code for warned in again.warnings] == ["segments-damaged"]
    assert not file.exists()


@pytest.mark.parametrize("value", [None, "x", -1, 10**30, [], 1.5, True])
@pytest.mark.parametrize("name", ["packets", "bytes", "first", "last", "delay", "extradata", "new"])
def test_a_segment_with_an_impossible_end_is_made_again(output, name, value):
    work = opened(output, finished=[0, 1])
    file = work.finished[1][0]
    work.release()
    body, _, end = file.read_bytes().rpartition(b"\n")
    data = store.unsealed(end)
    absent = {each: content for each, content in data.items() if each != name}
    for changed in (data | {name: value}, *[absent] * (absent != data)):
        if (name, value) == ("extradata", "x") and changed != absent:
            continue  # the join compares it
        file.write_bytes(body + b"\n" + store.sealed(changed))
        again = opened(output)
        again.release()
        assert sorted(again.finished) == [0]
        assert not file.exists()


def test_a_segment_whose_file_is_gone_is_made_again(output):
    work = opened(output, finished=[0, 1])
    work.finished[1][0].unlink()
    work.release()
    assert sorted(opened(output).finished) == [0]


def test_unfinished_files_are_deleted_and_foreign_files_are_kept(output):
    work = opened(output, finished=[0])
    lost, notes = store.fresh_file(work.path), work.path / "notes.txt"
    for file in (lost, notes):
        file.write_text("mine")
    work.release()
    again = opened(output)
    assert (sorted(again.finished), again.warnings) == ([0], [])
    assert not lost.exists()
    again.remove()
    assert notes.read_text() == "mine"


def test_an_incomplete_file_is_never_recorded(output):
    work = opened(output)
    file = store.fresh_file(work.path)
    file.write_bytes(b"pack")
    with pytest.raises(OutputError, match="4 of 7 bytes"):
        work.record(segment(0), file, PacketSummary(4, 7, 0, 3, 0, "ef" * 32))
    assert work.finished == {}


def test_an_interrupt_names_the_work_of_an_earlier_run(output):
    work = SegmentStore(output)
    with pytest.raises(KeyboardInterrupt) as without, work.named():
        raise KeyboardInterrupt
    assert not isinstance(without.value, Interrupted)
    opened(output, finished=[0]).release()
    with (
        pytest.raises(Interrupted, match=r"out\.mkv\.work keeps the work of an earlier"),
        work.named(),
    ):
        raise KeyboardInterrupt
