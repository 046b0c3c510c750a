"""The store accepts only segments whose file and its end are intact."""

from contextlib import contextmanager
from fractions import Fraction as F
from types import SimpleNamespace

import pytest

from cloudconv.errors import EncoderError, Interrupted, OutputError, TakenError
from cloudconv.events import Warnings
from cloudconv.jobs.interp import store
from cloudconv.jobs.interp.segments import SegmentPlan, fresh_file
from cloudconv.jobs.interp.store import SegmentStore
from cloudconv.media.writing.packets import PacketSummary
from cloudconv.timeline import Task

MADE = {"input": "abc", "crf": 17}


def segment(number, digest="da" * 16):
    """Return a stand-in with the fields of a segment that the store reads."""
    plan = SimpleNamespace(number=number, digest=digest)
    plan.first = lambda _: plan
    return plan


@contextmanager
def opened(output, made=MADE, *, defaults={}, resume=True, finished=()):  # noqa: B006
    """Open a store, in which segments with these numbers are finished."""
    work = SegmentStore(output, Warnings())
    settings = SimpleNamespace(
        resume=resume, with_defaults=lambda old: {**defaults, **old}, pinned=dict
    )
    with work.opened(made, settings):
        if finished:
            work.pin({"batch": 4})
        for number in finished:
            file = fresh_file(work.path)
            file.write_bytes(b"packets.")
            work.record(segment(number), (file, PacketSummary(4, 8, 0, 3, 0, "ef" * 32)))
        yield work


def closed(output, *numbers):
    """Return a closed store, in which segments with these numbers are finished."""
    with opened(output, finished=numbers) as work:
        return work


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.mkv"


def test_finished_segments_and_pinned_settings_are_resumed(output):
    with opened(output.with_name("other.mkv")) as other:
        assert other.pinned is None
    assert not other.path.exists()
    with (
        pytest.raises(Interrupted, match="keeps 8 finished frames"),
        opened(output, finished=[0, 2]),
    ):
        raise KeyboardInterrupt
    with opened(output) as again:
        assert (again.pinned, sorted(again.finished), again.frames) == (
            {"batch": 4},
            [0, 2],
            8,
        )
        again.remove()
    assert not again.path.exists()


def test_an_error_says_what_remains_and_whether_the_same_command_helps(output):
    for error, more in ((OutputError, "; the same command carries on"), (EncoderError, "")):
        with (
            pytest.raises(
                error, match=rf"^full\. \S+ keeps 4 finished frames{more}\.$"
            ) as raised,
            opened(output, finished=[0]),
        ):
            raise error("disk-full: full.")
        assert raised.value.code == "disk-full"
    with pytest.raises(TakenError, match=r"^taken\.$"), opened(output) as work:
        raise TakenError("output-taken: taken.")
    assert not work.path.exists()


@pytest.mark.parametrize(
    ("version", "made_of", "said"),
    [(1, MADE, "another version"), (store._VERSION, {**MADE, "crf": 20}, "crf")],
)
def test_work_of_another_version_or_identity_is_kept(
    output, monkeypatch, version, made_of, said
):
    with monkeypatch.context() as earlier:
        earlier.setattr(store, "_VERSION", version)
        file = closed(output, 0).finished[0][0]
    with pytest.raises(OutputError, match=said), opened(output, made_of):
        pass
    assert file.exists()
    with opened(output, made_of, resume=False) as work:
        assert work.finished == {}
    assert not file.exists()


def test_work_of_a_run_before_an_option_existed_is_resumed(output):
    closed(output, 0)
    newer = {**MADE, "new option": "off"}
    with opened(output, newer, defaults={"new option": "off"}) as work:
        assert work.finished.keys() == {0}
    other = {**MADE, "new option": "on"}
    with pytest.raises(OutputError, match="differs in new option"), opened(output, other):
        pass


def test_a_segment_of_another_plan_is_refused(output):
    task = Task(SimpleNamespace(time=F(0)), None, F(0), F(0), F(1, 24))
    with (
        opened(output, finished=[0]) as work,
        pytest.raises(OutputError, match="another plan"),
    ):
        list(work.missing(iter([task])))


def test_the_digest_of_a_plan_is_that_of_the_version():
    """If the digest changes, raise ``_VERSION``, and record both here."""
    beside = F(3, 2), F(1)
    times = F(1, 2), F(1), F(1, 3), F(7), F(1, 24)
    digest = SegmentPlan(3, (Task(*times, opens_scene=True, before=beside),)).digest
    assert (store._VERSION, digest[:8]) == (17, "dda3e881")


@pytest.mark.parametrize(
    "damage", ["gone", "shorter", "longer", "other plan", *range(-256, 0, 8)]
)
def test_a_segment_that_is_gone_or_whose_end_has_changed_is_made_again(output, damage):
    work = closed(output, 0, 1)
    file = work.finished[1][0]
    data, other = (bytearray(path.read_bytes()) for path in (file, work.finished[0][0]))
    if isinstance(damage, int):
        data[damage] ^= 1
    other_plan = other.replace(b"da" * 16, b"db" * 16)
    changed = {"shorter": data[:-1], "longer": data + b"more", "other plan": other_plan}
    file.unlink() if damage == "gone" else file.write_bytes(changed.get(damage, data))
    again = closed(output)
    assert sorted(again.finished) == [0]
    codes = ["segments-damaged"] * (damage != "gone")
    assert [warned.code for warned in again.warnings] == codes
    assert not file.exists()


def test_unfinished_files_are_deleted_and_foreign_files_are_kept(output):
    work = closed(output, 0)
    lost = fresh_file(work.path)
    notes = work.path / "notes.txt"
    for file in (lost, notes):
        file.write_text("mine")
    with opened(output) as again:
        assert (sorted(again.finished), again.warnings) == ([0], [])
        assert not lost.exists()
        again.remove()
    assert notes.read_text() == "mine"


def test_an_incomplete_file_is_never_recorded(output):
    with opened(output) as work:
        file = fresh_file(work.path)
        file.write_bytes(b"pack")
        with pytest.raises(OutputError, match="4 of 7 bytes"):
            work.record(segment(0), (file, PacketSummary(4, 7, 0, 3, 0, "ef" * 32)))
        assert work.finished == {}


def test_an_interrupt_names_the_work_of_an_earlier_run(output):
    work = SegmentStore(output, Warnings())
    with pytest.raises(KeyboardInterrupt) as without, work.named():
        raise KeyboardInterrupt
    assert not isinstance(without.value, Interrupted)
    closed(output, 0)
    with (
        pytest.raises(Interrupted, match=r"out\.mkv\.work keeps the work of an earlier"),
        work.named(),
    ):
        raise KeyboardInterrupt
