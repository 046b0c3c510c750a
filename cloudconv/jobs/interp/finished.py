"""What is finished in a folder, so that the same batch passes over it when it is run again."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from cloudconv.errors import CloudconvError
from cloudconv.jobs.interp.settings import InterpSettings
from cloudconv.media.input.fingerprint import input_fingerprint
from cloudconv.models.fingerprint import weights_fingerprint

_NAME = ".cloudconv.jsonl"
# What is done with memory and processors changes no more than roundings.
_NO_MATTER = ("batch", "tile", "threads")


class FinishedIndex:
    """A line for each output that was finished in a folder, in a hidden file there.

    An output is only taken for finished where the line says the very input, settings and weights
    that are asked for, and the file is still the one that was written then. So a file that comes
    from anywhere else is never taken for a result.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._finished: dict[str, tuple[str, str]] = {}
        self._weights: dict[str, str | None] = {}
        with suppress(OSError), open(folder / _NAME, "rb", opener=_read) as file:
            for line in file:
                with suppress(ValueError, TypeError):  # cut off by a crash
                    asked, name, made = json.loads(line)
                    self._finished[asked] = name, made

    def find(self, settings: InterpSettings) -> Path | None:
        """The finished output of these settings; None if there is none."""
        with suppress(CloudconvError):
            name, made = self._finished.get(self._asked(settings), ("", ""))
            output = self._folder / name
            if name and _identity(output) == made:
                return output
        return None

    def note(self, settings: InterpSettings, name: str, made: Path) -> None:
        """Note an output that is whole, and is about to have that name."""
        # The output is there all the same if this fails.
        with suppress(OSError, CloudconvError):
            line = [self._asked(settings), name, _identity(made)]
            with open(self._folder / _NAME, "a", encoding="utf-8", opener=_append) as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def _asked(self, settings: InterpSettings) -> str:
        chosen = settings.pinned()
        known = {
            "name": Path(settings.input).name,
            "input": _identity(Path(settings.input)),
            "weights": self._weights_of(settings.chosen_model),
            **{name: value for name, value in chosen.items() if name not in _NO_MATTER},
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def _weights_of(self, model: str) -> str | None:
        if model not in self._weights:
            self._weights[model] = weights_fingerprint(model)
        return self._weights[model]


def _append(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _read(path: str, flags: int) -> int:
    # A pipe of that name would be waited for.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _identity(path: Path) -> str:
    return input_fingerprint(path, ends=False)
