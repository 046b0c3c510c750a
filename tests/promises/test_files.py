"""A run changes no foreign file, overwrites no input, and is alone at its output."""

import errno
import json
import os
import re
import shutil
from fractions import Fraction as F
from pathlib import Path

import pytest

import cloudconv
from cloudconv import files, weights
from cloudconv.errors import CloudconvError, EncoderError, OutputError, TakenError
from cloudconv.events import Progress
from cloudconv.jobs.interp import batch, store
from cloudconv.jobs.interp import run as interp
from cloudconv.media.writing.output import writing
from cloudconv.media.writing.sink import Sink
from cloudconv.settings import ExtrapolateSettings, InterpManySettings, InterpSettings
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import read_times, write_clip
from tests.helpers.jobs import finish, on
from tests.promises.test_changed_input import BLEND, KINDS, make


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")
            if p.is_file()}  # fmt: skip


def test_an_error_names_the_output_and_no_unfinished_file(tmp_path):
    report = tmp_path / "report"
    part = files.create_part(report, folder=True)
    with (
        pytest.raises(OutputError, match=re.escape(f"so {report / 'page.html'} could")),
        writing(part / "page.html"),
    ):
        raise OSError(errno.ENOSPC, "full")
    files.remove(part)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("kind", ["pipe", "link", "second name", "folder", "content"])
def test_what_is_in_the_place_of_a_file_of_cloudconv_is_kept(clip, out, precious, kind):
    (empty := out.parent / "empty").touch()  # as a lock is
    taken = out / f"{files.part_prefix(out / 'a_x2.mkv')}.lock"
    places = {
        "pipe": lambda: os.mkfifo(taken),
        "link": lambda: taken.symlink_to(precious),
        "second name": lambda: taken.hardlink_to(empty),
        "folder": taken.mkdir,
        "content": lambda: taken.write_text("precious"),
    }
    places[kind]()
    (result,) = finish(batch.run(InterpManySettings([clip], out_dir=out, **BLEND)))
    assert re.search(r"\.lock is not its lock", str(result))
    assert os.path.lexists(taken)
    assert kind != "content" or taken.read_text().startswith("precious")


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_no_output_is_an_input_of_the_batch(clip, tmp_path, link):
    other = write_clip(
        tmp_path / ("a_x2.mkv" if link is None else "b.mkv"), 3, codec="libx264"
    )
    if link is not None:
        link(other, tmp_path / "a_x2.mkv")
    before = other.read_bytes()
    many = InterpManySettings([clip, other], out_dir=tmp_path, overwrite=True, **BLEND)
    outcomes = finish(batch.run(many))
    assert isinstance(outcomes[0], OutputError)
    assert "is the input itself" in str(outcomes[0])
    assert other.read_bytes() == before
    assert outcomes[1].output_frames == 6


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_no_output_is_a_file_that_any_option_reads(clip, tmp_path, link, monkeypatch):
    """The files are weights, a recipe, a validation clip, the video, and links to them."""
    shipped = tmp_path / "shipped"
    own = weights.weights_folder() / "rife-4.6.safetensors"
    shipped.mkdir()
    for file in (own.with_name("manifest.json"), own):
        shutil.copyfile(file, shipped / file.name)
    monkeypatch.setattr(weights, "weights_folder", lambda: shipped)
    network, video, recipe = (tmp_path / f"{name}.safetensors" for name in "nvr")
    shutil.copyfile(own, network)
    shutil.copyfile(clip, video)
    recipe.write_text(f'clips = ["{clip}"]\nmodel = "tiny"\nsteps = 1\n')
    linked = {}
    for file in (network, video, recipe):
        linked[file] = file if link is None else file.with_stem(f"{file.stem}2")
        if link is not None:
            link(file, linked[file])
    before = contents(tmp_path)
    tiny = {"model": "tiny", "steps": 1, "overwrite": True}
    shipped_too = {"init": "rife-4.6", "steps": 1, "overwrite": True}
    for clips, output, given in (
        (clip, linked[recipe], {"recipe": recipe, **tiny}),
        (clip, network, {"val": [video], "init": str(linked[network]), **tiny}),
        (clip, linked[video], {"val": [video], **tiny}),
        (video, linked[video], tiny),
        (clip, shipped / own.name, shipped_too),
    ):
        with pytest.raises(OutputError, match="is the input itself"):
            cloudconv.train([clips], output=output, **given)
    assert contents(tmp_path) == before


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_one_run_at_a_time_writes_an_output(clip, out, kind):
    name = KINDS[kind][1].partition("/")[0]
    with files.claim(out / name):
        with pytest.raises(OutputError, match="Another cloudconv is writing"):
            make(kind, clip, out)
        assert all(name.endswith(".lock") for name in os.listdir(out))
    make(kind, clip, out)
    assert os.listdir(out) == [name]


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_foreign_files_are_neither_changed_nor_deleted(clip, out, precious, kind):
    for name in ("o.part", "o/%03d.png.part"):
        (out / name).mkdir(parents=True)
        (out / name / "mine.txt").write_text("mine")
    for name in ("o.mkv.part", "o.gif.part", "o.mkv.work"):
        (out / name).symlink_to(precious)
    before = contents(out)
    make(kind, clip, out)
    assert before.items() <= contents(out).items()
    assert all(
        (out / name).is_symlink() for name in ("o.mkv.part", "o.gif.part", "o.mkv.work")
    )


NAMES = [".cloudconv-plan.json", ".cloudconv-1.part", "plan.json", "lock", "x.packets"]


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_of_the_user_is_no_work_folder_and_its_links_are_not_followed(
    clip, tmp_path, precious, links
):
    work = tmp_path / "o.mkv.work"
    work.mkdir()
    own = ["cloudconv", "adapted.csv", *NAMES[2:], f"00000000-{'0' * 32}.packets"]
    for name in (names := NAMES if links else own):
        (work / name).symlink_to(precious) if links else (work / name).write_text(
            "precious"
        )
    calls.interpolate(clip, tmp_path / "o.mkv", **BLEND)
    assert {file.name: file.read_text() for file in work.iterdir()} == dict.fromkeys(
        names, "precious"
    )
    assert len(read_times(tmp_path / "o.mkv")) == 12
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "o.mkv", "o.mkv.work", "precious"]


def test_a_folder_that_may_be_written_but_not_read_gets_the_output(clip, out, monkeypatch):
    def refused(path, *arguments, open=os.open, **named):
        if Path(path) == out:
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refused)
    calls.interpolate(clip, out / "o.mkv", **BLEND)
    assert len(read_times(out / "o.mkv")) == 12


def test_the_next_run_removes_the_files_of_a_killed_run(clip, tmp_path):
    target = tmp_path / "o.gif"
    files.create_part(target)
    (files.create_part(target, folder=True) / "a").touch()
    files.create_part(tmp_path / "other.gif")
    calls.interpolate(clip, target, **BLEND)
    (left,) = tmp_path.glob(".*")
    assert left.name.startswith(files.part_prefix(tmp_path / "other.gif"))


@pytest.mark.full
@pytest.mark.parametrize("kind", ["video", "gif", "pictures", "dream"])
def test_an_output_that_appears_during_a_run_is_kept(clip, out, kind, monkeypatch):
    name, _, pattern = KINDS[kind][1].partition("/")
    theirs = out / name / "001.png" if pattern else out / name

    def late(part, commit=Sink.commit):
        theirs.parent.mkdir(exist_ok=True)
        theirs.write_text("precious")
        commit(part)

    monkeypatch.setattr(Sink, "commit", late)
    with pytest.raises(TakenError, match="is left as it is") as raised:
        make(kind, clip, out)
    assert "carries on" not in str(raised.value)
    other = Path(name).with_stem(f"{Path(name).stem}-1").name
    assert sorted(os.listdir(out)) == sorted([name, other])
    assert theirs.read_text() == "precious"
    if pattern:
        assert len(os.listdir(out / other)) == 12
    else:
        assert len(read_times(out / other)) >= 8


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError, "kill"])
def test_a_sequence_is_put_into_a_folder_whole_or_not_at_all(
    clip, tmp_path, monkeypatch, end, replaces
):
    folder = tmp_path / "p"
    put = files.put
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for number in range(1, 20 * replaces):
        (folder / f"{number:03}.png").write_text("precious")
    before = contents(folder)

    def ended(part, target, **given):
        put(part, target, **given)
        if target.name == "005.png" and part.parent.name != files._REPLACED:
            raise KeyboardInterrupt if end == "kill" else end

    with monkeypatch.context() as patched:
        patched.setattr(files, "put", ended)
        if end == "kill":
            patched.setattr(files, "_take_back", lambda _: False)
        with pytest.raises((KeyboardInterrupt, OutputError)):
            calls.interpolate(clip, folder / "%03d.png", overwrite=replaces, **BLEND)
    if replaces:
        with pytest.raises(OutputError, match="exists already"):
            calls.interpolate(clip, folder / "%03d.png", **BLEND)
        assert contents(folder) == before
    calls.interpolate(clip, folder / "%03d.png", overwrite=replaces, **BLEND)
    assert len(os.listdir(folder)) == 13


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("name", ["005.png", "012.png"])
@pytest.mark.parametrize("is_killed", [True, False])
def test_a_picture_with_two_names_at_an_interrupt_is_taken_back(
    clip, tmp_path, monkeypatch, replaces, name, is_killed
):
    """A picture has its name in the part, too, between ``link`` and ``unlink``."""
    folder = tmp_path / "p"
    folder.mkdir()
    for number in range(1, 20 * replaces):
        (folder / f"{number:03}.png").write_text("precious")
    before = contents(folder)
    is_over = []

    def link(part, target, real=os.link):
        real(part, target)
        if Path(target).name == name and not is_over:
            is_over.append(True)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", link)
        if is_killed:
            patched.setattr(files, "_take_back", lambda _: False)
        with pytest.raises(KeyboardInterrupt):
            calls.interpolate(clip, folder / "%03d.png", overwrite=replaces, **BLEND)
    if is_killed:
        files.clear(folder)
    assert contents(folder) == before
    calls.interpolate(clip, folder / "%03d.png", overwrite=replaces, **BLEND)
    assert len(os.listdir(folder)) == 12


def test_a_replaced_picture_with_two_names_is_restored_by_the_next_run(
    clip, tmp_path, monkeypatch
):
    """An interrupt ends the move, and a second one ends the undoing of the move."""
    folder = tmp_path / "p"
    folder.mkdir()
    for number in range(1, 13):
        (folder / f"{number:03}.png").write_text("precious")
    before = contents(folder)
    links = []

    def link(part, target, real=os.link):
        real(part, target)
        links.append(target)
        if len(links) in (3, 5):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", link)
        with pytest.raises(KeyboardInterrupt):
            calls.interpolate(clip, folder / "%03d.png", overwrite=True, **BLEND)
    files.clear(folder)
    assert contents(folder) == before
    assert len(os.listdir(folder)) == 12


@pytest.mark.full
@pytest.mark.parametrize("kind", ["video", "gif", "dream"])
@pytest.mark.parametrize("moment", ["link", "put", "sync_folder"])
def test_an_interrupt_after_the_output_has_its_name_says_that_it_is_complete(
    clip, out, kind, moment, monkeypatch
):
    name = KINDS[kind][1]
    target = out / name
    owner = os if moment == "link" else files

    real = getattr(owner, moment)

    def ended(*arguments, **options):
        real(*arguments, **options)
        if target.exists():
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(owner, moment, ended)
    with pytest.raises(KeyboardInterrupt) as raised:
        make(kind, clip, out)
    assert raised.value.text == f"interrupted; {target} is complete"
    assert os.listdir(out) == [name]
    assert len(read_times(target)) >= 8


@pytest.mark.parametrize("during", [False, True])
def test_a_folder_in_the_place_of_a_picture_is_refused(clip, tmp_path, during):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "001.png").write_text("precious")
    made = (tmp_path / "p" / "007.png").mkdir
    seen = []
    watch = on(
        "rendering",
        lambda progress: seen.append(progress) or (progress.done == 5 and made()),
    )
    made() if not during else None
    with pytest.raises(OutputError, match=r"Is a directory|007\.png is a folder"):
        calls.interpolate(
            clip, tmp_path / "p" / "%03d.png", overwrite=True, watch=watch, **BLEND
        )
    assert bool(seen) == during
    assert sorted(os.listdir(tmp_path / "p")) == ["001.png", "007.png"]
    assert (tmp_path / "p" / "001.png").read_text() == "precious"


def compared(clip, folder, **options):
    return calls.compare(
        clip, model=("blend",), against=("hold",), report=folder, **options
    )


def test_a_report_never_replaces_its_input(tmp_path):
    folder = tmp_path / "look"
    folder.mkdir()
    clip = write_clip(folder / "side_by_side.mp4", 9, codec="libx264")
    before = clip.read_bytes()
    with pytest.raises(OutputError, match="is the input itself"):
        compared(clip, folder, overwrite=True)
    assert clip.read_bytes() == before
    assert os.listdir(folder) == ["side_by_side.mp4"]


@pytest.mark.full
def test_one_run_at_a_time_writes_a_report_and_removes_files_of_a_killed_run(
    clip, tmp_path
):
    folder = tmp_path / "look"
    with (
        files.claim(folder),
        pytest.raises(OutputError, match="Another cloudconv is writing"),
    ):
        compared(clip, folder)
    assert not folder.exists()
    (files.create_part(folder, folder=True) / "side_by_side.mp4").touch()
    compared(clip, folder)
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "look"]
    (files.create_part(folder, folder=True, within=folder) / "side_by_side.mp4").touch()
    (folder / "notes.txt").write_text("mine")
    compared(clip, folder, overwrite=True)
    names = ["index.html", "notes.txt", "result.json", "side_by_side.mp4"]
    assert sorted(os.listdir(folder)) == names


def test_a_report_that_appears_during_a_run_is_kept(clip, tmp_path, monkeypatch):
    def late(*arguments, put_all=files.put_all, **options):
        (tmp_path / "look").mkdir()
        (tmp_path / "look" / "index.html").write_text("precious")
        put_all(*arguments, **options)

    monkeypatch.setattr(files, "put_all", late)
    with pytest.raises(TakenError, match="look-1"):
        compared(clip, tmp_path / "look")
    assert contents(tmp_path / "look") == {"index.html": b"precious"}
    assert len(os.listdir(tmp_path / "look-1")) == 3


@pytest.mark.parametrize("command", ["interp", "dream"])
def test_a_page_that_cannot_be_written_is_a_warning_about_a_complete_output(
    tmp_path, monkeypatch, command
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "put_all", full)
    clip = write_clip(tmp_path / "a.mkv", 12, rate=12, codec="libx264")
    options = {
        "interp": ("--factor", "2", "--model", "blend"),
        "dream": ("--mode", "flow", "--frames", "2"),
    }
    words = (clip, "-o", tmp_path / "o.mkv", "--report", tmp_path / "look")
    done = invoke(command, *words, *options[command], "--json")
    assert done.exit_code == 0, done.stderr
    assert "The output is complete, but no report" in done.stderr
    assert [text for text in json.loads(done.stdout)["warnings"] if "but no report" in text]
    assert len(read_times(tmp_path / "o.mkv")) == {"interp": 24, "dream": 14}[command]
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "o.mkv"]


@pytest.mark.parametrize(("name", "factor"), [("o.mkv", 60), ("o.gif", 3), ("o.webm", 60)])
def test_a_plan_refuses_what_a_run_refuses(clip, name, factor):
    settings = InterpSettings(input=clip, output=clip.with_name(name), factor=F(factor))
    for call in (cloudconv.plan, lambda settings: finish(interp.run(settings))):
        with pytest.raises(OutputError, match=r"\.mp4 instead"):
            call(settings)


def test_a_plan_refuses_what_the_encoder_refuses(clip):
    wrong = {"output": clip.with_name("o.mp4"), "encoder": "libx264", "pix_fmt": "yuva420p"}
    for settings in (
        InterpSettings(clip, model="blend", factor=2, **wrong),
        ExtrapolateSettings(clip, frames=2, model="linear", **wrong),
    ):
        with pytest.raises(
            EncoderError, match="libx264 in MP4 cannot write yuva420p at 96x64"
        ):
            cloudconv.plan(settings)


def test_disk_space_is_checked_before_the_join(clip, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patched:
        patched.setattr(store, "disk_usage", lambda _: full)
        with pytest.raises(
            OutputError, match=r"more on the disk, and 1\.0 kB are free.* the"
        ):
            calls.interpolate(clip, tmp_path / "o.mkv", **BLEND)
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "o.mkv.work"]
    assert calls.interpolate(clip, tmp_path / "o.mkv", **BLEND).resumed


def test_too_little_disk_space_is_a_warning_before_the_first_frame(
    clip, tmp_path, monkeypatch
):
    """The output needs about the source's size times the factor.

    Its segments need that, too.
    """
    usage = shutil.disk_usage(tmp_path)
    size = clip.stat().st_size
    for name, times in (("o.mkv", 2), ("o.gif", 1)):
        settings = InterpSettings(
            input=clip, output=tmp_path / name, factor=F(2), model="blend"
        )
        for free in (2 * times * size, 2 * times * size - 1):
            left = usage._replace(free=free)
            with monkeypatch.context() as patched:
                patched.setattr(
                    "cloudconv.jobs.interp.advice.disk_usage", lambda _, left=left: left
                )
                codes = [warned.code for warned in interp.decide(settings).warnings]
            assert ("disk-space" in codes) == (free < 2 * times * size)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_a_track_that_cannot_be_muxed_is_refused_before_the_first_frame(tmp_path, suffix):
    clip = write_clip(tmp_path / "a.avi", 40, codec="mpeg4", audio=["adpcm_yamaha"])
    events = []
    with pytest.raises(OutputError, match="cannot copy Audio stream 1"):
        calls.interpolate(
            clip, tmp_path / f"o{suffix}", audio="copy", watch=events.append, **BLEND
        )
    assert not [event for event in events if isinstance(event, Progress)]
    assert os.listdir(tmp_path) == [clip.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows locks files by another call")
def test_an_interrupt_while_the_lock_is_acquired_leaves_no_lock_file(tmp_path, monkeypatch):
    def interrupted(*_):
        patched.undo()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", interrupted)
        with pytest.raises(KeyboardInterrupt), files.claim(tmp_path / "o.mp4"):
            pass
    assert os.listdir(tmp_path) == []
    with files.claim(tmp_path / "o.mp4"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_that_may_not_be_entered_is_named_from_python_too(clip, tmp_path):
    """The other user's folder refuses every question about its files."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "a.mkv").write_bytes(clip.read_bytes())
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def stat(path, *, follow_symlinks=True, real=os.stat):
        if closed in Path(os.fsdecode(path)).parents:
            refused.filename = str(path)
            raise refused
        return real(path, follow_symlinks=follow_symlinks)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "stat", stat)
        for given, output in (
            (closed / "a.mkv", tmp_path / "b.mkv"),
            (clip, closed / "b.mkv"),
        ):
            with pytest.raises(
                CloudconvError, match=f"{closed}.* .Permission denied.: check"
            ):
                cloudconv.interpolate(given, output, **BLEND)
    assert os.listdir(closed) == ["a.mkv"]


def test_unfinished_files_are_listed_while_another_thread_creates_one(
    tmp_path, monkeypatch
):
    """The thread that ends the process after an interrupt lists them."""
    first = files.create_part(tmp_path / "a.mp4")
    lexists = os.path.lexists

    def slow(path):
        files.create_part(tmp_path / "b.mp4")  # what another thread does meanwhile
        return lexists(path)

    with monkeypatch.context() as during:
        during.setattr(os.path, "lexists", slow)
        found = files.unfinished()
    assert first in found
    for path in files.unfinished():
        if path.parent == tmp_path:
            files.remove(path)
    assert not any(tmp_path.iterdir())
