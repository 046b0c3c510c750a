"""The folder of a report: checked before any work, made out of sight, and put in place whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from cloudconv import files
from cloudconv.errors import OutputError


def check_folder(folder: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Say before any work that a report cannot be written there.

    Args:
        folder: where to.
        names: of all files that a report may have.
        overwrite: whether a report that is there may be replaced.

    Raises:
        OutputError: it is a file, or holds a report already.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: name a folder for the report.")
    taken = [name for name in names if os.path.lexists(folder / name)]
    if taken and not overwrite:
        raise OutputError(f"{folder} holds a report already ({taken[0]}): add -y to replace it.")


class ReportFolder:
    """A report on its way, in ``path`` until :meth:`put`; this process alone makes it.

    Raises OutputError: another process makes it, or nothing can be written there.
    """

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        self._folder, self._overwrite = folder, overwrite
        self._stack = ExitStack()
        home = folder.resolve()
        with self._writing(), ExitStack() as undo:
            home.parent.mkdir(parents=True, exist_ok=True)
            undo.enter_context(files.Claim(home))
            self.path = files.fresh(home, folder=True, within=home if home.is_dir() else None)
            undo.callback(files.remove, self.path)
            self._stack = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def put(self, texts: dict[str, str]) -> None:
        """Write the texts, by name, and show all that is in ``path``, the last text's file last.

        Raises:
            TakenError: a file of that name appeared meanwhile, and is not to be replaced.
            OutputError: it cannot be written.
        """
        with self._writing():
            for name, text in texts.items():
                # A file name need not be text.
                (self.path / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            home = self._folder.resolve()
            try:
                files.put_all(self.path, home, overwrite=self._overwrite, last=[*texts][-1])
            except FileExistsError as error:
                raise files.keep_aside(self.path, home) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be written: {error.strerror}.") from error
