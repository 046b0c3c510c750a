"""The folder beside an output that keeps its finished segments until all of them are there.

Power may go at any moment, so nothing is believed that was not synced: a segment's file first, then
the folder that lists it, then the line in the journal that says so. A line that was cut off counts
for nothing, and a file without a line is deleted.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cloudconv.errors import OutputError
from cloudconv.media.packets import PacketSummary
from cloudconv.media.target import sync_folder, writing
from cloudconv.segments import Segment

_VERSION = 1
_LOCK, _PLAN, _JOURNAL, _PACKETS = "lock", "plan.json", "segments.jsonl", ".packets"


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment that is whole and safe on the disk. ``digest`` says what was asked for."""

    number: int
    digest: str
    file: str
    summary: PacketSummary


class WorkFolder:
    """``<output>.work``, held by one process at a time.

    Its constructor touches nothing.
    ``decided`` is what the first run chose for itself, and every later one keeps to; None until
    :meth:`decide`. ``remarks`` says in sentences what became of state that was found.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f"{output.name}.work")
        self.finished: dict[int, Finished] = {}
        self.decided: dict[str, Any] | None = None
        self.remarks: list[str] = []
        self._output = output
        self._identity: dict[str, Any] = {}
        self._lock: BinaryIO | None = None
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
        with writing(self.path):
            self._lock = _lock(self.path, self._output)

    def open(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Take over what the locked folder holds.

        Args:
            identity: everything that could change a pixel, as JSON holds it. State that was left
                behind with another one is thrown away.
            resume: without it all state is thrown away.
        """
        self._identity = json.loads(json.dumps(identity))
        with writing(self.path):
            self._take_over(resume=resume)
        self._known = True

    def decide(self, decided: dict[str, Any]) -> None:
        """Note what this run has chosen, for those that carry on."""
        name = secrets.token_hex(8)  # no other folder anywhere has the same plan
        plan = {"version": _VERSION, "of": name, "identity": self._identity, "decided": decided}
        with writing(self.path):
            _replace(self.path / _PLAN, json.dumps(plan, indent=1))
        self.decided = decided

    def record(self, segment: Segment, file: Path, summary: PacketSummary) -> None:
        """Note a segment whose file is complete and synced.

        Raises:
            OutputError: the file is not all there, or the disk is full.
        """
        with writing(self.path):
            size = file.stat().st_size
            if size != summary.bytes:
                raise OutputError(
                    f"{file} could not be written whole: it has {size} of {summary.bytes} bytes. "
                    "Is the disk full?"
                )
            done = Finished(segment.number, segment.digest, file.name, summary)
            sync_folder(self.path)
            with self._journal.open("ab") as journal:
                journal.write(json.dumps(asdict(done)).encode() + b"\n")
                journal.flush()
                os.fsync(journal.fileno())
        self.finished[done.number] = done

    def file_of(self, done: Finished) -> Path:
        """Where the packets of a finished segment are."""
        return self.path / done.file

    def leave(self, *, keep: bool = True) -> str | None:
        """Let go of the folder; says what is kept in it. Without finished segments it goes away.

        Further calls do nothing. ``keep``: whether finished segments are of any use.
        """
        if self._lock is None or self._lock.closed:
            return None
        if self.finished and keep:
            self._lock.close()
            return f"{self.frames} finished frames are kept in {self.path}"
        if self._known or not (self.path / _PLAN).exists():
            self.remove()
        self._lock.close()
        return None

    def remove(self) -> None:
        """Delete the folder: the output is there."""
        assert self._lock is not None
        # The lock goes last, so that nobody works in a folder that is being deleted.
        for file in [*self._own_files(), self.path / _LOCK]:
            with suppress(OSError):
                file.unlink()
        self._lock.close()
        with suppress(OSError):
            self.path.rmdir()

    @property
    def _journal(self) -> Path:
        return self.path / _JOURNAL

    def _own_files(self) -> list[Path]:
        """All but the lock; a folder of that name may hold somebody's own files."""
        names = (_PLAN, _JOURNAL, f"*{_PACKETS}", "*.part")
        return [file for name in names for file in self.path.glob(name)]

    def _take_over(self, *, resume: bool) -> None:
        plan = _read_plan(self.path / _PLAN)
        if plan is not None:
            changed = _changes(plan["identity"], self._identity)
            if resume and not changed:
                self.decided = plan["decided"]
                self._read_journal()
            elif resume:
                self.remarks.append(
                    f"{self.path} holds unfinished work with another {changed}; it is begun anew."
                )
        kept = {done.file for done in self.finished.values()}
        if self.decided is not None:
            kept.add(_PLAN)
        for file in self._own_files():
            if file.name not in kept:
                file.unlink()
        lines = "".join(json.dumps(asdict(done)) + "\n" for done in self.finished.values())
        _replace(self._journal, lines)

    def _read_journal(self) -> None:
        try:
            lines = self._journal.read_bytes().splitlines()
        except FileNotFoundError:
            return
        lost = 0
        for line in lines:
            try:
                data = json.loads(line)
                done = Finished(**{**data, "summary": PacketSummary(**data["summary"])})
            except (ValueError, TypeError, KeyError):
                continue  # cut off by a crash, so its segment was never finished
            file = self.file_of(done)
            if file.is_file() and file.stat().st_size == done.summary.bytes:
                self.finished[done.number] = done
            else:
                lost += 1
        if lost:
            self.remarks.append(
                f"{lost} finished segment{'s' * (lost > 1)} in {self.path} "
                f"{'are' if lost > 1 else 'is'} damaged and made again."
            )


def fresh_file(folder: Path) -> Path:
    """A name for a segment's file in a work folder that no other process uses."""
    return folder / f"{secrets.token_hex(8)}{_PACKETS}"


def save(file: Path, data: bytes) -> None:
    """Write a segment's file that was made elsewhere, and sync it.

    Raises:
        OutputError: the disk is full, or the folder is gone.
    """
    with writing(file.parent), file.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _lock(folder: Path, output: Path) -> BinaryIO:
    """The folder's lock, held until it is closed or this process ends, however it ends."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            file = (folder / _LOCK).open("ab")
        except FileNotFoundError:
            continue  # deleted since by the one that has just finished
        try:
            _lock_file(file)
        except OSError as error:
            file.close()
            raise OutputError(
                f"Another cloudconv is making {output} right now (in {folder}); wait for it, or "
                "name another output."
            ) from error
        with suppress(FileNotFoundError):
            if os.path.samestat((folder / _LOCK).stat(), os.fstat(file.fileno())):
                return file
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock_file(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock_file(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read_plan(path: Path) -> dict[str, Any] | None:
    try:
        plan: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return plan if plan.get("version") == _VERSION else None


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs, in words."""
    names = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return ", ".join(name.replace("_", " ") for name in names)


def _replace(path: Path, text: str) -> None:
    """Write a file so that after a crash either the old one is there or the new one, whole."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
