"""Store finished segments on the disk, so that a later run can resume.

The work folder is beside the output. The folder has the plan of the run, a journal with a line for
each finished segment, and the segments' files. The power may fail at any time, so a segment counts
as finished only after a fixed order of steps: the segment's file is synced, then the folder, then
the line in the journal. An incomplete line is ignored, and a file without a line is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any

from cloudconv.errors import (
    CloudconvError,
    DeviceError,
    EncoderError,
    Interrupted,
    OutputError,
    ReadError,
    TakenError,
    UnfitInputError,
)
from cloudconv.events import Warned
from cloudconv.files import Claim, beside, leftovers, part_prefix, sync_folder, write_whole
from cloudconv.media.write.join import join
from cloudconv.media.write.packets import PacketSummary
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import writing
from cloudconv.messages import Message
from cloudconv.segments.segment import SegmentPlan

# Raise this number with each change to packet files, the journal, or the digests of plans.
_VERSION = 2
_MARK, _PLAN, _JOURNAL, _PACKETS = "cloudconv", "plan.json", "segments.jsonl", ".packets"
_WHOLE = "whole.json"
"""The file that identifies the joined output."""
_ADAPTED = "adapted.*"
"""The files of weights that were adapted to the input."""


@dataclass(frozen=True, slots=True)
class FinishedSegment:
    """A segment whose file is complete and synced; ``digest`` is the digest of its plan."""

    number: int
    digest: str
    file: str
    summary: PacketSummary


class SegmentStore:
    """The work folder of an output, which one process at a time locks.

    The folder is ``<output>.work``, or a hidden one if another program made that folder. A mark in
    the folder shows that cloudconv made it. ``finished`` are the segments by number. ``pinned`` are
    the decisions of the first run, such as the batch size, which later runs use too; None
    before :meth:`pin`, unless :meth:`open` has read them. ``warnings`` are about earlier work that
    cannot be used.
    """

    def __init__(self, output: Path) -> None:
        """Choose the folder of an output; change no file."""
        self.path = beside(output, ".work")
        if not _is_ours(self.path):
            self.path = output.with_name(f"{part_prefix(output)}.work")
        self.finished: dict[int, FinishedSegment] = {}
        self.pinned: dict[str, Any] | None = None
        self.warnings: list[Warned] = []
        self._identity: dict[str, Any] = {}
        self._output = output
        self._claim = Claim(output)
        self._opened = False

    @property
    def frames(self) -> int:
        """Return the number of finished output frames."""
        return sum(done.summary.packets for done in self.finished.values())

    def lock(self) -> None:
        """Claim the output and create the folder if it is missing.

        Raises:
            OutputError: another process makes the output, or the folder cannot be written.
        """
        if self._claim.is_acquired:
            return
        with writing(self.path):
            self._claim.acquire()
            if not _is_ours(self.path):
                self._claim.release()
                raise OutputError("folder-taken", folder=self.path)
            self.path.mkdir(exist_ok=True)
            (self.path / _MARK).touch()

    def open(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Read the finished segments in the locked folder, and delete cloudconv's other files.

        Args:
            identity: everything that can change a pixel of the output, as JSON data.
            resume: whether finished segments are used; otherwise they are deleted.

        Raises:
            OutputError: the folder has finished segments of another identity. They are not deleted.
        """
        self._identity = json.loads(json.dumps(identity))
        with writing(self.path):
            self._take_over(resume=resume)
        self._opened = True

    def pin(self, decided: dict[str, Any]) -> None:
        """Save the decisions of this run for later runs."""
        unique = secrets.token_hex(8)  # so that `token_of` differs between all folders
        plan = {"version": _VERSION, "of": unique, "identity": self._identity, "decided": decided}
        with writing(self.path):
            write_whole(self.path / _PLAN, sealed(plan))
        self.pinned = decided

    def record(self, segment: SegmentPlan, file: Path, summary: PacketSummary) -> None:
        """Add a segment, whose file is complete and synced, to the journal.

        Raises:
            OutputError: the file is incomplete, or the disk is full.
        """
        with writing(self.path):
            size = file.stat().st_size
            if size != summary.bytes:
                raise OutputError("segment-incomplete", path=file, size=size, bytes=summary.bytes)
            done = FinishedSegment(segment.number, segment.digest, file.name, summary)
            sync_folder(self.path)
            with self._journal.open("ab") as journal:
                journal.write(sealed(asdict(done)) + b"\n")
                journal.flush()
                # An interrupt during the sync must not discard the segment.
                self.finished[done.number] = done
                os.fsync(journal.fileno())

    def note_complete(self, made: Path) -> None:
        """Save the identity of the joined output ``made``, before the file gets its name."""
        with writing(self.path):
            write_whole(self.path / _WHOLE, sealed(_stat(made)))

    @property
    def is_done(self) -> bool:
        """Return whether the output is complete, and the folder has nothing for a later run."""
        identity = self.path / _WHOLE
        with suppress(OSError):
            if identity.is_file():
                return unsealed(identity.read_bytes()) == _stat(self._output)
            # A run was killed while it deleted the folder.
            return (self.path / _MARK).is_file() and not self._own_files()
        return False

    def release(self, *, keep: bool = True) -> Message | None:
        """Unlock the folder, and delete the folder unless a later run can use its content.

        Finished segments and adapted weights remain, and so does the work of an earlier run if
        :meth:`open` was not called. Further calls do nothing.

        Args:
            keep: whether finished segments and adapted weights may be of use later; otherwise they
                are deleted.

        Returns:
            A message about the finished segments and the adapted weights; None if neither remains.
        """
        if not self._claim.is_acquired:
            return None
        # The user may have deleted some files.
        existing = [each for each in self.finished.values() if (self.path / each.file).is_file()]
        frames = sum(each.summary.packets for each in existing)
        weights = any(self.path.glob("adapted.safetensors*"))
        if keep and (existing or weights):
            self._claim.release()
            return Message(
                "work-kept",
                frames=frames if existing else None,
                both=bool(existing) and weights,
                weights=weights,
                folder=self.path,
            )
        if self._opened or not (self.path / _PLAN).exists():
            self.remove()
        self._claim.release()
        return None

    def check(self, segment: SegmentPlan) -> None:
        """Raise OutputError if the segment is finished but has another plan."""
        finished = self.finished.get(segment.number)
        if finished is not None and finished.digest != segment.digest:
            raise OutputError("other-plan", folder=self.path)

    def join(self, output: Sink, note: Callable[[Path], None]) -> None:
        """Join all segments into the output and delete the folder.

        Args:
            output: the open output.
            note: a function that is called with the path of the complete output, just before the
                output gets its name.

        Raises:
            OutputError: the disk has too little room, or a segment is damaged.
        """
        done = [self.finished[number] for number in sorted(self.finished)]
        size = sum(each.summary.bytes for each in done)
        with output:
            free = disk_usage(self.path).free
            if free < size:
                raise OutputError("no-room-to-join", takes=_megabytes(size), free=_megabytes(free))
            join(output, [(self.path / each.file, each.summary) for each in done])
            complete = output.complete()
            assert complete is not None
            self.note_complete(complete)
            note(complete)
        self.remove()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder during a block; errors then name the finished work that remains.

        Raises:
            Interrupted: Ctrl-C in the block, and segments or weights remain.
            OutputError: see :meth:`lock`; or the folder was deleted during the block.
        """
        try:
            self.lock()
            yield
        except KeyboardInterrupt as error:
            kept = self.release(keep=not self.is_done)
            if kept is None:
                raise
            raise Interrupted(kept) from error
        except CloudconvError as error:
            if self._opened and not self.path.is_dir():
                raise OutputError("work-folder-deleted", folder=self.path) from error
            kept = self.release(keep=not isinstance(error, UnfitInputError | TakenError))
            if kept is None:
                raise
            # A later run may succeed with more memory, room or rights. Other errors come again.
            helps = isinstance(error, OutputError | DeviceError | ReadError)
            helps = helps and not isinstance(error, EncoderError)
            raise type(error)("error-with-work", error=error, kept=kept, helps=helps) from error
        finally:
            self.release()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the folder in an interrupt of the block if the folder has work of an earlier run.

        Raises:
            Interrupted: Ctrl-C in the block, and work remains.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            has_work = any(file.name != _JOURNAL for file in self._own_files())
            if isinstance(error, Interrupted) or not has_work:
                raise
            raise Interrupted(Message("earlier-work-kept", folder=self.path)) from error

    def remove(self) -> None:
        """Delete cloudconv's files, and the folder if it is then empty; release the claim."""
        # If this run is killed, a later run recognises the folder by the mark, and the complete
        # output by the file before the mark.
        for file in [*self._own_files(), self.path / _MARK]:
            with suppress(OSError):
                file.unlink()
        with suppress(OSError):
            self.path.rmdir()
        self._claim.release()

    @property
    def _journal(self) -> Path:
        return self.path / _JOURNAL

    def _own_files(self) -> list[Path]:
        """Return the files that cloudconv made, except the mark; other files may be the user's."""
        names = (_PLAN, _JOURNAL, _ADAPTED, f"*{_PACKETS}", ".cloudconv-*.part", _WHOLE)
        return [file for name in names for file in self.path.glob(name) if not file.is_symlink()]

    def _take_over(self, *, resume: bool) -> None:
        plan = unsealed((self.path / _PLAN).read_bytes()) if (self.path / _PLAN).is_file() else {}
        if plan is None or (plan and not _is_plan(plan)):
            self.warnings.append(Warned("work-unreadable", {"folder": str(self.path)}))
        elif plan and resume:
            self.pinned = plan["decided"]
            self._read_journal()
            changed = _changes(plan["identity"], self._identity)
            if changed and self.finished:
                frames = self.frames
                self.finished.clear()
                raise OutputError(
                    "work-of-other-settings", folder=self.path, frames=frames, changed=changed
                )
            if changed:
                self.pinned = None
        kept = {done.file for done in self.finished.values()}
        kept |= {file.name for file in self.path.glob(_ADAPTED) if resume}
        if self.pinned is not None:
            kept.add(_PLAN)
        for file in self._own_files():
            if file.name not in kept:
                file.unlink()
        lines = b"".join(sealed(asdict(done)) + b"\n" for done in self.finished.values())
        write_whole(self._journal, lines)

    def _read_journal(self) -> None:
        if not self._journal.is_file():
            return
        lines = self._journal.read_bytes().splitlines()
        lost = 0
        for line in lines:
            data = unsealed(line)
            if data is None:
                continue  # a crash cut off this line, so the segment was never finished
            try:
                done = FinishedSegment(**{**data, "summary": PacketSummary(**data["summary"])})
                file = self.path / Path(done.file).name
                is_whole = file.is_file() and file.stat().st_size == done.summary.bytes
                number = int(done.number)
            except (OSError, ValueError, TypeError, KeyError):  # another program made the line
                lost += 1
                continue
            if is_whole:
                self.finished[number] = done
            else:
                lost += 1
        if lost:
            damaged = {"count": lost, "folder": str(self.path)}
            self.warnings.append(Warned("segments-damaged", damaged))


def clear_finished(output: Path) -> None:
    """Delete what a killed run has left beside a complete output: work folder, unfinished files.

    Nothing is deleted while another run makes the output, or without an output.
    """
    store = SegmentStore(output)
    with suppress(OutputError, OSError):
        if not os.path.lexists(output):
            return
        if store.is_done:
            store.lock()
            store.remove()
        elif leftovers(output):
            with Claim(output):
                pass


def token_of(folder: Path) -> str:
    """Return a hash of the plan file, which identifies the folder; empty without a plan."""
    try:
        return hashlib.sha256((folder / _PLAN).read_bytes()).hexdigest()
    except OSError:
        return ""


def fresh_file(folder: Path) -> Path:
    """Return a name for a segment's file that no other process uses."""
    return folder / f"{secrets.token_hex(8)}{_PACKETS}"


def save(file: Path, data: bytes) -> None:
    """Write the data of a segment that another machine made to a new file, and sync the file.

    Raises:
        OutputError: the disk is full, or the folder is missing.
    """
    with writing(file.parent), file.open("xb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _is_ours(folder: Path) -> bool:
    """Return whether cloudconv may use the folder: its own folder, or a missing or empty one."""
    if not os.path.lexists(folder):
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = os.listdir(folder)
    linked = any((folder / name).is_symlink() for name in (_MARK, _PLAN, _JOURNAL))
    return not linked and (not names or _MARK in names)


def sealed(data: dict[str, Any]) -> bytes:
    """Return a line of JSON with a checksum."""
    return json.dumps({**data, "sum": _sum(data)}).encode()


def unsealed(line: bytes) -> dict[str, Any] | None:
    """Return the data of a sealed line; None if the line was changed or cut off."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.pop("sum", None) != _sum(data):
        return None
    return data


def _is_plan(data: dict[str, Any]) -> bool:
    parts = (data.get("identity"), data.get("decided"))
    return data.get("version") == _VERSION and all(isinstance(part, dict) for part in parts)


def _stat(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {"file": status.st_ino, "bytes": status.st_size, "time": status.st_mtime_ns}


def _sum(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return the names of the entries that differ."""
    names = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return ", ".join(name.replace("_", " ") for name in names)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
