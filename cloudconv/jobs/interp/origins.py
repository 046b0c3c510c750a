"""Record what each output of a batch was made of, in one hidden file beside the outputs.

Each line of the file is the record of one output; the last line about an output counts.
Runs that write to one folder at once only add lines. A line that was cut off is no record.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cloudconv.media import pictures as images
from cloudconv.models import registry
from cloudconv.settings import InterpSettings

FILE = ".cloudconv-outputs.jsonl"
_WITHOUT_EFFECT = ("threads", "batch", "tile")  # on what a viewer sees


@dataclass(frozen=True, slots=True)
class Origin:
    """The input that an output was made of, and the options that can change the output.

    The input is its name, its size in bytes, and the time of its last change in
    nanoseconds; those of a folder of pictures are the sum and the latest of its files.
    """

    name: str
    size: int
    time: int
    options: dict[str, str]

    @classmethod
    def of(cls, settings: InterpSettings) -> "Origin":
        """Return the origin of an output that these settings make now."""
        path = Path(settings.input)
        about = [file.stat() for file in images.files_of(path)]
        options = settings.pinned()
        for name in _WITHOUT_EFFECT:
            options.pop(name, None)
        options["weights"] = str(registry.weights_fingerprint(settings.chosen_model))
        size = sum(status.st_size for status in about)
        return cls(
            Path(os.path.abspath(path)).name,
            size,
            max(status.st_mtime_ns for status in about),
            options,
        )

    def changes(self, settings: InterpSettings) -> Iterator[str]:
        """Yield in words what differs from the origin that these settings have now."""
        now = Origin.of(settings)
        if self.name != now.name:
            yield f"of {self.name}"
        elif (self.size, self.time) != (now.size, now.time):
            yield f"of an earlier {self.name}"
        old = settings.with_defaults(self.options)
        for name in _WITHOUT_EFFECT:
            old.pop(name, None)
        names = sorted(old.keys() | now.options.keys())
        differing = [name for name in names if old.get(name) != now.options.get(name)]
        if differing:
            words = (name.replace("_", " ") for name in differing)
            yield f"with another {' and '.join(words)}"


def origin_of(output: Path) -> Origin | None:
    """Return the recorded origin of an output; None without a record of this file."""
    origin = None
    name = json.dumps(output.name).encode()
    with suppress(OSError), _opened(output.parent, "rb") as file:
        for line in file:
            if name not in line:  # a folder may have thousands of outputs
                continue
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                record = json.loads(line)
                if record.pop("output") == [output.name, *_mark(output)]:
                    origin = Origin(**record)
    return origin


def record(output: Path, origin: Origin) -> None:
    """Add the origin of a finished output to the file beside it, if that is possible."""
    with suppress(OSError):
        line: dict[str, Any] = {"output": [output.name, *_mark(output)], **asdict(origin)}
        with _opened(output.parent, "ab") as file:
            # The line before may have been cut off without its end.
            file.write(b"\n" + json.dumps(line).encode())


def _opened(folder: Path, mode: str) -> IO[bytes]:
    """Open the file of the records; raise OSError for a link, and for anything special."""
    file = folder / FILE
    if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file")
    return file.open(mode)


def _mark(output: Path) -> list[int]:
    about = output.stat()
    return [about.st_size, about.st_mtime_ns]
