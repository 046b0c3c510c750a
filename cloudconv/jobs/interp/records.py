"""Record what each output of a batch was made of, in one hidden file beside the outputs.

Each line of the file is the record of one output; the last line about an output counts.
Runs that write to one folder at once only add lines. A line that was cut off is no record.
"""

import errno
import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cloudconv.media.reading.identity import input_dates, input_fingerprint
from cloudconv.models import registry
from cloudconv.settings import InterpSettings

FILE = ".cloudconv-outputs.jsonl"
_WITHOUT_EFFECT = {"threads", "batch", "tile"}  # on what a viewer sees


@dataclass(frozen=True, slots=True)
class Recipe:
    """The input that an output was made of, and the options that can change the output.

    The input is its name and the hash of its content, see :func:`input_fingerprint`, and
    of a large one the hash of its dates.
    """

    name: str
    content: str
    options: dict[str, str]
    dates: str = ""

    @classmethod
    def of(cls, settings: InterpSettings, content: str = "") -> "Recipe":
        """Return the recipe of an output that these settings make now.

        ``content`` is the hash of the input, if that is known already.
        """
        path = Path(settings.input)
        options = settings.pinned()
        options["weights"] = str(registry.weights_fingerprint(settings.chosen_model))
        content = content or input_fingerprint(path)
        name = Path(os.path.abspath(path)).name
        return cls(name, content, options, input_dates(path))

    def changes(self, settings: InterpSettings) -> Iterator[str]:
        """Yield in words what differs from the recipe that these settings have now."""
        now = Recipe.of(settings)
        if self.name != now.name:
            yield f"of {self.name}"
        elif self.content != now.content:
            yield f"of an earlier {self.name}"
        old = settings.with_defaults(self.options)
        names = sorted((old.keys() | now.options.keys()) - _WITHOUT_EFFECT)
        differing = [name for name in names if old.get(name) != now.options.get(name)]
        if differing:
            words = (name.replace("_", " ") for name in differing)
            yield f"with another {' and '.join(words)}"


class Records:
    """The recipes of the outputs of a batch, whose files are read as they grow."""

    def __init__(self) -> None:
        self._read = defaultdict[Path, int](int)  # bytes of each file
        self._recipes = dict[tuple[object, ...], Recipe]()

    def recipe_of(self, output: Path) -> Recipe | None:
        """Return the recipe of an output as it is now; None without a record of it."""
        folder = output.parent
        with suppress(OSError), _opened(folder, "rb") as file:
            file.seek(self._read[folder])
            for line in file:
                self._read[folder] += len(line)
                # The line may be cut off, or another program may have written it.
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    entry = json.loads(line)
                    name, size, time = entry.pop("output")
                    options = dict[str, str](**entry.pop("options"))
                    recipe = Recipe(**entry, options=options)
                    self._recipes[folder, name, size, time] = recipe
        return self._recipes.get((folder, output.name, *_mark(output)))


def record(output: Path, recipe: Recipe) -> None:
    """Add the recipe of a finished output to the file beside it, if that is possible."""
    with suppress(OSError):
        line: dict[str, Any] = {"output": [output.name, *_mark(output)], **asdict(recipe)}
        with _opened(output.parent, "ab") as file:
            # The line before may have been cut off without its end.
            file.write(b"\n" + json.dumps(line).encode() + b"\n")


def _opened(folder: Path, mode: str) -> IO[bytes]:
    """Open the file of the records; raise OSError for a link, and for anything special."""
    file = folder / FILE
    with suppress(FileNotFoundError):
        about = file.lstat()
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
            raise OSError(errno.EINVAL, "is no regular file with one name")
    return file.open(mode)


def _mark(output: Path) -> list[int]:
    about = output.stat()
    return [about.st_size, about.st_mtime_ns]
