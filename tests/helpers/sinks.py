"""Sinks from the description of an output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cloudconv.media.info import MediaInfo
from cloudconv.media.plan import plan_encoding
from cloudconv.media.sink import Sink


def open_sink(
    path: Path | str, info: MediaInfo, *, overwrite: bool = False, **options: Any
) -> Sink:
    """Plan the encoding of an output and open its sink."""
    return Sink(plan_encoding(Path(path), info, **options), overwrite=overwrite)
