"""Write a report into a hidden folder, and move the files to the report's folder at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.media.output import check_home, writing


def check_folder(folder: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Check before any work that a report of files called ``names`` can be written."""
    check_home(folder / names[0])
    files.clear(folder.resolve())
    taken = [name for name in names if os.path.lexists(folder / name)]
    if taken and not overwrite:
        raise OutputError(
            f"output-exists: The output {folder / taken[0]} exists already: replace it with "
            "--overwrite."
        )


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """An unfinished report in ``path``, which only this process writes; :meth:`put` moves it."""

    folder: Path
    path: Path
    overwrite: bool

    def put(self, texts: dict[str, str]) -> None:
        """Write the texts by file name, and move all files into the report's folder.

        If a file of the same name appeared meanwhile, the report is moved to another folder.
        """
        with writing(self.folder):
            for name, text in texts.items():
                # A file name on the page may contain bytes that are not text.
                (self.path / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            home = self.folder.resolve()
            try:
                files.put_all(self.path, home, overwrite=self.overwrite)
            except FileExistsError as error:
                raise files.put_under_free_name(self.path, home) from error


@contextmanager
def report_folder(folder: Path, *, overwrite: bool) -> Iterator[ReportFolder]:
    """Claim the report's folder, and create an unfinished report, which is deleted at the end."""
    home = folder.resolve()
    with ExitStack() as stack:
        with writing(folder):
            home.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.Claim(home))
            path = files.create_part(home, folder=True, within=home if home.is_dir() else None)
            stack.callback(files.remove, path)
        yield ReportFolder(folder, path, overwrite)
