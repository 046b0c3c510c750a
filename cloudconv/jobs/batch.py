"""Many inputs, one after the other: a broken one does not stop the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cloudconv.errors import CloudconvError, SettingsError
from cloudconv.jobs.interp import InterpSettings
from cloudconv.media.target import writing


def each_input(
    settings: InterpSettings, inputs: Sequence[str], folder: Path
) -> list[InterpSettings]:
    """The settings for every input; all outputs go into ``folder``, which is made if need be.

    Raises:
        SettingsError: two inputs would be given the same output.
        OutputError: the folder cannot be made.
    """
    namesakes: defaultdict[str, list[str]] = defaultdict(list)
    for name in inputs:
        if name == "-":
            raise SettingsError("What comes from stdin has no name to build on: name a file.")
        namesakes[Path(name).stem].append(name)
    for names in namesakes.values():
        if len(names) > 1:
            raise SettingsError(
                f"{' and '.join(names)} would get the same name in {folder}: rename one of them, "
                "or give them folders of their own."
            )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return [replace(settings, input=name, output=None, out_dir=folder) for name in inputs]


def attempts(
    settings: Sequence[InterpSettings], run: Callable[[InterpSettings], object]
) -> Iterator[tuple[str, object]]:
    """Run one after the other; yields each input and what came of it, an error included."""
    for each in settings:
        try:
            result = run(each)
        except CloudconvError as error:
            yield str(each.input), error
        else:
            yield str(each.input), result
