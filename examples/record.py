"""Record how each picture in ``examples/`` was made: commands, weights, and its hash.

``pictures.json`` holds the records. A test compares them with the scripts, the weights and
the pictures, so that no picture shows what cloudconv no longer makes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cloudconv import weights
from cloudconv.models import registry

RECORDS = Path(__file__).with_name("pictures.json")


def note(picture: Path, commands: Iterable[str], models: Iterable[str]) -> None:
    """Write the record of a picture that ``commands`` have just made with ``models``."""
    name = picture.resolve().relative_to(RECORDS.parent).as_posix()
    records = {**read(), name: record(picture, commands, models)}
    RECORDS.write_text(json.dumps(dict(sorted(records.items())), indent=2) + "\n", "utf-8")


def read() -> dict[str, Any]:
    """Return all records by the path of their picture below ``examples/``."""
    return dict(json.loads(RECORDS.read_text("utf-8"))) if RECORDS.exists() else {}


def record(
    picture: Path, commands: Iterable[str], models: Iterable[str]
) -> Mapping[str, Any]:
    """Return what identifies a picture: its SHA-256, commands, and models' weights."""
    return {
        "sha256": hashlib.sha256(picture.read_bytes()).hexdigest(),
        "commands": list(commands),
        "weights": {name: _weights(name) for name in models},
    }


def _weights(model: str) -> str | None:
    name = registry.spec(model).weights
    return weights.manifest()[name].sha256 if name else None
