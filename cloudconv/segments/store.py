"""The folder beside an output that keeps its finished segments until all of them are there.

Power may go at any moment, so nothing is believed that was not synced: a segment's file first, then
the folder that lists it, then the line in the journal that says so. A line that was cut off counts
for nothing, and a file without a line is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
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
    TakenError,
    UnfitInputError,
)
from cloudconv.events import Warned
from cloudconv.files import Claim, beside, leftovers, own_name, sync_folder, write_whole
from cloudconv.media.write.join import join
from cloudconv.media.write.packets import PacketSummary
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import writing
from cloudconv.messages import Message
from cloudconv.segments.segment import SegmentPlan

_VERSION = 1
_MARK, _PLAN, _JOURNAL, _PACKETS = "cloudconv", "plan.json", "segments.jsonl", ".packets"
_WHOLE = "whole.json"
_ADAPTED = "adapted.*"
"""Weights that were adapted to the input, and what belongs to them; see the interp job."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment that is whole and safe on the disk. ``digest`` says what was asked for."""

    number: int
    digest: str
    file: str
    summary: PacketSummary


class SegmentStore:
    """``<output>.work``, held by one process at a time; a hidden one where that is somebody else's.

    A file in it says that it is ours. Its constructor touches nothing.
    ``pinned`` is what the first run chose for itself, and every later one keeps to; None until
    :meth:`pin`. ``remarks`` says what became of state that was found.
    """

    def __init__(self, output: Path) -> None:
        self.path = beside(output, ".work")
        if not _is_ours(self.path):
            self.path = output.with_name(f"{own_name(output)}.work")
        self.finished: dict[int, Finished] = {}
        self.pinned: dict[str, Any] | None = None
        self.adapting = False  # whether weights in it are this run's
        self.remarks: list[Warned] = []
        self._identity: dict[str, Any] = {}
        self._claim = Claim(output)
        self._known = False  # whether all that the folder holds has been looked at

    @property
    def frames(self) -> int:
        """How many output frames are finished."""
        return sum(done.summary.packets for done in self.finished.values())

    def lock(self) -> None:
        """Make the folder if need be, and keep other processes from this output.

        Raises:
            OutputError: another process works on the same output, or nothing can be written here.
        """
        if self._claim.held:
            return
        with writing(self.path):
            self._claim.acquire()
            if not _is_ours(self.path):
                self._claim.release()
                raise OutputError("folder-taken", folder=self.path)
            self.path.mkdir(exist_ok=True)
            (self.path / _MARK).touch()

    def open(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Take over what the locked folder holds.

        Args:
            identity: everything that could change a pixel, as JSON holds it. State that was left
                behind with another one is not touched.
            resume: without it all state is thrown away.

        Raises:
            OutputError: it holds finished segments of another identity.
        """
        self._identity = json.loads(json.dumps(identity))
        with writing(self.path):
            self._take_over(resume=resume)
        self._known = True

    def pin(self, decided: dict[str, Any]) -> None:
        """Note what this run has chosen, for those that carry on."""
        name = secrets.token_hex(8)  # no other folder anywhere has the same plan
        plan = {"version": _VERSION, "of": name, "identity": self._identity, "decided": decided}
        with writing(self.path):
            write_whole(self.path / _PLAN, sealed(plan))
        self.pinned = decided

    def record(self, segment: SegmentPlan, file: Path, summary: PacketSummary) -> None:
        """Note a segment whose file is complete and synced.

        Raises:
            OutputError: the file is not all there, or the disk is full.
        """
        with writing(self.path):
            size = file.stat().st_size
            if size != summary.bytes:
                raise OutputError("segment-incomplete", path=file, size=size, bytes=summary.bytes)
            done = Finished(segment.number, segment.digest, file.name, summary)
            sync_folder(self.path)
            with self._journal.open("ab") as journal:
                journal.write(sealed(asdict(done)) + b"\n")
                journal.flush()
                os.fsync(journal.fileno())
        self.finished[done.number] = done

    def note_whole(self, made: Path) -> None:
        """Note the joined output, which is about to take its name."""
        with writing(self.path):
            write_whole(self.path / _WHOLE, sealed(_stat(made)))

    def has_made(self, output: Path) -> bool:
        """Whether the output is what was joined of this, by :meth:`note_whole`."""
        noted = self.path / _WHOLE
        return noted.is_file() and unsealed(noted.read_bytes()) == _stat(output)

    def release(self, *, keep: bool = True) -> Message | None:
        """Let go of the folder; says what is kept in it. Without finished segments it goes away.

        Further calls do nothing. ``keep``: whether finished segments are of any use.
        """
        if not self._claim.held:
            return None
        # Somebody may have deleted them meanwhile.
        there = [each for each in self.finished.values() if (self.path / each.file).is_file()]
        frames = sum(each.summary.packets for each in there)
        weights = any(self.path.glob("adapted.safetensors*"))
        adapted = weights and self.adapting
        if keep and (there or weights):
            self._claim.release()
            if not there and not adapted:
                return None
            return Message(
                "work-kept",
                frames=frames if there else None,
                both=bool(there) and adapted,
                weights=adapted,
                folder=self.path,
            )
        if self._known or not (self.path / _PLAN).exists():
            self.remove()
        self._claim.release()
        return None

    def check(self, segment: SegmentPlan) -> None:
        """Raises OutputError where that segment is finished, and is another one."""
        finished = self.finished.get(segment.number)
        if finished is not None and finished.digest != segment.digest:
            raise OutputError("other-plan", folder=self.path)

    def join(self, output: Sink) -> Iterator[Path]:
        """Make the output of all segments and delete the folder.

        Yields:
            Where the whole output is, just before that takes its name.
        """
        done = [self.finished[number] for number in sorted(self.finished)]
        takes = sum(each.summary.bytes for each in done)
        with output:
            free = disk_usage(self.path).free
            if free < takes:
                raise OutputError("no-room-to-join", takes=_megabytes(takes), free=_megabytes(free))
            join(output, [(self.path / each.file, each.summary) for each in done])
            whole = output.complete()
            assert whole is not None
            self.note_whole(whole)
            yield whole
        self.remove()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; however the block fails, it says what is kept.

        Raises:
            Interrupted: Ctrl-C in the block, and there are finished segments.
            OutputError: see :meth:`lock`.
        """
        try:
            self.lock()
            yield
        except KeyboardInterrupt as error:
            said = self.release()
            if said is None and self.path.exists():
                said = Message("earlier-work-kept", folder=self.path)
            if said is None:
                raise
            raise Interrupted(said) from error
        except CloudconvError as error:
            told = self.with_resume_hint(error)
            if told is error:
                raise
            raise told from error
        finally:
            self.release()

    def with_resume_hint(self, error: CloudconvError) -> CloudconvError:
        """Let go of the folder after an error; the error, with a word on what is kept."""
        said = self.release(keep=not isinstance(error, UnfitInputError | TakenError))
        if said is None:
            return error
        # Another disk, other rights or free memory may help; a damaged input stays so.
        helps = isinstance(error, OutputError | DeviceError) and not isinstance(error, EncoderError)
        told = type(error)("error-with-work", error=error, kept=said, helps=helps)
        told.__cause__ = error
        return told

    def remove(self) -> None:
        """Delete the folder: the output is there."""
        # The mark goes last: what is left by a kill is still ours.
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
        """All but the mark; somebody may have put files of their own there."""
        names = (_PLAN, _JOURNAL, _WHOLE, _ADAPTED, f"*{_PACKETS}", ".cloudconv-*.part")
        return [file for name in names for file in self.path.glob(name) if not file.is_symlink()]

    def _take_over(self, *, resume: bool) -> None:
        plan = unsealed((self.path / _PLAN).read_bytes()) if (self.path / _PLAN).is_file() else {}
        if plan is None or (plan and plan.get("version") != _VERSION):
            self.remarks.append(Warned("work-unreadable", {"folder": str(self.path)}))
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
                continue  # cut off by a crash, so its segment was never finished
            done = Finished(**{**data, "summary": PacketSummary(**data["summary"])})
            file = self.path / done.file
            if file.is_file() and file.stat().st_size == done.summary.bytes:
                self.finished[done.number] = done
            else:
                lost += 1
        if lost:
            damaged = {"count": lost, "folder": str(self.path)}
            self.remarks.append(Warned("segments-damaged", damaged))


def clear_finished(output: Path) -> None:
    """Clear away what a run has left that was killed when its output had its name already.

    Nothing is done while another run works on it.
    """
    store = SegmentStore(output)
    with suppress(OutputError, OSError):
        if store.has_made(output):
            store.lock()
            store.remove()
        elif os.path.lexists(output) and leftovers(output):
            with Claim(output):
                pass


def token_of(folder: Path) -> str:
    """What tells a store's folder from any other: a hash of its plan; empty if there is none."""
    try:
        return hashlib.sha256((folder / _PLAN).read_bytes()).hexdigest()
    except OSError:
        return ""


def fresh_file(folder: Path) -> Path:
    """A name for a segment's file in a work folder that no other process uses."""
    return folder / f"{secrets.token_hex(8)}{_PACKETS}"


def save(file: Path, data: bytes) -> None:
    """Write a segment's file that was made elsewhere, and sync it.

    Raises:
        OutputError: the disk is full, or the folder is gone.
    """
    with writing(file.parent), file.open("xb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _is_ours(folder: Path) -> bool:
    """Whether we made it, or may make it: nothing has its name, or it is empty."""
    if not os.path.lexists(folder):
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    held = os.listdir(folder)
    linked = any((folder / name).is_symlink() for name in (_MARK, _PLAN, _JOURNAL))
    return not linked and (not held or _MARK in held)


def sealed(data: dict[str, Any]) -> bytes:
    """A line of JSON that tells whether it is still as it was written."""
    return json.dumps({**data, "sum": _sum(data)}).encode()


def unsealed(line: bytes) -> dict[str, Any] | None:
    """What was sealed; None for anything else."""
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or data.pop("sum", None) != _sum(data):
        return None
    return data


def _stat(file: Path) -> dict[str, Any]:
    about = file.stat()
    return {"file": about.st_ino, "bytes": about.st_size, "time": about.st_mtime_ns}


def _sum(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs, in words."""
    names = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return ", ".join(name.replace("_", " ") for name in names)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
