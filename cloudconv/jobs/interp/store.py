"""Store finished segments on the disk, so that a later run can resume.

The work folder is beside the output. The folder has the plan of the run and a packet file
for each finished segment. The power may fail at any time. A segment's file therefore gets a
summary with a checksum at its end, is synced to the disk, and then gets its final name: the
segment's number and the digest of its plan. Unfinished files have other names, and are
deleted.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from shutil import disk_usage
from typing import Any

from cloudconv import interrupts
from cloudconv.doubts import joined
from cloudconv.errors import CloudconvError, Interrupted, OutputError
from cloudconv.events import Progress, Warned, Warnings
from cloudconv.files import (
    beside,
    part_prefix,
    sealed,
    sync_folder,
    unsealed,
    write_whole,
)
from cloudconv.jobs.interp.segments import (
    PLAN,
    FinishedSegment,
    SegmentPlan,
    divide,
)
from cloudconv.jobs.madeof import Made, difference
from cloudconv.media.frames.frame import FrameTask
from cloudconv.media.writing.encoding import EncodingPlan
from cloudconv.media.writing.output import writing
from cloudconv.media.writing.packets import PacketSummary
from cloudconv.media.writing.sink import Sink, join
from cloudconv.messages import amount, counted, plural
from cloudconv.settings import InterpSettings

# Raise this number with each change to packet files, to digests of plans, to decisions, or
# to identities but for new options.
_VERSION = 17
_SEGMENT = re.compile(r"(\d{8,})-([0-9a-f]{32})\.packets")
LONGEST_END = 1 << 24  # bytes; more than a plan has, or a segment's end with its pictures


class SegmentStore:
    """The work folder of an output that this process has claimed.

    The folder is ``<output>.work``, or a hidden one if another program made that folder.
    The plan in the folder shows that cloudconv made it. ``finished`` are the segments by
    number, and ``in_work`` the numbers of frames of others. ``pinned`` are the decisions of
    the first run, such as the batch size, which later runs use too; None before
    :meth:`pin`, unless :meth:`opened` has read them.
    """

    def __init__(self, output: Path, warnings: Warnings) -> None:
        self.path = beside(output, ".work")
        if not _is_ours(self.path):
            self.path = output.with_name(f"{part_prefix(output)}.work")
        self.finished: dict[int, FinishedSegment] = {}
        self.in_work: dict[int, int] = {}
        self.pinned: dict[str, Any] | None = None
        self.warnings = warnings
        self._joined: dict[int, FinishedSegment] = {}
        self._made: Made = {}

    @property
    def frames(self) -> int:
        """Return the number of finished output frames."""
        return sum(summary.packets for _, summary in self.finished.values())

    @contextmanager
    def opened(self, made: Made, settings: InterpSettings) -> Iterator[None]:
        """Keep finished segments in the folder during a block; delete it if there are none.

        Errors in the block name the finished work that remains, and Ctrl-C becomes
        Interrupted. ``made`` is everything that can change a pixel of the output. Without
        ``settings.resume`` segments of an earlier run are deleted. Raises OutputError if
        the folder has finished segments of other things or another version, which stay.
        """
        self._made = made
        with writing(self.path):
            if not _is_ours(self.path):
                raise OutputError(
                    f"folder-taken: {self.path} is needed for unfinished work, and "
                    "cloudconv has not made it: move it away, or name another output."
                )
            self.path.mkdir(exist_ok=True)
            self._take_over(settings)
        try:
            yield
        except KeyboardInterrupt as error:
            if not (work := self._work()):
                raise
            kept = [f"{self.path} keeps {work}"]
            others = self.in_work.keys() - self.finished
            if count := sum(self.in_work[number] for number in others):
                are = plural(count, "is", "are")
                kept.append(f"{counted(count, 'frame')} more {are} made again")
            raise Interrupted(*kept) from error
        except CloudconvError as error:
            if not self.path.is_dir():
                raise OutputError(
                    f"work-folder-deleted: {self.path} was deleted while the output was "
                    "being made: run the command again."
                ) from error
            if error.ends_work:
                self.remove()
            if not (work := self._work()):
                raise
            more = "; the same command carries on" if error.may_pass else ""
            said = f"{error.text} {self.path} keeps {work}{more}."
            raise type(error)(f"{error.code}: {said}") from error
        finally:
            if self._work():
                self._clear()
            else:
                self.remove()

    def pin(self, decided: dict[str, Any]) -> None:
        """Save the decisions of this run for later runs."""
        unique = secrets.token_hex(8)  # so that `token_of` differs between all folders
        plan = {
            "version": _VERSION,
            "of": unique,
            "made": self._made,
            "decided": decided,
        }
        with writing(self.path):
            write_whole(self.path / PLAN, sealed(plan))
        self.pinned = decided

    def missing(self, tasks: Iterator[FrameTask]) -> Iterator[FrameTask]:
        """Divide planned frames into segments, and yield those of unfinished segments.

        Raises OutputError if a finished segment has another plan.
        """
        for number, segment in groupby(divide(tasks), attrgetter("segment")):
            finished = self.finished.get(number)
            if finished is None:
                yield from segment
                continue
            if finished[0].name != _name_of(SegmentPlan.of(number, segment)):
                raise OutputError(
                    f"other-plan: The finished work in {self.path} belongs to another plan "
                    "of this video, with other frames or times: start again with "
                    "--no-resume."
                )
            self._joined[number] = finished

    def record(self, segment: SegmentPlan, finished: FinishedSegment) -> None:
        """Add the summary to the file of a segment, and give the file its name."""
        file, summary = finished
        with writing(self.path):
            size = file.stat().st_size
            if size != summary.bytes:
                raise OutputError(
                    f"segment-incomplete: {file} is incomplete: it has {size} of "
                    f"{summary.bytes} bytes. Is the disk full?"
                )
            with file.open("ab") as opened:
                opened.write(b"\n" + sealed({**asdict(summary), "digest": segment.digest}))
                opened.flush()
                os.fsync(opened.fileno())
            named = file.replace(self.path / _name_of(segment))
            # An interrupt during the sync must not discard the segment.
            self.finished[segment.number] = self._joined[segment.number] = named, summary
            sync_folder(self.path)

    @property
    def doubts(self) -> dict[str, Any]:
        """Return the doubts about the frames of this run's plan."""
        return joined(summary.notes for _, summary in self._joined.values())

    def join(self, encoding: EncodingPlan, *, overwrite: bool) -> Iterator[Progress]:
        """Join the segments of this run's plan into the output, and delete the folder.

        Raises OutputError if the disk has too little
        room, or a segment is damaged.
        """
        done = [self._joined[number] for number in sorted(self._joined)]
        frames = sum(summary.packets for _, summary in done)
        size = sum(summary.bytes for _, summary in done)
        status: os.stat_result | None = None
        output = Sink(encoding, overwrite=overwrite, warnings=self.warnings)
        try:
            with output:
                free = disk_usage(self.path).free
                if free < size:
                    raise OutputError(
                        "no-room-to-join: Joining the finished frames needs "
                        f"{amount(size)} more on the disk, and {amount(free)} are free: "
                        "free some space."
                    )
                for written in join(done, output):
                    yield Progress("joining", written, frames)
                    interrupts.check()
                status = output.file.stat()
        finally:  # an interrupt may come when the output has its name
            with suppress(OSError):
                if status is not None and os.path.samestat(status, encoding.target.stat()):
                    self.remove()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn Ctrl-C in the block into Interrupted if the folder has earlier work."""
        try:
            yield
        except KeyboardInterrupt as error:
            if type(error) is not KeyboardInterrupt or not self._own_files():
                raise
            raise Interrupted(f"{self.path} keeps the work of an earlier run") from error

    def remove(self) -> None:
        """Delete cloudconv's files, and the folder if it is then empty."""
        for file in self._own_files():
            with suppress(OSError):
                file.unlink()
        with suppress(OSError):
            self.path.rmdir()

    def _own_files(self) -> list[Path]:
        """Return the files that cloudconv made, the plan last.

        Other files may be the user's.
        """
        own = [
            file for file in self.path.glob("*.packets") if _SEGMENT.fullmatch(file.name)
        ]
        own += chain(self.path.glob(".cloudconv-*.part"), self.path.glob(PLAN))
        return [file for file in own if stat.S_ISREG(file.lstat().st_mode)]

    def _take_over(self, settings: InterpSettings) -> None:
        file = self.path / PLAN
        plan: dict[str, Any] | None = {}
        if file.is_file():
            with file.open("rb") as opened:
                plan = unsealed(opened.read(LONGEST_END))
        version = (plan or {}).get("version", _VERSION)
        other = version != _VERSION
        if other and settings.resume and any(self.path.glob("*.packets")):
            raise OutputError(
                f"work-of-other-version: {self.path} holds the work of another version of "
                "cloudconv: finish it with that version, name another output, or delete "
                "that work with --no-resume."
            )
        if not settings.resume:
            pass  # `_clear` deletes the work
        elif plan is None or other:
            self.warnings.add(
                Warned(
                    f"work-unreadable: The unfinished work in {self.path} cannot be "
                    "resumed; the run starts from the beginning."
                )
            )
        elif plan:
            self.pinned = plan["decided"]
            self._find_segments()
            changed = difference(settings, plan["made"], self._made)
            if changed and (work := self._work()):
                self.finished.clear()
                raise OutputError(
                    f"work-of-other-settings: {self.path} holds {work} of a run that "
                    f"differs in {changed}: give the same as before, name another output, "
                    "or delete that work with --no-resume."
                )
            if changed:
                self.pinned = None
        self._clear()

    def _clear(self) -> None:
        """Delete cloudconv's files but for the finished segments and the plan."""
        kept = {file for file, _ in self.finished.values()}
        if self.pinned is not None:
            kept.add(self.path / PLAN)
        for file in self._own_files():
            if file not in kept:
                file.unlink(missing_ok=True)

    def _work(self) -> str:
        # The user may have deleted some files.
        existing = [summary for file, summary in self.finished.values() if file.is_file()]
        frames = sum(summary.packets for summary in existing)
        return counted(frames, "finished frame") if existing else ""

    def _find_segments(self) -> None:
        lost = 0
        for file in self._own_files():
            if match := _SEGMENT.fullmatch(file.name):
                summary = summary_in(file, match[2])
                if summary is None:
                    lost += 1
                else:
                    self.finished[int(match[1])] = file, summary
        if lost:
            segments = plural(lost, "segment", "segments")
            are = plural(lost, "is", "are")
            self.warnings.add(
                Warned(
                    f"segments-damaged: {lost} finished {segments} in {self.path} {are} "
                    "damaged and made again."
                )
            )


def _name_of(segment: SegmentPlan) -> str:
    return f"{segment.number:08}-{segment.digest}.packets"


def summary_in(file: Path, digest: str) -> PacketSummary | None:
    """Return the summary in the file of a finished segment; None if the file is damaged."""
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(size - LONGEST_END, 0))
        line = opened.read().rpartition(b"\n")[2]
    end = unsealed(line) or {}
    is_whole = end.get("bytes") == size - len(line) - 1
    return PacketSummary(**end) if end.pop("digest", None) == digest and is_whole else None


def _is_ours(folder: Path) -> bool:
    """Return whether cloudconv may use the folder: its own, a missing or an empty one."""
    if not os.path.lexists(folder):
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = os.listdir(folder)
    return not (folder / PLAN).is_symlink() and (
        not names or any(name.startswith(".cloudconv-") for name in names)
    )
