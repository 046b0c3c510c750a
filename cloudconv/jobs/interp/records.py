"""Record what each output of a batch was made of, in one hidden file beside the outputs.

Each line of the file is the record of one output; the last line about an output counts.
Runs that write to one folder at once only add lines. A line that was cut off is no record.
"""

import errno
import os
import stat
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import IO

from cloudconv.files import sealed, unsealed
from cloudconv.jobs.madeof import Made, describe
from cloudconv.media.reading.identity import input_fingerprint
from cloudconv.models import registry
from cloudconv.settings import InterpSettings

FILE = ".cloudconv-outputs.jsonl"
WITHOUT_EFFECT = ("threads", "batch", "tile")  # on what a viewer sees


def made_of(settings: InterpSettings, content: str = "") -> Made:
    """Return what these settings make an output of now.

    ``content`` is the hash of the input, if that is known already.
    """
    path = Path(settings.input)
    name = Path(os.path.abspath(path)).name
    inputs = {f"content of {name}": content or input_fingerprint(path)}
    weights = registry.weights_fingerprint(settings.chosen_model)
    return describe(settings, inputs, weights=weights)


class Records:
    """A reader of the records of a batch, whose files are read as they grow."""

    def __init__(self) -> None:
        self._read = defaultdict[Path, int](int)  # bytes of each file
        self._made = dict[tuple[object, ...], Made]()

    def of(self, output: Path) -> Made | None:
        """Return what an output as it is now was made of; None without a record of it."""
        folder = output.parent
        with suppress(OSError), _opened(folder, "rb") as file:
            file.seek(self._read[folder])
            whole, end, _ = file.read().rpartition(b"\n")
            self._read[folder] += len(whole + end)
            for line in whole.splitlines():
                # The line may be cut off, or of another version.
                with suppress(KeyError, TypeError):
                    entry = unsealed(line) or {}
                    self._made[folder, *entry["of"]] = entry["made"]
        return self._made.get((folder, output.name, *_mark(output)))


def record(output: Path, made: Made) -> None:
    """Add what a finished output is made of to the file beside it, if that is possible."""
    with suppress(OSError):
        line = sealed({"of": [output.name, *_mark(output)], "made": made})
        with _opened(output.parent, "ab") as file:
            # The line before may have been cut off without its end.
            file.write(b"\n" + line + b"\n")


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
